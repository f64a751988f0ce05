//! The head of a client's request: from HTTP/2 to the text of HTTP/1.1, which the one strict reader reads.
//!
//! What `h2` has refused already never comes here: fields of the connection, names in upper case, a length that differs
//! from the data (RFC 9113 section 8.1.1).

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, HOST, HeaderMap};
use http::request::Parts;
use http::{HeaderName, Method};

use super::fields::{push_line, push_lines};
use crate::h1::target::Authority;
use crate::h1::{HeadLimits, Refused, RequestHead};
use crate::reason::Reason;

const KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// Reads the head of a request. `text` is a buffer that may be used again, `protocols` are those that an extended CONNECT
/// may ask for.
pub(crate) fn read(
    parts: &mut Parts,
    has_body: bool,
    limits: HeadLimits,
    text: &mut Vec<u8>,
    protocols: &[Arc<str>],
    rng: &mut Rng,
) -> Result<Box<RequestHead>, Refused> {
    text.clear();
    let protocol = parts.extensions.remove::<Protocol>();
    push_request_line(text, parts, protocol.is_some())?;
    let mut lines = push_host(text, parts)?;
    lines += push_lines(text, &parts.headers);
    if let Some(protocol) = &protocol {
        push_upgrade(text, protocol.as_str(), &parts.headers, protocols, rng)?;
    } else if has_body && !parts.headers.contains_key(CONTENT_LENGTH) {
        push_line(text, b"transfer-encoding", b"chunked");
    }
    text.extend_from_slice(b"\r\n");
    if lines > limits.fields || text.len() > limits.bytes {
        let detail = "the header has more fields or octets than this listener takes";
        return Err(Refused::new(Reason::HeaderTooLarge, detail));
    }
    // A copy of just its size, and the buffer stays as it is for the next one.
    RequestHead::read_within(Bytes::copy_from_slice(text), limits).map(Box::new)
}

fn push_request_line(text: &mut Vec<u8>, parts: &Parts, upgrades: bool) -> Result<(), Refused> {
    let method = if upgrades { Method::GET.as_str() } else { parts.method.as_str() };
    let target = match (parts.uri.path_and_query(), parts.uri.authority()) {
        // An absolute URL here would be a second host.
        (Some(path), _) if path.as_str().starts_with('/') || path.as_str() == "*" => path.as_str(),
        (None, Some(authority)) if parts.method == Method::CONNECT => authority.as_str(),
        _ => return Err(Refused::new(Reason::PathInvalid, "the path does not start with a slash")),
    };
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        text.extend_from_slice(part.as_bytes());
    }
    Ok(())
}

/// The host, once: `:authority` and `host` must name the same (RFC 9113 section 8.3.1). Gives the number of lines.
fn push_host(text: &mut Vec<u8>, parts: &mut Parts) -> Result<usize, Refused> {
    let Some(authority) = parts.uri.authority() else { return Ok(0) };
    let default_port = match parts.uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") | None => Some(80),
        Some(_) => return Err(Refused::new(Reason::RequestInvalid, "the scheme is neither http nor https")),
    };
    let named = Authority::read(authority.as_str());
    for host in parts.headers.get_all(HOST) {
        let same = match (named, host.to_str().ok().and_then(Authority::read)) {
            (Some(named), Some(host)) => named.is_same(&host, default_port),
            _ => false,
        };
        if !same {
            return Err(Refused::new(Reason::HostDiffers, "host differs from :authority"));
        }
    }
    push_line(text, b"host", authority.as_str().as_bytes());
    parts.headers.remove(HOST);
    Ok(1)
}

/// What asks for a protocol in HTTP/1.1, in place of an extended CONNECT (RFC 8441 section 5).
fn push_upgrade(
    text: &mut Vec<u8>,
    protocol: &str,
    fields: &HeaderMap,
    protocols: &[Arc<str>],
    rng: &mut Rng,
) -> Result<(), Refused> {
    let is_wanted = |allowed: &Arc<str>| allowed.eq_ignore_ascii_case(protocol) && &**allowed != "h2c";
    if !protocols.iter().any(is_wanted) {
        return Err(Refused::new(Reason::UpgradeRefused, "this protocol is not served here"));
    }
    push_line(text, b"connection", b"upgrade");
    push_line(text, b"upgrade", protocol.as_bytes());
    if protocol.eq_ignore_ascii_case("websocket") {
        if !fields.contains_key(KEY) {
            push_line(text, b"sec-websocket-key", &random_key(rng));
        }
        if !fields.contains_key(VERSION) {
            push_line(text, b"sec-websocket-version", b"13");
        }
    }
    Ok(())
}

