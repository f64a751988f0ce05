//! One request and its answer, as the connection and whoever serves it both see it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::connection::Connection;
use super::frame::Code;
use crate::h1::Trailers;
use crate::h1::fields::FieldError;

/// Why nothing more is sent or taken on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The client has taken its request back.
    ByClient,
    /// The client has broken the rules.
    Broken,
    /// The connection is no more.
    Lost,
    /// We have said all that is to be said.
    ByUs,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Its number.
    pub(super) id: u32,
    /// Octets that the client takes.
    pub(super) window: Cell<i64>,
    pub(super) ended: Cell<Option<Ended>>,
    /// Our direction has ended.
    pub(super) is_said: Cell<bool>,
    /// It waits for its turn to send.
    pub(super) queued: Cell<bool>,
    pub(super) body: RefCell<Received>,
    waker: RefCell<Option<Waker>>,
}

/// What has come of a body and was not taken yet.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) data: BytesMut,
    /// Small frames among it.
    pub(super) crumbs: u32,
    /// All of it has come.
    pub(super) is_whole: bool,
    pub(super) trailers: Option<Result<Trailers, FieldError>>,
    /// Octets that the client may still send.
    pub(super) window: i64,
    /// Octets that were taken and not given back to the window.
    pub(super) taken: i64,
    /// Octets that are still to come, where the head says how many.
    pub(super) length_left: Option<u64>,
    /// The connection has its window back, whatever is still here.
    pub(super) is_forgotten: bool,
}

/// What there is of a body.
#[derive(Debug)]
pub(crate) enum There {
    /// These octets, and more may come.
    Some(Bytes),
    /// These are the last; with what trails.
    Last(Bytes, Option<Result<Trailers, FieldError>>),
    /// It broke off.
    Cut,
}

impl Stream {
    pub(super) fn new(id: u32, window: i64, receives: i64, length: Option<u64>, is_whole: bool) -> Rc<Self> {
        Rc::new(Self {
            id,
            window: Cell::new(window),
            ended: Cell::new(None),
            is_said: Cell::new(false),
            queued: Cell::new(false),
            body: RefCell::new(Received {
                data: BytesMut::new(),
                crumbs: 0,
                is_whole,
                trailers: None,
                window: receives,
                taken: 0,
                length_left: length,
                is_forgotten: false,
            }),
            waker: RefCell::new(None),
        })
    }

    /// Whoever serves it is polled again.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// It is served by one task, so one waker is enough.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Ends it, unless it has ended.
    pub(super) fn end(&self, how: Ended) {
        if self.ended.get().is_none() {
            self.ended.set(Some(how));
            self.wake();
        }
    }
}

/// A stream of a connection, in the hands of whoever serves it.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(super) connection: Rc<Connection>,
    pub(super) stream: Rc<Stream>,
}

impl Handle {
    pub(super) fn new(connection: Rc<Connection>, stream: Rc<Stream>) -> Self {
        Self { connection, stream }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.stream.ended.get()
    }

    /// Ready once nobody takes an answer any more.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        if self.stream.ended.get().is_some() {
            return Poll::Ready(());
        }
        self.stream.listen(cx);
        Poll::Pending
    }

    /// What there is of the body. Octets that are taken may be sent anew.
    pub(crate) fn take(&self) -> There {
        self.connection.take(&self.stream)
    }

    /// Ready once there is something of the body, or its end.
    pub(crate) fn poll_there(&self, cx: &Context<'_>) -> Poll<()> {
        let body = self.stream.body.borrow();
        if !body.data.is_empty() || body.is_whole || self.stream.ended.get().is_some() {
            return Poll::Ready(());
        }
        self.stream.listen(cx);
        Poll::Pending
    }

    /// Why the body breaks off here, if it does.
    pub(crate) fn cut(&self) -> Option<Ended> {
        let body = self.stream.body.borrow();
        self.stream.ended.get().filter(|_| body.data.is_empty() && !body.is_whole)
    }

    /// Ends the stream with a reset that says why, if it has not ended.
    pub(crate) fn reset(&self, code: Code) {
        self.connection.reset(&self.stream, code);
    }

    /// Nobody serves it any more: what is missing is cut.
    pub(crate) fn finish(&self) {
        // An answer that came whole before the request did is a good one (RFC 9113 section 8.1).
        self.reset(if self.stream.is_said.get() { Code::NoError } else { Code::Cancel });
    }
}
