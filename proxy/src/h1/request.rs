//! The head of a request, read strictly, left where it lies.
//!
//! Not here: which fields are passed on (see `forward`), where its end is (see `scan`).

use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;

use super::fields::FieldIndex;
use super::framing::{BodyLength, FramingError, of_request};
use super::known::Known;
use super::scan::ScanError;
use super::syntax::{is_token, list};
use super::target::{Authority, Target};
use super::{HeadLimits, NOMINATED_BYTES_MAX, Version};
use crate::reason::Reason;
use crate::request::{Fields, RequestView};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// The word.
    pub reason: Reason,
    /// One sentence for people; it holds nothing of the request.
    pub detail: &'static str,
}

impl Refused {
    /// For this reason.
    pub fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

impl From<(Reason, &'static str)> for Refused {
    fn from((reason, detail): (Reason, &'static str)) -> Self {
        Self { reason, detail }
    }
}

impl From<ScanError> for Refused {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::BareLf => Self::new(Reason::RequestInvalid, "a line is not ended by CRLF"),
            ScanError::TooLarge => Self::new(
                Reason::HeaderTooLarge,
                "the header has more fields or octets than this listener takes",
            ),
        }
    }
}

impl From<FramingError> for Refused {
    fn from(error: FramingError) -> Self {
        let reason = match error {
            FramingError::LengthAndEncoding | FramingError::SeveralLengths => Reason::ConflictingLength,
            FramingError::NotALength => Reason::LengthInvalid,
            FramingError::NotChunked | FramingError::EncodingInHttp10 => Reason::TransferEncoding,
        };
        Self::new(reason, error.text())
    }
}

/// The head of a request that every parser reads in one way.
#[derive(Debug, Clone)]
pub struct RequestHead {
    raw: Bytes,
    /// The first line up to the end of the target, whose parts lie at the same places in `raw`; behind it the host: lower
    /// case, no port, no trailing dot.
    text: Box<str>,
    method_len: usize,
    target: Range<usize>,
    path: Range<usize>,
    query: Option<Range<usize>>,
    is_asterisk: bool,
    authority: Range<usize>,
    /// The port that the client named, if any.
    pub port: Option<u16>,
    /// The fields.
    pub fields: FieldIndex,
    /// The version it was sent in.
    pub version: Version,
    is_head: bool,
    is_idempotent: bool,
    /// How long its body is.
    pub body: BodyLength,
    /// Whether the client lets the connection stay open.
    pub keep_alive: bool,
    /// Whether it waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
    /// `Connection` names `Upgrade`, and there is one.
    pub upgrades: bool,
    /// `TE: trailers`.
    pub takes_trailers: bool,
    /// `Connection` names further fields.
    pub nominates: bool,
}

impl RequestHead {
    /// Reads a whole head, from its first octet to its empty line.
    pub fn read(raw: Bytes) -> Result<Self, Refused> {
        Self::read_within(raw, HeadLimits::default())
    }

    /// The same with a target of this size at most; how large the whole is has been looked at.
    pub fn read_within(raw: Bytes, limits: HeadLimits) -> Result<Self, Refused> {
        let line_end = memchr::memchr(b'\n', &raw).unwrap_or(raw.len());
        let line = RequestLine::read(&raw[..line_end.saturating_sub(1)], limits.target_bytes)?;
        let fields = FieldIndex::read(&raw, (line_end + 1).min(raw.len())..raw.len().saturating_sub(2))
            .map_err(|error| Refused::new(Reason::RequestInvalid, error.text()))?;
        let RequestLine { method_len, target, version } = line;
        let at = target.start;
        let Ok(line) = std::str::from_utf8(&raw[..target.end]) else {
            return Err(Refused::new(Reason::PathInvalid, "the request target is not UTF-8"));
        };
        let parts = Target::read(&line[target.clone()], &line[..method_len])?;
        let shift = |range: Range<usize>| at + range.start..at + range.end;
        let from_target = parts.authority.map(|authority| (shift(authority), parts.default_port));
        let authority = authority(&raw, &fields, version, from_target)?;
        let (host, port) = host_and_port(&raw, authority.clone())?;
        let mut text = String::with_capacity(line.len() + host.len());
        text.push_str(line);
        text.push_str(host);
        text[line.len()..].make_ascii_lowercase();
        let connection = Connection::read(&fields, &raw)?;
        let body = of_request(version, &fields, &raw)?;
        Ok(Self {
            method_len,
            target,
            path: shift(parts.path),
            query: parts.query.map(shift),
            is_asterisk: parts.is_asterisk,
            authority,
            port,
            version,
            is_head: &line[..method_len] == "HEAD",
            is_idempotent: matches!(&line[..method_len], "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE"),
            body,
            keep_alive: connection.keeps_alive(version),
            expects_continue: expectation(version, body, &fields, &raw)?,
            upgrades: connection.upgrade
                && version == Version::Http11
                && fields.first(Known::Upgrade, &raw).is_some(),
            takes_trailers: takes_trailers(&fields, &raw),
            nominates: connection.nominates,
            fields,
            text: text.into(),
            raw,
        })
    }

