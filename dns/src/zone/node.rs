//! The addresses at a name, ready to be answered. Services and texts, asked for far less, are made when they are (see
//! `service`).
//!
//! Not here: which names there are (see `index`), how an answer is written (see `lookup`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fairway_catalog::{Backend, Catalog, Instance, Member, Route};

use super::index::Source;
use super::share::{self, Part};

/// Time to live of what we publish, in seconds.
const TTL: u32 = 5;
/// The same while one of the name's instances leaves.
const TTL_IN_DRAIN: u32 = 1;

/// The addresses at a name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) addresses: Addresses,
    /// Of everything at the name, in seconds.
    pub(super) ttl: u32,
}

/// Which addresses.
#[derive(Debug)]
pub(super) enum Addresses {
    /// A routed name: this proxy's address, found for each client.
    Proxy,
    /// The name of this server itself.
    NameServer,
    /// These.
    Direct(Pool),
    /// One of these pools per answer, drawn by weight.
    Weighted(Vec<(u32, Pool)>),
}

/// Addresses of both families, each once.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub(super) v4: Vec<Ipv4Addr>,
    pub(super) v6: Vec<Ipv6Addr>,
}

impl FromIterator<IpAddr> for Pool {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut pool = Self::default();
        for address in addresses {
            match address.to_canonical() {
                IpAddr::V4(v4) => pool.v4.push(v4),
                IpAddr::V6(v6) => pool.v6.push(v6),
            }
        }
        pool.v4.sort_unstable();
        pool.v4.dedup();
        pool.v6.sort_unstable();
        pool.v6.dedup();
        pool
    }
}

impl Node {
    /// What a source comes to in the catalog as it is now.
    pub(super) fn make(source: &Source, catalog: &Catalog) -> Self {
        let parts = parts(source, catalog);
        let leaves = parts.iter().flat_map(|part| &part.instances).any(|instance| share::leaves(instance));
        let addresses = match source {
            Source::NameServer => Addresses::NameServer,
            Source::Routed(_) => Addresses::Proxy,
            Source::Fixed(address) => Addresses::Direct([*address].into_iter().collect()),
            Source::Backends(_) if parts.len() > 1 && parts.iter().any(|part| part.backend.dns_weighted) => {
                Addresses::Weighted(weighted(parts))
            }
            Source::Backends(_) | Source::Unit { .. } => Addresses::Direct(direct(parts)),
        };
        Self { addresses, ttl: if leaves { TTL_IN_DRAIN } else { TTL } }
    }
}

fn direct(mut parts: Vec<Part<'_>>) -> Pool {
    share::keep_answering(&mut parts);
    parts.iter().flat_map(|part| &part.instances).filter_map(|instance| instance.unit.ip).collect()
}

fn weighted(mut parts: Vec<Part<'_>>) -> Vec<(u32, Pool)> {
    share::keep_answering(&mut parts);
    share::keep_weighted(&mut parts);
    let pool = |part: &Part<'_>| part.instances.iter().filter_map(|instance| instance.unit.ip).collect();
    share::draws(&parts).into_iter().zip(parts.iter().map(pool)).collect()
}

/// The backends behind a name, with those of their instances that it leads to.
pub(super) fn parts<'a>(source: &Source, catalog: &'a Catalog) -> Vec<Part<'a>> {
    match source {
        Source::NameServer | Source::Fixed(_) => Vec::new(),
        Source::Routed(routes) => match routes.iter().find_map(|id| catalog.routes.get(id)) {
            Some(route) => route.members.iter().map(of_member).collect(),
            None => Vec::new(),
        },
        Source::Backends(ids) => {
            let backends: Vec<&Arc<Backend>> = ids.iter().filter_map(|id| catalog.backends.get(id)).collect();
            // A single version is asked for by name: no split chooses.
            let route = if backends.len() > 1 { shared_route(&backends, catalog) } else { None };
            let all = |backend: &&'a Arc<Backend>| of_backend(backend, route, |_| true);
            backends.iter().map(all).collect()
        }
        Source::Unit { backend, unit } => match catalog.backends.get(backend) {
            Some(backend) => vec![of_backend(backend, None, |instance| instance.unit.id == *unit)],
            None => Vec::new(),
        },
    }
}

fn of_member(member: &Member) -> Part<'_> {
    Part {
        backend: &member.backend,
        instances: member.instances.iter().collect(),
        weight: member.weight.map(|weight| weight.get()),
        promised_zero: member.promised_zero,
    }
}

/// Instances of a backend, with its weight in this route.
fn of_backend<'a>(
    backend: &'a Backend,
    route: Option<&Route>,
    leads_to: impl Fn(&Instance) -> bool,
) -> Part<'a> {
    let has_split = route.is_some_and(|route| route.members.iter().any(|member| member.weight.is_some()));
    let member = route.and_then(|route| route.members.iter().find(|member| member.backend.id == backend.id));
    Part {
        backend,
        instances: backend.instances.iter().filter(|instance| leads_to(instance)).collect(),
        // A backend beside the split gets what a split gives to whom it does not name.
        weight: has_split.then(|| member.and_then(|m| m.weight).map_or(0, |weight| weight.get())),
        promised_zero: member.is_some_and(|member| member.promised_zero),
    }
}

/// The route whose split weighs these backends: one with a split before others, then the one that most of them serve.
fn shared_route<'a>(backends: &[&Arc<Backend>], catalog: &'a Catalog) -> Option<&'a Route> {
    let rank = |route: &Route| {
        let serves = |member: &&Member| backends.iter().any(|backend| backend.id == member.backend.id);
        (route.split.is_some(), route.members.iter().filter(serves).count())
    };
    let mut best: Option<(&Route, (bool, usize))> = None;
    for route in backends.iter().flat_map(|b| &b.routes).filter_map(|id| catalog.routes.get(id)) {
        let rank = rank(route);
        if best.is_none_or(|(_, other)| rank > other) {
            best = Some((route, rank));
        }
    }
    best.map(|(route, _)| route)
}
