//! The head of a request: from the fields of a header block to the text of HTTP/1.1, which the one strict reader reads.
//!
//! What makes a request malformed in HTTP/2 (RFC 9113 section 8.1.1) is found here: it never becomes a text. All else is left
//! to the reader, so that nothing can mean something else than in HTTP/1.1.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use crate::h1::fields::FieldError;
use crate::h1::syntax::{decimal, is_field_value, is_token, is_token_octet};
use crate::h1::target::Authority;
use crate::h1::{HeadLimits, Known, Refused, RequestHead, Trailers};
use crate::reason::Reason;
use crate::websocket::random_key;

/// What a field counts beside its octets (RFC 9113 section 6.5.2).
const OVERHEAD: usize = 32;

/// Memory for fields that is kept from one request to the next.
const KEPT: usize = 8 * 1024;

/// The fields of one block.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    pseudo: Vec<u8>,
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    protocol: Option<Range<usize>>,
    /// The value of `host` beside `:authority`,
    host: Option<Range<usize>>,
    /// and there is another one.
    has_hosts: bool,
    /// The other fields as lines.
    lines: Vec<u8>,
    count: usize,
    /// Where the cookie goes among the lines.
    cookie_at: Option<usize>,
    /// Its crumbs, which become one (section 8.2.3). Apart from the lines: there may be thousands, of an octet each on the
    /// wire, and each would move all lines behind it.
    cookie: Vec<u8>,
    length: Option<u64>,
    has_key: bool,
    has_version: bool,
    /// As HTTP/2 counts.
    size: usize,
    /// There is more than anybody wants to see.
    is_too_large: bool,
    malformed: bool,
}

/// The request breaks the rules of HTTP/2: it ends with a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What a listener has to do with the heads of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// How large they may be.
    pub(crate) limits: HeadLimits,
    /// Protocols that an extended CONNECT may ask for.
    pub(crate) protocols: &'a [Arc<str>],
}

impl Fields {
    /// Forgets the block before.
    pub(super) fn clear(&mut self) {
        let (mut pseudo, mut lines) = (std::mem::take(&mut self.pseudo), std::mem::take(&mut self.lines));
        let mut cookie = std::mem::take(&mut self.cookie);
        pseudo.clear();
        lines.clear();
        cookie.clear();
        let octets = lines.capacity() + pseudo.capacity() + cookie.capacity();
        if octets > KEPT {
            (pseudo, lines, cookie) = (Vec::new(), Vec::new(), Vec::new());
        }
        *self = Self { pseudo, lines, cookie, ..Self::default() };
    }

