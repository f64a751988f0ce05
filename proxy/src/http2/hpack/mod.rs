//! Header compression of HTTP/2 (RFC 7541).
//!
//! - [`decode`] reads header blocks, [`encode`] makes them.
//! - [`tables`]: the static table, and the dynamic one of either direction; [`huffman`]: the code of strings.
//!
//! Not here: what fields mean, and which are refused (see `head`).

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod huffman;
mod tables;

/// Size of a dynamic table until a setting says otherwise (RFC 9113 section 6.5.2): ours stay at it, and more is not used of
/// a client's.
pub(crate) const TABLE_BYTES: usize = 4096;
