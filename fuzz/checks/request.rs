//! Requests.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use fairway_proxy::h1::chunked::Extensions;
use fairway_proxy::h1::trailers::is_alias;
use fairway_proxy::h1::{FIELDS_MAX, Known, RequestHead, Scan, Version};
use fairway_proxy::workbench::Hop;

use super::{NameValue, follow, lines_are_plain, scanned};

/// Exactly one of each is in every request that goes on.
const OURS: [Known; 9] = [
    Known::Host,
    Known::Via,
    Known::Forwarded,
    Known::XForwardedFor,
    Known::XForwardedProto,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XRealIp,
    Known::XRequestId,
];

/// None of these is ever in a request that goes on.
const NEVER: [Known; 4] = [Known::Proxy, Known::KeepAlive, Known::ProxyConnection, Known::Http2Settings];

/// What is accepted can be read in one way only and means the same to httparse, its body is the same wherever it is
/// split, and the request that goes on reads back as the one that came, with our fields in place of the client's.
pub fn check(input: &[u8]) {
    // The parser alone must bear anything, also what the scanner would have stopped.
    let _ = RequestHead::read(Bytes::copy_from_slice(input));
    let Ok(Scan::Complete(end)) = scanned(input) else { return };
    let Ok(head) = RequestHead::read(Bytes::copy_from_slice(&input[..end])) else { return };
    lines_are_plain(&input[..end]);
    can_be_read_in_one_way(&head);
    agrees_with_httparse(&head, input, end);
    body_is_the_same(&head, &input[end..]);
    let stranger = IpAddr::from([192, 0, 2, 1]);
    let once = goes_on(&head, &Hop::new(&head, stranger, &[]), None);
    assert_eq!(once.first(Known::XForwardedFor), Some(&b"192.0.2.1"[..]), "a stranger is not believed");
    assert_eq!(once.first(Known::XRealIp), Some(&b"192.0.2.1"[..]), "a stranger is not believed");
    let nets = ["0.0.0.0/0".parse().expect("a net")];
    for head in [&head, &once] {
        goes_on(head, &Hop::new(head, stranger, &nets), None);
    }
    if head.upgrades {
        goes_on(&head, &Hop::new(&head, stranger, &[]), Some(&"websocket".into()));
    }
}

/// The classes of hardening that an accepted request must be free of, told without the codec's own code.
fn can_be_read_in_one_way(head: &RequestHead) {
    let named = |name: &[u8]| {
        head.fields.iter().filter(|field| field.name(head.raw()).eq_ignore_ascii_case(name)).count()
    };
    assert!(named(b"content-length") + named(b"transfer-encoding") <= 1, "one framing");
    assert!(named(b"host") <= 1, "one host");
    assert!(!head.host().is_empty() && !head.host().bytes().any(|octet| octet.is_ascii_uppercase()));
    let path = head.path().to_ascii_lowercase();
    assert!(path.starts_with('/') && !path.bytes().any(|octet| octet <= b' ' || octet == 0x7f));
    for octets in ["\\", "#", "?", "%00", "%5c"] {
        assert!(!path.contains(octets), "no {octets} in a path");
    }
    for segment in path.replace("%2e", ".").split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        assert!(name != "." && name != "..", "no dot segments in a path");
    }
}

fn agrees_with_httparse(head: &RequestHead, input: &[u8], end: usize) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut theirs = httparse::Request::new(&mut fields);
    assert_eq!(theirs.parse(input), Ok(httparse::Status::Complete(end)));
    assert_eq!(theirs.method, Some(head.method()));
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target()));
    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
    let theirs: Vec<NameValue<'_>> = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    let ours: Vec<_> = head.fields.iter().map(|f| (f.name(head.raw()), f.value(head.raw()))).collect();
    assert_eq!(ours, theirs);
}

fn body_is_the_same(head: &RequestHead, rest: &[u8]) {
    let whole = follow(head.body, Extensions::Refused, [rest]);
    let octets = follow(head.body, Extensions::Refused, rest.chunks(1));
    assert_eq!((&octets.data, &octets.end), (&whole.data, &whole.end));
}

/// The request as the instance reads it.
fn goes_on(head: &RequestHead, hop: &Hop, upgrade: Option<&Arc<str>>) -> RequestHead {
    let mut out = Vec::new();
    hop.write_request(&mut out, head, upgrade);
    let end = out.windows(4).position(|octets| octets == b"\r\n\r\n").map(|at| at + 4);
    assert_eq!(end, Some(out.len()), "one head and nothing else is written");
    let again = RequestHead::read(Bytes::from(out)).expect("what is written can be read");

    let (front, rest) = head.forwarded_target();
    assert_eq!(again.target(), [front.as_bytes(), rest].concat());
    assert_eq!((again.method(), again.host()), (head.method(), head.host()));
    assert_eq!((again.path(), again.query()), (head.path(), head.query()));
    assert_eq!((again.authority(), again.body), (head.authority(), head.body));
    assert_eq!(again.expects_continue, head.expects_continue);
    assert_eq!((again.version, again.keep_alive), (Version::Http11, true));
    assert_eq!(again.upgrades, upgrade.is_some());
    for known in OURS {
        assert_eq!(again.values(known).count(), 1, "one {}", known.name());
    }
    for known in NEVER {
        assert_eq!(again.values(known).count(), 0, "no {}", known.name());
    }
    assert_eq!(others(&again), others(head), "the other fields are neither lost nor invented");
    again
}

/// The fields that mean nothing to us, without those that may not go on.
fn others(head: &RequestHead) -> Vec<NameValue<'_>> {
    let fields = head.fields.iter().filter(|field| field.known == Known::Other);
    let fields = fields.map(|field| (field.name(head.raw()), field.value(head.raw())));
    fields.filter(|(name, _)| !is_alias(name) && !head.is_nominated(name)).collect()
}
