//! The turns of the task of one HTTP/2 connection: read what the client sent, let its streams go on, write once what they
//! have to say; then the connection's own limits and its end.
//!
//! Not here: what a stream does (see `answer`), what frames mean (see `crate::http2`).

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Asked;
use super::pipe::Pipe;
use super::sides::{Answer, Body};
use super::slots::{Desk, Slots};
use super::{GOODBYE, Visit};
use crate::deadline::Timer;
use crate::downstream::head::head_limits;
use crate::downstream::tell_unserved;
use crate::h1::BodyLength;
use crate::http2::connection::Connection;
use crate::http2::frame::Code;
use crate::http2::head::Rules;
use crate::http2::receive::Step;
use crate::http2::stream::Stream as Opened;
use crate::reason::Reason;
use crate::stream::Stream;
use crate::turn;

/// Rounds of one turn: further ones wait until others had theirs.
const ROUNDS_MAX: usize = 16;

/// After so long without a stream the memory of streams is given back.
const TRIM: Duration = Duration::from_secs(1);

/// Serves a connection. Gives whether the client was told of the end and may still be sending.
pub(super) struct Serving<S: Stream, A, F> {
    connection: Rc<Connection>,
    pipe: Pipe<S>,
    visit: Rc<Visit>,
    /// Makes the future that answers the requests of a desk.
    answer: A,
    streams: Slots<F, Asked>,
    /// The connection's own timer.
    timer: Timer,
    /// Since when there is no stream.
    idle: Option<Instant>,
    /// Until when the header that the client has begun must be there.
    header: Option<Instant>,
    /// Since when the client knows that the connection ends.
    leaving: Option<Instant>,
    /// Nothing is read before the client has taken what waits for it.
    is_deaf: bool,
    /// How many drains had ended when the streams last looked.
    ends: u64,
}

/// How a connection ends.
enum End {
    /// All that was to be said has been said.
    Closed,
    /// The client is gone, or takes nothing.
    Broken,
}

