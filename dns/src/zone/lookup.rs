//! The answer to one question about our zones.
//!
//! Not here: reading the request and writing the reply (see [`crate::answer`]).

use std::net::IpAddr;
use std::sync::Arc;

use fastrand::Rng;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, HINFO, NS, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::index::Source;
use super::key::{self, Wire};
use super::node::{self, Addresses, Node, Pool};
use super::origin::Origin;
use super::proxy_address::{ProxyAddress, proxy_address};
use super::service::{self, Service};
use super::{Client, Zone};

/// Time to live of the records at a zone's apex, in seconds.
const APEX_TTL: u32 = 5;
/// Time to live of "there is no such thing", in seconds.
const NEGATIVE_TTL: u32 = 1;

/// The answer to a question about our zones.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The zone it is about.
    pub zone: Arc<str>,
    /// `NoError` or `NXDomain`; `ServFail` for an unknown name while not every source is listed.
    pub code: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub authorities: Vec<Record>,
    /// Addresses of the names in `answers`.
    pub additionals: Vec<Record>,
    /// A routed name was asked for, and no address of the proxy is known that this client could reach.
    pub without_proxy_address: bool,
}

/// What is at a name.
enum Found<'a> {
    Node(Place<'a>),
    /// `_http._tcp.<name>`.
    Service(Place<'a>, Service),
    /// It exists because others are below it.
    Between,
    Nothing,
}

/// What stands at a name, and what it is made of.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a Node,
    source: &'a Source,
}

impl Zone {
    /// The answer to a question of class IN, `None` when the name is not ours.
    pub fn answer(
        &self,
        name: &Name,
        kind: RecordType,
        client: &Client<'_>,
        rng: &mut Rng,
    ) -> Option<Answer> {
        let wire = Wire::of(name);
        let Some((origin, relative)) = self.origin_of(wire.as_slice()) else {
            return self.reverse(name, wire.as_slice(), kind, client);
        };
        let mut answer = Answer::empty(&origin.label);
        let mut owner = name.clone();
        owner.set_fqdn(true);
        let found = self.find(relative, client.address);
        let writer = Writer { zone: self, origin, owner, client };
        if relative.is_empty() {
            writer.apex(kind, &mut answer);
        }
        match found {
            _ if kind == RecordType::ANY && !matches!(found, Found::Nothing) => writer.any(&mut answer),
            Found::Node(place) => writer.node(place, kind, rng, &mut answer),
            Found::Service(place, service) if kind == RecordType::SRV => {
                writer.service(place, service, rng, &mut answer)
            }
            Found::Service(..) | Found::Between => {}
            Found::Nothing if relative.is_empty() => {}
            // Not everything is listed yet: it may exist (design rule 4).
            Found::Nothing if !self.catalog.settled => answer.code = ResponseCode::ServFail,
            Found::Nothing => answer.code = ResponseCode::NXDomain,
        }
        if answer.answers.is_empty() && answer.code != ResponseCode::ServFail {
            answer.authorities.push(self.soa(origin, NEGATIVE_TTL));
        }
        Some(answer)
    }

