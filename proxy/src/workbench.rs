//! What the benchmarks and fuzz targets of this repository reach of the private parts. No API: it changes with any commit.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::BytesMut;
use fairway_catalog::InternalClients;
pub use fairway_config::labels::ProxyProtocol;
use fastrand::Rng;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::forward::address_text::AddressText;
use crate::forward::client::Client;
use crate::forward::request_id::RequestId;
use crate::forward::{self, Origin, ResponsePlan};
use crate::h1::{BodyLength, HeadLimits, RequestHead, ResponseHead};
use crate::http2::connection::{Connection, Terms};
use crate::http2::head::Rules;
use crate::http2::receive::Step;
use crate::http2::stream::There;
use crate::proxy_header::write::{self, Secured};
use crate::proxy_header::{self, Said};
use crate::stream::Ends;
use crate::tls::hello;

/// A request's way through this node.
#[derive(Debug)]
pub struct Hop {
    client: Client,
    peer: AddressText,
    ends: Ends,
    id: RequestId,
}

impl Hop {
    /// Of a request that came from this peer without TLS.
    pub fn new(head: &RequestHead, peer: IpAddr, trusted: &[IpNet]) -> Self {
        Self {
            client: Client::of(head, peer, false, trusted, &InternalClients::default()),
            peer: AddressText::new(peer),
            ends: Ends {
                peer: SocketAddr::new(peer, 50_000),
                local: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 80), 80)),
            },
            id: RequestId::random(&mut Rng::with_seed(1)),
        }
    }

    /// Appends the head of the request as the instance gets it.
    pub fn write_request(&self, out: &mut Vec<u8>, head: &RequestHead, upgrade: Option<&Arc<str>>) {
        let Self { client, peer, ends, id } = self;
        let (over_http2, certificate) = (false, None);
        let origin = Origin {
            client,
            peer,
            ends: *ends,
            over_http2,
            node: "edge",
            id,
            upgrade,
            hides_cookie: false,
            certificate,
            applied: None,
        };
        forward::write_request(out, head, &origin);
    }
}

/// Appends the head of the final answer as the client gets it, with a body framed like this.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead, length: BodyLength, close: bool) {
    forward::write_response(
        out,
        head,
        &ResponsePlan { length, close, says_keep_alive: false, hsts: None, added: b"", changes: None },
    );
}

/// Appends the head of an answer that comes before the final one.
pub fn write_interim(out: &mut Vec<u8>, head: &ResponseHead) {
    forward::write_interim(out, head, None, b"");
}

/// What the start of a connection with a PROXY header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// No header.
    Invalid,
    /// Not all of one.
    Partial,
    /// One that ends before this octet and names nobody.
    Own(usize),
    /// One that ends before this octet and names a client.
    Client {
        /// Where it ends.
        end: usize,
        /// The client's address.
        peer: SocketAddr,
        /// The address that the client asked for.
        local: SocketAddr,
        /// Whether the client uses TLS.
        tls: bool,
    },
}

/// Reads a PROXY header of either version.
pub fn proxy_header(input: &[u8]) -> ProxyHeader {
    match proxy_header::parse(input) {
        None => ProxyHeader::Invalid,
        Some(None) => ProxyHeader::Partial,
        Some(Some((end, Said::Own))) => ProxyHeader::Own(end),
        Some(Some((end, Said::Client { ends, tls }))) => {
            ProxyHeader::Client { end, peer: ends.peer, local: ends.local, tls }
        }
    }
}

/// The PROXY header by which an instance is told of a client between these ends.
pub fn written_proxy_header(
    version: ProxyProtocol,
    peer: SocketAddr,
    local: SocketAddr,
    tls: bool,
) -> Vec<u8> {
    let tls = tls.then(Secured::default);
    write::header(version, &proxy_header::write::Client { ends: Ends { peer, local }, authority: None, tls })
}

/// What is known of a client's first message over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientHello {
    /// It is not all there.
    Partial,
    /// It asks for this host.
    For(String),
    /// It asks for none, or cannot be read.
    Nobody,
}

/// Reads a client's first message over TLS from pieces, until something is known; gives the octets that were read, too.
pub fn client_hello<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (ClientHello, Vec<u8>) {
    let mut reader = hello::Reader::default();
    for piece in pieces {
        let known = match reader.read(piece) {
            hello::Look::Partial => continue,
            hello::Look::For(host) => ClientHello::For(host.into()),
            hello::Look::Nobody => ClientHello::Nobody,
        };
        return (known, reader.into_octets());
    }
    (ClientHello::Partial, reader.into_octets())
}

/// What a client was told that speaks HTTP/2.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Http2Told {
    /// All octets that it gets.
    pub octets: Vec<u8>,
    /// The heads of its requests, as the reader of HTTP/1.1 took them.
    pub heads: Vec<Vec<u8>>,
}

/// Serves a client that sends these octets, so many at a time: each request is answered at once with what has come of its
/// body.
pub fn http2(input: &[u8], cut: usize) -> Http2Told {
    let (now, mut told) = (Instant::now(), Http2Told::default());
    let terms = Terms { streams: 4, header_list: 4096, takes_connect: true };
    let (connection, mut unread) = (Connection::new(terms, now), BytesMut::new());
    for part in input.chunks(cut.max(1)) {
        unread.extend_from_slice(part);
        while let Some(step) = connection.step(&mut unread, now) {
            let Step::Request { stream, ends } = step else { continue };
            let rules = Rules { limits: HeadLimits::default(), protocols: &["websocket".into()] };
            let (stream, head) = connection.opened(stream, |stream, fields| {
                (stream, fields.request(ends, rules, &mut Vec::new(), &mut Rng::with_seed(1)))
            });
            let status = if head.is_ok() { 200 } else { 400 };
            told.heads.extend(head.ok().map(|head| head.raw().to_vec()));
            let body = match stream.take() {
                There::Some(data) | There::Last(data, _) => data,
                There::Cut => continue,
            };
            // What cannot be sent is not: the client has gone, or has no window.
            if stream.send_head(status, b"Server: x\r\nX-Y: z\r\n", false).is_ok() {
                let _ = stream.poll_send(&Context::from_waker(Waker::noop()), &body, true);
            }
            stream.finish();
        }
        connection.with_out(|out| told.octets.append(out));
    }
    told
}
