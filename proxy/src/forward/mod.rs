//! Which header fields are passed on, which are dropped, and which are ours (RFC 9110 section 7.6).
//!
//! What `Connection` names is dropped before our own fields are added, so that nobody can have them removed. Who is
//! believed about where a request came from: see [`client`].

pub(crate) mod address_text;
pub(crate) mod client;
pub(crate) mod grpc;
pub(crate) mod request_id;

use std::sync::Arc;

use crate::features::prefix::Rewritten;
use crate::features::{AnswerChanges, Applied};
use crate::h1::framing::BodyLength;
use crate::h1::syntax::list;
use crate::h1::trailers::is_alias;
use crate::h1::write::{HeadWriter, push_number};
use crate::h1::{Field, Known, RequestHead, ResponseHead, Version};
use crate::sticky::cookie;
use crate::stream::Ends;
use crate::tls::session::ClientCertificate;
use address_text::AddressText;
use client::Client;
use request_id::{RequestId, is_traceparent};

/// How often `Via` may name this node before the request is refused as a loop.
pub(crate) const PASSES_MAX: usize = 5;

/// What the fields that we add say about a request.
#[derive(Debug)]
pub(crate) struct Origin<'a> {
    /// The client.
    pub client: &'a Client,
    /// The peer of the connection it came on.
    pub peer: &'a AddressText,
    /// The two ends of that connection.
    pub ends: Ends,
    /// It came over HTTP/2, though its head is read as HTTP/1.1.
    pub over_http2: bool,
    /// This node's name, a token.
    pub node: &'a str,
    /// The request's id.
    pub id: &'a RequestId,
    /// The protocol that the connection is to be upgraded to.
    pub upgrade: Option<&'a Arc<str>>,
    /// Our cookie is among the request's: it goes no further.
    pub hides_cookie: bool,
    /// The certificate that the client showed us. What anybody else says of one is never passed on.
    pub certificate: Option<&'a ClientCertificate>,
    /// What the route does with its requests besides.
    pub applied: Option<Applied<'a>>,
}

