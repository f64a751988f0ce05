//! The routing table: from a request's host and path to the route that serves it.
//!
//! A pure function of the catalog, and of the table before, whose unchanged parts it keeps: a health flip or a new
//! weight makes the entries of the routes concerned anew and nothing else. Not here: the choice of version and instance
//! (see `pick`), who publishes tables (see [`handle`]).

mod disguise;
mod entry;
#[cfg(test)]
pub(crate) mod fixture;
pub mod handle;
pub(crate) mod host_match;
pub(crate) mod path_match;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use fairway_catalog::{Catalog, InstanceKey, InternalClients, Settings};
use fairway_config::names::RouteId;

pub(crate) use entry::Mirror;
use entry::Moment;
pub use entry::{RouteEntry, Version};
pub use handle::{TableHandle, TableReader, follow};
use host_match::Matcher;

use crate::endpoint::EndpointStates;
use crate::metrics::Metrics;
use crate::request::RequestView;
use crate::sticky::Keys;

/// Every route, as requests find them.
#[derive(Debug)]
pub struct RouteTable {
    /// The serial of the inputs that its catalog was built from.
    pub serial: u64,
    /// The catalog's revision.
    pub revision: u64,
    /// Every source has been listed once: an unknown host is unknown indeed (design rule 4).
    pub settled: bool,
    /// From the configuration.
    pub settings: Arc<Settings>,
    /// Who is internal (design rule 11).
    pub internal: Arc<InternalClients>,
    matcher: Arc<Matcher>,
    /// By name, as the catalog has them.
    entries: Box<[Arc<RouteEntry>]>,
    /// Some route has a guard.
    has_guards: bool,
}

/// What outlives a table: the numbers that change with requests.
#[derive(Debug)]
pub struct Lasting {
    /// Of the instances.
    pub states: EndpointStates,
    /// Of the routes and backends.
    pub metrics: Arc<Metrics>,
    /// What the cookies of sticky routes are sealed with: a key of this process alone, until somebody sets others.
    pub(crate) sticky: Arc<ArcSwap<Keys>>,
}

impl Lasting {
    /// Nothing known yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let sticky = Arc::new(ArcSwap::from_pointee(Keys::ephemeral()));
        Self { states: EndpointStates::default(), metrics, sticky }
    }
}

