//! What changed from one catalog to the next, for the event feed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairway_config::names::Weight;
use jiff::Timestamp;

use crate::inputs::StateRecord;
use crate::model::{Catalog, Route};
use crate::problem::Problem;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision it came with; events of one revision share it.
    pub revision: u64,
    /// When.
    pub at: Timestamp,
    /// What kind: `instance-added`, `instance-removed`, `instance-condition`, `instance-state`, `instance-drained`,
    /// `backend-added`, `backend-removed`, `backend-state`, `route-added`, `route-removed`, `route-split`, `route-mirror`,
    /// `route-limits`, `problem-raised`, `problem-cleared`, `source-lost`, `source-found`, `release-state`, `release-step`.
    pub kind: Arc<str>,
    /// Whom it concerns, by the name that the API uses.
    pub subject: Arc<str>,
    /// What it was, empty for something new.
    pub from: Arc<str>,
    /// What it is, empty for something gone.
    pub to: Arc<str>,
    /// Why, one line.
    pub reason: Arc<str>,
}

/// Every change between two catalogs, in a fixed order: sources, backends, instances, routes, releases, problems.
pub fn diff(before: &Catalog, after: &Catalog) -> Vec<Event> {
    let mut log = Log { revision: after.revision, at: after.at, events: Vec::new() };
    log.sources(before, after);
    for (id, old, new) in changes(&before.backends, &after.backends) {
        let subject = id.to_string();
        match (old, new) {
            (None, Some(_)) => log.push("backend-added", &subject, "", "", ""),
            (Some(_), None) => log.push("backend-removed", &subject, "", "", ""),
            (Some(old), Some(new)) if old.state != new.state => {
                log.push(
                    "backend-state",
                    &subject,
                    old.state.as_str(),
                    new.state.as_str(),
                    why(&new.ordered),
                );
            }
            _ => {}
        }
    }
    log.instances(before, after);
    for (id, old, new) in changes(&before.routes, &after.routes) {
        log.route(&id.to_string(), old.map(|route| &**route), new.map(|route| &**route));
    }
    log.releases(before, after);
    log.problems(before, after);
    log.events
}

/// The entries that are not the same in both maps, by key.
fn changes<'a, K: Ord, V>(
    before: &'a BTreeMap<K, Arc<V>>,
    after: &'a BTreeMap<K, Arc<V>>,
) -> impl Iterator<Item = (&'a K, Option<&'a Arc<V>>, Option<&'a Arc<V>>)> {
    let gone =
        before.iter().filter(|(key, _)| !after.contains_key(*key)).map(|(key, old)| (key, Some(old), None));
    let other = after.iter().filter_map(|(key, new)| match before.get(key) {
        Some(old) if Arc::ptr_eq(old, new) => None,
        old => Some((key, old, Some(new))),
    });
    gone.chain(other)
}

/// Why somebody set a state.
fn why(ordered: &Option<StateRecord>) -> &str {
    ordered.as_ref().map_or("", |record| &record.reason)
}

struct Log {
    revision: u64,
    at: Timestamp,
    events: Vec<Event>,
}

impl Log {
    fn push(&mut self, kind: &str, subject: &str, from: &str, to: &str, reason: &str) {
        self.events.push(Event {
            revision: self.revision,
            at: self.at,
            kind: kind.into(),
            subject: subject.into(),
            from: from.into(),
            to: to.into(),
            reason: reason.into(),
        });
    }

    fn sources(&mut self, before: &Catalog, after: &Catalog) {
        for new in &after.sources {
            let old = before.sources.iter().find(|old| old.id == new.id);
            let was_found = old.is_some_and(|old| old.listed && old.lost.is_none());
            let is_found = new.listed && new.lost.is_none();
            let was_lost = old.is_some_and(|old| old.lost.is_some());
            match &new.lost {
                Some(lost) if !was_lost => self.push("source-lost", &new.id.to_string(), "", "", &lost.error),
                None if is_found && !was_found => {
                    self.push("source-found", &new.id.to_string(), "", "", &new.peer);
                }
                _ => {}
            }
        }
    }

