//! The connection under `h2`: what `h2` writes is collected and goes out with one system call when the connection's task
//! has nothing more to do in its turn; what it reads is watched for floods.
//!
//! hyper, and `h2` alone, write whenever a stream has something: two writes per request under load, where one per turn will
//! do. Not here: connections of clients (see `downstream::http2`).

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::calm::{Calm, Seen};
use super::sent::Sent;
use crate::stream::{Duplex, Stream};
use crate::turn;
use crate::worker::Worker;

/// Octets that wait to be written before `h2` is asked to wait, too.
const WAITING_MAX: usize = 64 * 1024;

/// Reads in one turn, so that somebody who sends without end does not keep the worker from others.
const READS_MAX: u32 = 32;

/// One connection.
pub(crate) struct Wire<S> {
    io: Duplex<S>,
    worker: Rc<Worker>,
    out: RefCell<Out>,
    calm: RefCell<Calm>,
    reads_left: Cell<u32>,
    /// Nothing more was there in this turn.
    dry: Cell<bool>,
    received: Cell<Instant>,
    /// Octets of this stream, the last one opened then, may have gone out.
    gone_out: Cell<u32>,
    sent: Sent,
}

/// What waits to be written.
#[derive(Default)]
struct Out {
    waiting: BytesMut,
    /// `h2` waits for room.
    is_full: bool,
    /// Since when the other side takes nothing.
    stalled: Option<Instant>,
}

impl<S: Stream> Wire<S> {
    /// Over this connection.
    pub(crate) fn new(stream: S, worker: Rc<Worker>, calm: Calm) -> Rc<Self> {
        Rc::new(Self {
            io: Duplex::new(stream),
            worker,
            out: RefCell::default(),
            calm: RefCell::new(calm),
            received: Cell::new(turn::now()),
            reads_left: Cell::new(READS_MAX),
            dry: Cell::new(false),
            gone_out: Cell::new(0),
            sent: Sent::default(),
        })
    }

    /// A turn of the one task that reads starts: so much may be read.
    pub(crate) fn start_turn(&self) {
        self.reads_left.set(READS_MAX);
        self.dry.set(false);
    }

    /// Writes what waits, as far as the other side takes it. Ready once nothing waits.
    pub(crate) fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.out.borrow_mut();
        let Out { waiting, is_full, stalled } = &mut *out;
        while !waiting.is_empty() {
            let Poll::Ready(written) = self.io.with(|io| Pin::new(io).poll_write(cx, waiting)) else {
                stalled.get_or_insert_with(turn::now);
                return Poll::Pending;
            };
            match written? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                octets => waiting.advance(octets),
            }
            self.gone_out.set(self.seen().opened);
            *stalled = None;
            if *is_full && waiting.len() < WAITING_MAX {
                *is_full = false;
                cx.waker().wake_by_ref();
            }
        }
        if waiting.capacity() > 0 {
            self.worker.buffers.give_back(std::mem::take(waiting));
        }
        self.io.with(|io| Pin::new(io).poll_flush(cx))
    }

    /// When somebody who takes nothing for so long is given up.
    pub(crate) fn stalled_limit(&self, patience: Duration) -> Option<Instant> {
        self.out.borrow().stalled.map(|since| since + patience)
    }

    /// What the other side sends too much of, if anything.
    pub(crate) fn flood(&self) -> Option<&'static str> {
        self.calm.borrow().flood()
    }

    /// When the other side was heard of last.
    pub(crate) fn received(&self) -> Instant {
        self.received.get()
    }

    /// Whether nothing of this stream, which we opened, has gone out.
    pub(crate) fn holds_back(&self, stream: u32) -> bool {
        self.gone_out.get() < stream
    }

    /// Whether the other side had ended the connection before its system had anything of this stream.
    pub(crate) fn came_late(&self, stream: u32) -> bool {
        self.sent.came_late(stream)
    }

    /// What is known of the frames that have come, and gone.
    pub(crate) fn seen(&self) -> Seen {
        self.calm.borrow().seen()
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.flood().is_some() {
            // Nothing more is read from it; the connection ends with this turn.
            return Poll::Pending;
        } else if self.dry.get() {
            // `h2` asks again for each request that it gives out. Whoever asked first is woken when more comes.
            return Poll::Pending;
        } else if let Some(left) = self.reads_left.get().checked_sub(1) {
            let read = self.io.with(|io| Pin::new(io).poll_read(cx, buffer));
            self.dry.set(read.is_pending());
            ready!(read)?;
            self.reads_left.set(left);
            if buffer.filled().len() == before && buffer.remaining() > 0 {
                let waiting = self.out.borrow().waiting.len();
                self.sent.ended(waiting, |octets| self.io.took_none_of(octets));
            }
        } else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let now = turn::now();
        self.received.set(now);
        self.calm.borrow_mut().received(&buffer.filled()[before..], now);
        Poll::Ready(Ok(()))
    }

    /// Takes all of it, unless too much waits already.
    fn poll_write<'o>(
        &self,
        cx: &mut Context<'_>,
        parts: impl Iterator<Item = &'o [u8]>,
    ) -> Poll<io::Result<usize>> {
        if self.out.borrow().waiting.len() >= WAITING_MAX {
            let written = self.poll_out(cx)?;
            let mut out = self.out.borrow_mut();
            if written.is_pending() && out.waiting.len() >= WAITING_MAX {
                out.is_full = true;
                return Poll::Pending;
            }
        }
        let mut out = self.out.borrow_mut();
        if out.waiting.is_empty() {
            out.waiting = self.worker.buffers.lend();
        }
        let mut calm = self.calm.borrow_mut();
        let mut taken = 0;
        for part in parts {
            out.waiting.extend_from_slice(part);
            calm.sent(part);
            taken += part.len();
        }
        self.sent.add(taken, calm.seen().opened);
        Poll::Ready(Ok(taken))
    }
}

/// The connection as `h2` sees it.
pub(crate) struct Handle<S>(pub(crate) Rc<Wire<S>>);

impl<S: Stream> AsyncRead for Handle<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buffer)
    }
}

impl<S: Stream> AsyncWrite for Handle<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, std::iter::once(octets))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, parts.iter().map(|part| &**part))
    }

    /// Bodies come as parts of their own, rather than through another buffer of `h2`.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_out(cx))?;
        self.0.io.with(|io| Pin::new(io).poll_shutdown(cx))
    }
}