/// 16 random octets in base64 (RFC 6455 section 4.1).
fn random_key(rng: &mut Rng) -> [u8; 24] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut rest = rng.u128(..);
    let mut key = [b'='; 24];
    // 21 digits of 6 bits, and 2 bits in the last one.
    for digit in &mut key[..22] {
        *digit = DIGITS[(rest >> 122) as usize];
        rest <<= 6;
    }
    key
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::h1::{BodyLength, FIELDS_MAX, HEAD_BYTES_MAX, Known};

    struct Asked(http::request::Builder);

    fn asked(uri: &str) -> Asked {
        Asked(Request::builder().uri(uri))
    }

    impl Asked {
        fn method(self, method: &str) -> Self {
            Self(self.0.method(method))
        }

        fn field(self, name: &str, value: &str) -> Self {
            Self(self.0.header(name, value))
        }

        fn protocol(self, protocol: &'static str) -> Self {
            Self(self.0.extension(Protocol::from_static(protocol)))
        }

        fn read(self, has_body: bool) -> Result<Box<RequestHead>, Refused> {
            let (mut parts, ()) = self.0.body(()).expect("a request").into_parts();
            let allowed = ["websocket".into(), "h2c".into()];
            let limits = HeadLimits::default();
            read(&mut parts, has_body, limits, &mut Vec::new(), &allowed, &mut Rng::with_seed(1))
        }

        fn text(self, has_body: bool) -> String {
            String::from_utf8_lossy(self.read(has_body).expect("a request").raw()).into_owned()
        }

        fn reason(self) -> Reason {
            self.read(false).expect_err("it is refused").reason
        }
    }

    #[test]
    fn a_request_becomes_the_text_that_a_client_of_http1_would_send() {
        assert_eq!(
            asked("https://Shop.test:8443/a%2fb?c=d").field("x", "y").field("te", "trailers").text(false),
            "GET /a%2fb?c=d HTTP/1.1\r\nhost: Shop.test:8443\r\nx: y\r\nte: trailers\r\n\r\n"
        );
        assert_eq!(
            asked("http://a/").method("POST").field("content-length", "3").text(true),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
        );
        let without_length = asked("http://a/").method("PUT").read(true).expect("a request");
        assert_eq!(without_length.body, BodyLength::Chunked);
        let nothing = asked("http://a/").method("PUT").read(false).expect("a request");
        assert_eq!(nothing.body, BodyLength::Empty);
    }

    #[test]
    fn the_host_is_the_authority_or_the_field_and_both_must_agree() {
        let host = |asked: Asked| asked.read(false).map(|head| head.authority().to_owned());
        assert_eq!(host(asked("http://a/")).expect("a host"), "a");
        assert_eq!(host(asked("/").field("host", "b:1")).expect("a host"), "b:1");
        assert_eq!(host(asked("http://a/").field("host", "A:80")).expect("a host"), "a");
        assert_eq!(host(asked("https://a/").field("host", "a:443")).expect("a host"), "a");
        assert_eq!(asked("http://a/").field("host", "b").reason(), Reason::HostDiffers);
        assert_eq!(asked("http://a/").field("host", "a").field("host", "b").reason(), Reason::HostDiffers);
        assert_eq!(asked("http://u@a/").reason(), Reason::HostInvalid);
        assert_eq!(asked("/").reason(), Reason::HostMissing);
        assert_eq!(asked("/").field("host", "a").field("host", "a").reason(), Reason::HostInvalid);
    }

    #[test]
    fn what_http1_refuses_is_refused_here_for_the_same_reason() {
        assert_eq!(asked("http://a/../b").reason(), Reason::PathInvalid);
        assert_eq!(asked("http://a/%00").reason(), Reason::PathInvalid);
        assert_eq!(asked("ftp://a/").reason(), Reason::RequestInvalid);
        assert_eq!(asked("a:1").method("CONNECT").reason(), Reason::MethodRefused);
        assert_eq!(asked("http://a/").method("TRACE").reason(), Reason::MethodRefused);
        assert_eq!(asked("http://a/").field("expect", "x").reason(), Reason::ExpectationRefused);
        let twice = asked("http://a/").field("content-length", "0").field("content-length", "0");
        assert_eq!(twice.reason(), Reason::ConflictingLength);
        let long = "v".repeat(HEAD_BYTES_MAX);
        assert_eq!(asked("http://a/").field("x", &long).reason(), Reason::HeaderTooLarge);
    }

    #[test]
    fn a_hundred_fields_pass_one_more_does_not_and_a_cookie_is_one_field() {
        let with = |fields: usize| (1..fields).fold(asked("http://a/"), |asked, _| asked.field("x", "y"));
        assert!(with(FIELDS_MAX).read(false).is_ok());
        assert_eq!(with(FIELDS_MAX + 1).reason(), Reason::HeaderTooLarge);
        let crumbs = (0..200).fold(asked("http://a/"), |asked, _| asked.field("cookie", "a=b"));
        assert!(crumbs.read(false).is_ok());
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let head = asked("http://a/chat").method("CONNECT").protocol("websocket").read(true).expect("one");
        assert!(head.upgrades && head.method() == "GET" && head.body == BodyLength::Empty);
        assert_eq!(head.first(Known::Upgrade), Some(&b"websocket"[..]));
        let text = String::from_utf8_lossy(head.raw()).into_owned();
        let key = text.split("sec-websocket-key: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let key = key.expect("a key");
        assert!(key.len() == 24 && key.ends_with("==") && !key.starts_with("AAAA"), "{key}");
        assert!(text.contains("\r\nsec-websocket-version: 13\r\n"), "{text}");
        for refused in ["h2c", "connect-udp"] {
            let asked = asked("http://a/").method("CONNECT").protocol(refused);
            assert_eq!(asked.reason(), Reason::UpgradeRefused, "{refused}");
        }
    }
}
