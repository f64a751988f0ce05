//! One attempt: the request goes to the instance that was chosen, over a kept connection or a new one, and what becomes of
//! it.
//!
//! Not here: who is chosen and how often (see `trail`), what happens on one connection (see `exchange`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use fairway_config::labels::Protocol;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::asked::{Asked, Way};
use super::body::Kept;
use super::call::Call;
use super::exchange::{End, Exchange, Seen};
use super::lost::{self, News};
use super::mirror;
use super::record::{Finish, Record};
use super::{After, refused};
use crate::features::Applied;
use crate::features::edits::Words;
use crate::forward::client::Client;
use crate::forward::grpc::Status;
use crate::forward::request_id::RequestId;
use crate::forward::{Origin, write_request};
use crate::h1::{BodyLength, Refused, RequestHead};
use crate::hold::NEWS;
use crate::pick::Pick;
use crate::reason::Reason;
use crate::refusal::Says;
use crate::sides::http1::{Ending, Incoming};
use crate::sides::{Answers, Downstream, Sink, Source};
use crate::stream::Stream;
use crate::turn;
use crate::upgrade::{QUIET, TunnelEnd, tunnel};
use crate::upstream::pool::Wanted;
use crate::upstream::{Upstream, connect, keep_for};

/// A request as an instance gets it.
pub(super) struct Prepared<'a> {
    pub(super) head_up: &'a [u8],
    pub(super) kept: &'a mut Kept,
    pub(super) upgrade: Option<&'a Arc<str>>,
    /// It has been sent already, whole.
    pub(super) sent: bool,
}