    /// Octets of all fields so far, as HTTP/2 counts.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes the next field. No more than `limit` octets of lines are kept.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], limit: usize) {
        self.size += name.len() + value.len() + OVERHEAD;
        if self.malformed || self.is_too_large {
            return;
        }
        let taken = match name.first() {
            Some(b':') => self.take_pseudo(name, value),
            _ => self.take_field(name, value),
        };
        self.malformed = taken.is_err();
        let octets = self.lines.len() + self.pseudo.len() + self.cookie.len();
        self.is_too_large = octets > limit;
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let at = self.pseudo.len()..self.pseudo.len() + value.len();
        let slot = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(Malformed),
        };
        // Once each, and in front of all others (section 8.3). A space would end what it stands in.
        let is_late = self.count > 0 || self.host.is_some();
        let is_fine = value.iter().all(|octet| *octet > b' ' && *octet != 0x7f);
        if is_late || !is_fine || slot.replace(at).is_some() {
            return Err(Malformed);
        }
        self.pseudo.extend_from_slice(value);
        Ok(())
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let is_name = !name.is_empty() && name.iter().all(|b| is_token_octet(*b) && !b.is_ascii_uppercase());
        if !is_name || !is_field_value(value) {
            return Err(Malformed);
        }
        match Known::of(name) {
            Known::Connection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::KeepAlive
            | Known::ProxyConnection => return Err(Malformed),
            Known::Te if value != b"trailers" => return Err(Malformed),
            Known::ContentLength => {
                let length = decimal(value).ok_or(Malformed)?;
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
            }
            Known::Host if self.authority.is_some() => {
                let start = self.pseudo.len();
                self.pseudo.extend_from_slice(value);
                self.has_hosts |= self.host.replace(start..self.pseudo.len()).is_some();
                return Ok(());
            }
            Known::Cookie => {
                if self.cookie_at.is_some() {
                    self.cookie.extend_from_slice(b"; ");
                } else {
                    self.cookie_at = Some(self.lines.len());
                    self.count += 1;
                }
                self.cookie.extend_from_slice(value);
                return Ok(());
            }
            Known::Other => {
                self.has_key |= name == b"sec-websocket-key";
                self.has_version |= name == b"sec-websocket-version";
            }
            _ => {}
        }
        self.count += 1;
        push_line(&mut self.lines, name, value);
        Ok(())
    }

    fn part(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        range.clone().map(|range| &self.pseudo[range])
    }

    /// How long the body is said to be.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the request asks for CONNECT.
    pub(crate) fn is_connect(&self) -> bool {
        self.part(&self.method) == Some(b"CONNECT")
    }

    /// Whether this is the head of a request that HTTP/2 allows; `ends`: nothing comes behind it.
    pub(super) fn check(&self, ends: bool, takes_connect: bool) -> Result<(), Malformed> {
        let is_whole = self.method.is_some() && self.scheme.is_some() && self.path.is_some();
        let is_fine = match (self.is_connect(), &self.protocol) {
            // What is too large is refused as that; its rest was not looked at.
            _ if self.is_too_large => true,
            (true, None) => self.scheme.is_none() && self.path.is_none() && self.authority.is_some(),
            (true, Some(_)) => is_whole && takes_connect,
            (false, Some(_)) => false,
            (false, None) => is_whole,
        };
        let has_path = self.path.as_ref().is_none_or(|path| !path.is_empty());
        let is_method = self.part(&self.method).is_some_and(is_token);
        let is_cut = ends && self.length.is_some_and(|length| length > 0);
        if self.malformed || !is_fine || !has_path || !is_method || is_cut { Err(Malformed) } else { Ok(()) }
    }

    /// The fields behind a body.
    pub(super) fn trailers(&mut self) -> Result<Result<Trailers, FieldError>, Malformed> {
        if self.malformed || self.is_too_large || !self.pseudo.is_empty() {
            return Err(Malformed);
        }
        self.lines.extend_from_slice(b"\r\n");
        Ok(Trailers::read(&self.lines))
    }

    /// Reads the head of the request. `text` is memory that may be used again.
    pub(crate) fn request(
        &self,
        ends: bool,
        rules: Rules<'_>,
        text: &mut Vec<u8>,
        rng: &mut Rng,
    ) -> Result<Box<RequestHead>, Refused> {
        let Rules { limits, protocols } = rules;
        let protocol = self.part(&self.protocol);
        text.clear();
        let method = if protocol.is_some() { b"GET" } else { self.part(&self.method).unwrap_or_default() };
        for part in [method, b" ", self.target()?, b" HTTP/1.1\r\n"] {
            text.extend_from_slice(part);
        }
        if let Some(authority) = self.part(&self.authority) {
            self.check_hosts(authority)?;
            push_line(text, b"host", authority);
        }
        let (before, behind) = self.lines.split_at(self.cookie_at.unwrap_or(0));
        text.extend_from_slice(before);
        if self.cookie_at.is_some() {
            push_line(text, b"cookie", &self.cookie);
        }
        text.extend_from_slice(behind);
        if let Some(protocol) = protocol {
            self.push_upgrade(text, protocol, protocols, rng)?;
        } else if !ends && self.length.is_none() {
            push_line(text, b"transfer-encoding", b"chunked");
        }
        text.extend_from_slice(b"\r\n");
        let lines = self.count + usize::from(self.authority.is_some());
        if self.is_too_large || lines > limits.fields || text.len() > limits.bytes {
            let detail = "the header has more fields or octets than this listener takes";
            return Err(Refused::new(Reason::HeaderTooLarge, detail));
        }
        RequestHead::read_within(Bytes::copy_from_slice(text), limits).map(Box::new)
    }

    fn target(&self) -> Result<&[u8], Refused> {
        match (self.part(&self.path), self.part(&self.authority)) {
            // An absolute URL here would be a second host.
            (Some(path), _) if path.starts_with(b"/") || path == b"*" => Ok(path),
            (None, Some(authority)) if self.is_connect() => Ok(authority),
            _ if self.is_too_large => Ok(b"/"),
            _ => Err(Refused::new(Reason::PathInvalid, "the path does not start with a slash")),
        }
    }

    /// `:authority` and `host` must name the same (RFC 9113 section 8.3.1).
    fn check_hosts(&self, authority: &[u8]) -> Result<(), Refused> {
        let default_port = match self.part(&self.scheme) {
            Some(b"https") => Some(443),
            Some(b"http") | None => Some(80),
            Some(_) => {
                return Err(Refused::new(Reason::RequestInvalid, "the scheme is neither http nor https"));
            }
        };
        if self.has_hosts {
            return Err(Refused::new(Reason::HostInvalid, "there is more than one Host"));
        }
        let read = |octets| std::str::from_utf8(octets).ok().and_then(Authority::read);
        let Some(host) = self.part(&self.host) else { return Ok(()) };
        match (read(authority), read(host)) {
            (Some(named), Some(host)) if named.is_same(&host, default_port) => Ok(()),
            _ => Err(Refused::new(Reason::HostDiffers, "host differs from :authority")),
        }
    }

    /// What asks for a protocol in HTTP/1.1, in place of an extended CONNECT (RFC 8441 section 5).
    fn push_upgrade(
        &self,
        text: &mut Vec<u8>,
        protocol: &[u8],
        protocols: &[Arc<str>],
        rng: &mut Rng,
    ) -> Result<(), Refused> {
        let is_wanted =
            |allowed: &Arc<str>| allowed.as_bytes().eq_ignore_ascii_case(protocol) && &**allowed != "h2c";
        if !protocols.iter().any(is_wanted) {
            return Err(Refused::new(Reason::UpgradeRefused, "this protocol is not served here"));
        }
        push_line(text, b"connection", b"upgrade");
        push_line(text, b"upgrade", protocol);
        if protocol.eq_ignore_ascii_case(b"websocket") {
            if !self.has_key {
                push_line(text, b"sec-websocket-key", random_key(rng).as_bytes());
            }
            if !self.has_version {
                push_line(text, b"sec-websocket-version", b"13");
            }
        }
        Ok(())
    }
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::{BodyLength, FIELDS_MAX, HEAD_BYTES_MAX};

    /// The fields of a request, as a header block brings them.
    struct Asked(Vec<(String, String)>);

    fn asked(method: &str, scheme: &str, authority: &str, path: &str) -> Asked {
        let pseudo = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)];
        let there = pseudo.iter().filter(|(_, value)| !value.is_empty());
        Asked(there.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn get(path: &str) -> Asked {
        asked("GET", "http", "a", path)
    }

    impl Asked {
        fn field(mut self, name: &str, value: &str) -> Self {
            self.0.push((name.to_owned(), value.to_owned()));
            self
        }

        /// `None`: it is malformed.
        fn try_read(self, has_body: bool) -> Option<Result<Box<RequestHead>, Refused>> {
            let mut fields = Fields::default();
            for (name, value) in &self.0 {
                fields.take(name.as_bytes(), value.as_bytes(), 2 * HEAD_BYTES_MAX);
            }
            fields.check(!has_body, true).ok()?;
            let rules =
                Rules { limits: HeadLimits::default(), protocols: &["websocket".into(), "h2c".into()] };
            Some(fields.request(!has_body, rules, &mut Vec::new(), &mut Rng::with_seed(1)))
        }

        fn read(self, has_body: bool) -> Result<Box<RequestHead>, Refused> {
            self.try_read(has_body).expect("it is not malformed")
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
        let https = asked("GET", "https", "Shop.test:8443", "/a%2fb?c=d");
        assert_eq!(
            https.field("x", "y").field("te", "trailers").text(false),
            "GET /a%2fb?c=d HTTP/1.1\r\nhost: Shop.test:8443\r\nx: y\r\nte: trailers\r\n\r\n"
        );
        assert_eq!(
            asked("POST", "http", "a", "/").field("content-length", "3").text(true),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
        );
        assert_eq!(
            get("/").field("cookie", "b=2").field("c", "").field("cookie", "d=4").field("a", "5").text(false),
            "GET / HTTP/1.1\r\nhost: a\r\ncookie: b=2; d=4\r\nc: \r\na: 5\r\n\r\n"
        );
        let without_length = asked("PUT", "http", "a", "/").read(true).expect("a request");
        assert_eq!(without_length.body, BodyLength::Chunked);
        let nothing = asked("PUT", "http", "a", "/").read(false).expect("a request");
        assert_eq!(nothing.body, BodyLength::Empty);
    }

    #[test]
    fn the_host_is_the_authority_or_the_field_and_both_must_agree() {
        let host = |asked: Asked| {
            asked.read(false).map(|head| String::from_utf8_lossy(head.authority()).into_owned())
        };
        assert_eq!(host(get("/")).expect("a host"), "a");
        assert_eq!(host(asked("GET", "http", "", "/").field("host", "b:1")).expect("a host"), "b:1");
        assert_eq!(host(get("/").field("host", "A:80")).expect("a host"), "a");
        assert_eq!(host(asked("GET", "https", "a", "/").field("host", "a:443")).expect("a host"), "a");
        assert_eq!(get("/").field("host", "b").reason(), Reason::HostDiffers);
        for other in ["a", "b"] {
            let two = get("/").field("host", "a").field("host", other);
            assert_eq!(two.reason(), Reason::HostInvalid, "{other}");
        }
        assert_eq!(asked("GET", "http", "u@a", "/").reason(), Reason::HostInvalid);
        assert_eq!(asked("GET", "http", "", "/").reason(), Reason::HostMissing);
        let twice = asked("GET", "http", "", "/").field("host", "a").field("host", "a");
        assert_eq!(twice.reason(), Reason::HostInvalid);
    }

    #[test]
    fn what_http1_refuses_is_refused_here_for_the_same_reason() {
        assert_eq!(get("/../b").reason(), Reason::PathInvalid);
        assert_eq!(get("/%00").reason(), Reason::PathInvalid);
        assert_eq!(get("http://b/").reason(), Reason::PathInvalid);
        assert!(get("/a#b").read(false).is_err(), "a fragment");
        assert_eq!(asked("GET", "ftp", "a", "/").reason(), Reason::RequestInvalid);
        assert_eq!(asked("CONNECT", "", "a:1", "").reason(), Reason::MethodRefused);
        assert_eq!(asked("TRACE", "http", "a", "/").reason(), Reason::MethodRefused);
        assert_eq!(get("/").field("expect", "x").reason(), Reason::ExpectationRefused);
        let twice = get("/").field("content-length", "0").field("content-length", "0");
        assert_eq!(twice.reason(), Reason::ConflictingLength);
        let long = "v".repeat(HEAD_BYTES_MAX);
        assert_eq!(get("/").field("x", &long).reason(), Reason::HeaderTooLarge);
        assert_eq!(get("/").field("x", &long.repeat(3)).reason(), Reason::HeaderTooLarge);
    }

    #[test]
    fn a_hundred_fields_pass_one_more_does_not_and_a_cookie_is_one_field() {
        let with = |fields: usize| (1..fields).fold(get("/"), |asked, _| asked.field("x", "y"));
        assert!(with(FIELDS_MAX).read(false).is_ok());
        assert_eq!(with(FIELDS_MAX + 1).reason(), Reason::HeaderTooLarge);
        let crumbs = (0..200).fold(get("/"), |asked, _| asked.field("cookie", "a=b"));
        assert!(crumbs.read(false).is_ok());
    }

    #[test]
    fn crumbs_by_the_thousand_become_one_cookie_where_the_first_one_stood() {
        let long = "v".repeat(30_000);
        let first = get("/").field("b", "1").field("cookie", "a=b").field("x", &long);
        let all = (0..10_000).fold(first, |asked, _| asked.field("cookie", ""));
        let want = format!("b: 1\r\ncookie: a=b{}\r\nx: {long}\r\n", "; ".repeat(10_000));
        let head = all.read(false).expect("it is within the limits");
        let lines = String::from_utf8_lossy(head.raw()).into_owned();
        // White space at the end of a value is none of it.
        assert!(lines.contains(want.trim_end()), "{} octets", lines.len());
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let connect = |protocol| asked("CONNECT", "http", "a", "/chat").field(":protocol", protocol);
        let head = connect("websocket").read(true).expect("one");
        assert!(head.upgrades && head.method() == "GET" && head.body == BodyLength::Empty);
        assert_eq!(head.first(Known::Upgrade), Some(&b"websocket"[..]));
        let text = String::from_utf8_lossy(head.raw()).into_owned();
        let key = text.split("sec-websocket-key: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let key = key.expect("a key");
        assert!(key.len() == 24 && key.ends_with("==") && !key.starts_with("AAAA"), "{key}");
        assert!(text.contains("\r\nsec-websocket-version: 13\r\n"), "{text}");
        for refused in ["h2c", "connect-udp"] {
            assert_eq!(connect(refused).reason(), Reason::UpgradeRefused, "{refused}");
        }
    }

    #[test]
    fn what_http2_does_not_allow_is_malformed_and_becomes_no_text() {
        for fields in [
            get("/").field("Upper", "a"),
            get("/").field("a b", "c"),
            get("/").field("", "c"),
            get("/").field("a", "b\r\nc: d"),
            get("/").field("a", "b\0"),
            get("/").field("connection", "close"),
            get("/").field("te", "gzip"),
            get("/").field(":path", "/"),
            get("/").field("a", "b").field(":protocol", "websocket"),
            get("/").field(":status", "200"),
            get("/").field(":protocol", "websocket"),
            get("/").field("content-length", "5"),
            get("/").field("content-length", "-0"),
            get("/").field("content-length", "0").field("content-length", "1"),
            get("/a b"),
            get("/\r\nx:y"),
            get(""),
            asked("G T", "http", "a", "/"),
            asked("", "http", "a", "/"),
            asked("GET", "", "a", "/"),
            asked("GET", "http", "a b", "/"),
            asked("CONNECT", "http", "a", "/"),
            asked("CONNECT", "", "", ""),
        ] {
            let told = format!("{:?}", fields.0);
            assert!(fields.try_read(false).is_none(), "{told}");
        }
    }
}