/// Appends the head of the request as the instance gets it.
pub(crate) fn write_request(out: &mut Vec<u8>, head: &RequestHead, origin: &Origin<'_>) {
    let raw = head.raw();
    let target = head.forwarded_target();
    let features = origin.applied.map(|applied| applied.features);
    let rewritten = match features.and_then(|features| features.prefixes.as_ref()) {
        Some(prefixes) => prefixes.rewrite(head.path(), target),
        None => Rewritten { target, stripped: None },
    };
    let edits = features.and_then(|features| features.request.as_ref());
    let mut writer = HeadWriter::request(out, head.method(), rewritten.target);
    writer.field(b"Host", head.authority());
    let keeps_trace = keeps_trace(head);
    let passes = |field: &&Field| {
        let name = field.name(raw);
        let may_pass = match field.known {
            Known::Other => !is_alias(name),
            Known::Claim => origin.client.peer_is_trusted && !name.contains(&b'_'),
            Known::Host | Known::Via | Known::Proxy | Known::XFairwayExplain | Known::XFairwayMirror => false,
            Known::Cookie => !origin.hides_cookie,
            Known::Expect => head.expects_continue,
            Known::Traceparent | Known::Tracestate => keeps_trace,
            Known::Trailer => head.body == BodyLength::Chunked,
            known => !known.is_hop_by_hop() && !known.is_forwarding(),
        };
        may_pass && !head.is_nominated(name) && edits.is_none_or(|edits| !edits.drops(name))
    };
    writer.fields(raw, head.fields.iter().filter(passes));
    match head.body {
        BodyLength::Empty if head.fields.has(Known::ContentLength) => writer.number(b"Content-Length", 0),
        length => writer.framing(length),
    };
    connection_to_instance(&mut writer, head, origin);
    via(&mut writer, head, origin);
    if origin.hides_cookie
        && !head.is_nominated(b"cookie")
        && edits.is_none_or(|edits| !edits.drops(b"cookie"))
    {
        head.values(Known::Cookie).for_each(|line| cookie::push_others(out, line));
    }
    write_forwarding(out, head, origin);
    write_stripped(out, head, origin, rewritten.stripped);
    if let (Some(edits), Some(applied)) = (edits, origin.applied) {
        edits.write(out, &applied.words);
    }
    if let Some(certificate) = origin.certificate {
        HeadWriter::behind(out)
            .field(b"X-Client-Cert-Subject", certificate.subject.as_bytes())
            .field(b"X-Client-Cert-Fingerprint", certificate.fingerprint.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn connection_to_instance(writer: &mut HeadWriter<'_>, head: &RequestHead, origin: &Origin<'_>) {
    if let Some(protocol) = origin.upgrade {
        writer.field(b"Connection", b"Upgrade").field(b"Upgrade", protocol.as_bytes());
    } else if head.takes_trailers {
        writer.field(b"Connection", b"TE").field(b"TE", b"trailers");
    }
}

/// A trace context is passed on if there is one, and it is valid.
fn keeps_trace(head: &RequestHead) -> bool {
    let mut parents = head.values(Known::Traceparent);
    parents.next().is_some_and(is_traceparent) && parents.next().is_none()
}

fn via(writer: &mut HeadWriter<'_>, head: &RequestHead, origin: &Origin<'_>) {
    let (node, version): (_, &[u8]) = match head.version {
        _ if origin.over_http2 => (origin.node, b"2.0 "),
        Version::Http11 => (origin.node, b"1.1 "),
        Version::Http10 => (origin.node, b"1.0 "),
    };
    let mut before = head.values(Known::Via).filter(|value| !value.is_empty()).peekable();
    if before.peek().is_none() {
        writer.parts(b"Via", &[version, node.as_bytes()]);
        return;
    }
    let mut value = before.collect::<Vec<_>>().join(&b", "[..]);
    value.extend_from_slice(b", ");
    writer.parts(b"Via", &[&value, version, node.as_bytes()]);
}

/// How often `Via` names this node already.
pub(crate) fn passes(head: &RequestHead, node: &str) -> usize {
    let mut passes = 0;
    for hop in head.values(Known::Via).flat_map(list) {
        // `1.1 node (comment)`
        let mut words = hop.split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
        passes += usize::from(words.nth(1) == Some(node.as_bytes()));
    }
    passes
}

/// The fields that say where a request came from. From a trusted proxy they go on, with its own address added; from others
/// they are made anew.
fn write_forwarding(out: &mut Vec<u8>, head: &RequestHead, origin: &Origin<'_>) {
    let (client, peer) = (origin.client, origin.peer.as_bytes());
    let said = |known| head.first(known).filter(|value| client.peer_is_trusted && !value.is_empty());
    let scheme: &[u8] = if client.secure { b"https" } else { b"http" };

    out.extend_from_slice(b"X-Forwarded-For: ");
    if client.peer_is_trusted {
        for value in head.values(Known::XForwardedFor).filter(|value| !value.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
    out.extend_from_slice(peer);
    out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
    out.extend_from_slice(scheme);
    out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
    out.extend_from_slice(said(Known::XForwardedHost).unwrap_or(head.authority()));
    out.extend_from_slice(b"\r\nX-Forwarded-Port: ");
    match said(Known::XForwardedPort) {
        Some(port) => out.extend_from_slice(port),
        None => push_number(out, u64::from(origin.ends.local.port())),
    }
    out.extend_from_slice(b"\r\nX-Real-Ip: ");
    // Mostly nobody trusted is in between.
    match client.peer_is_trusted {
        false => out.extend_from_slice(peer),
        true => out.extend_from_slice(AddressText::new(client.address).as_bytes()),
    }
    out.extend_from_slice(b"\r\nX-Request-Id: ");
    out.extend_from_slice(origin.id.as_bytes());
    out.extend_from_slice(b"\r\nForwarded: ");
    if client.peer_is_trusted {
        forwarded_before(out, head);
    }
    push_forwarded(out, origin.peer);
    out.extend_from_slice(b";host=");
    push_quoted_if_needed(out, head.authority());
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme);
    out.extend_from_slice(b"\r\n");
}

/// What is missing in front of the path: what trusted proxies took off, then what this route does.
fn write_stripped(out: &mut Vec<u8>, head: &RequestHead, origin: &Origin<'_>, stripped: Option<&str>) {
    let trusted = origin.client.peer_is_trusted;
    let before = head.first(Known::XForwardedPrefix).filter(|value| trusted && !value.is_empty());
    if before.is_some() || stripped.is_some() {
        let before = before.map_or(&b""[..], |before| before.strip_suffix(b"/").unwrap_or(before));
        let stripped = stripped.unwrap_or_default().as_bytes();
        HeadWriter::behind(out).parts(b"X-Forwarded-Prefix", &[before, stripped]);
    }
}

/// What trusted proxies said in `Forwarded`; without that, the chain of `X-Forwarded-For` in the words of `Forwarded`.
fn forwarded_before(out: &mut Vec<u8>, head: &RequestHead) {
    let mut said = false;
    for value in head.values(Known::Forwarded).filter(|value| !value.is_empty()) {
        said = true;
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    if said {
        return;
    }
    for hop in head.values(Known::XForwardedFor).flat_map(list) {
        match std::str::from_utf8(hop).ok().and_then(|text| text.parse().ok()) {
            Some(address) => push_forwarded(out, &AddressText::new(address)),
            None => out.extend_from_slice(b"for=unknown"),
        }
        out.extend_from_slice(b", ");
    }
}

fn push_forwarded(out: &mut Vec<u8>, address: &AddressText) {
    let (open, close): (&[u8], &[u8]) = if address.is_ipv6() { (b"for=\"[", b"]\"") } else { (b"for=", b"") };
    for part in [open, address.as_bytes(), close] {
        out.extend_from_slice(part);
    }
}

fn push_quoted_if_needed(out: &mut Vec<u8>, host: &[u8]) {
    let quote: &[u8] = if host.iter().any(|b| matches!(b, b':' | b'[' | b']')) { b"\"" } else { b"" };
    for part in [quote, host, quote] {
        out.extend_from_slice(part);
    }
}

/// How an answer goes on to the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponsePlan<'a> {
    /// How its body is framed towards the client.
    pub length: BodyLength,
    /// Whether the client's connection is closed after it.
    pub close: bool,
    /// Say so to a client of HTTP/1.0 that asked to keep it open.
    pub says_keep_alive: bool,
    /// The value of `Strict-Transport-Security`, unless the instance sets its own.
    pub hsts: Option<&'a str>,
    /// Fields that it gets besides, whole lines.
    pub added: &'a [u8],
    /// What the route makes of its answers.
    pub changes: Option<AnswerChanges<'a>>,
}

/// Appends the head of an answer as the client gets it.
pub(crate) fn write_response(out: &mut Vec<u8>, head: &ResponseHead, plan: &ResponsePlan<'_>) {
    let raw = head.raw();
    let mut writer = HeadWriter::response(out, head.status, head.reason());
    let passes = |field: &&Field| {
        let name = field.name(raw);
        let may_pass = match field.known {
            Known::Trailer => plan.length == BodyLength::Chunked,
            // Only we know.
            Known::XFairwayExplain => false,
            known => !known.is_hop_by_hop(),
        };
        may_pass && !head.is_nominated(name) && plan.changes.is_none_or(|changes| changes.keeps(name))
    };
    writer.fields(raw, head.fields.iter().filter(passes));
    let is_coded = plan.changes.is_some_and(|changes| changes.shape.coding.is_some());
    match (plan.length, head.framing.announced) {
        // What is announced is the length of the plain body.
        (BodyLength::Empty | BodyLength::Exactly(_), Some(_)) if is_coded => &mut writer,
        (BodyLength::Empty | BodyLength::Exactly(_), Some(octets)) => {
            writer.number(b"Content-Length", octets)
        }
        (length, _) => writer.framing(length),
    };
    if let Some(policy) = plan.hsts {
        let name = b"Strict-Transport-Security";
        let is_own = head.fields.iter().any(|field| field.name(raw).eq_ignore_ascii_case(name));
        if !is_own && !plan.changes.is_some_and(|changes| changes.settles(name)) {
            writer.field(name, policy.as_bytes());
        }
    }
    if plan.close {
        writer.field(b"Connection", b"close");
    } else if plan.says_keep_alive {
        writer.field(b"Connection", b"keep-alive");
    }
    if let Some(changes) = plan.changes {
        changes.write(out, head);
    }
    out.extend_from_slice(plan.added);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of an answer that comes before the one that counts, or of a switch to `protocol`, with these lines of
/// ours.
pub(crate) fn write_interim(out: &mut Vec<u8>, head: &ResponseHead, protocol: Option<&str>, added: &[u8]) {
    let raw = head.raw();
    let mut writer = HeadWriter::response(out, head.status, head.reason());
    let passes = |field: &&Field| !field.known.is_hop_by_hop() && !head.is_nominated(field.name(raw));
    writer.fields(raw, head.fields.iter().filter(passes));
    if let Some(protocol) = protocol {
        writer.field(b"Connection", b"Upgrade").field(b"Upgrade", protocol.as_bytes());
    }
    out.extend_from_slice(added);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
