//! What of gRPC both ends of a test need: messages of any octets, and the status of a call
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). No protobuf: a message here is what it is.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyper::HeaderMap;

/// The content type of a call and of its answer.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Octets in front of a message: not compressed, and its length.
const PREFIX: usize = 5;

/// A message as it is sent.
///
/// # Panics
/// With 4 GiB or more.
pub fn message(octets: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + octets.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(octets.len()).expect("messages of tests are small"));
    framed.put_slice(octets);
    framed.freeze()
}

/// Messages that arrive in pieces.
#[derive(Debug, Default)]
pub struct Messages(BytesMut);

impl Messages {
    /// Takes the next octets of the body.
    pub fn push(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    /// The next message, once it is whole.
    pub fn pop(&mut self) -> Option<Bytes> {
        let prefix: [u8; PREFIX] = self.0.get(..PREFIX)?.try_into().ok()?;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.0.len() < PREFIX + length {
            return None;
        }
        self.0.advance(PREFIX);
        Some(self.0.split_to(length).freeze())
    }
}

/// How a call ended, by its trailers, or by its head if that is all there is; `None`: they do not say.
pub fn status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let sent: Vec<&[u8]> = vec![b"one", b"", b"three"];
        let octets: Vec<u8> = sent.iter().flat_map(|octets| message(octets)).collect();
        for size in 1..=octets.len() {
            let (mut messages, mut got) = (Messages::default(), Vec::new());
            for piece in octets.chunks(size) {
                messages.push(piece);
                got.extend(std::iter::from_fn(|| messages.pop()));
            }
            assert_eq!(got, sent, "in pieces of {size}");
        }
    }
}
