//! One HTTP/2 connection to an instance, shared by the requests of a worker: its handshake, its task, its end.
//!
//! The task reads what comes, hands it to the streams that wait for it, and writes once in each turn what they and `h2`
//! have to say. Not here: which connection a request takes (see `channels`), what is said on a stream (see
//! `sides::http2::origin`).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use tokio::time::Instant;

use super::ConnectError;
use super::link::Link;
use crate::sides::http2::calm::Calm;
use crate::sides::http2::wire::{Handle, Wire};
use crate::turn;
use crate::worker::Worker;

/// Most streams of ours on one connection, whatever the instance allows: a slow one among them holds its window of the
/// connection, so all windows together are the memory that a connection can cost.
pub(super) const STREAMS_MAX: usize = 100;

/// Octets of one answer's body that may be on their way to us.
const STREAM_WINDOW: u32 = 128 * 1024;

/// Of all of them: as much as all streams may use, so that clients that read slowly hold up nobody else.
const CONNECTION_WINDOW: u32 = STREAMS_MAX as u32 * STREAM_WINDOW;

/// Octets of one request that wait in `h2` beside those on their way.
const SEND_BUFFER: usize = 64 * 1024;

/// Largest header of an answer as `h2` counts it, more than the reader of heads takes.
const HEADER_LIST: u32 = 96 * 1024;

/// Streams that an instance may make us reset by breaking the protocol, while the connection lives.
const BROKEN_MAX: usize = 256;

/// How long an instance may take nothing of what is sent before its connection is given up.
const STALLED: Duration = Duration::from_secs(75);

/// Silence of an instance that requests wait for, after which it is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(10);

/// It is asked no more often than this: servers of gRPC take more for an attack.
const ASK_EVERY: Duration = Duration::from_secs(310);

/// A connection.
pub(crate) struct Channel {
    sender: SendRequest<Bytes>,
    wire: Rc<Wire<Link>>,
    streams: Cell<usize>,
    /// Most streams until it has served.
    first_streams: Cell<usize>,
    /// A stream has been opened on it.
    used: Cell<bool>,
    served: Cell<bool>,
    idle_since: Cell<Instant>,
    takes_no_more: Cell<bool>,
    task: Rc<Task>,
}

/// What the connection's task is told from outside.
#[derive(Default)]
struct Task {
    waker: RefCell<Option<Waker>>,
    ends: Cell<bool>,
    asks: Cell<bool>,
    /// When it was asked last whether it is there.
    asked: Cell<Option<Instant>>,
}

impl Task {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

impl Channel {
    /// Whether another stream may be opened on it now.
    pub(crate) fn has_room(&self) -> bool {
        let most = if self.served.get() { STREAMS_MAX } else { self.first_streams.get() };
        !self.takes_no_more.get()
            && !self.wire.seen().goes_away
            && self.streams.get() < self.sender.current_max_send_streams().min(most)
    }

    /// Opens no more streams than this on it until it has served: other connections were told late how many may be.
    pub(super) fn begin_with(&self, streams: usize) {
        self.first_streams.set(streams);
    }

    /// A place for one stream.
    pub(super) fn take(self: &Rc<Self>) -> Place {
        let streams = self.streams.get() + 1;
        self.streams.set(streams);
        self.used.set(true);
        Place { channel: self.clone(), reused: self.served.get(), taken: turn::now(), streams }
    }

    /// Whether a stream has been opened on it.
    pub(crate) fn was_used(&self) -> bool {
        self.used.get()
    }

    /// Whether it is to be closed: nobody has used it for so long, or it takes no more requests and has none.
    pub(super) fn is_over(&self, keep: Duration) -> bool {
        let spent = self.takes_no_more.get() || self.wire.seen().goes_away;
        self.streams.get() == 0 && (spent || self.idle_since.get().elapsed() >= keep)
    }

    /// Ends it at once; its streams break.
    pub(super) fn end(&self) {
        self.takes_no_more.set(true);
        self.task.ends.set(true);
        self.task.wake();
    }

    /// Looks after an instance that takes nothing or says nothing.
    pub(super) fn look(&self, now: Instant) {
        if self.wire.stalled_limit(STALLED).is_some_and(|limit| limit <= now) {
            return self.end();
        }
        let (received, asked) = (self.wire.received(), self.task.asked.get());
        if asked.is_some_and(|asked| asked > received && now >= asked + PONG) {
            return self.end();
        }
        let silent = self.streams.get() > 0 && now >= received + SILENCE;
        if silent && asked.is_none_or(|asked| now >= asked + ASK_EVERY) {
            self.task.asks.set(true);
            self.task.wake();
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} streams", self.streams.get())
    }
}

/// The place of one stream on a connection, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    channel: Rc<Channel>,
    /// The instance has answered on the connection before.
    pub reused: bool,
    taken: Instant,
    /// How many streams the connection had then, this one included.
    streams: usize,
}

impl Place {
    /// Opens the stream.
    pub(crate) fn ask(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A handle of its own: a shared one refuses while the stream before waits to be opened.
        let asked = self.channel.sender.clone().send_request(request, ends);
        if asked.is_err() {
            self.channel.takes_no_more.set(true);
        }
        asked
    }

    /// The instance has answered on it.
    pub(crate) fn has_served(&self) {
        self.channel.served.set(true);
    }

    /// Whether other protocols can be asked for (RFC 8441).
    pub(crate) fn takes_connect(&self) -> bool {
        self.channel.sender.is_extended_connect_protocol_enabled()
    }

