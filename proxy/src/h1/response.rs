//! The head of an instance's answer, read strictly, left where it lies.
//!
//! Not here: which fields are passed on (see `forward`).

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use super::fields::FieldIndex;
use super::framing::{FramingError, ResponseFraming, of_response};
use super::known::Known;
use super::scan::ScanError;
use super::syntax::{decimal, is_field_value, is_token, list};
use super::{NOMINATED_BYTES_MAX, Version};

/// Why an answer cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidResponse(pub &'static str);

impl From<ScanError> for InvalidResponse {
    fn from(error: ScanError) -> Self {
        Self(match error {
            ScanError::BareLf => "a line of the answer's header is not ended by CRLF",
            ScanError::TooLarge => "the answer's header has more than 100 fields or 64 KiB",
        })
    }
}

impl From<FramingError> for InvalidResponse {
    fn from(error: FramingError) -> Self {
        Self(error.text())
    }
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    raw: Bytes,
    reason: Range<usize>,
    /// The status, 100 to 999.
    pub status: u16,
    /// The version it was sent in.
    pub version: Version,
    /// The fields.
    pub fields: FieldIndex,
    /// How long its body is.
    pub framing: ResponseFraming,
    /// Whether the connection may carry another request afterwards.
    pub keep_alive: bool,
    /// For how long the instance keeps an idle connection, if it says so (`Keep-Alive: timeout=`).
    pub keep_alive_timeout: Option<Duration>,
    /// `Connection` names further fields.
    pub nominates: bool,
}

impl ResponseHead {
    /// Whether an answer can start with these octets. What cannot is another protocol, and waiting for its end is in vain.
    pub fn may_start(octets: &[u8]) -> Result<(), InvalidResponse> {
        let start = b"HTTP/1.";
        let common = octets.len().min(start.len());
        if octets[..common] == start[..common] {
            return Ok(());
        }
        Err(InvalidResponse("the answer does not start with a status line of HTTP/1"))
    }

    /// Reads a whole head, from its first octet to its empty line: the answer to a HEAD request if `to_head`.
    pub fn read(raw: Bytes, to_head: bool) -> Result<Self, InvalidResponse> {
        let line_end = memchr::memchr(b'\n', &raw).unwrap_or(raw.len());
        let (version, status, reason) = status_line(&raw[..line_end.saturating_sub(1)])?;
        let fields = FieldIndex::read(&raw, (line_end + 1).min(raw.len())..raw.len().saturating_sub(2))
            .map_err(|error| InvalidResponse(error.text()))?;
        let framing = of_response(version, status, to_head, &fields, &raw)?;
        let (mut close, mut keep, mut nominates) = (false, false, false);
        for option in fields.values(Known::Connection, &raw).flat_map(list) {
            if !is_token(option) {
                return Err(InvalidResponse("Connection is not a list of tokens"));
            }
            match () {
                () if option.eq_ignore_ascii_case(b"close") => close = true,
                () if option.eq_ignore_ascii_case(b"keep-alive") => keep = true,
                () if option.eq_ignore_ascii_case(b"upgrade") => {}
                () => nominates = true,
            }
        }
        if nominates && fields.octets(Known::Connection, &raw) > NOMINATED_BYTES_MAX {
            return Err(InvalidResponse("Connection names more fields than are looked for"));
        }
        let keep_alive = !close && (version == Version::Http11 || keep) && !framing.doubtful;
        let keep_alive_timeout = fields.first(Known::KeepAlive, &raw).and_then(timeout);
        Ok(Self { reason, status, version, fields, framing, keep_alive, keep_alive_timeout, nominates, raw })
    }

    /// The octets of the head, which the fields refer to.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The text behind the status, often empty.
    pub fn reason(&self) -> &[u8] {
        &self.raw[self.reason.clone()]
    }

