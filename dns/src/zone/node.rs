//! What stands at one name: addresses, services, texts. Made of the catalog's values, ready to be answered.
//!
//! Not here: which names there are (see `index`), how an answer is written (see `lookup`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use fairway_catalog::facts::UnitKind;
use fairway_catalog::{Backend, Catalog, Instance, Member, Route};
use hickory_proto::rr::rdata::TXT;

use super::index::{Index, Source};
use super::key::Key;
use super::share::{self, Part};

/// Time to live of what we publish, in seconds.
const TTL: u32 = 5;
/// The same while one of the name's instances leaves.
const TTL_IN_DRAIN: u32 = 1;

/// What stands at one name.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) addresses: Addresses,
    /// In seconds.
    pub(super) ttl: u32,
    pub(super) services: Vec<ServiceSet>,
    pub(super) txt: Vec<TXT>,
}

/// The addresses at a name.
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

impl Default for Addresses {
    fn default() -> Self {
        Self::Direct(Pool::default())
    }
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

/// The SRV records below a name at `_<service>._tcp`.
#[derive(Debug)]
pub(super) struct ServiceSet {
    /// `_http`, `_8080`.
    pub(super) label: Box<[u8]>,
    pub(super) targets: Vec<Target>,
}

/// One SRV record.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) weight: u16,
    pub(super) port: u16,
    /// Relative to the zone asked.
    pub(super) name: Key,
    pub(super) address: IpAddr,
}

/// Makes the node of a source from the catalog as it is now.
pub(super) fn make(source: &Source, catalog: &Catalog, index: &Index) -> Node {
    match source {
        Source::NameServer => Node { addresses: Addresses::NameServer, ttl: TTL, ..Node::default() },
        Source::Fixed(address) => Node {
            addresses: Addresses::Direct([*address].into_iter().collect()),
            ttl: TTL,
            ..Node::default()
        },
        Source::Routed(routes) => routes.iter().find_map(|id| catalog.routes.get(id)).map_or_else(
            || Node { addresses: Addresses::Proxy, ttl: TTL, ..Node::default() },
            |route| routed(route, index),
        ),
        Source::Backends(ids) => {
            let backends: Vec<&Arc<Backend>> = ids.iter().filter_map(|id| catalog.backends.get(id)).collect();
            direct(&backends, catalog, index)
        }
        Source::Unit { backend, unit } => {
            catalog.backends.get(backend).map_or_else(Node::default, |backend| of_unit(backend, unit, index))
        }
    }
}

/// A routed name: the proxy's address; its services are the instances behind it, for clients that balance themselves.
fn routed(route: &Route, index: &Index) -> Node {
    let parts = route.members.iter().map(|member| Part {
        backend: &member.backend,
        instances: member.instances.iter().collect(),
        weight: member.weight.map(|weight| weight.get()),
        promised_zero: member.promised_zero,
    });
    let mut node = with_parts(parts.collect(), false, index);
    node.addresses = Addresses::Proxy;
    node
}

/// A service, a version: the ready instances, with the weights of the route that most of its backends share.
fn direct(backends: &[&Arc<Backend>], catalog: &Catalog, index: &Index) -> Node {
    // A single version is asked for by name: no split chooses.
    let route = if backends.len() > 1 { shared_route(backends, catalog) } else { None };
    let weighted = backends.len() > 1 && backends.iter().any(|backend| backend.dns_weighted);
    let parts = backends.iter().map(|backend| Part::of_backend(backend, route));
    with_parts(parts.collect(), weighted, index)
}

fn of_unit(backend: &Backend, unit: &str, index: &Index) -> Node {
    let mut part = Part::of_backend(backend, None);
    part.instances.retain(|instance| &*instance.unit.id == unit);
    with_parts(vec![part], false, index)
}

/// The route whose split weighs these backends: one with a split before others, then the one that most of them serve.
fn shared_route<'a>(backends: &[&Arc<Backend>], catalog: &'a Catalog) -> Option<&'a Route> {
    let candidates =
        backends.iter().flat_map(|backend| &backend.routes).filter_map(|id| catalog.routes.get(id));
    let rank = |route: &Route| {
        let serve = |member: &Member| backends.iter().any(|b| b.id == member.backend.id);
        (route.split.is_some(), route.members.iter().filter(|member| serve(member)).count())
    };
    let mut best: Option<(&Route, (bool, usize))> = None;
    for route in candidates {
        let rank = rank(route);
        if best.is_none_or(|(_, other)| rank > other) {
            best = Some((route, rank));
        }
    }
    best.map(|(route, _)| route)
}

