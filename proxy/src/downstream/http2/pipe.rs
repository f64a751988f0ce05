//! The octets of a client's connection that speaks HTTP/2: what comes lies in a buffer that is lent while something is there,
//! and what is to be said goes with one system call as long as the client takes it.
//!
//! Not here: what the octets mean (see `crate::http2`), when they are read and written (see `serving`).

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::buffers::make_room;
use crate::stream::{Duplex, Stream};
use crate::turn;
use crate::worker::Worker;

/// Reads in one turn, so that somebody who sends without end does not keep the worker from others.
const READS_MAX: u32 = 32;

/// A client's connection.
pub(super) struct Pipe<S> {
    io: Duplex<S>,
    worker: Rc<Worker>,
    /// What was read and means nothing yet.
    pub(super) unread: BytesMut,
    reads_left: u32,
    /// Nothing more was there in this turn.
    is_dry: bool,
    /// Since when the client takes nothing.
    stalled: Option<Instant>,
}

impl<S: Stream> Pipe<S> {
    /// Over this connection, from which `early` was read already.
    pub(super) fn new(stream: S, early: BytesMut, worker: Rc<Worker>) -> Self {
        let io = Duplex::new(stream);
        Self { io, worker, unread: early, reads_left: READS_MAX, is_dry: false, stalled: None }
    }

    /// A turn starts: so much may be read.
    pub(super) fn start_turn(&mut self) {
        self.reads_left = READS_MAX;
        self.is_dry = false;
    }

    /// Whether all that may be read in this turn has been: the rest is for the next one.
    pub(super) fn has_read_enough(&self) -> bool {
        self.reads_left == 0
    }

    /// Reads what is there; 0 is the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_dry {
            return Poll::Pending;
        }
        let Some(left) = self.reads_left.checked_sub(1) else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let read = self.poll_some(cx);
        self.is_dry = read.is_pending();
        if read.is_ready() {
            self.reads_left = left;
        }
        read
    }

    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.unread.capacity() == 0 {
            ready!(self.io.poll_readable(cx))?;
            self.unread = self.worker.buffers.lend();
        } else {
            make_room(&mut self.unread);
        }
        pin!(self.io.read(&mut self.unread)).poll(cx)
    }

    /// Writes what waits, as far as the client takes it. Ready once nothing waits.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, waiting: &mut Vec<u8>) -> Poll<io::Result<()>> {
        while !waiting.is_empty() {
            let Poll::Ready(written) = self.io.with(|io| Pin::new(io).poll_write(cx, waiting)) else {
                self.stalled.get_or_insert_with(turn::now);
                return Poll::Pending;
            };
            match written? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                octets => drop(waiting.drain(..octets)),
            }
            self.stalled = None;
        }
        self.io.with(|io| Pin::new(io).poll_flush(cx))
    }

    /// Memory for what is to be said.
    pub(super) fn lend(&self, waiting: &mut Vec<u8>) {
        if waiting.capacity() == 0 {
            *waiting = self.worker.buffers.lend_out();
        }
    }

    /// Gives back the memory that nothing lies in.
    pub(super) fn rest(&mut self, waiting: &mut Vec<u8>) {
        if self.unread.is_empty() {
            self.worker.buffers.give_back(std::mem::take(&mut self.unread));
        }
        if waiting.is_empty() {
            self.worker.buffers.give_back_out(std::mem::take(waiting));
        }
    }

    /// When a client that takes nothing for so long is given up.
    pub(super) fn stalled_limit(&self, patience: Duration) -> Option<Instant> {
        self.stalled.map(|since| since + patience)
    }

    /// Reads and forgets for a while after the end, so that our last word is not lost: octets that arrive at a closed socket
    /// would make the system reset the connection.
    pub(super) async fn linger(&mut self, longest: Duration, mut octets: usize) {
        let drained = async {
            while octets > 0 {
                self.unread.clear();
                make_room(&mut self.unread);
                match self.io.read(&mut self.unread).await {
                    Ok(0) | Err(_) => break,
                    Ok(read) => octets = octets.saturating_sub(read),
                }
            }
        };
        // Whoever still sends after that has been told.
        let _ = tokio::time::timeout(longest, drained).await;
    }
}

impl<S> Drop for Pipe<S> {
    fn drop(&mut self) {
        self.worker.buffers.give_back(std::mem::take(&mut self.unread));
    }
}
