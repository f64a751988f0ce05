//! Header fields between HTTP/2 and the text of HTTP/1.1 (RFC 9113 sections 8.2 and 8.2.1).
//!
//! Not here: request and status lines (see `request`, `client`), which fields are passed on (see `forward`).

use bytes::Bytes;
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

use crate::h1::fields::FieldError;
use crate::h1::{Known, Trailers};

/// Appends fields as lines, in the order they came, those of one name together, and gives how many lines these are. Crumbs
/// of a cookie become one cookie (RFC 9113 section 8.2.3).
pub(crate) fn push_lines(out: &mut impl Extend, fields: &HeaderMap) -> usize {
    let (mut lines, mut crumbs) = (0, 0);
    for (name, value) in fields {
        if name == COOKIE {
            crumbs += 1;
            if crumbs == 1 {
                push_cookie(out, fields);
            }
        } else {
            push_line(out, name.as_str().as_bytes(), value.as_bytes());
        }
        lines += 1;
    }
    lines + usize::from(crumbs > 0) - crumbs
}

/// Appends one field as a line.
pub(crate) fn push_line(out: &mut impl Extend, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.push_octets(part);
    }
}

fn push_cookie(out: &mut impl Extend, fields: &HeaderMap) {
    out.push_octets(b"cookie: ");
    for (i, crumb) in fields.get_all(COOKIE).iter().enumerate() {
        if i > 0 {
            out.push_octets(b"; ");
        }
        out.push_octets(crumb.as_bytes());
    }
    out.push_octets(b"\r\n");
}

/// Where text is collected.
pub(crate) trait Extend {
    /// Appends octets.
    fn push_octets(&mut self, octets: &[u8]);
}

impl Extend for Vec<u8> {
    fn push_octets(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

impl Extend for bytes::BytesMut {
    fn push_octets(&mut self, octets: &[u8]) {
        self.extend_from_slice(octets);
    }
}

/// The fields of lines that our own code wrote or checked, names in lower case. What speaks of the connection has no place
/// in HTTP/2 (RFC 9113 section 8.2.2) and is left out; so is what is no field at all, which nobody writes.
pub(crate) fn read_lines(lines: &Bytes) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(16);
    let mut at = 0;
    while let Some(len) = memchr::memchr(b'\n', &lines[at..]) {
        let end = at + len;
        if let Some(colon) = memchr::memchr(b':', &lines[at..end]) {
            let name = &lines[at..at + colon];
            let value = trimmed(lines, at + colon + 1, end.saturating_sub(1));
            if !is_of_the_connection(name)
                && let (Ok(name), Ok(value)) =
                    (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value))
            {
                fields.append(name, value);
            }
        }
        at = end + 1;
    }
    fields
}

fn trimmed(lines: &Bytes, mut start: usize, mut end: usize) -> Bytes {
    let blank = |b: u8| matches!(b, b' ' | b'\t');
    while start < end && blank(lines[start]) {
        start += 1;
    }
    while end > start && blank(lines[end - 1]) {
        end -= 1;
    }
    lines.slice(start..end.max(start))
}

/// Whether a field speaks of an HTTP/1.1 connection. `Content-Length` and `TE: trailers` do not.
fn is_of_the_connection(name: &[u8]) -> bool {
    // The lengths of these names: most others are told by theirs.
    matches!(name.len(), 7 | 10 | 14 | 16 | 17)
        && matches!(
            Known::of(name),
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::Http2Settings
        )
}

/// The fields after a body, as far as they may be passed on.
pub(crate) fn trailers(fields: &HeaderMap) -> Result<Trailers, FieldError> {
    let mut section = Vec::with_capacity(128);
    push_lines(&mut section, fields);
    section.extend_from_slice(b"\r\n");
    Trailers::read(&section)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn fields_become_lines_and_cookie_crumbs_one_cookie() {
        let mut out = Vec::new();
        let fields = map(&[("a", "1"), ("cookie", "b=2"), ("c", ""), ("cookie", "d=4"), ("a", "5")]);
        assert_eq!(push_lines(&mut out, &fields), 4);
        assert_eq!(String::from_utf8_lossy(&out), "a: 1\r\na: 5\r\ncookie: b=2; d=4\r\nc: \r\n");
    }

    #[test]
    fn lines_become_fields_without_those_of_the_connection() {
        let lines = Bytes::from_static(
            b"Content-Type:  text/html \r\nSet-Cookie: a\r\nset-cookie: b\r\nConnection: close\r\nKeep-Alive: x\r\n\
            Transfer-Encoding: chunked\r\nProxy-Connection: y\r\nUpgrade: z\r\nEmpty:\r\nX-\xff: no\r\nV: \xe4\r\n",
        );
        let fields = read_lines(&lines);
        let got: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let want: [(&str, &[u8]); 5] = [
            ("content-type", b"text/html"),
            ("set-cookie", b"a"),
            ("set-cookie", b"b"),
            ("empty", b""),
            ("v", b"\xe4"),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn what_may_not_trail_is_left_out_of_trailers() {
        let trailers = trailers(&map(&[("grpc-status", "0"), ("content-length", "5"), ("host", "a")]));
        assert_eq!(trailers.expect("fields").lines(), b"grpc-status: 0\r\n");
    }
}
