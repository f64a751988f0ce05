//! The client's side of a copy: it has sent everything, and throws away what comes, up to a bound.

use std::cell::Cell;
use std::io;
use std::task::{Context, Poll};

use crate::h1::{BodyLength, Version};
use crate::sides::{Downstream, Flow, Piece, Sink, Source, SourceError};

/// Most octets of an answer that are read: so many are as good as all, and its connection may be used again.
const ANSWER_MAX: usize = 1024 * 1024;

/// Reads answers away.
#[derive(Debug, Default)]
pub(super) struct Nobody {
    octets: Cell<usize>,
}

impl Sink for Nobody {
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        self.octets.set(self.octets.get() + head.len() + piece.data.len());
        if self.octets.get() > ANSWER_MAX {
            return Err(io::Error::other("enough of it has been read"));
        }
        flow.done(piece.data.len());
        Ok(())
    }

    async fn end(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Downstream for Nobody {
    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_left(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_broken(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn framing(&self, _: Version, length: BodyLength) -> BodyLength {
        length
    }

    fn cut(&self, _: BodyLength) {}
}

/// Where nothing more comes from: the whole body is kept already.
#[derive(Debug)]
pub(super) struct Nothing;

impl Source for Nothing {
    async fn there(&mut self) -> Piece {
        Piece { ended: true, ..Piece::default() }
    }

    async fn more(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    fn is_done(&self) -> bool {
        true
    }

    fn rest(&mut self) {}

    fn become_raw(&mut self) {}
}
