//! Sends one copy and reads its answer away, over whatever the instance speaks.
//!
//! As an exchange with a client that is nobody: the instance sees what it would see of a request, and its answers are read
//! as strictly. Not here: what becomes of requests that somebody waits for (see `call`).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fairway_config::file::Limits;
use fairway_config::labels::Protocol;
use tokio::time::Instant;

use super::Copy;
use super::nobody::{Nobody, Nothing};
use crate::deadline::Timer;
use crate::downstream::body::Kept;
use crate::downstream::exchange::{End, Exchange, Seen};
use crate::downstream::outcome::{Outcome, outcome};
use crate::forward::grpc::Status;
use crate::h1::RequestHead;
use crate::metrics::Mirrored;
use crate::reason::Reason;
use crate::sides::http1::Incoming;
use crate::sides::http2::asked::Asked;
use crate::sides::http2::origin::Origin;
use crate::sides::{Answers, Piece, Sink};
use crate::turn;
use crate::upstream::channel::Place;
use crate::upstream::channels::Channels;
use crate::upstream::kept::Bound;
use crate::upstream::pool::Wanted;
use crate::upstream::{ConnectError, Upstream, connect_if_there_is_room, keep_for, kept};

/// Longest time for a copy as a whole, connecting included.
const LONGEST: Duration = Duration::from_secs(30);

/// Sends a copy and counts what became of it.
pub(super) async fn send(copy: Copy, body: Piece) {
    let start = turn::now();
    let Ok(head) = RequestHead::read(Bytes::copy_from_slice(&copy.head)) else {
        // One field more than a head may have.
        return copy.count(Mirrored::Skipped);
    };
    let mut sending = Sending {
        limit: start + LONGEST,
        body: Kept::whole(body, copy.chunked),
        timer: Timer::new(),
        seen: Seen::default(),
        copy: &copy,
        head,
    };
    let result = match copy.version.settings.protocol {
        Protocol::Http1 | Protocol::Https => sending.over_http1().await,
        Protocol::H2c | Protocol::H2 => sending.over_http2().await,
    };
    let took = result.is_answer().then(|| turn::now().duration_since(start));
    copy.worker.metrics.mirrored(&copy.version.series, result, took);
}

struct Sending<'c> {
    copy: &'c Copy,
    head: RequestHead,
    body: Kept,
    /// When it is given up.
    limit: Instant,
    timer: Timer,
    seen: Seen,
}