    /// The octets of the head, which spans and fields refer to.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.text[..self.method_len]
    }

    /// The whole target as sent.
    pub fn target(&self) -> &[u8] {
        &self.raw[self.target.clone()]
    }

    /// The host: lower case, no port, no trailing dot.
    pub fn host(&self) -> &str {
        &self.text[self.target.end..]
    }

    /// Host and port as sent.
    pub fn authority(&self) -> &[u8] {
        &self.raw[self.authority.clone()]
    }

    /// The path that is matched: `/` for `*` and for an absolute target without one.
    pub fn path(&self) -> &str {
        match &self.text[self.path.clone()] {
            _ if self.is_asterisk => "/",
            "" => "/",
            path => path,
        }
    }

    /// What follows the first `?`, without it.
    pub fn query(&self) -> Option<&str> {
        self.query.clone().map(|range| &self.text[range])
    }

    /// Path and query as they go on: the octets sent; `*` stays, an absolute target loses its host.
    pub fn forwarded_target(&self) -> (&'static str, &[u8]) {
        let end = self.query.as_ref().map_or(self.path.end, |query| query.end);
        let octets = &self.raw[self.path.start..end];
        match octets.first() {
            Some(b'/') => ("", octets),
            Some(b'*') if self.is_asterisk => ("", octets),
            None if self.method() == "OPTIONS" => ("*", octets),
            _ => ("/", octets),
        }
    }

    /// The values of a known field.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.values(known, &self.raw)
    }

    /// The first value of a known field.
    pub fn first(&self, known: Known) -> Option<&[u8]> {
        self.fields.first(known, &self.raw)
    }

    /// Whether `Connection` names this field, in any case.
    pub fn is_nominated(&self, name: &[u8]) -> bool {
        self.nominates
            && self.values(Known::Connection).flat_map(list).any(|option| option.eq_ignore_ascii_case(name))
    }

    /// Whether the method is HEAD: the answer has no body.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether the request may be sent again when nobody knows what became of it (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// What the decision needs to know.
    pub fn view(&self, client: IpAddr, internal: bool, secure: bool) -> RequestView<'_> {
        RequestView {
            host: self.host(),
            path: self.path(),
            query: self.query(),
            method: self.method(),
            client,
            internal,
            secure,
            fields: self,
        }
    }
}

impl Fields for RequestHead {
    fn each<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
        for field in self.fields.iter() {
            let matches = field.name(&self.raw).eq_ignore_ascii_case(name.as_bytes());
            if matches && !visit(field.value(&self.raw)) {
                return;
            }
        }
    }
}

struct RequestLine {
    method_len: usize,
    target: Range<usize>,
    version: Version,
}

impl RequestLine {
    /// `method SP target SP version`, nothing more.
    fn read(line: &[u8], target_bytes_max: usize) -> Result<Self, Refused> {
        let invalid = |detail| Err(Refused::new(Reason::RequestInvalid, detail));
        let Some(first) = memchr::memchr(b' ', line) else {
            return invalid("the request line is not `method target version`");
        };
        let method = &line[..first];
        if !is_token(method) {
            return invalid("the method is not a token");
        }
        let Some(last) = memchr::memrchr(b' ', line).filter(|last| *last > first) else {
            return invalid("the request line is not `method target version`");
        };
        let target = first + 1..last;
        if target.len() > target_bytes_max {
            return Err(Refused::new(
                Reason::TargetTooLong,
                "the request target is longer than this listener takes",
            ));
        }
        let version = match &line[last + 1..] {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refused::new(
                    Reason::VersionRefused,
                    "only HTTP/1.1 and HTTP/1.0 are spoken here",
                ));
            }
            _ => return invalid("the request line does not end with a version of HTTP"),
        };
        if target.is_empty() || line[target.clone()].contains(&b' ') {
            return invalid("the request line has more than one space in a place");
        }
        match method {
            b"CONNECT" => {
                Err(Refused::new(Reason::MethodRefused, "CONNECT is not served: this is no forward proxy"))
            }
            b"TRACE" => Err(Refused::new(Reason::MethodRefused, "TRACE is not served")),
            _ => Ok(Self { method_len: first, target, version }),
        }
    }
}

