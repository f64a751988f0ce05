//! The fields after a chunked body, as far as they may be passed on (RFC 9110 section 6.5).

use super::fields::{FieldError, FieldIndex};
use super::known::Known;
use super::syntax::is_token_octet;

/// Trailer fields in the order sent, without those that must not stand there: framing, routing, authentication, and
/// where a request came from. Another hop may merge trailers into the header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trailers {
    /// Whole lines, each ended by CRLF.
    lines: Vec<u8>,
}

impl Trailers {
    /// Reads a trailer section, its empty line included.
    pub fn read(section: &[u8]) -> Result<Self, FieldError> {
        let end = section.len().saturating_sub(2);
        let mut lines = Vec::new();
        for field in FieldIndex::read(section, 0..end)?.iter() {
            let name = field.name(section);
            if field.known.may_trail() && !is_alias(name) {
                for part in [name, b": ", field.value(section), b"\r\n"] {
                    lines.extend_from_slice(part);
                }
            }
        }
        Ok(Self { lines })
    }

    /// Whether nothing is to be passed on.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whole lines, each ended by CRLF, without the empty one.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

/// Whether a name stands for another one to programs that cannot tell `_` from `-` (CGI and its heirs).
pub fn is_alias(name: &[u8]) -> bool {
    debug_assert!(name.iter().all(|b| is_token_octet(*b)), "a field name");
    if !name.contains(&b'_') || name.len() > Known::LONGEST {
        return false;
    }
    let mut plain = [0; Known::LONGEST];
    for (slot, octet) in plain.iter_mut().zip(name) {
        *slot = if *octet == b'_' { b'-' } else { *octet };
    }
    let known = Known::of(&plain[..name.len()]);
    known.is_forwarding()
        || known.is_hop_by_hop()
        || matches!(known, Known::Host | Known::Proxy | Known::XFairwayMirror)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_frame_route_or_authenticate_do_not_trail() {
        let section =
            b"grpc-status: 0\r\nContent-Length: 5\r\nHost: a\r\nX-Forwarded-For: 1\r\nx_forwarded_for: 1\r\n\
            Authorization: x\r\nTransfer-Encoding: chunked\r\nServer-Timing: db;dur=1\r\n\r\n";
        let trailers = Trailers::read(section).expect("a trailer section");
        assert_eq!(trailers.lines(), b"grpc-status: 0\r\nServer-Timing: db;dur=1\r\n");
    }

    #[test]
    fn an_underscore_is_seen_through() {
        for (name, want) in [
            ("X_Forwarded_For", true),
            ("x-forwarded_proto", true),
            ("transfer_encoding", true),
            ("x_real_ip", true),
            ("x_client_cert_fingerprint", true),
            ("x_fairway_mirror", true),
            ("X-Forwarded-For", false),
            ("my_field", false),
            ("_", false),
        ] {
            assert_eq!(is_alias(name.as_bytes()), want, "{name}");
        }
    }
}
