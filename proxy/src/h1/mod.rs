//! HTTP/1.1 without sockets: octets in, heads and body steps out (RFC 9112). No runtime in here.
//!
//! - [`scan`] finds the end of a head that may arrive octet by octet, [`fields`] indexes its header fields in place.
//! - [`request`] and [`response`] read the two kinds of head, [`target`] the request target and host.
//! - [`framing`] says how long a body is, [`body`] and [`chunked`] follow it.
//! - [`trailers`] are the fields after a chunked body, [`write`] makes new heads.
//!
//! At the edge a message that two parsers could read differently is refused rather than mended: only CRLF ends a line,
//! nothing is folded, one framing, one host. Answers of instances are read as strictly, except where a mend cannot be
//! seen by others (chunk extensions are dropped, equal lengths collapse).
//!
//! Not here: which fields are passed on (see `forward`), what is answered to a refused request (see `refusal`).

pub mod body;
pub mod chunked;
pub mod fields;
pub mod framing;
pub mod known;
pub mod request;
pub mod response;
pub mod scan;
pub mod syntax;
pub mod target;
pub mod trailers;
pub mod write;

#[cfg(test)]
mod tests;

pub use body::{BodyReader, Step};
pub use fields::{Field, FieldIndex};
pub use framing::BodyLength;
pub use known::Known;
pub use request::{Refused, RequestHead};
pub use response::{InvalidResponse, ResponseHead};
pub use scan::{HeadScanner, Scan};
pub use trailers::Trailers;

/// Most header fields in one message, where nothing else is said.
pub const FIELDS_MAX: usize = 100;

/// Most octets of a head, first line and end included, where nothing else is said.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most octets of a request target, where nothing else is said.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Most octets of `Connection` that name fields: each field is looked for among them.
pub const NOMINATED_BYTES_MAX: usize = 1024;

/// How large the head of a message may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most octets, first line and end included.
    pub bytes: usize,
    /// Most header fields.
    pub fields: usize,
    /// Most octets of a request's target.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: HEAD_BYTES_MAX, fields: FIELDS_MAX, target_bytes: TARGET_BYTES_MAX }
    }
}

/// Most octets of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}
