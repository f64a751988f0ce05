//! From the bytes of a request to the bytes of a reply: a pure function over one zone.
//!
//! Not here: what our names lead to (see [`crate::zone`]), sockets (see [`crate::server`]), other names (see
//! [`crate::forward`]).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fastrand::Rng;
use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::zone::{Client, Zone};

/// The largest answer over UDP that is never cut on its way.
const UDP_PAYLOAD_MAX: u16 = 1232;
/// What everybody takes over UDP (RFC 1035 section 2.3.4).
const UDP_PAYLOAD_MIN: u16 = 512;
/// The fixed part of a message.
const HEADER_LEN: usize = 12;

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram: a reply that does not fit is cut and marked.
    Udp,
    /// A stream: up to 64 KiB.
    Tcp,
}

/// Where a request comes from and how.
pub struct Asked<'a> {
    /// The peer.
    pub source: SocketAddr,
    /// The address of ours that it arrived on, where it is known.
    pub arrived_on: Option<IpAddr>,
    /// UDP or TCP.
    pub transport: Transport,
    /// The local address that packets to a client leave from.
    pub route_to: &'a dyn Fn(IpAddr) -> Option<IpAddr>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Action {
    /// Send this.
    Reply(Reply),
    /// Ask an upstream, then send [`Forward::reply`].
    Forward(Box<Forward>),
    /// Nothing: it is no request, or nobody could take a reply.
    Drop,
}

/// A reply, ready to be sent.
#[derive(Debug)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// What it counts as.
    pub tally: Tally,
    /// A routed name was asked for, and no address of the proxy is known that this client could reach.
    pub without_proxy_address: bool,
}

/// What a query counts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Which of our zones, or none.
    pub zone: TallyZone,
    /// The type asked for; `ZERO` when it could not be read.
    pub kind: RecordType,
    /// The answer's code.
    pub code: ResponseCode,
}

/// The `zone` of a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TallyZone {
    /// One of ours.
    Ours(Arc<str>),
    /// Another name, for an internal client.
    Forwarded,
    /// Not answered: no request that we take, or not from whom.
    Refused,
}

impl TallyZone {
    /// As the metric writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Ours(zone) => zone,
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
        }
    }
}

/// A question about a name that is not ours.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The question, case kept.
    pub query: Query,
    request: Request,
}

/// What an upstream answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Forwarded {
    /// Its code.
    pub code: ResponseCode,
    /// What was asked for, with the aliases on the way.
    pub answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub authorities: Vec<Record>,
}

impl Forwarded {
    /// Only a code.
    pub fn failed(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new() }
    }
}

impl Forward {
    /// The reply with what an upstream answered.
    pub fn reply(&self, upstream: &Forwarded) -> Reply {
        let mut message = self.request.response(upstream.code);
        message.metadata.recursion_available = true;
        message.answers.clone_from(&upstream.answers);
        // Upstreams are asked with the case of letters changed: the client gets its own back.
        let own = message.answers.iter_mut().filter(|record| record.name == self.query.name);
        own.for_each(|record| record.name.clone_from(&self.query.name));
        message.authorities.clone_from(&upstream.authorities);
        self.request.reply(message, TallyZone::Forwarded)
    }
}

/// What is kept of a request until it is answered.
#[derive(Debug, Clone)]
struct Request {
    metadata: Metadata,
    query: Option<Query>,
    /// Whether it has an OPT record; then the reply has one.
    edns: bool,
    /// Octets that the reply may have.
    limit: usize,
}

/// Pure but for the order of addresses: no bytes from whomever make it panic, and it waits for nothing.
pub fn answer(zone: &Zone, asked: &Asked<'_>, bytes: &[u8], rng: &mut Rng) -> Action {
    let Some(metadata) = metadata(bytes) else { return Action::Drop };
    if metadata.message_type == MessageType::Response || asked.source.port() == 0 {
        return Action::Drop;
    }
    let mut request = Request { metadata, query: None, edns: false, limit: limit(asked.transport, None) };
    if metadata.op_code != OpCode::Query {
        return request.refuse(ResponseCode::NotImp);
    }
    let edns = match read(bytes) {
        Ok((query, edns)) => {
            request.query = Some(query);
            edns
        }
        Err(Unreadable) => return request.refuse(ResponseCode::FormErr),
    };
    request.edns = edns.is_some();
    request.limit = limit(asked.transport, edns.as_ref());
    let source = asked.source.ip().to_canonical();
    if !zone.is_internal(source) {
        return request.refuse(ResponseCode::Refused);
    }
    if edns.is_some_and(|edns| edns.version() > 0) {
        return request.refuse(ResponseCode::BADVERS);
    }
    let client = Client { address: source, arrived_on: asked.arrived_on, route_to: asked.route_to };
    resolve(zone, request, &client, rng)
}

