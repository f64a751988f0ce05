//! From host and path to a route: exact hosts, then the longest wildcard that has a route for the path.
//!
//! Kept from table to table as long as the names of the routes are the same. Not here: who may know of a host, and
//! what the route leads to (see the module above).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fairway_catalog::Route;
use fairway_config::names::{HostPattern, RouteId};

use super::path_match::{Paths, RouteIndex};
use crate::pick::stable_hash::BuildStable;

type Hosts = HashMap<Arc<str>, Paths, BuildStable>;

/// Routes of connections over TLS by their hosts.
#[derive(Debug, Default)]
struct TlsHosts {
    exact: HashMap<Arc<str>, RouteIndex, BuildStable>,
    /// By the name after `*.`.
    wildcard: HashMap<Arc<str>, RouteIndex, BuildStable>,
}

/// Finds the route of a host and path.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    exact: Hosts,
    /// By the name after `*.`.
    wildcard: Hosts,
    /// Most labels of any wildcard's name: longer suffixes of a host need not be tried.
    wildcard_labels_max: usize,
    /// Mostly there are none.
    tls: TlsHosts,
    /// The zones it was built for.
    zones: Vec<Arc<str>>,
}

impl Matcher {
    /// For the routes in the order of their names. A route under `.local` also answers under each of `zones`, unless that
    /// name has the path itself.
    pub(super) fn new<'a>(routes: impl Iterator<Item = &'a Arc<Route>>, zones: &[Arc<str>]) -> Self {
        let mut hosts: BTreeMap<HostPattern, Vec<(Arc<str>, RouteIndex)>> = BTreeMap::new();
        let mut local: Vec<(&RouteId, RouteIndex)> = Vec::new();
        let mut tls = TlsHosts::default();
        for (route, index) in routes.zip(0..) {
            let id = &route.id;
            if id.is_tls() {
                tls.insert(id, index, zones);
                continue;
            }
            hosts.entry(id.host.clone()).or_default().push((id.path.clone(), index));
            if id.host.is_local() {
                local.push((id, index));
            }
        }
        for (id, index) in local {
            for alias in aliases(&id.host, zones) {
                let paths = hosts.entry(alias).or_default();
                if paths.iter().all(|(path, _)| *path != id.path) {
                    paths.push((id.path.clone(), index));
                }
            }
        }
        let mut matcher = Self { zones: zones.to_vec(), tls, ..Self::default() };
        for (host, paths) in hosts {
            matcher.insert(host, Paths::new(paths));
        }
        matcher
    }

    fn insert(&mut self, host: HostPattern, paths: Paths) {
        match host {
            HostPattern::Exact(name) => self.exact.insert(name, paths),
            HostPattern::Wildcard(name) => {
                self.wildcard_labels_max = self.wildcard_labels_max.max(labels(&name));
                self.wildcard.insert(name, paths)
            }
        };
    }

    /// Whether it was built for these zones.
    pub(super) fn is_for(&self, zones: &[Arc<str>]) -> bool {
        self.zones == zones
    }

    /// The most specific route that covers the path: the exact host, then each wildcard from the longest on.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<RouteIndex> {
        let exact = self.exact.get(host).and_then(|paths| paths.find(path));
        exact.or_else(|| self.find_wildcard(host, path))
    }

    /// Whether there is any route of connections over TLS.
    pub(super) fn has_tls(&self) -> bool {
        !(self.tls.exact.is_empty() && self.tls.wildcard.is_empty())
    }

    /// The route of connections over TLS that ask for this host, unless a more specific host is served here.
    pub(super) fn find_tls(&self, host: &str) -> Option<RouteIndex> {
        let exact = self.tls.exact.get(host);
        if exact.is_some() || self.exact.contains_key(host) {
            return exact.copied();
        }
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            rest = suffix;
            let wildcard = self.tls.wildcard.get(suffix);
            if wildcard.is_some() || self.wildcard.contains_key(suffix) {
                return wildcard.copied();
            }
        }
        None
    }

    fn find_wildcard(&self, host: &str, path: &str) -> Option<RouteIndex> {
        if self.wildcard.is_empty() {
            return None;
        }
        let mut left = labels(host);
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            (rest, left) = (suffix, left - 1);
            if left > self.wildcard_labels_max {
                continue;
            }
            if let Some(route) = self.wildcard.get(suffix).and_then(|paths| paths.find(path)) {
                return Some(route);
            }
        }
        None
    }

    /// Heap memory in octets, but for names and paths, which belong to the catalog.
    pub(super) fn heap_bytes(&self) -> usize {
        let of = |hosts: &Hosts| {
            let slots = hosts.capacity() * 8 / 7 * (size_of::<(Arc<str>, Paths)>() + 1);
            slots + hosts.values().map(Paths::heap_bytes).sum::<usize>()
        };
        let tls = self.tls.exact.capacity() + self.tls.wildcard.capacity();
        of(&self.exact) + of(&self.wildcard) + tls * 8 / 7 * (size_of::<(Arc<str>, RouteIndex)>() + 1)
    }
}

impl TlsHosts {
    /// A host under `.local` answers in every zone, as one of requests does, unless the name is there itself.
    fn insert(&mut self, id: &RouteId, index: RouteIndex, zones: &[Arc<str>]) {
        let others = if id.host.is_local() { aliases(&id.host, zones) } else { Vec::new() };
        for alias in &others {
            self.of(alias).entry(alias.name().into()).or_insert(index);
        }
        self.of(&id.host).insert(id.host.name().into(), index);
    }

    fn of(&mut self, host: &HostPattern) -> &mut HashMap<Arc<str>, RouteIndex, BuildStable> {
        match host {
            HostPattern::Exact(_) => &mut self.exact,
            HostPattern::Wildcard(_) => &mut self.wildcard,
        }
    }
}

/// How a route comes to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// By its own name.
    Exact,
    /// By its wildcard.
    Wildcard,
    /// As the name of a `.local` route in another zone.
    Alias(HostPattern),
}

/// How a route with this host pattern comes to `host`, if at all. For people: requests ask the [`Matcher`].
pub(crate) fn fit(pattern: &HostPattern, host: &str, zones: &[Arc<str>]) -> Option<Fit> {
    let own = covers_host(pattern, host).then_some(match pattern {
        HostPattern::Exact(_) => Fit::Exact,
        HostPattern::Wildcard(_) => Fit::Wildcard,
    });
    own.or_else(|| {
        let mut others = if pattern.is_local() { aliases(pattern, zones) } else { Vec::new() }.into_iter();
        others.find(|alias| covers_host(alias, host)).map(Fit::Alias)
    })
}

fn covers_host(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => **name == *host,
        HostPattern::Wildcard(name) => host.strip_suffix(&**name).is_some_and(|rest| rest.ends_with('.')),
    }
}

fn labels(name: &str) -> usize {
    1 + name.bytes().filter(|b| *b == b'.').count()
}

/// The names of a `.local` host in the other zones.
fn aliases(host: &HostPattern, zones: &[Arc<str>]) -> Vec<HostPattern> {
    let stem = host.name().strip_suffix("local").unwrap_or_default();
    let alias = |zone: &Arc<str>| {
        let name = format!("{stem}{zone}").into();
        match host {
            HostPattern::Exact(_) => HostPattern::Exact(name),
            HostPattern::Wildcard(_) => HostPattern::Wildcard(name),
        }
    };
    zones.iter().filter(|zone| &***zone != "local").map(alias).collect()
}
