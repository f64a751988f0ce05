//! The beginning of a large body: kept, and the rest held back, until the instance has taken more than its system alone could.
//!
//! A connection that waits in the queue of a listener is established, and the system of the instance takes what is sent on
//! it, as much as its receive buffer has room for. When the listener is closed, all that is lost, and a reset tells so. As
//! long as the whole of what was sent is kept, and the end of the request has not been sent, it can go elsewhere.
//!
//! Costs a large request the copying of its beginning and two system calls, some more if it has to wait; a small one nothing. Not here: how much is kept
//! (see `body`), what shows that a request was lost (see `lost`).

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use super::body::Kept;
use super::exchange::Seen;
use crate::deadline::wait;
use crate::reason::Reason;
use crate::sides::{Flow, Piece, Sink};

/// Where the rest of a large body goes, by way of what is kept of it.
pub(super) struct Held<'a, O> {
    origin: &'a O,
    kept: RefCell<&'a mut Kept>,
    seen: &'a Seen,
    /// How long the instance may take nothing of what is held back.
    patience: Duration,
}

impl<'a, O: Sink> Held<'a, O> {
    pub(super) fn new(origin: &'a O, kept: &'a mut Kept, seen: &'a Seen, patience: Duration) -> Self {
        Self { origin, kept: RefCell::new(kept), seen, patience }
    }

    /// Notes the piece; whether it must wait.
    fn note(&self, piece: &Piece) -> bool {
        let mut kept = self.kept.borrow_mut();
        // Nothing is sent again behind an answer; and an instance that answers need not read to the end.
        if kept.repeatable && self.seen.first_byte.get().is_some() {
            kept.let_go();
        }
        // What was sent before counts: with less than that a system might have had room for all of it.
        let waits = kept.is_enough();
        kept.note(piece);
        waits
    }
}

impl<O: Sink> Sink for Held<'_, O> {
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        if self.note(piece) {
            // A body that the system would have taken whole was waited for no longer than for its answer.
            wait(flow.waits, self.patience.min(flow.patience), Reason::UpstreamTimeout);
            self.origin.has_room().await?;
            self.kept.borrow_mut().let_go();
        }
        self.origin.write(head, piece, flow).await
    }

    async fn end(&self) -> io::Result<()> {
        self.origin.end().await
    }
}