fn resolve(zone: &Zone, request: Request, client: &Client<'_>, rng: &mut Rng) -> Action {
    let Some(query) = request.query.clone() else { return request.refuse(ResponseCode::FormErr) };
    match query.query_type {
        _ if query.query_class != DNSClass::IN => return request.refuse(ResponseCode::Refused),
        // Whole zones are not given away.
        RecordType::AXFR | RecordType::IXFR => return request.refuse(ResponseCode::Refused),
        kind if is_meta(kind) => return request.refuse(ResponseCode::NotImp),
        _ => {}
    }
    if let Some(ours) = zone.answer(&query.name, query.query_type, client, rng) {
        let mut message = request.response(ours.code);
        message.metadata.authoritative = true;
        message.metadata.recursion_available = true;
        message.answers = ours.answers;
        message.authorities = ours.authorities;
        message.additionals = ours.additionals;
        let mut reply = request.reply(message, TallyZone::Ours(ours.zone));
        reply.without_proxy_address = ours.without_proxy_address;
        return Action::Reply(reply);
    }
    if !request.metadata.recursion_desired {
        return request.refuse(ResponseCode::Refused);
    }
    if query.query_type == RecordType::ANY {
        let mut message = request.response(ResponseCode::NoError);
        message.metadata.recursion_available = true;
        let minimal = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
        message.answers.push(Record::from_rdata(query.name, 3600, minimal));
        return Action::Reply(request.reply(message, TallyZone::Forwarded));
    }
    Action::Forward(Box::new(Forward { query, request }))
}

impl Request {
    /// An empty response to it.
    fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.metadata.id, self.metadata.op_code);
        message.metadata = Metadata::response_from_request(&self.metadata);
        message.metadata.response_code = code;
        message.queries.extend(self.query.clone());
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD_MAX).set_version(0);
            message.edns = Some(edns);
        }
        message
    }

    fn refuse(&self, code: ResponseCode) -> Action {
        Action::Reply(self.reply(self.response(code), TallyZone::Refused))
    }

    /// The message in bytes, within the limit: first without the additional records, then cut and marked so.
    fn reply(&self, mut message: Message, zone: TallyZone) -> Reply {
        let code = message.metadata.response_code;
        let kind = self.query.as_ref().map_or(RecordType::ZERO, |query| query.query_type);
        let mut bytes = encode(&message);
        if bytes.as_ref().is_none_or(|bytes| bytes.len() > self.limit) && !message.additionals.is_empty() {
            message.additionals.clear();
            bytes = encode(&message);
        }
        if bytes.as_ref().is_some_and(|bytes| bytes.len() > self.limit) {
            message.metadata.truncation = true;
            message.answers.clear();
            message.authorities.clear();
            bytes = encode(&message);
        }
        let (bytes, code) = match bytes {
            Some(bytes) => (bytes, code),
            None => (self.bare(ResponseCode::ServFail), ResponseCode::ServFail),
        };
        Reply { bytes, tally: Tally { zone, kind, code }, without_proxy_address: false }
    }

    /// A header alone, for what cannot be written otherwise.
    fn bare(&self, code: ResponseCode) -> Vec<u8> {
        let mut metadata = Metadata::response_from_request(&self.metadata);
        metadata.response_code = code;
        let mut message = Message::response(metadata.id, metadata.op_code);
        message.metadata = metadata;
        encode(&message).unwrap_or_default()
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().inspect_err(|error| tracing::debug!(%error, "a reply cannot be written")).ok()
}

/// How many octets the reply may have.
fn limit(transport: Transport, edns: Option<&Edns>) -> usize {
    match transport {
        Transport::Tcp => u16::MAX.into(),
        Transport::Udp => edns
            .map_or(UDP_PAYLOAD_MIN, |edns| edns.max_payload().clamp(UDP_PAYLOAD_MIN, UDP_PAYLOAD_MAX))
            .into(),
    }
}

/// The header's first half; `None` when there is no whole header.
fn metadata(bytes: &[u8]) -> Option<Metadata> {
    let header = bytes.get(..HEADER_LEN)?;
    Header::read(&mut BinDecoder::new(header)).ok().map(|header| header.metadata)
}

/// It is no request with one question.
struct Unreadable;

/// The one question, and the OPT record. What follows the last record is not looked at.
fn read(bytes: &[u8]) -> Result<(Query, Option<Edns>), Unreadable> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).map_err(|_| Unreadable)?;
    let (counts, op_code) = (header.counts, header.metadata.op_code);
    if counts.queries != 1 {
        return Err(Unreadable);
    }
    let query = Query::read(&mut decoder).map_err(|_| Unreadable)?;
    for count in [counts.answers, counts.authorities] {
        Message::read_records(&mut decoder, count.into(), false, op_code).map_err(|_| Unreadable)?;
    }
    let (_, edns, _) = Message::read_records(&mut decoder, counts.additionals.into(), true, op_code)
        .map_err(|_| Unreadable)?;
    Ok((query, edns))
}

/// Types that no record has: signatures, options and the obsolete mailbox queries.
fn is_meta(kind: RecordType) -> bool {
    let number = u16::from(kind);
    matches!(kind, RecordType::OPT | RecordType::TSIG | RecordType::ZERO) || (128..=254).contains(&number)
}

#[cfg(test)]
mod tests;