    /// The request was not answered in time: if nothing at all has come since, the connection may be dead, and gets no
    /// further ones.
    pub(crate) fn doubt(&self) {
        if self.channel.wire.received() <= self.taken {
            self.channel.takes_no_more.set(true);
        }
    }

    /// Whether the instance certainly has nothing of this stream of the connection, which has ended: nothing was written of
    /// it, or all of it came after the instance had ended its direction.
    pub(crate) fn has_nothing_of(&self, stream: u32) -> bool {
        self.channel.wire.holds_back(stream) || self.channel.wire.came_late(stream)
    }

    /// Whether the connection ends because the instance floods it.
    pub(crate) fn is_flooded(&self) -> bool {
        self.channel.wire.flood().is_some()
    }

    /// Whether the instance has said that it takes no further streams on the connection.
    pub(crate) fn goes_away(&self) -> bool {
        self.channel.wire.seen().goes_away
    }

    /// How many streams the instance allows, if it has said since this one was opened that it was one too many.
    pub(crate) fn limited_since(&self) -> Option<usize> {
        let most = self.channel.sender.current_max_send_streams();
        (self.streams > most).then_some(most)
    }

    /// The instance takes no streams on this connection any more.
    pub(crate) fn give_up(&self) {
        self.channel.takes_no_more.set(true);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.channel.streams.set(self.channel.streams.get() - 1);
        self.channel.idle_since.set(turn::now());
    }
}

/// The task of a connection: runs until the connection has ended.
pub(super) struct Driving {
    h2: Connection<Handle<Link>, Bytes>,
    ping: Option<PingPong>,
    wire: Rc<Wire<Link>>,
    task: Rc<Task>,
}

/// Speaks HTTP/2 on this connection, as soon as the instance has shown that it does, too.
pub(super) async fn greet(link: Link, worker: Rc<Worker>) -> Result<(Rc<Channel>, Driving), ConnectError> {
    let calm = Calm::of_instance(turn::now());
    let wire = Wire::new(link, worker, calm);
    let mut handshake = Box::pin(builder().handshake::<_, Bytes>(Handle(wire.clone())));
    let shaken = poll_fn(|cx| {
        wire.start_turn();
        handshake.as_mut().poll(cx)
    });
    let broke =
        |_| ConnectError::NotHttp2("the connection to the instance broke before HTTP/2 was agreed upon");
    let (sender, mut h2) = shaken.await.map_err(broke)?;
    let ping = h2.ping_pong();
    let task = Rc::<Task>::default();
    let mut driving = Driving { h2, ping, wire: wire.clone(), task: task.clone() };
    poll_fn(|cx| {
        let turned = driving.turn(cx);
        let seen = wire.seen();
        match (seen.starts_well, turned) {
            // The whole of its settings, or else it would get more streams than it allows.
            (Some(true), Poll::Pending) if !seen.settled => Poll::Pending,
            (Some(true), Poll::Pending) => Poll::Ready(Ok(())),
            (Some(false), _) => Poll::Ready(Err(ConnectError::NotHttp2(
                "the instance does not speak HTTP/2 on this port: see `fairway.protocol`",
            ))),
            (_, Poll::Ready(_)) => Poll::Ready(Err(ConnectError::NotHttp2(
                "the instance closed the connection where HTTP/2 starts: does it speak it on this port?",
            ))),
            (None, Poll::Pending) => Poll::Pending,
        }
    })
    .await?;
    if sender.current_max_send_streams() == 0 {
        return Err(ConnectError::NotHttp2("the instance allows no streams on an HTTP/2 connection"));
    }
    let channel = Channel {
        sender,
        wire,
        streams: Cell::new(0),
        first_streams: Cell::new(STREAMS_MAX),
        used: Cell::new(false),
        served: Cell::new(false),
        idle_since: Cell::new(turn::now()),
        takes_no_more: Cell::new(false),
        task,
    };
    Ok((Rc::new(channel), driving))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(BROKEN_MAX));
    builder
}

/// What an instance did that ended its connection.
#[derive(Debug)]
pub(super) enum Fault {
    /// It sent too many of these without a use.
    Flood(&'static str),
    /// It broke the rules of HTTP/2.
    Invalid(h2::Error),
}

impl Driving {
    /// Lets `h2` read and write. Ready once there is nothing left to do, with what the instance did wrong.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Fault>> {
        self.wire.start_turn();
        if self.task.asks.take()
            && let Some(ping) = &mut self.ping
            && ping.send_ping(Ping::opaque()).is_ok()
        {
            self.task.asked.set(Some(turn::now()));
        }
        let closed = Pin::new(&mut self.h2).poll(cx);
        if let Some(ping) = &mut self.ping {
            // Whatever has come says that the instance is there; this makes room for the next question.
            let _ = ping.poll_pong(cx);
        }
        let broken = matches!(self.wire.poll_out(cx), Poll::Ready(Err(_)));
        match (self.wire.flood(), closed) {
            (Some(flood), _) => Poll::Ready(Some(Fault::Flood(flood))),
            (None, Poll::Ready(Err(error))) if error.is_library() => Poll::Ready(Some(Fault::Invalid(error))),
            (None, Poll::Ready(_)) => Poll::Ready(None),
            (None, Poll::Pending) if broken || self.task.ends.get() => Poll::Ready(None),
            (None, Poll::Pending) => Poll::Pending,
        }
    }
}

impl Future for Driving {
    type Output = Option<Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Fault>> {
        let task = self.task.clone();
        if !task.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *task.waker.borrow_mut() = Some(cx.waker().clone());
        }
        self.turn(cx)
    }
}