/// What became of one attempt.
pub(super) enum Attempt {
    /// The request has its answer, or can have none any more.
    Finished(After, Finish),
    /// The instance failed it, and it may go to another one if `again`.
    Failed { refused: Refused, again: bool },
}

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Sends the request to the instance that was picked.
    pub(super) async fn attempt(
        &mut self,
        client: Client,
        kept: &mut Kept,
        upgrade: Option<&Arc<str>>,
    ) -> Attempt {
        let Some(mut pick) = self.record.pick.take() else {
            return Attempt::Failed { refused: refused(Reason::Internal, ""), again: false };
        };
        let worker = &self.visit.worker;
        if let (Some(extras), Some(entry)) = (&mut self.extras, &self.record.entry) {
            extras.goes_to(&pick, entry, &self.head, &client);
        }
        let mut head_up = worker.buffers.lend_head();
        let (visit, node) = (self.visit, &worker.shared.node);
        let origin = Origin {
            client: &client,
            peer: &visit.peer,
            ends: visit.ends,
            over_http2: D::HTTP2,
            node,
            id: &self.id,
            upgrade,
            hides_cookie: self.extras.as_ref().is_some_and(|extras| extras.hides_cookie),
            certificate: visit.session.as_ref().and_then(|session| session.certificate.as_ref()),
            applied: applied(&self.record, &self.head, &self.id),
        };
        write_request(&mut head_up, &self.head, &origin);
        if self.record.attempts == 1
            && upgrade.is_none()
            && let Some(mirror) = self.record.entry.as_ref().and_then(|entry| entry.mirror.as_ref())
            // A first attempt at an instance that does not listen yet may be made many times.
            && !std::mem::replace(&mut self.record.mirrored, true)
        {
            mirror::copy(visit, mirror, &pick.version, (&self.head, &head_up), kept, self.grpc.is_some());
        }
        let mut asked = None;
        if self.may_hedge(&pick, upgrade.is_some()) {
            // Boxed, so that others need no room for it.
            match Box::pin(self.ask_twice(&mut pick, &head_up, &client)).await {
                Ok(done) => asked = done,
                Err(refused) => {
                    worker.buffers.give_back_head(head_up);
                    self.record.pick = Some(pick);
                    let is_late = matches!(refused.reason, Reason::UpstreamTimeout | Reason::TotalTimeout);
                    return Attempt::Failed { refused, again: !is_late };
                }
            }
            if let (Some(extras), Some(entry)) = (&mut self.extras, &self.record.entry) {
                extras.goes_to(&pick, entry, &self.head, &client);
            }
        }
        let request = Prepared { head_up: &head_up, kept, upgrade, sent: asked.is_some() };
        // Boxed, so that a connection that only speaks HTTP/1.1 costs no memory for it.
        let attempt = match pick.version.settings.protocol {
            Protocol::Http1 | Protocol::Https => self.over_http1(&pick, request, asked).await,
            Protocol::H2c | Protocol::H2 => Box::pin(self.over_http2(&pick, request, asked)).await,
        };
        worker.buffers.give_back_head(head_up);
        self.record.pick = Some(pick);
        attempt
    }

    /// Sends the request over a connection of its own for the time being: a pooled one, or a new one.
    /// Or over one on which it was sent already.
    pub(super) async fn over_http1(
        &mut self,
        pick: &Pick,
        mut request: Prepared<'_>,
        asked: Option<Asked>,
    ) -> Attempt {
        let worker = &self.visit.worker;
        let chosen = asked.as_ref().map_or_else(turn::now, |asked| asked.chosen);
        // A connection that the instance closed at the same moment is no failure of the instance: once more on a new one.
        let wanted = if !request.kept.will_be_whole() {
            Wanted::New
        } else if self.head.is_idempotent() {
            Wanted::Open
        } else {
            Wanted::Fresh
        };
        let kept = self.visit.kept(pick.version.settings.proxy_protocol);
        let (mut pooled, mut read) = match asked.map(|asked| asked.way) {
            Some(Way::Http1(up, read)) => (Some(up), read),
            _ => (kept.pool.take(&pick.endpoint.state, wanted), BytesMut::new()),
        };
        loop {
            let reused = pooled.is_some();
            let (seen, mut buffer) = (Seen::default(), std::mem::take(&mut read));
            let (up, opened) = match pooled.take() {
                Some(up) => (up, None),
                None => {
                    // One whose client is still sending may wait for that.
                    if request.kept.has_end() {
                        seen.newcomer.set(Some(worker.newcomers.enter(&pick.endpoint.state)));
                    }
                    // Nobody agrees upon TLS with a connection that waits in the queue of a listener.
                    let may_queue = pick.version.settings.protocol == Protocol::Http1;
                    match self.open(pick).await {
                        Ok(up) => (up, may_queue.then(turn::now)),
                        Err(refused) => return Attempt::Failed { refused, again: true },
                    }
                }
            };
            let begun = !buffer.is_empty();
            let mut answers =
                Incoming { io: &up, buffer: &mut buffer, buffers: &worker.buffers, begun, ended: None };
            let end = self.exchange(&up, &mut answers, &mut request, pick, &seen).await;
            request.sent = false;
            let untouched = !answers.has_begun() && seen.status.get().is_none();
            let repeatable = self.may_repeat(untouched, &seen, &request);
            let (is_there, ended) = (untouched && request.kept.repeatable, answers.ended);
            worker.buffers.give_back(buffer);
            let again = repeatable || is_there && lost::came_late(&up, ended, &seen);
            self.note(&seen, chosen);
            match end {
                End::NoAnswer(Reason::UpstreamClosed, _) if reused && again => {}
                End::Answered { reuse: Some(said), .. } => {
                    kept.pool.put(&pick.endpoint.state, up, keep_for(&pick.version.settings, said));
                    return self.finished(end, &seen, again, pick, chosen).await;
                }
                End::NoAnswer(Reason::UpstreamClosed, _) if !again && is_there => {
                    let link = up.into_inner();
                    let news = lost::news_wanted(&seen, chosen, opened);
                    let lost = Box::pin(self.was_lost(link.tcp(), ended, pick, news)).await;
                    return self.finished(end, &seen, lost, pick, chosen).await;
                }
                end => return self.finished(end, &seen, again, pick, chosen).await,
            }
        }
    }

    /// Whether the instance never read the request whole, since it is leaving. May wait for the news.
    pub(super) async fn was_lost(
        &self,
        tcp: &TcpStream,
        ended: Option<Ending>,
        pick: &Pick,
        wanted: Option<News>,
    ) -> bool {
        let (Some(entry), Some(wanted)) = (&self.record.entry, wanted) else { return false };
        if !pick.endpoint.may_have_news(turn::now().into_std()) {
            return false;
        }
        let news = (&*self.visit.worker.handle, &**entry, pick);
        pick.in_flight.end(); // the instance is done with it, and others wait for its place
        let left = self.limit(pick.version.settings.total_timeout);
        let left = left.map_or(NEWS, |limit| limit.saturating_duration_since(turn::now()));
        lost::was_lost(tcp, ended, wanted, news, left.min(NEWS)).await
    }

    /// Whether the request may be sent again after an attempt that came this far.
    pub(super) fn may_repeat(&self, untouched: bool, seen: &Seen, request: &Prepared<'_>) -> bool {
        untouched && request.kept.repeatable && (seen.sent.get() == 0 || self.head.is_idempotent())
    }

    pub(super) async fn open(&mut self, pick: &Pick) -> Result<Upstream, Refused> {
        let (start, visit) = (turn::now(), self.visit);
        let header = visit.header(pick.version.settings.proxy_protocol);
        match self.in_time(pick, connect(&pick.endpoint, &visit.worker, &header)).await? {
            Ok(link) => {
                let took = turn::now().duration_since(start);
                self.record.connect = Some(took);
                visit.worker.metrics.connected(&pick.version.upstream, took);
                Ok(Upstream::new(link))
            }
            Err(error) => Err(refused(error.reason(), error.detail())),
        }
    }

    pub(super) async fn exchange<O: Sink, A: Answers>(
        &mut self,
        origin: &O,
        answers: &mut A,
        request: &mut Prepared<'_>,
        pick: &Pick,
        seen: &Seen,
    ) -> End {
        let (visit, worker) = (self.visit, &self.visit.worker);
        let settings = &pick.version.settings;
        let total = self.limit(settings.total_timeout);
        self.record.answers = true;
        if request.sent {
            seen.sent.set(request.head_up.len() as u64);
        }
        let exchange = Exchange {
            down: self.down,
            source: &mut self.source,
            origin,
            answers,
            head: &self.head,
            head_up: if request.sent { b"" } else { request.head_up },
            kept: request.kept,
            upgrade: request.upgrade,
            settings,
            state: &pick.endpoint.state,
            limits: &visit.door.limits,
            body_max: self.body_max,
            may_stay: &|| visit.may_stay(),
            hsts: self.visit.hsts(),
            total,
            is_grpc: self.grpc.is_some(),
            extras: self.extras.as_deref(),
            applied: applied(&self.record, &self.head, &self.id),
            timer: self.timer,
            buffers: &worker.buffers,
            seen,
        };
        let end = exchange.run().await;
        self.record.answers = seen.status.get().is_some();
        match end {
            End::Upgraded => self.tunnel(origin, answers, pick, seen).await,
            end => end,
        }
    }

    /// Raw octets, until one side has had enough.
    pub(super) async fn tunnel<O: Sink, A: Answers>(
        &mut self,
        origin: &O,
        answers: &mut A,
        pick: &Pick,
        seen: &Seen,
    ) -> End {
        let metrics = &self.visit.worker.metrics;
        let _counted = metrics.connection(&self.visit.door.name, "websocket");
        // Counted by its 101: its life says nothing of the version, and may last for days.
        let chosen = self.record.chosen.unwrap_or(self.began);
        let answered_in = seen.first_byte.get().map(|at| at.duration_since(chosen));
        metrics.attempt_done(&pick.version.series, answered_in, false);
        let quiet = pick.version.transport.idle_timeout.unwrap_or(QUIET);
        self.source.become_raw();
        let mut from_up = answers.body(BodyLength::UntilClose);
        let state = &pick.endpoint.state;
        let tunnelled = {
            let mut tunnel = pin!(tunnel(&mut self.source, self.down, &mut from_up, origin, quiet));
            poll_fn(|cx| match tunnel.as_mut().poll(cx) {
                Poll::Pending if state.is_ended() => Poll::Ready(None),
                tunnelled => tunnelled.map(Some),
            })
            .await
        };
        let Some(tunnelled) = tunnelled else {
            self.down.cut(BodyLength::UntilClose);
            return End::Cut(Reason::DrainEnded);
        };
        seen.body_bytes.set(tunnelled.down_bytes);
        match tunnelled.end {
            TunnelEnd::Both => End::Upgraded,
            TunnelEnd::Failed => End::Cut(Reason::Ok),
            TunnelEnd::Quiet => End::Cut(Reason::UpstreamTimeout),
        }
    }

    /// What follows from the end of an exchange.
    pub(super) async fn finished(
        &mut self,
        end: End,
        seen: &Seen,
        again: bool,
        pick: &Pick,
        chosen: Instant,
    ) -> Attempt {
        if let End::NoAnswer(reason, detail) = end {
            let again = again
                && matches!(
                    reason,
                    Reason::UpstreamClosed
                        | Reason::UpstreamLost
                        | Reason::UpstreamRefused
                        | Reason::DrainEnded
                );
            return Attempt::Failed { refused: refused(reason, detail), again };
        }
        let status = seen.status.get().unwrap_or(0);
        if let Some(first_byte) = seen.first_byte.get() {
            let now = turn::now().into_std();
            let took = first_byte.duration_since(chosen);
            let state = &pick.endpoint.state;
            match status {
                502 => state.observe_failure(took, now, "it answered 502"),
                503 => state.observe_failure(took, now, "it answered 503"),
                504 => state.observe_failure(took, now, "it answered 504"),
                500.. => state.observe_error(took, now),
                _ if seen.grpc.get() == Some(Status::UNAVAILABLE) => {
                    state.observe_failure(took, now, "it answered UNAVAILABLE");
                }
                _ => state.observe(took, now),
            }
            if seen.wants_out.get() {
                state.take_out(now);
            }
        }
        let finish = |status, reason| Finish { status, reason };
        let (after, finish) = match end {
            End::Answered { stays, .. } => {
                (if stays { After::Next } else { After::Close }, finish(status, Reason::Ok))
            }
            End::Upgraded => (After::Close, finish(status, Reason::Ok)),
            End::Cut(reason) => (After::Drop, finish(status, reason)),
            End::ClientLeft(reason) => (After::Drop, finish(499, reason)),
            End::BadRequest(reason, _) if seen.status.get().is_some() => {
                (After::Drop, finish(status, reason))
            }
            End::BadRequest(reason, detail) | End::NoAnswer(reason, detail) => {
                self.refuse(refused(reason, detail), Says::Nothing).await
            }
        };
        Attempt::Finished(after, finish)
    }
}

/// The features of the request's route, if it has any.
pub(super) fn applied<'a>(
    record: &'a Record,
    head: &'a RequestHead,
    id: &'a RequestId,
) -> Option<Applied<'a>> {
    let features = record.entry.as_ref()?.features.as_deref()?;
    let client = record.client?;
    let words = Words { host: head.host(), client: client.address, id: id.as_str(), secure: client.secure };
    Some(Applied { features, words })
}