    fn instances(&mut self, before: &Catalog, after: &Catalog) {
        for (id, old, new) in changes(&before.instances, &after.instances) {
            let subject = id.as_str();
            match (old, new) {
                (None, Some(new)) => {
                    self.push("instance-added", subject, "", new.condition.as_str(), &new.reason);
                }
                (Some(old), None) => {
                    self.push("instance-removed", subject, old.condition.as_str(), "", "");
                }
                (Some(old), Some(new)) => {
                    if old.condition != new.condition {
                        let (from, to) = (old.condition.as_str(), new.condition.as_str());
                        self.push("instance-condition", subject, from, to, &new.reason);
                    }
                    if old.state != new.state {
                        let (from, to) = (old.state.as_str(), new.state.as_str());
                        self.push("instance-state", subject, from, to, why(&new.ordered));
                    }
                    if let Some(drained) =
                        new.drained.as_ref().filter(|end| old.drained.as_ref() != Some(end))
                    {
                        let reason = match drained.cut {
                            0 => "nothing runs there any more".to_owned(),
                            cut => format!("{cut} still ran after fairway.drain and were ended"),
                        };
                        self.push("instance-drained", subject, "draining", "drained", &reason);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn route(&mut self, subject: &str, old: Option<&Route>, new: Option<&Route>) {
        match (old, new) {
            (None, Some(new)) => self.push("route-added", subject, "", &weights(new), ""),
            (Some(old), None) => self.push("route-removed", subject, &weights(old), "", ""),
            (Some(old), Some(new)) => {
                if old.etag != new.etag {
                    let reason = new.split.as_ref().map_or("", |split| &*split.reason);
                    self.push("route-split", subject, &weights(old), &weights(new), reason);
                }
                if old.mirror != new.mirror {
                    let reason = new.mirror.as_ref().map_or("", |mirror| &*mirror.reason);
                    self.push("route-mirror", subject, &copies(old), &copies(new), reason);
                }
                if old.limits != new.limits {
                    let reason = new.limits.as_ref().map_or("", |limits| &*limits.reason);
                    self.push("route-limits", subject, &limits(old), &limits(new), reason);
                }
            }
            (None, None) => {}
        }
    }

    /// Of a release that another start of the process knew already nothing is new.
    fn releases(&mut self, before: &Catalog, after: &Catalog) {
        if before.at == Timestamp::UNIX_EPOCH {
            return;
        }
        for (route, new) in after.releases.iter() {
            let old = before.releases.get(route).filter(|old| old.ordered == new.ordered);
            let subject = route.to_string();
            let from = old.map_or("", |old| old.state);
            if from != new.state {
                self.push("release-state", &subject, from, new.state, &new.why);
            }
            let from = old.map_or(0, |old| old.weight);
            if from != new.weight {
                let share = |percent: u8| format!("{} {percent} %", new.to);
                self.push("release-step", &subject, &share(from), &share(new.weight), &new.why);
            }
        }
    }

    fn problems(&mut self, before: &Catalog, after: &Catalog) {
        let identities = |catalog: &Catalog| -> BTreeSet<_> {
            catalog
                .problems
                .iter()
                .map(|p| (p.kind, p.subject.clone(), p.key.clone(), p.value.clone()))
                .collect()
        };
        let same = before.problems.len() == after.problems.len()
            && before.problems.iter().zip(&after.problems).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return;
        }
        let (old, new) = (identities(before), identities(after));
        let identity = |p: &Problem| (p.kind, p.subject.clone(), p.key.clone(), p.value.clone());
        for problem in after.problems.iter().filter(|p| !old.contains(&identity(p))) {
            self.push("problem-raised", &problem.subject, "", problem.kind, &problem.text);
        }
        for problem in before.problems.iter().filter(|p| !new.contains(&identity(p))) {
            self.push("problem-cleared", &problem.subject, problem.kind, "", &problem.text);
        }
    }
}

/// Where copies of a route's requests go: `10 % to web@v2`; empty without a mirror.
fn copies(route: &Route) -> String {
    route.mirror.as_ref().map_or_else(String::new, |mirror| format!("{} % to {}", mirror.percent, mirror.to))
}

/// The limits that the API sets: `timeout.total=5s retries=0`; empty without any.
fn limits(route: &Route) -> String {
    route.limits.as_ref().map_or_else(String::new, |record| record.limits.to_string())
}

/// A route's weights as people write them: `web@v1=95 web@v2=5`; `equal` without a split.
fn weights(route: &Route) -> String {
    if route.split.is_none() {
        return "equal".to_owned();
    }
    let weight = |weight: Option<Weight>| weight.unwrap_or(Weight::ZERO);
    let parts: Vec<String> =
        route.members.iter().map(|m| format!("{}={}", m.backend.id, weight(m.weight))).collect();
    parts.join(" ")
}
