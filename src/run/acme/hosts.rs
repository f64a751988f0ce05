//! Which hosts are to have a certificate of the authority, and which of them is next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairway_catalog::Catalog;
use fairway_config::file::Acme;
use fairway_config::names::HostPattern;
use fairway_proxy::tls::x509::Facts;
use jiff::{SignedDuration, Timestamp};

/// Most hosts of routes that are asked for: labels are written by many, and authorities count.
const HOSTS_MAX: usize = 300;

/// The pause after a first failure; four times longer after each further one. Authorities allow few failures an hour.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// The longest.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);

/// The hosts that are to have one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) hosts: BTreeSet<Arc<str>>,
    /// How many more there would be.
    pub(super) left_out: usize,
}

/// Those of the configuration, and those of routes that are claimed with `https://`, unless a file has a certificate
/// for them, or no authority could reach them.
pub(super) fn wanted(config: &Acme, catalog: &Catalog, by_file: &[Arc<str>]) -> Wanted {
    let in_file = |host: &str| {
        let has = |name: &str| by_file.iter().any(|have| **have == *name);
        has(host) || host.split_once('.').is_some_and(|(_, parent)| has(&format!("*.{parent}")))
    };
    let zones = &catalog.settings.zones;
    let is_ours_alone = |host: &str| {
        let under =
            |zone: &str| host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        under("local") || under("localhost") || zones.iter().any(|zone| under(zone)) || !host.contains('.')
    };
    let mut wanted = Wanted { hosts: config.hosts.iter().cloned().collect(), left_out: 0 };
    let routes = catalog.routes.values().filter(|route| config.routes && route.https);
    for route in routes {
        let HostPattern::Exact(host) = &route.id.host else { continue };
        if is_ours_alone(host) || in_file(host) || wanted.hosts.contains(host) {
            continue;
        }
        if wanted.hosts.len() < HOSTS_MAX.max(config.hosts.len()) {
            wanted.hosts.insert(host.clone());
        } else {
            wanted.left_out += 1;
        }
    }
    wanted
}

/// When a certificate is renewed: with a third of its life left.
pub(super) fn renew_at(facts: &Facts) -> Timestamp {
    facts.not_after - facts.not_after.duration_since(facts.not_before) / 3
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for this host's certificate.
    Due(Arc<str>),
    /// Nothing before this time; `None`: nothing at all.
    At(Option<Timestamp>),
}

/// Who is next: a host without a certificate before one that is to be renewed. `renewals` are the hosts that have one.
pub(super) fn next(
    wanted: &BTreeSet<Arc<str>>,
    renewals: &BTreeMap<Arc<str>, Timestamp>,
    failed: &BTreeMap<Arc<str>, Backoff>,
    now: Timestamp,
) -> Next {
    let due = |host: &Arc<str>| {
        let since = renewals.get(host).copied().unwrap_or(Timestamp::UNIX_EPOCH);
        failed.get(host).map_or(since, |backoff| since.max(backoff.until))
    };
    let first = wanted.iter().min_by_key(|host| (due(host), (*host).clone()));
    match first {
        Some(host) if due(host) <= now => Next::Due(host.clone()),
        first => Next::At(first.map(due)),
    }
}

/// A host that got no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backoff {
    pause: SignedDuration,
    /// When it is tried again.
    pub(super) until: Timestamp,
    /// Why.
    pub(super) text: String,
    /// What to do.
    pub(super) remedy: &'static str,
}

impl Backoff {
    /// After one more failure, of this host.
    pub(super) fn after(before: Option<&Self>, now: Timestamp, text: String, remedy: &'static str) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 4).min(LONGEST_PAUSE));
        Self { pause, until: now.saturating_add(pause).unwrap_or(now), text, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn hosts_without_a_certificate_come_first_then_those_whose_time_has_come() {
        let hosts =
            |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<BTreeSet<Arc<str>>>();
        let wanted = hosts(&["a.test", "b.test", "c.test"]);
        let renewals = BTreeMap::from([("a.test".into(), at(100)), ("b.test".into(), at(50))]);
        let mut failed = BTreeMap::new();
        assert_eq!(next(&wanted, &renewals, &failed, at(60)), Next::Due("c.test".into()));
        failed.insert("c.test".into(), Backoff::after(None, at(60), String::new(), ""));
        assert_eq!(next(&wanted, &renewals, &failed, at(60)), Next::Due("b.test".into()));
        failed.insert("b.test".into(), Backoff::after(None, at(61), String::new(), ""));
        assert_eq!(next(&wanted, &renewals, &failed, at(61)), Next::At(Some(at(100))));
        assert_eq!(next(&hosts(&[]), &renewals, &failed, at(61)), Next::At(None));
    }

    #[test]
    fn pauses_grow_from_a_minute_to_six_hours() {
        let mut before: Option<Backoff> = None;
        let mut minutes = Vec::new();
        for _ in 0..6 {
            let next = Backoff::after(before.as_ref(), at(0), "no".into(), "");
            minutes.push(next.until.as_second() / 60);
            before = Some(next);
        }
        assert_eq!(minutes, [1, 4, 16, 64, 256, 360]);
    }

    #[test]
    fn a_certificate_is_renewed_with_a_third_of_its_life_left() {
        let facts =
            Facts { subject: String::new(), names: Vec::new(), not_before: at(1000), not_after: at(1900) };
        assert_eq!(renew_at(&facts), at(1600));
    }
}