/// Where the one host lies, with its port.
fn authority(
    raw: &[u8],
    fields: &FieldIndex,
    version: Version,
    from_target: Option<(Range<usize>, Option<u16>)>,
) -> Result<Range<usize>, Refused> {
    let invalid = |detail| Refused::new(Reason::HostInvalid, detail);
    let mut hosts = fields.iter().filter(|field| field.known == Known::Host);
    let field = hosts.next().map(super::fields::Field::value_range);
    if hosts.next().is_some() {
        return Err(invalid("there is more than one Host"));
    }
    match (field, from_target) {
        (Some(field), Some((target, default_port))) => {
            let named =
                read_authority(raw, target).ok_or(invalid("the target's host is not one valid host"))?;
            let host = read_authority(raw, field.clone()).ok_or(invalid(NO_HOST))?;
            if !named.is_same(&host, default_port) {
                let detail = "Host differs from the host of the request target";
                return Err(Refused::new(Reason::HostDiffers, detail));
            }
            Ok(field)
        }
        (Some(field), None) => Ok(field),
        (None, Some((target, _))) if version == Version::Http10 => Ok(target),
        (None, _) => Err(Refused::new(Reason::HostMissing, "there is no Host")),
    }
}

const NO_HOST: &str = "Host is not one valid host";

fn read_authority(raw: &[u8], place: Range<usize>) -> Option<Authority<'_>> {
    Authority::read(std::str::from_utf8(&raw[place]).ok()?)
}

/// The host that lies there, without trailing dot, and its port.
fn host_and_port(raw: &[u8], place: Range<usize>) -> Result<(&str, Option<u16>), Refused> {
    let authority = read_authority(raw, place).ok_or(Refused::new(Reason::HostInvalid, NO_HOST))?;
    Ok((authority.host.strip_suffix('.').unwrap_or(authority.host), authority.port))
}

/// What `Connection` says.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    nominates: bool,
}

impl Connection {
    fn read(fields: &FieldIndex, raw: &[u8]) -> Result<Self, Refused> {
        let mut options = Self::default();
        for option in fields.values(Known::Connection, raw).flat_map(list) {
            if !is_token(option) {
                return Err(Refused::new(Reason::RequestInvalid, "Connection is not a list of tokens"));
            }
            match () {
                () if option.eq_ignore_ascii_case(b"close") => options.close = true,
                () if option.eq_ignore_ascii_case(b"keep-alive") => options.keep_alive = true,
                () if option.eq_ignore_ascii_case(b"upgrade") => options.upgrade = true,
                () => options.nominates = true,
            }
        }
        if options.nominates && fields.octets(Known::Connection, raw) > NOMINATED_BYTES_MAX {
            return Err(Refused::new(
                Reason::HeaderTooLarge,
                "Connection names more fields than are looked for",
            ));
        }
        Ok(options)
    }

    fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

fn expectation(version: Version, body: BodyLength, fields: &FieldIndex, raw: &[u8]) -> Result<bool, Refused> {
    let mut values = fields.values(Known::Expect, raw);
    let Some(first) = values.next() else { return Ok(false) };
    // A second one is a list, and whoever waits must not be taken for one who does not.
    if !first.eq_ignore_ascii_case(b"100-continue") || values.next().is_some() {
        return Err(Refused::new(Reason::ExpectationRefused, "Expect is not `100-continue`, once"));
    }
    // RFC 9110 section 10.1.1: HTTP/1.0 knows no 100, and without a body there is nothing to wait for.
    Ok(version == Version::Http11 && body != BodyLength::Empty)
}

fn takes_trailers(fields: &FieldIndex, raw: &[u8]) -> bool {
    let is_trailers = |coding: &[u8]| {
        let name = coding.split(|b| *b == b';').next().unwrap_or(coding);
        super::syntax::trim(name).eq_ignore_ascii_case(b"trailers")
    };
    fields.values(Known::Te, raw).flat_map(list).any(is_trailers)
}
