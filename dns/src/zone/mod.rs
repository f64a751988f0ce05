//! Our zones: every name we answer for, as one value made from the catalog.
//!
//! Pure: no sockets, no clock. A query reads one zone, once. `index` knows which names there are, `node` what stands at
//! each, `lookup` writes the answer; a flip of an instance makes the nodes anew that it is part of, and no other.

mod groups;
mod index;
mod key;
mod lookup;
mod node;
mod origin;
mod proxy_address;
mod service;
mod share;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fairway_catalog::config::file::Advertise;
use fairway_catalog::config::names::{BackendId, RouteId};
use fairway_catalog::{Backend, Catalog, Problem, Route};

use index::{Index, Source};
use node::Node;
use origin::Origin;

pub use lookup::Answer;

/// What the zone is made of beside the catalog.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ZoneConfig {
    /// The zones, lower case, without a trailing dot.
    pub zones: Vec<Arc<str>>,
    /// Most addresses in one answer, 0 for all.
    pub max_addresses: usize,
    /// Which address of the proxy a client is told.
    pub advertise: Vec<Advertise>,
    /// The HTTP listeners as they are bound.
    pub http: Vec<SocketAddr>,
}

/// Who asks, and where.
pub struct Client<'a> {
    /// The client's address, an IPv4 one never mapped into IPv6.
    pub address: IpAddr,
    /// The address of ours that the query arrived on, where it is known.
    pub arrived_on: Option<IpAddr>,
    /// The local address that packets to a client leave from.
    pub route_to: &'a dyn Fn(IpAddr) -> Option<IpAddr>,
}

/// Every name we answer for.
#[derive(Debug)]
pub struct Zone {
    catalog: Arc<Catalog>,
    config: Arc<ZoneConfig>,
    origins: Vec<Origin>,
    index: Arc<Index>,
    /// By [`index::NodeId`].
    nodes: Vec<Arc<Node>>,
}

impl Zone {
    /// Pure: equal arguments give equal zones. What did not change since `before` is taken from it. The problems are
    /// those of the names; see `Answer::without_proxy_address` for the other.
    pub fn build(
        catalog: &Arc<Catalog>,
        config: &Arc<ZoneConfig>,
        before: Option<&Self>,
    ) -> (Self, Vec<Problem>) {
        let (origins, mut problems) = Origin::all(&config.zones);
        let kept =
            before.filter(|zone| zone.config.zones == config.zones && same_names(&zone.catalog, catalog));
        let (index, nodes) = match kept {
            Some(zone) => (zone.index.clone(), remake(zone, catalog)),
            None => {
                let index = Index::build(catalog, &config.zones);
                let nodes = index.sources.iter().map(|source| Node::make(source, catalog).into()).collect();
                (Arc::new(index), nodes)
            }
        };
        problems.extend(index.problems.iter().cloned());
        (Self { catalog: catalog.clone(), config: config.clone(), origins, index, nodes }, problems)
    }

    /// The serial of the inputs that the catalog was built from.
    pub fn serial(&self) -> u64 {
        self.catalog.serial
    }

    /// Whether a client at this address is internal (design rule 11).
    pub fn is_internal(&self, client: IpAddr) -> bool {
        self.catalog.internal.contains(client)
    }

    /// The serial of the SOA record: the catalog's revision, as far as 32 bits go (RFC 1982).
    fn soa_serial(&self) -> u32 {
        (self.catalog.revision & u64::from(u32::MAX)) as u32
    }
}

/// The nodes of the zone before, those that changed made anew.
fn remake(before: &Zone, catalog: &Arc<Catalog>) -> Vec<Arc<Node>> {
    let mut nodes = before.nodes.clone();
    if Arc::ptr_eq(&before.catalog, catalog) {
        return nodes;
    }
    let (backends, routes) = changed(&before.catalog, catalog);
    let mut touched: HashSet<u32> = HashSet::new();
    for backend in &backends {
        touched.extend(before.index.of_backend.get(*backend).into_iter().flatten());
    }
    if !routes.is_empty() {
        let routed = |source: &Source| matches!(source, Source::Routed(ids) if ids.iter().any(|id| routes.contains(id)));
        let routed = before.index.sources.iter().enumerate().filter(|(_, source)| routed(source));
        touched.extend(routed.filter_map(|(place, _)| u32::try_from(place).ok()));
    }
    for id in touched {
        let place = id as usize;
        if let (Some(node), Some(source)) = (nodes.get_mut(place), before.index.sources.get(place)) {
            *node = Node::make(source, catalog).into();
        }
    }
    nodes
}

/// The backends that changed, themselves or their weight in a route, and the routes that did.
fn changed<'a>(before: &'a Catalog, after: &'a Catalog) -> (HashSet<&'a BackendId>, HashSet<&'a RouteId>) {
    let mut backends: HashSet<&BackendId> = before
        .backends
        .values()
        .zip(after.backends.values())
        .filter(|(old, new)| !Arc::ptr_eq(old, new))
        .map(|(_, new)| &new.id)
        .collect();
    let mut routes = HashSet::new();
    for (old, new) in before.routes.values().zip(after.routes.values()) {
        if !Arc::ptr_eq(old, new) {
            routes.insert(&new.id);
            backends.extend(old.members.iter().chain(&new.members).map(|member| &member.backend.id));
        }
    }
    (backends, routes)
}

/// Whether two catalogs have the same names, leading to the same backends and containers.
fn same_names(before: &Catalog, after: &Catalog) -> bool {
    let same_backend = |old: &Arc<Backend>, new: &Arc<Backend>| {
        Arc::ptr_eq(old, new) || (old.id == new.id && same_units(old, new))
    };
    let same_route = |old: &Arc<Route>, new: &Arc<Route>| {
        let members = |route: &Route| route.members.iter().map(|m| m.backend.id.clone()).collect::<Vec<_>>();
        Arc::ptr_eq(old, new) || (old.id == new.id && members(old) == members(new))
    };
    before.backends.len() == after.backends.len()
        && before.routes.len() == after.routes.len()
        && before.backends.values().zip(after.backends.values()).all(|(old, new)| same_backend(old, new))
        && before.routes.values().zip(after.routes.values()).all(|(old, new)| same_route(old, new))
}

fn same_units(old: &Backend, new: &Backend) -> bool {
    old.instances.len() == new.instances.len()
        && old.instances.iter().zip(&new.instances).all(|(a, b)| {
            let (x, y) = (&a.unit, &b.unit);
            a.id == b.id
                && (Arc::ptr_eq(x, y)
                    || (x.id == y.id
                        && x.name == y.name
                        && x.ip == y.ip
                        && x.kind == y.kind
                        && x.created == y.created))
        })
}
