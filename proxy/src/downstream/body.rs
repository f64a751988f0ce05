//! The body of a request on its way up: what was taken from the client is kept as long as it may have to be sent again.

use bytes::BytesMut;

use crate::h1::chunked::{ChunkError, Extensions};
use crate::h1::{BodyLength, BodyReader, RequestHead};
use crate::relay::{Piece, take};

/// Most octets kept for another attempt.
const KEPT_BYTES: usize = 64 * 1024;

/// The body of a request.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// Where it is.
    pub(super) reader: BodyReader,
    /// It came chunked, and goes on so.
    pub(super) chunked: bool,
    /// What was taken from the client so far: sent first by each attempt. Complete as long as `repeatable`.
    pub(super) kept: Piece,
    /// Every octet taken is in `kept`.
    pub(super) repeatable: bool,
    /// Further octets are kept, too.
    keeps: bool,
}

impl RequestBody {
    /// Takes what is there of the body already. Further octets are kept only if the request may be sent again.
    pub(super) fn new(head: &RequestHead, buffer: &mut BytesMut) -> Result<Self, ChunkError> {
        let mut reader = BodyReader::new(head.body, Extensions::Refused);
        let kept = match head.body {
            BodyLength::Empty => Piece { ended: true, ..Piece::default() },
            _ => take(&mut reader, buffer),
        };
        if let Some(error) = kept.broken {
            return Err(error);
        }
        let chunked = head.body == BodyLength::Chunked;
        Ok(Self { reader, chunked, kept, repeatable: true, keeps: head.is_idempotent() })
    }

    /// Notes a further piece that is about to be sent.
    pub(super) fn note(kept: &mut Piece, repeatable: &mut bool, keeps: bool, piece: &Piece) {
        if !*repeatable {
            return;
        }
        if !keeps || kept.data.len() + piece.data.len() > KEPT_BYTES {
            (*repeatable, kept.data) = (false, BytesMut::new());
            return;
        }
        kept.data.extend_from_slice(&piece.data);
        kept.ended = piece.ended;
        kept.trailers = piece.trailers.clone();
    }

    /// Whether further pieces are kept.
    pub(super) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Whether all of it has been taken from the client.
    pub(super) fn is_read(&self) -> bool {
        self.reader.is_done()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn body(method: &str, there: &[u8]) -> RequestBody {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        let head = RequestHead::read(Bytes::from(head.into_bytes())).expect("a request");
        RequestBody::new(&head, &mut BytesMut::from(there)).expect("a body")
    }

    fn note(body: &mut RequestBody, octets: usize) {
        let piece = Piece { data: BytesMut::from(&vec![b'x'; octets][..]), ..Piece::default() };
        RequestBody::note(&mut body.kept, &mut body.repeatable, body.keeps, &piece);
    }

    #[test]
    fn a_body_is_kept_up_to_64_kib_and_only_if_the_request_may_be_repeated() {
        let mut put = body("PUT", b"abc");
        note(&mut put, KEPT_BYTES - 3);
        assert!(put.repeatable && put.kept.data.len() == KEPT_BYTES);
        note(&mut put, 1);
        assert!(!put.repeatable && put.kept.data.is_empty());

        let mut post = body("POST", b"abc");
        assert!(post.repeatable, "nothing has been sent yet");
        note(&mut post, 1);
        assert!(!post.repeatable);
    }
}
