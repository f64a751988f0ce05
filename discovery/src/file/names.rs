//! Names of static instances and their last good addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_config::file::{StaticHost, StaticService};
use fairway_config::labels::shown;
use hickory_resolver::TokioResolver;
use tokio::time::Instant;

/// A name is asked for again no earlier and no later than this, whatever its TTL.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// After a failure.
const RETRY: Duration = Duration::from_secs(2);
/// Longest wait for one answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Every name of the services, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<Arc<str>, Resolved>);

/// What is known of one name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resolved {
    /// One address of its last good answer; kept while answers have it.
    pub(super) ip: Option<IpAddr>,
    /// Why the last lookup failed, if it did.
    pub(super) error: Option<Arc<str>>,
    /// When it is asked for again; `None` while a lookup is out.
    due: Option<Instant>,
    tried: bool,
}

/// The answer for a name, and how long it holds.
pub(super) type Answer = Result<(BTreeSet<IpAddr>, Duration), String>;

impl Names {
    /// What is known of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Resolved> {
        self.0.get(name)
    }

    /// Keeps the names of these services: new ones are due, others forgotten.
    pub(super) fn keep(&mut self, services: &[StaticService], now: Instant) {
        let hosts = services.iter().flat_map(|service| &service.instances).map(|instance| &instance.host);
        let named = hosts.filter_map(|host| match host {
            StaticHost::Name(name) => Some(name.clone()),
            StaticHost::Ip(_) => None,
        });
        let named: BTreeSet<Arc<str>> = named.collect();
        self.0.retain(|name, _| named.contains(name));
        for name in named {
            self.0.entry(name).or_insert_with(|| Resolved { due: Some(now), ..Resolved::default() });
        }
    }

    /// Whether every name has been looked up at least once.
    pub(super) fn are_tried(&self) -> bool {
        self.0.values().all(|name| name.tried)
    }

    /// Takes up to `most` names that are due, and tells when the next one is.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> (Vec<Arc<str>>, Option<Instant>) {
        let mut taken = Vec::new();
        for (name, resolved) in &mut self.0 {
            if taken.len() < most && resolved.due.is_some_and(|due| due <= now) {
                resolved.due = None;
                taken.push(name.clone());
            }
        }
        (taken, self.0.values().filter_map(|resolved| resolved.due).min())
    }

    /// A lookup has ended.
    pub(super) fn answered(&mut self, name: &str, answer: Answer, now: Instant) {
        let Some(resolved) = self.0.get_mut(name) else { return }; // forgotten meanwhile
        resolved.tried = true;
        match answer {
            Ok((addresses, ttl)) if !addresses.is_empty() => {
                resolved.ip = resolved.ip.filter(|ip| addresses.contains(ip)).or(addresses.first().copied());
                resolved.error = None;
                resolved.due = Some(now + ttl.clamp(TTL.0, TTL.1));
            }
            failed => {
                let error = failed.err().unwrap_or_else(|| "it has no address".to_owned());
                resolved.error = Some(shown(&error).into());
                resolved.due = Some(now + RETRY);
            }
        }
    }
}

/// Who is asked.
pub(super) struct Resolver(Option<TokioResolver>);

impl Resolver {
    /// This resolver, or the machine's.
    pub(super) fn new(resolver: Option<TokioResolver>) -> Self {
        Self(resolver)
    }

    /// The addresses of a name.
    pub(super) async fn lookup(&self, name: &str) -> Answer {
        let own;
        let resolver = match &self.0 {
            Some(resolver) => resolver,
            None => {
                // Read anew each time: the machine may get other resolvers, and names are asked for seldom.
                own = machines_resolver()?;
                &own
            }
        };
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(name));
        let seconds = LOOKUP_TIMEOUT.as_secs();
        let found = lookup.await.map_err(|_| format!("no answer within {seconds} s"))?;
        let found = found.map_err(|error| error.to_string())?;
        let ttl = found.valid_until().saturating_duration_since(std::time::Instant::now());
        Ok((found.iter().filter(|ip| !ip.is_unspecified()).collect(), ttl))
    }
}

fn machines_resolver() -> Result<TokioResolver, String> {
    let build = || TokioResolver::builder_tokio()?.build();
    build().map_err(|error| format!("the machine's resolvers cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Names {
        let due = Some(Instant::now());
        Names(list.iter().map(|name| ((*name).into(), Resolved { due, ..Resolved::default() })).collect())
    }

    fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    fn chosen(names: &Names) -> Option<String> {
        names.get("db").and_then(|name| name.ip).map(|ip| ip.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_kept_while_it_is_in_the_answer() {
        let mut names = names(&["db"]);
        let ttl = Duration::from_secs(60);
        for (answer, want) in [
            (Ok((ips(&["10.0.0.9", "10.0.0.5", "fd00::1"]), ttl)), "10.0.0.5"),
            (Ok((ips(&["10.0.0.1", "10.0.0.5"]), ttl)), "10.0.0.5"),
            (Err("timed out".to_owned()), "10.0.0.5"),
            (Ok((ips(&[]), ttl)), "10.0.0.5"),
            (Ok((ips(&["10.0.0.9", "10.0.0.1"]), ttl)), "10.0.0.1"),
        ] {
            names.answered("db", answer, Instant::now());
            assert_eq!(chosen(&names).as_deref(), Some(want));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_until_the_next_answer() {
        let mut names = names(&["db"]);
        let error = |names: &Names| names.get("db").and_then(|name| name.error.clone());
        names.answered("db", Err("no\nsuch name".to_owned()), Instant::now());
        assert_eq!(error(&names).as_deref(), Some("no\\nsuch name"));
        names.answered("db", Ok((ips(&[]), TTL.0)), Instant::now());
        assert_eq!(error(&names).as_deref(), Some("it has no address"));
        names.answered("db", Ok((ips(&["10.0.0.5"]), TTL.0)), Instant::now());
        assert_eq!(error(&names), None);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_due_at_their_ttl_within_bounds() {
        for (ttl, want) in [(0, 1), (60, 60), (86_400, 300)] {
            let (mut names, now) = (names(&["db"]), Instant::now());
            assert_eq!(names.take_due(now, 1).0.len(), 1);
            assert_eq!(names.take_due(now, 1), (vec![], None), "one lookup at a time");
            names.answered("db", Ok((ips(&["10.0.0.5"]), Duration::from_secs(ttl))), now);
            assert_eq!(names.take_due(now, 1), (vec![], Some(now + Duration::from_secs(want))), "{ttl} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_taken_than_asked_for_and_all_are_tried_in_the_end() {
        let mut names = names(&["a", "b", "c"]);
        let now = Instant::now();
        let (first, next) = names.take_due(now, 2);
        assert_eq!((first.len(), next), (2, Some(now)));
        first.iter().for_each(|name| names.answered(name, Err(String::new()), now));
        assert!(!names.are_tried());
        let (rest, _) = names.take_due(now, 2);
        rest.iter().for_each(|name| names.answered(name, Err(String::new()), now));
        assert!(names.are_tried());
        names.answered("unknown", Err(String::new()), now);
        assert_eq!(names.0.len(), 3);
    }
}