fn with_parts(mut parts: Vec<Part<'_>>, weighted: bool, index: &Index) -> Node {
    let drain = parts.iter().flat_map(|part| &part.instances).any(|instance| share::leaves(instance));
    let txt = parts.iter().map(text_of).collect();
    let labels = service_labels(&parts);
    share::keep_answering(&mut parts);
    let ip = |instance: &&Arc<Instance>| instance.unit.ip;
    let all: Pool = parts.iter().flat_map(|part| &part.instances).filter_map(ip).collect();

    share::keep_weighted(&mut parts);
    let addresses = if weighted {
        let pools = parts.iter().map(|part| part.instances.iter().filter_map(ip).collect());
        Addresses::Weighted(share::draws(&parts).into_iter().zip(pools).collect())
    } else {
        Addresses::Direct(all)
    };
    let services = labels.into_iter().map(|label| service(label, &parts, index)).collect();
    Node { addresses, ttl: if drain { TTL_IN_DRAIN } else { TTL }, services, txt }
}

/// What people and scripts want to know of a backend: `version=v2`, `state=active`, `ready=3`.
fn text_of(part: &Part<'_>) -> TXT {
    let state = part.instances.iter().map(|instance| instance.state).min().unwrap_or(part.backend.state);
    let ready = part.instances.iter().filter(|instance| share::serves(instance)).count();
    let id = &part.backend.id;
    let strings = [
        format!("version={}", id.version),
        format!("state={state}"),
        format!("ready={ready}"),
        format!("backend={id}"),
    ];
    TXT::new(strings.into_iter().map(cut_for_txt).collect())
}

/// A character-string has at most 255 octets (RFC 1035 section 3.3).
fn cut_for_txt(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(255));
    text
}

/// A service below a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    /// Every port with a route.
    Http,
    Port(u16),
}

/// Which services there are: they exist while no instance is ready, too.
fn service_labels(parts: &[Part<'_>]) -> Vec<Service> {
    let instances =
        || parts.iter().flat_map(|part| part.instances.iter().map(|instance| (part.backend, *instance)));
    let mut services: Vec<Service> = instances()
        .filter(|(_, instance)| instance.port != 0)
        .map(|(_, instance)| Service::Port(instance.port))
        .collect();
    if instances().any(|(backend, instance)| has_route(backend, instance)) {
        services.push(Service::Http);
    }
    services.sort_unstable();
    services.dedup();
    services
}

/// Whether a label or a static entry leads a route to this port.
fn has_route(backend: &Backend, instance: &Instance) -> bool {
    match instance.unit.kind {
        UnitKind::Container => instance.unit.spec.ports.iter().any(|claim| claim.port == instance.port),
        UnitKind::Static => !backend.routes.is_empty(),
    }
}

fn service(service: Service, parts: &[Part<'_>], index: &Index) -> ServiceSet {
    let offers = |backend: &Backend, instance: &Instance| match service {
        Service::Http => has_route(backend, instance),
        Service::Port(port) => instance.port == port,
    };
    let offering = parts.iter().map(|part| Part {
        backend: part.backend,
        instances: part.instances.iter().copied().filter(|instance| offers(part.backend, instance)).collect(),
        weight: part.weight,
        promised_zero: part.promised_zero,
    });
    let offering: Vec<Part<'_>> = offering.collect();
    let weights = share::srv_weights(&offering);
    let mut targets = Vec::new();
    for (part, weights) in offering.iter().zip(weights) {
        for (instance, weight) in part.instances.iter().zip(weights) {
            let name = index.target_of(&instance.unit.id);
            if let (Some(name), Some(address)) = (name, instance.unit.ip) {
                targets.push(Target {
                    weight,
                    port: instance.port,
                    name: name.into(),
                    address: address.to_canonical(),
                });
            }
        }
    }
    let label = match service {
        Service::Http => b"_http".as_slice().into(),
        Service::Port(port) => format!("_{port}").into_bytes().into(),
    };
    ServiceSet { label, targets }
}