    /// The longest zone that the name is in, and the part before it.
    fn origin_of<'a>(&self, name: &'a [u8]) -> Option<(&Origin, &'a [u8])> {
        key::ancestors(name).find_map(|rest| {
            let origin = self.origins.iter().find(|origin| *origin.key == *rest)?;
            Some((origin, &name[..name.len() - rest.len()]))
        })
    }

    fn find(&self, relative: &[u8], client: IpAddr) -> Found<'_> {
        match self.find_plain(relative, client) {
            Found::Nothing => self.find_service(relative, client),
            found => found,
        }
    }

    /// An existing name first, then the longest wildcard over it: as the proxy decides for a Host.
    fn find_plain(&self, relative: &[u8], client: IpAddr) -> Found<'_> {
        let entry = self.index.names.get(relative);
        if let Some(entry) = entry {
            let own = match entry.of_projects.as_slice() {
                [] => None,
                projects => {
                    self.index.project_of(client).and_then(|own| projects.iter().find(|(p, _)| p == own))
                }
            };
            if let Some(place) = own.map(|(_, node)| *node).or(entry.public).and_then(|id| self.place(id)) {
                return Found::Node(place);
            }
        }
        let wildcard = key::ancestors(relative).skip(1).find_map(|above| self.index.wildcards.get(above));
        match (wildcard.and_then(|id| self.place(*id)), entry) {
            // `_http._tcp.x` below a wildcard is a service of `x`, not a host.
            (Some(place), _) if relative.get(1).is_none_or(|first| *first != b'_') => Found::Node(place),
            (_, Some(entry)) if entry.has_below => Found::Between,
            _ => Found::Nothing,
        }
    }

    /// `_http._tcp.<name>`, and `_tcp.<name>`, which exists because services are below it.
    fn find_service(&self, relative: &[u8], client: IpAddr) -> Found<'_> {
        let Some((first, rest)) = key::split_label(relative) else { return Found::Nothing };
        let (service, base) = match key::split_label(rest) {
            _ if first == b"_tcp" => (None, rest),
            Some((second, base)) if second == b"_tcp" => (Some(first), base),
            _ => return Found::Nothing,
        };
        let Found::Node(place) = self.find_plain(base, client) else { return Found::Nothing };
        let parts = node::parts(place.source, &self.catalog);
        match service {
            None if service::any_exists(&parts) => Found::Between,
            None => Found::Nothing,
            Some(label) => match Service::of_label(label).filter(|service| service.exists(&parts)) {
                Some(service) => Found::Service(place, service),
                None => Found::Nothing,
            },
        }
    }

    fn place(&self, id: u32) -> Option<Place<'_>> {
        let node = self.nodes.get(id as usize)?;
        Some(Place { node, source: self.index.sources.get(id as usize)? })
    }

    fn soa(&self, origin: &Origin, ttl: u32) -> Record {
        let (server, contact) = (origin.server.clone(), origin.contact.clone());
        let soa = SOA::new(server, contact, self.soa_serial(), 60, 10, 3600, NEGATIVE_TTL);
        Record::from_rdata(origin.name.clone(), ttl, RData::SOA(soa))
    }

    /// PTR for the addresses we publish; others are not ours.
    fn reverse(&self, name: &Name, wire: &[u8], kind: RecordType, client: &Client<'_>) -> Option<Answer> {
        let address = reverse_address(wire)?;
        let origin = self.origins.first()?;
        let mut owner = name.clone();
        owner.set_fqdn(true);
        let names: Vec<Name> = match self.index.reverse.get(&address) {
            Some(keys) => keys.iter().filter_map(|key| absolute(key, origin)).collect(),
            None if self.is_own(address, client) => vec![origin.server.clone()],
            None => return None,
        };
        let mut answer = Answer::empty(&origin.label);
        let record = |data| Record::from_rdata(owner.clone(), APEX_TTL, data);
        match kind {
            RecordType::PTR => {
                answer.answers.extend(names.into_iter().map(|name| record(RData::PTR(PTR(name)))))
            }
            RecordType::ANY => answer.answers.push(record(minimal_any())),
            _ => {}
        }
        if answer.answers.is_empty() {
            // The name is its own zone's apex: nothing above it is ours.
            let mut soa = self.soa(origin, NEGATIVE_TTL);
            soa.name = owner;
            answer.authorities.push(soa);
        }
        Some(answer)
    }

    /// Whether a client is told this address for the proxy or for this server.
    fn is_own(&self, address: IpAddr, client: &Client<'_>) -> bool {
        !address.is_loopback()
            && (client.arrived_on == Some(address) || proxy_address(&self.config, client).contains(address))
    }
}

impl Answer {
    fn empty(zone: &Arc<str>) -> Self {
        Self {
            zone: zone.clone(),
            code: ResponseCode::NoError,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            without_proxy_address: false,
        }
    }
}

/// Writes records of one name.
struct Writer<'a> {
    zone: &'a Zone,
    origin: &'a Origin,
    /// As it was asked, case kept.
    owner: Name,
    client: &'a Client<'a>,
}

