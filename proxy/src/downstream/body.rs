//! The body of a request on its way up: what was taken from the client is kept as long as it may have to be sent again.
//!
//! Not here: how the rest of a large one is held back meanwhile (see `held`), when a request is sent again (see `attempt`, `lost`).

use bytes::BytesMut;

use super::mirror::Copying;
use crate::buffers::BUFFER_BYTES;
use crate::h1::chunked::ChunkError;
use crate::h1::{BodyLength, RequestHead, Trailers};
use crate::sides::Piece;

/// Most octets of a body that is kept as long as the request lasts.
const KEPT_BYTES: usize = 64 * 1024;

/// Most octets kept of a larger one, or of one of unknown length, in its beginning: as many as the system of an instance may
/// take of a connection that nobody reads (the receive buffer that each starts with, the second number of
/// `net.ipv4.tcp_rmem`: 128 KiB, of which Linux up to 6.5 offers a half). What goes beyond shows that somebody reads.
const BEGINNING: usize = 128 * 1024;

/// From how many octets on there is room for a whole beginning.
const SMALL: usize = 8 * 1024;

/// What was taken of the body of a request.
#[derive(Debug)]
pub(super) struct Kept {
    /// It came with chunks, or without a length: it goes on so.
    pub(super) chunked: bool,
    /// What was there when the head was: sent first by each attempt.
    pub(super) first: Piece,
    /// What was taken later: sent next. Complete as long as `repeatable`.
    later: BytesMut,
    later_trailers: Option<Trailers>,
    ended: bool,
    /// Every octet taken is kept.
    pub(super) repeatable: bool,
    /// How long it is was known at first, and that is not too much to keep all of it.
    fits: bool,
    /// Gets what is taken, too.
    pub(super) copying: Option<Box<Copying>>,
}

impl Kept {
    /// Of the request whose body starts with `first`.
    pub(super) fn new(head: &RequestHead, first: Piece) -> Result<Self, ChunkError> {
        if let Some(error) = first.broken {
            return Err(error);
        }
        Ok(Self {
            chunked: head.body.is_chunked(),
            later: BytesMut::new(),
            later_trailers: None,
            ended: first.ended,
            fits: first.ended
                || matches!(head.body, BodyLength::Exactly(octets) if octets <= KEPT_BYTES as u64),
            first,
            repeatable: true,
            copying: None,
        })
    }

    /// Whether all of it is here or will certainly be kept when it comes: how long it is was said, and that is not too much.
    pub(super) fn will_be_whole(&self) -> bool {
        self.fits
    }

    /// The whole body of a request that is sent once more.
    pub(super) fn whole(body: Piece, chunked: bool) -> Self {
        Self {
            chunked,
            first: body,
            later: BytesMut::new(),
            later_trailers: None,
            ended: true,
            repeatable: true,
            fits: true,
            copying: None,
        }
    }

    /// Notes a further piece that is about to be sent.
    pub(super) fn note(&mut self, piece: &Piece) {
        if self.copying.is_some() {
            self.copying = self.copying.take().and_then(|copying| copying.take(piece));
        }
        if !self.repeatable {
            return;
        }
        // One that is not small is large: to grow by doubling would copy it once more.
        if !self.fits && self.later.len() + piece.data.len() > SMALL && self.later.capacity() < BEGINNING {
            // And the piece that waits behind it.
            self.later.reserve(BEGINNING + BUFFER_BYTES - self.later.len());
        }
        self.later.extend_from_slice(&piece.data);
        self.ended = piece.ended;
        self.later_trailers = piece.trailers.clone();
    }

    /// Whether no more is to be kept: the next piece waits until the instance has taken all of this, and then nothing is.
    pub(super) fn is_enough(&self) -> bool {
        self.octets() >= BEGINNING as u64
    }

    /// Keeps nothing any more: the request cannot be sent again.
    pub(super) fn let_go(&mut self) {
        self.repeatable = false;
        (self.first, self.later, self.later_trailers) = (Piece::default(), BytesMut::new(), None);
    }

    /// What was taken after the first piece, if anything.
    pub(super) fn later(&self) -> Option<Piece> {
        if self.later.is_empty() && self.ended == self.first.ended {
            return None;
        }
        let (data, trailers) = (self.later.clone().freeze(), self.later_trailers.clone());
        Some(Piece { data, ended: self.ended, trailers, broken: None })
    }

    /// Octets that are kept.
    pub(super) fn octets(&self) -> u64 {
        (self.first.data.len() + self.later.len()) as u64
    }

    /// Whether the whole body is kept.
    pub(super) fn has_end(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn body(method: &str, first: &'static [u8]) -> Kept {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        let head = RequestHead::read(Bytes::from(head.into_bytes())).expect("a request");
        let first = Piece { data: Bytes::from_static(first), ..Piece::default() };
        Kept::new(&head, first).expect("a body")
    }

    fn piece(octets: usize) -> Piece {
        Piece { data: vec![b'x'; octets].into(), ..Piece::default() }
    }

    #[test]
    fn a_body_is_kept_until_it_is_let_go_with_the_piece_that_is_too_much() {
        for method in ["PUT", "POST"] {
            let mut kept = body(method, b"abc");
            kept.note(&piece(BEGINNING - 3));
            assert!(kept.is_enough());
            kept.note(&piece(1));
            let later = kept.later().expect("it was kept");
            assert!(kept.is_enough() && kept.first.data.len() + later.data.len() == BEGINNING + 1);
            kept.let_go();
            assert!(!kept.repeatable && kept.first.data.is_empty() && kept.later().is_none());
            kept.note(&piece(1));
            assert!(!kept.is_enough() && kept.octets() == 0, "nothing is kept behind a gap");
        }
    }

    #[test]
    fn what_will_be_kept_whole_is_known_before_it_comes() {
        let length = |text: &str| {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{text}\r\n\r\n");
            let head = RequestHead::read(Bytes::from(head.into_bytes())).expect("a request");
            let ended = head.body == BodyLength::Empty;
            let first = Piece { ended, ..Piece::default() };
            Kept::new(&head, first).expect("a body").will_be_whole()
        };
        for (text, want) in [
            ("Content-Length: 0", true),
            ("Content-Length: 65536", true),
            ("Content-Length: 65537", false),
            ("Transfer-Encoding: chunked", false),
        ] {
            assert_eq!(length(text), want, "{text}");
        }
    }

    #[test]
    fn an_end_that_comes_alone_is_kept_too() {
        let mut put = body("PUT", b"abc");
        assert!(put.later().is_none() && !put.has_end());
        put.note(&Piece { ended: true, ..Piece::default() });
        assert!(put.later().is_some_and(|later| later.ended && later.data.is_empty()) && put.has_end());
    }
}