/// Where a request leads.
#[derive(Debug, Clone, Copy)]
pub enum Find<'a> {
    /// To this route.
    Route(&'a Arc<RouteEntry>),
    /// To a route for TLS only, while the client does not use TLS: 308 to the same URL with `https`.
    RedirectToHttps(&'a Arc<RouteEntry>),
    /// Nowhere, or to a name that this client may not know of: 404.
    Unknown,
    /// Past the guard of another route to a server that could read the path as one of that route's: 400.
    Disguised(&'a Arc<RouteEntry>),
    /// Nowhere as yet, not every source has been listed: 503 with Retry-After.
    NotSettled,
}

impl RouteTable {
    /// The table of this catalog. `before` is the table that it follows: what did not change is kept by pointer. Instances
    /// that are in no route any more are retired from `lasting`.
    pub fn build(catalog: &Catalog, lasting: &Lasting, before: Option<&Self>) -> Self {
        let old: &[Arc<RouteEntry>] = before.map_or(&[], |before| &before.entries);
        let same_zone = before.is_none_or(|before| before.settings.zone == catalog.settings.zone);
        let Merged { entries, gone, same_names, has_guards } = merge(catalog, lasting, old, same_zone);
        let zones = &catalog.settings.zones;
        let matcher = match before {
            Some(before) if same_names && before.matcher.is_for(zones) => before.matcher.clone(),
            _ => Arc::new(Matcher::new(entries.iter().map(|entry| &entry.route), zones)),
        };
        for entry in gone {
            retire_unrouted(&entry, catalog, lasting);
        }
        Self {
            serial: catalog.serial,
            revision: catalog.revision,
            settled: catalog.settled,
            settings: catalog.settings.clone(),
            internal: catalog.internal.clone(),
            matcher,
            entries,
            has_guards,
        }
    }

    /// The table before anything is known.
    pub fn empty(lasting: &Lasting) -> Self {
        Self::build(&Catalog::empty(0), lasting, None)
    }

    /// Where this request leads.
    pub fn find(&self, request: &RequestView<'_>) -> Find<'_> {
        let hidden = !request.internal && self.is_internal_name(request.host);
        let index = if hidden { None } else { self.matcher.find(request.host, request.path) };
        match index.and_then(|index| self.entries.get(index as usize)) {
            Some(entry) if self.has_guards && self.slips_past(request, entry) => Find::Disguised(entry),
            Some(entry) if entry.route.secure && !request.secure => Find::RedirectToHttps(entry),
            Some(entry) => Find::Route(entry),
            None if self.settled => Find::Unknown,
            None => Find::NotSettled,
        }
    }

    /// Whether the TLS of any host is passed on as it is: only then is the name in a handshake looked at before.
    pub(crate) fn passes_tls(&self) -> bool {
        self.matcher.has_tls()
    }

    /// The route to which the TLS of a client that asks for this host, in lower case, is passed on.
    pub(crate) fn find_tls(&self, host: &str, internal: bool) -> Option<&Arc<RouteEntry>> {
        if self.is_internal_name(host) && !internal {
            return None;
        }
        self.entries.get(self.matcher.find_tls(host)? as usize)
    }

    /// Whether a server could read the path as one of another route's, which has a guard.
    fn slips_past(&self, request: &RequestView<'_>, entry: &RouteEntry) -> bool {
        let Some(plain) = disguise::plain(request.path) else { return false };
        let other =
            self.matcher.find(request.host, &plain).and_then(|index| self.entries.get(index as usize));
        other.is_some_and(|other| other.is_guarded() && other.route.id != entry.route.id)
    }

    /// Whether only internal clients may ask for this host: one under `.local` or one of our zones (design rule 11).
    pub fn is_internal_name(&self, host: &str) -> bool {
        is_under(host, "local") || self.settings.zones.iter().any(|zone| is_under(host, zone))
    }

    /// The route of this name.
    pub fn by_id(&self, id: &RouteId) -> Option<&Arc<RouteEntry>> {
        let at = self.entries.binary_search_by(|entry| entry.route.id.cmp(id)).ok()?;
        self.entries.get(at)
    }

    /// Every route by name.
    pub fn entries(&self) -> &[Arc<RouteEntry>] {
        &self.entries
    }

    /// The entries that the next table does not have as they are.
    pub(crate) fn not_kept_by<'a>(&'a self, next: &'a Self) -> impl Iterator<Item = &'a Arc<RouteEntry>> {
        let mut news = next.entries.iter().peekable();
        self.entries.iter().filter(move |old| {
            // Most are the very same value: hardly a comparison of names.
            let is_before = |new: &&Arc<RouteEntry>| !Arc::ptr_eq(new, old) && new.route.id < old.route.id;
            while news.next_if(is_before).is_some() {}
            news.next_if(|new| Arc::ptr_eq(new, old)).is_none()
        })
    }

    /// Heap memory in octets, as far as it is the table's own: neither the catalog's values nor the metrics.
    pub fn heap_bytes(&self) -> usize {
        let entry = |entry: &Arc<RouteEntry>| {
            size_of::<Arc<RouteEntry>>() + size_of::<RouteEntry>() + 16 + entry.heap_bytes()
        };
        self.matcher.heap_bytes() + self.entries.iter().map(entry).sum::<usize>()
    }

    #[cfg(test)]
    pub(crate) fn keeps_matcher_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.matcher, &other.matcher)
    }
}

fn is_under(host: &str, zone: &str) -> bool {
    host.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The entries of a new table, and what became of the old ones.
struct Merged {
    entries: Box<[Arc<RouteEntry>]>,
    /// Old entries that were not kept.
    gone: Vec<Arc<RouteEntry>>,
    /// The routes have the same names as before.
    same_names: bool,
    has_guards: bool,
}

/// Both sides are sorted by name, and most routes are the very same value: one walk, hardly a comparison of names.
fn merge(catalog: &Catalog, lasting: &Lasting, old: &[Arc<RouteEntry>], same_zone: bool) -> Merged {
    let mut old = old.iter().peekable();
    let moment = Moment { at: catalog.at, now: Instant::now(), zone: &catalog.settings.zone };
    let (mut gone, mut same_names, mut has_guards) = (Vec::new(), true, false);
    let mut entries = Vec::with_capacity(catalog.routes.len());
    for route in catalog.routes.values() {
        if let Some(same) = old.next_if(|entry| same_zone && Arc::ptr_eq(&entry.route, route)) {
            has_guards |= same.is_guarded();
            entries.push(same.clone());
            continue;
        }
        while let Some(removed) = old.next_if(|entry| entry.route.id < route.id) {
            gone.push(removed.clone());
            same_names = false;
        }
        let before = old.next_if(|entry| entry.route.id == route.id);
        same_names &= before.is_some();
        let entry = match before {
            Some(before) if same_zone && Arc::ptr_eq(&before.route, route) => before.clone(),
            _ => Arc::new(RouteEntry::new(route, before.map(|before| &**before), lasting, &moment)),
        };
        has_guards |= entry.is_guarded();
        entries.push(entry);
        gone.extend(before.filter(|before| !Arc::ptr_eq(&before.route, route)).cloned());
    }
    same_names &= old.peek().is_none();
    gone.extend(old.cloned());
    Merged { entries: entries.into(), gone, same_names, has_guards }
}

/// Retires the instances of an entry that is gone, unless another route of the catalog has them.
fn retire_unrouted(gone: &RouteEntry, catalog: &Catalog, lasting: &Lasting) {
    for endpoint in gone.endpoints() {
        let key = &endpoint.key;
        if !is_routed(key, catalog) {
            lasting.states.retire(key, has_lost_its_address(key, catalog));
        }
    }
}

/// Whether the same life of the instance is elsewhere now, or nowhere.
fn has_lost_its_address(key: &InstanceKey, catalog: &Catalog) -> bool {
    let instance = catalog.instances.get(&key.id);
    instance.is_some_and(|now| now.unit.started == key.started && now.address != Some(key.address))
}

fn is_routed(key: &InstanceKey, catalog: &Catalog) -> bool {
    let Some(instance) = catalog.instances.get(&key.id) else { return false };
    if instance.key().as_ref() != Some(key) {
        return false;
    }
    let routes = catalog.backends.get(&instance.backend).into_iter().flat_map(|backend| &backend.routes);
    let members = routes.filter_map(|id| catalog.routes.get(id)).flat_map(|route| &route.members);
    members.flat_map(|member| &member.instances).any(|member| member.id == key.id)
}