impl<S, A, F> Serving<S, A, F>
where
    S: Stream,
    A: Fn(Rc<Visit>, Rc<Desk<Asked>>) -> F,
    F: Future<Output = ()>,
{
    pub(super) fn new(connection: Rc<Connection>, pipe: Pipe<S>, visit: Rc<Visit>, answer: A) -> Self {
        let streams = Slots::new();
        streams.connection().wake_by_ref();
        Self {
            connection,
            pipe,
            visit,
            answer,
            streams,
            timer: Timer::new(),
            idle: Some(turn::now()),
            header: None,
            leaving: None,
            is_deaf: false,
            ends: 0,
        }
    }

    /// The connection again, for what comes after its end.
    pub(super) fn into_pipe(self) -> Pipe<S> {
        self.pipe
    }

    /// One turn.
    fn turn(&mut self) -> Poll<End> {
        let waker = self.streams.connection().clone();
        let cx = &mut Context::from_waker(&waker);
        self.pipe.start_turn();
        self.connection.with_out(|out| self.pipe.lend(out));
        if !self.visit.may_stay() {
            self.leave();
        }
        let ends = self.visit.worker.ends();
        if ends != self.ends {
            self.ends = ends;
            self.streams.ring_all();
        }
        for round in 1..=ROUNDS_MAX {
            if self.streams.connection_rang() && self.read(cx).is_ready() {
                return Poll::Ready(End::Closed);
            }
            self.run_streams();
            let goes_on = self.streams.any_rung() && !self.pipe.has_read_enough();
            if goes_on && round < ROUNDS_MAX {
                continue; // one write for all
            }
            match self.write(cx) {
                Ok(Poll::Ready(())) => return Poll::Ready(End::Closed),
                Err(Gone) => return Poll::Ready(End::Broken),
                Ok(Poll::Pending) => {}
            }
            // What was written may have made room for more.
            if !self.streams.any_rung() || self.pipe.has_read_enough() {
                break;
            }
        }
        self.connection.with_out(|out| self.pipe.rest(out));
        self.limits(cx)
    }

    /// Reads what the client has sent, and starts the streams that have come. Ready once nothing more comes.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Some(step) = self.connection.step(&mut self.pipe.unread, turn::now()) {
                match step {
                    Step::Request { stream, ends } => self.start(stream, ends),
                    Step::Malformed => self.tell(Reason::RequestInvalid),
                    Step::Full => self.tell(Reason::StreamsFull),
                    Step::Ended(code) => self.tell_ended(code),
                }
            }
            if self.connection.is_over() {
                return Poll::Pending; // as soon as all is said
            }
            if self.connection.is_full() {
                self.is_deaf = true;
                return Poll::Pending; // until it listens
            }
            if !matches!(ready!(self.pipe.poll_read(cx)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
    }

    /// Writes what is to be said. Ready once it is the last.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        let (pipe, connection) = (&mut self.pipe, &self.connection);
        let written = connection.with_out(|out| pipe.poll_write(cx, out));
        if self.is_deaf && !connection.is_full() {
            self.is_deaf = false;
            cx.waker().wake_by_ref();
        }
        match written {
            Poll::Ready(Ok(())) if connection.is_over() => {
                // Its goodbye may just have been added.
                let written = connection.with_out(|out| pipe.poll_write(cx, out));
                Ok(written.map(drop))
            }
            Poll::Ready(Err(_)) => Err(Gone),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Starts a stream.
    fn start(&mut self, stream: Rc<Opened>, ends: bool) {
        let Self { connection, visit, answer, streams, .. } = self;
        let mut text = visit.worker.buffers.lend_head();
        let (head, handle, is_connect) = connection.opened(stream, |handle, fields| {
            let limits = head_limits(&visit.door.limits.get());
            let rules = Rules { limits, protocols: &visit.door.upgrades };
            let head = fields.request(ends, rules, &mut text, &mut visit.worker.rng.borrow_mut());
            (head, handle, fields.is_connect())
        });
        visit.worker.buffers.give_back_head(text);
        let has_body = head.as_ref().is_ok_and(|head| head.body != BodyLength::Empty);
        let body = Body::new(handle.clone(), has_body);
        let asked = Asked { head, body, down: Answer::new(handle, is_connect), began: turn::now() };
        visit.count();
        // Without room for it, streams that were reset before they were looked at included, it is dropped, and so reset.
        if let Err(Asked { head, began, .. }) = streams.add(asked, |desk| answer(visit.clone(), desk)) {
            tell_unserved(visit, head.as_deref().ok(), 503, Reason::StreamsFull, began);
        }
        self.idle = None;
    }

    /// Tells of what no request of ours tells of.
    fn tell(&self, reason: Reason) {
        tell_unserved(&self.visit, None, reason.status().unwrap_or(0), reason, turn::now());
    }

    /// Tells that the connection was ended for what the client did.
    fn tell_ended(&self, code: Code) {
        let client = self.visit.ends.peer;
        tracing::debug!(%client, ?code, "an HTTP/2 connection was ended");
        let reason = if code == Code::EnhanceYourCalm { Reason::Http2Flood } else { Reason::Http2Invalid };
        self.visit.worker.handle.metrics().connection_refused(&self.visit.door.name, reason.as_str());
        self.tell(reason);
    }

    fn run_streams(&mut self) {
        self.streams.poll();
        if self.streams.len() == 0 && self.idle.is_none() {
            self.idle = Some(turn::now());
        }
    }

    /// Tells the client that the connection ends; streams go on.
    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(turn::now());
            self.connection.leave();
            self.streams.connection().wake_by_ref();
        }
    }

    /// The limits of the connection itself; those of its streams are theirs.
    fn limits(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.connection.is_in_header(&self.pipe.unread) {
            self.header = None;
        } else if self.header.is_none() {
            self.header = Some(turn::now() + self.visit.door.limits.get().header_time);
        }
        let idle_time = self.visit.door.limits.get().idle_time;
        let now_gone = [self.pipe.stalled_limit(idle_time), self.header].into_iter().flatten().min();
        if let Some(limit) = now_gone
            && self.timer.poll_passed(cx, limit).is_ready()
        {
            if self.header == Some(limit) && self.connection.has_begun() {
                self.tell(Reason::ClientTimeout);
            }
            return Poll::Ready(End::Broken);
        }
        let Some(idle) = self.idle else { return Poll::Pending };
        match self.leaving {
            Some(since) => self.timer.poll_passed(cx, since.max(idle) + GOODBYE).map(|()| End::Broken),
            None => {
                if self.streams.can_trim() && self.timer.poll_passed(cx, idle + TRIM).is_ready() {
                    self.streams.trim();
                }
                if self.timer.poll_passed(cx, idle + idle_time).is_ready() {
                    self.leave();
                }
                Poll::Pending
            }
        }
    }

    /// Lets the streams see that nobody takes their answers any more.
    fn end(&mut self) {
        self.connection.end(None);
        for _ in 0..ROUNDS_MAX {
            self.run_streams();
            if !self.streams.any_rung() {
                return;
            }
        }
    }
}

/// The client takes nothing any more.
struct Gone;

impl<S, A, F> Future for &mut Serving<S, A, F>
where
    S: Stream,
    A: Fn(Rc<Visit>, Rc<Desk<Asked>>) -> F + Unpin,
    F: Future<Output = ()>,
{
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        self.streams.awake(cx.waker());
        if let Poll::Ready(end) = self.turn() {
            self.end();
            return Poll::Ready(matches!(end, End::Closed));
        }
        if self.streams.rest() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