impl Writer<'_> {
    fn record(&self, ttl: u32, data: RData) -> Record {
        Record::from_rdata(self.owner.clone(), ttl, data)
    }

    fn apex(&self, kind: RecordType, answer: &mut Answer) {
        match kind {
            RecordType::SOA => answer.answers.push(self.zone.soa(self.origin, APEX_TTL)),
            RecordType::NS => {
                let server = &self.origin.server;
                answer.answers.push(self.record(APEX_TTL, RData::NS(NS(server.clone()))));
                let glue = records(server, APEX_TTL, self.name_server());
                answer.additionals.extend(glue);
            }
            _ => {}
        }
    }

    /// A small answer to a question meant for amplification (RFC 8482).
    fn any(&self, answer: &mut Answer) {
        answer.answers.push(self.record(APEX_TTL, minimal_any()));
    }

    fn node(&self, place: Place<'_>, kind: RecordType, rng: &mut Rng, answer: &mut Answer) {
        match kind {
            RecordType::A | RecordType::AAAA => self.addresses(place.node, kind, rng, answer),
            RecordType::TXT => {
                let parts = node::parts(place.source, &self.zone.catalog);
                let texts = self.some_of(parts, rng).into_iter().map(|part| service::text(&part));
                answer.answers.extend(texts.map(|txt| self.record(place.node.ttl, RData::TXT(txt))));
            }
            _ => {}
        }
    }

    fn addresses(&self, node: &Node, kind: RecordType, rng: &mut Rng, answer: &mut Answer) {
        let pool = match &node.addresses {
            Addresses::Proxy => {
                let proxy = proxy_address(&self.zone.config, self.client);
                answer.without_proxy_address = proxy.is_none();
                return answer.answers.extend(of_kind(proxy, kind).map(|data| self.record(node.ttl, data)));
            }
            Addresses::NameServer => {
                let server = of_kind(self.name_server(), kind);
                return answer.answers.extend(server.map(|data| self.record(node.ttl, data)));
            }
            Addresses::Direct(pool) => pool,
            Addresses::Weighted(pools) => match draw(pools, rng) {
                Some(pool) => pool,
                None => return,
            },
        };
        let data: Vec<RData> = match kind {
            RecordType::A => {
                self.some_of(pool.v4.clone(), rng).into_iter().map(|ip| RData::A(A(ip))).collect()
            }
            _ => self.some_of(pool.v6.clone(), rng).into_iter().map(|ip| RData::AAAA(AAAA(ip))).collect(),
        };
        answer.answers.extend(data.into_iter().map(|data| self.record(node.ttl, data)));
    }

    fn service(&self, place: Place<'_>, service: Service, rng: &mut Rng, answer: &mut Answer) {
        let ttl = place.node.ttl;
        let parts = node::parts(place.source, &self.zone.catalog);
        for target in self.some_of(service::targets(service, parts, &self.zone.index), rng) {
            let Some(name) = absolute(target.name, self.origin) else { continue };
            let glue = records(&name, ttl, target.address.into());
            // Two ports of one container have one address.
            let glue: Vec<Record> = glue.filter(|record| !answer.additionals.contains(record)).collect();
            answer.additionals.extend(glue);
            let srv = SRV::new(0, target.weight, target.port, name);
            answer.answers.push(self.record(ttl, RData::SRV(srv)));
        }
    }

    /// At most as many as one answer may have, in an order of chance.
    fn some_of<T>(&self, mut all: Vec<T>, rng: &mut Rng) -> Vec<T> {
        let max = match self.zone.config.max_addresses {
            0 => all.len(),
            max => max.min(all.len()),
        };
        for place in 0..max {
            let other = rng.usize(place..all.len());
            all.swap(place, other);
        }
        all.truncate(max);
        all
    }

    /// The address of this server for this client.
    fn name_server(&self) -> ProxyAddress {
        let address = self.client.arrived_on.or_else(|| (self.client.route_to)(self.client.address));
        address.map_or_else(ProxyAddress::default, ProxyAddress::from)
    }
}

/// One of the pools, by weight.
fn draw<'a>(pools: &'a [(u32, Pool)], rng: &mut Rng) -> Option<&'a Pool> {
    let sum: u64 = pools.iter().map(|(weight, _)| u64::from(*weight)).sum();
    if sum == 0 {
        // Without a positive weight those that no split names serve alike.
        return (!pools.is_empty()).then(|| &pools[rng.usize(..pools.len())].1);
    }
    let mut point = rng.u64(..sum);
    pools.iter().find_map(|(weight, pool)| match point.checked_sub(u64::from(*weight)) {
        None => Some(pool),
        Some(rest) => {
            point = rest;
            None
        }
    })
}

fn of_kind(addresses: ProxyAddress, kind: RecordType) -> impl Iterator<Item = RData> {
    let data = match kind {
        RecordType::A => addresses.v4.map(|v4| RData::A(A(v4))),
        RecordType::AAAA => addresses.v6.map(|v6| RData::AAAA(AAAA(v6))),
        _ => None,
    };
    data.into_iter()
}

fn records(name: &Name, ttl: u32, addresses: ProxyAddress) -> impl Iterator<Item = Record> {
    let both = of_kind(addresses, RecordType::A).chain(of_kind(addresses, RecordType::AAAA));
    let name = name.clone();
    both.map(move |data| Record::from_rdata(name.clone(), ttl, data))
}

fn minimal_any() -> RData {
    RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()))
}

fn absolute(relative: &[u8], origin: &Origin) -> Option<Name> {
    Name::from_labels(key::labels(relative)).ok()?.append_domain(&origin.name).ok()
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for, all its labels given.
fn reverse_address(wire: &[u8]) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = key::labels(wire).collect();
    match labels.as_slice() {
        [front @ .., b"in-addr", b"arpa"] => {
            let octet = |label: &&[u8]| -> Option<u8> {
                let text = str::from_utf8(label).ok()?;
                let plain =
                    text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
                plain.then(|| text.parse().ok()).flatten()
            };
            let octets: Vec<u8> = front.iter().rev().map(octet).collect::<Option<_>>()?;
            <[u8; 4]>::try_from(octets).ok().map(IpAddr::from)
        }
        [front @ .., b"ip6", b"arpa"] => {
            let nibble = |label: &&[u8]| match **label {
                [digit] => char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()),
                _ => None,
            };
            let nibbles: Vec<u8> = front.iter().rev().map(nibble).collect::<Option<_>>()?;
            let octets: Vec<u8> =
                nibbles.chunks(2).map(|pair| pair.iter().fold(0, |octet, n| octet << 4 | n)).collect();
            (nibbles.len() == 32).then(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)).flatten()
        }
        _ => None,
    }
}