impl Sending<'_> {
    /// Where its connection is kept: with those of other copies, or nowhere if it is told whose it is.
    fn kept(&self) -> Connections {
        match self.copy.header.is_empty() {
            true => Connections::Shared(self.copy.worker.mirrors.kept.clone()),
            false => Connections::Alone(Bound::default()),
        }
    }

    async fn over_http1(&mut self) -> Mirrored {
        let Copy { worker, endpoint, header, .. } = self.copy;
        let place = self.kept();
        let pool = &place.kept().pool;
        let mut pooled = pool.take(&endpoint.state, Wanted::Fresh);
        loop {
            let reused = pooled.is_some();
            let up = match pooled.take() {
                Some(up) => up,
                None => match connect_if_there_is_room(endpoint, worker, header).await {
                    Ok(link) => Upstream::new(link),
                    Err(error) => return of_connecting(&error),
                },
            };
            let mut buffer = BytesMut::new();
            let mut answers = Incoming {
                io: &up,
                buffer: &mut buffer,
                buffers: &worker.buffers,
                begun: false,
                ended: None,
            };
            let end = self.exchange(&up, &mut answers).await;
            let untouched = !answers.has_begun();
            worker.buffers.give_back(buffer);
            let unseen = untouched && (self.seen.sent.get() == 0 || self.head.is_idempotent());
            match end {
                // Closed at the same moment: that says nothing of the version.
                End::NoAnswer(Reason::UpstreamClosed, _) if reused && unseen => {}
                End::Answered { reuse: Some(said), .. } => {
                    pool.put(&endpoint.state, up, keep_for(&endpoint.settings, said));
                    return self.result(&end);
                }
                end => return self.result(&end),
            }
        }
    }

    async fn over_http2(&mut self) -> Mirrored {
        let Copy { endpoint, head, .. } = self.copy;
        let secure = endpoint.settings.protocol == Protocol::H2;
        // What HTTP/2 cannot carry.
        let Ok(asked) = Asked::read(head, secure, None) else { return Mirrored::Skipped };
        let asked = Rc::new(asked);
        let kept = self.kept();
        let mut refused = false;
        loop {
            let place = match self.place(kept.kept()).await {
                Ok(place) => place,
                Err(result) => return result,
            };
            let origin = Origin::new(place, asked.clone());
            let mut answers = origin.answers();
            match self.exchange(&origin, &mut answers).await {
                // A connection that the instance is about to close.
                End::NoAnswer(Reason::UpstreamRefused, _) if !refused && !answers.was_reset() => {
                    origin.place().give_up();
                    refused = true;
                }
                end => return self.result(&end),
            }
        }
    }

    /// A place on a connection that copies share.
    async fn place(&mut self, kept: &Rc<kept::Kept>) -> Result<Place, Mirrored> {
        let Copy { worker, version, endpoint, header, .. } = self.copy;
        loop {
            if let Some(place) = kept.channels.take(&endpoint.state) {
                return Ok(place);
            }
            let opening = Channels::open(kept, worker, endpoint, &version.upstream, || header.clone());
            match self.timer.within(self.limit, opening.done()).await {
                Some(Ok(channel)) if channel.was_used() || channel.has_room() => {}
                Some(Ok(_)) => return Err(Mirrored::Broken),
                Some(Err(error)) => return Err(of_connecting(&error)),
                None => return Err(Mirrored::Timeout),
            }
        }
    }

    async fn exchange<O: Sink, A: Answers>(&mut self, origin: &O, answers: &mut A) -> End {
        self.seen = Seen::default();
        let limits = Cell::new(Limits::default());
        let exchange = Exchange {
            down: &Nobody::default(),
            source: &mut Nothing,
            origin,
            answers,
            head: &self.head,
            head_up: &self.copy.head,
            kept: &mut self.body,
            upgrade: None,
            settings: &self.copy.endpoint.settings,
            state: &self.copy.endpoint.state,
            limits: &limits,
            body_max: u64::MAX,
            may_stay: &|| false,
            hsts: None,
            extras: None,
            applied: None,
            total: Some(self.limit),
            timer: &mut self.timer,
            buffers: &self.copy.worker.buffers,
            seen: &self.seen,
            is_grpc: self.copy.is_grpc,
        };
        exchange.run().await
    }

    /// What became of it. An answer that is too long, or never ends, is one: its head says which.
    fn result(&self, end: &End) -> Mirrored {
        match (end, self.seen.status.get()) {
            (
                End::Answered { .. }
                | End::ClientLeft(_)
                | End::Cut(Reason::TotalTimeout | Reason::UpstreamTimeout),
                Some(status),
            ) => self.answered(end, status),
            (End::NoAnswer(Reason::UpstreamTimeout | Reason::TotalTimeout, _), _) => Mirrored::Timeout,
            _ => Mirrored::Broken,
        }
    }

    fn answered(&self, end: &End, status: u16) -> Mirrored {
        let is_whole = matches!(end, End::Answered { .. });
        // The status of a call stands behind its answer: without its end there is none.
        let grpc = (self.copy.is_grpc && is_whole)
            .then(|| self.seen.grpc.get().unwrap_or_else(|| Status::of_http(status)));
        match outcome(Reason::Ok, status, grpc) {
            Outcome::Served | Outcome::Nothing => Mirrored::Ok,
            Outcome::Failed => Mirrored::Failed,
        }
    }
}

/// Connections that a copy may take, and leave its own with.
enum Connections {
    Shared(Rc<kept::Kept>),
    Alone(Bound),
}

impl Connections {
    fn kept(&self) -> &Rc<kept::Kept> {
        match self {
            Self::Shared(kept) => kept,
            Self::Alone(bound) => bound.kept(),
        }
    }
}

fn of_connecting(error: &ConnectError) -> Mirrored {
    match error {
        ConnectError::TimedOut | ConnectError::Silent => Mirrored::Timeout,
        ConnectError::OutOfFiles => Mirrored::Dropped,
        ConnectError::Failed(_) | ConnectError::Tls(_) | ConnectError::NotHttp2(_) => Mirrored::Unreachable,
    }
}