    /// The values of a known field.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.values(known, &self.raw)
    }

    /// The values of a field by its name, in any case.
    pub fn named(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        let fields = self.fields.iter().filter(move |field| field.name(&self.raw).eq_ignore_ascii_case(name));
        fields.map(|field| field.value(&self.raw))
    }

    /// Whether `Connection` names this field, in any case.
    pub fn is_nominated(&self, name: &[u8]) -> bool {
        self.nominates
            && self.values(Known::Connection).flat_map(list).any(|option| option.eq_ignore_ascii_case(name))
    }

    /// Whether this answer comes before the one that counts: 100 to 199 but 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

fn status_line(line: &[u8]) -> Result<(Version, u16, Range<usize>), InvalidResponse> {
    let invalid = InvalidResponse("the answer does not start with a status line");
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::Http11,
        Some(b"HTTP/1.0 ") => Version::Http10,
        _ => return Err(invalid),
    };
    let status = match line.get(9..12).and_then(decimal) {
        Some(number @ 100..=999) => number as u16,
        _ => return Err(invalid),
    };
    // Some servers leave out the space before an empty reason.
    let reason = match line.get(12) {
        None => 12..12,
        Some(b' ') => 13..line.len(),
        Some(_) => return Err(invalid),
    };
    if !is_field_value(&line[reason.clone()]) {
        return Err(invalid);
    }
    Ok((version, status, reason))
}

/// `timeout=5, max=100`
fn timeout(value: &[u8]) -> Option<Duration> {
    let seconds = list(value).find_map(|parameter| parameter.strip_prefix(b"timeout="))?;
    decimal(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::BodyLength;

    fn read(text: &str) -> Result<ResponseHead, InvalidResponse> {
        ResponseHead::read(Bytes::copy_from_slice(text.as_bytes()), false)
    }

    #[test]
    fn a_status_line_has_three_digits_and_perhaps_a_reason() {
        for (line, want) in [
            ("HTTP/1.1 200 OK", (200, "OK")),
            ("HTTP/1.1 204 ", (204, "")),
            ("HTTP/1.1 404", (404, "")),
            ("HTTP/1.0 500 It broke, sorry", (500, "It broke, sorry")),
        ] {
            let head = read(&format!("{line}\r\n\r\n")).expect(line);
            assert_eq!((head.status, head.reason()), (want.0, want.1.as_bytes()), "{line}");
        }
        for line in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/2.0 200 OK",
            "HTTP/1.2 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1 200 O\0K",
            "HTTP/1.1 200 a\rb",
            "ICY 200 OK",
            "",
        ] {
            assert!(read(&format!("{line}\r\n\r\n")).is_err(), "{line}");
        }
    }

    #[test]
    fn what_can_become_no_answer_is_told_by_its_first_octets() {
        for start in ["", "H", "HTTP", "HTTP/1.", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(ResponseHead::may_start(start.as_bytes()), Ok(()), "{start}");
        }
        for start in ["h", "\0", "\r\n", "HTTP 1", "HTTP/2", "HTTQ", "SSH-2.0"] {
            assert!(ResponseHead::may_start(start.as_bytes()).is_err(), "{start}");
        }
    }

    #[test]
    fn a_connection_is_kept_when_version_and_options_say_so() {
        let keep = |version: &str, fields: &str| {
            read(&format!("HTTP/{version} 200 OK\r\n{fields}\r\n")).expect("an answer").keep_alive
        };
        assert!(keep("1.1", "Content-Length: 0\r\n"));
        assert!(!keep("1.1", "Connection: Close\r\n"));
        assert!(!keep("1.0", ""));
        assert!(keep("1.0", "Connection: Keep-Alive\r\n"));
        assert!(!keep("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), "framed twice");
    }

    #[test]
    fn the_instances_own_idle_time_is_read() {
        let head = read("HTTP/1.1 200 OK\r\nKeep-Alive: max=100, timeout=5\r\n\r\n").expect("an answer");
        assert_eq!(head.keep_alive_timeout, Some(Duration::from_secs(5)));
        assert_eq!(head.framing.length, BodyLength::UntilClose);
    }
}
