//! The turns of the task of one HTTP/2 connection: read what the client sent, let its streams go on, write once what they
//! and `h2` have to say; then the connection's own limits and its end.
//!
//! Not here: what a stream does (see `answer`), what is a flood (see `calm`).

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Connection, SendResponse};
use http::{Method, Request};
use tokio::time::Instant;

use super::answer::Asked;
use super::slots::{Desk, Slots};
use super::{GOODBYE, Visit};
use crate::deadline::Timer;
use crate::downstream::head::head_limits;
use crate::downstream::tell_unserved;
use crate::reason::Reason as Told;
use crate::sides::http2::body::Body;
use crate::sides::http2::client::Answer;
use crate::sides::http2::request;
use crate::sides::http2::wire::{Handle, Wire};
use crate::stream::Stream;
use crate::turn;

/// Rounds of one turn: further ones wait until others had theirs.
const ROUNDS_MAX: usize = 16;

/// After so long without a stream the memory of streams is given back.
const TRIM: Duration = Duration::from_secs(1);

/// Serves a connection. Gives whether the client was told of the end and may still be sending.
pub(super) struct Serving<S: Stream, A, F> {
    h2: Option<Connection<Handle<S>, Bytes>>,
    wire: Rc<Wire<S>>,
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
}

/// How a connection ends.
enum End {
    /// `h2` has said all that was to be said.
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
    pub(super) fn new(
        h2: Connection<Handle<S>, Bytes>,
        wire: Rc<Wire<S>>,
        visit: Rc<Visit>,
        timer: Timer,
        answer: A,
    ) -> Self {
        let streams = Slots::new();
        streams.connection().wake_by_ref();
        Self {
            h2: Some(h2),
            wire,
            visit,
            answer,
            streams,
            timer,
            idle: Some(turn::now()),
            header: None,
            leaving: None,
        }
    }

    /// One turn.
    fn turn(&mut self) -> Poll<End> {
        self.wire.start_turn();
        if !self.visit.may_stay() {
            self.leave();
        }
        for _ in 0..ROUNDS_MAX {
            if self.streams.connection_rang() && self.read().is_ready() {
                return Poll::Ready(End::Closed);
            }
            self.run_streams();
            if self.wire.has_read_enough() || !self.streams.any_rung() {
                break;
            }
        }
        // Before the client can know of it.
        self.tell_refused();
        let waker = self.streams.connection().clone();
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(Err(_)) = self.wire.poll_out(cx) {
            return Poll::Ready(End::Broken);
        }
        self.limits(cx)
    }

    /// Lets `h2` read and write, and starts the streams that have come. Ready once the connection is closed.
    fn read(&mut self) -> Poll<()> {
        let waker = self.streams.connection().clone();
        let cx = &mut Context::from_waker(&waker);
        loop {
            let Some(h2) = &mut self.h2 else { return Poll::Ready(()) };
            match h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.start(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    self.tell_broken(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if self.leaving.is_none() && self.wire.flood().is_some() => self.cut_flood(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Starts a stream.
    fn start(&mut self, request: Request<h2::RecvStream>, respond: SendResponse<Bytes>) {
        self.wire.shown(respond.stream_id().as_u32());
        let Self { visit, answer, streams, .. } = self;
        let (mut parts, body) = request.into_parts();
        let is_connect = parts.method == Method::CONNECT;
        let has_body = !body.is_end_stream();
        let mut text = visit.worker.buffers.lend_head();
        let head = request::read(
            &mut parts,
            has_body,
            head_limits(&visit.door.limits.get()),
            &mut text,
            &visit.door.upgrades,
            &mut visit.worker.rng.borrow_mut(),
        );
        visit.worker.buffers.give_back_head(text);
        let has_body = head.as_ref().is_ok_and(|head| head.body != crate::h1::BodyLength::Empty);
        let down = Answer::new(respond, is_connect);
        let asked = Asked { head, body: Body::new(body, has_body), down, began: turn::now() };
        visit.count();
        // Without room for it, streams that were reset before they were looked at included, it is dropped, and so reset.
        if let Err(Asked { head, began, .. }) = streams.add(asked, |desk| answer(visit.clone(), desk)) {
            tell_unserved(visit, head.as_deref().ok(), 503, Told::StreamsFull, began);
        }
        self.idle = None;
    }

    /// Tells what `h2` refused by itself.
    fn tell_refused(&self) {
        while let Some(reason) = self.wire.next_refused() {
            self.tell(reason);
        }
    }

    /// Tells of what no request of ours tells of.
    fn tell(&self, reason: Told) {
        tell_unserved(&self.visit, None, reason.status().unwrap_or(0), reason, turn::now());
    }

    /// Tells that `h2` ended the connection for what the client did.
    fn tell_broken(&self, error: &h2::Error) {
        if !error.is_library() {
            return; // a socket that broke, the client's own complaint, or an end that is ours
        }
        let client = self.visit.ends.peer;
        tracing::debug!(%client, %error, "an HTTP/2 connection was ended");
        let is_flood = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
        self.tell_ended(if is_flood { Told::Http2Flood } else { Told::Http2Invalid });
    }

    /// Tells that the connection was ended for what the client did.
    fn tell_ended(&self, reason: Told) {
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
        if self.leaving.is_none()
            && let Some(h2) = &mut self.h2
        {
            self.leaving = Some(turn::now());
            h2.graceful_shutdown();
            self.streams.connection().wake_by_ref();
        }
    }

    /// Tells a client that floods us to go away, at once.
    fn cut_flood(&mut self) {
        let (flood, client) = (self.wire.flood().unwrap_or_default(), self.visit.ends.peer);
        tracing::debug!(%client, flood, "an HTTP/2 connection was ended: it floods");
        self.tell_ended(Told::Http2Flood);
        self.leaving = Some(turn::now());
        if let Some(h2) = &mut self.h2 {
            h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// The limits of the connection itself; those of its streams are theirs.
    fn limits(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.wire.is_in_header() {
            self.header = None;
        } else if self.header.is_none() {
            self.header = Some(turn::now() + self.visit.door.limits.get().header_time);
        }
        let idle_time = self.visit.door.limits.get().idle_time;
        let now_gone = [self.wire.stalled_limit(idle_time), self.header].into_iter().flatten().min();
        if let Some(limit) = now_gone
            && self.timer.poll_passed(cx, limit).is_ready()
        {
            if self.header == Some(limit) {
                self.tell(Told::ClientTimeout);
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
        drop(self.h2.take());
        for _ in 0..ROUNDS_MAX {
            self.run_streams();
            if !self.streams.any_rung() {
                return;
            }
        }
    }
}

impl<S, A, F> Future for Serving<S, A, F>
where
    S: Stream,
    A: Fn(Rc<Visit>, Rc<Desk<Asked>>) -> F + Unpin,
    F: Future<Output = ()>,
{
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        self.streams.awake(cx.waker());
        if let Poll::Ready(end) = self.turn() {
            self.tell_refused();
            self.end();
            return Poll::Ready(matches!(end, End::Closed));
        }
        if self.streams.rest() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
