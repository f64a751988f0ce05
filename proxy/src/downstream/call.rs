//! One request: from its head to the last octet of its answer, over as many instances as it takes.
//!
//! Not here: who is chosen (see `pick`), what happens on one connection (see `exchange`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::body::RequestBody;
use super::exchange::{End, Exchange, Seen};
use super::{After, Connection, refused};
use crate::access_log::Line;
use crate::forward::client::Client;
use crate::forward::request_id::RequestId;
use crate::forward::{Origin, PASSES_MAX, passes, write_request};
use crate::h1::{BodyLength, Known, Refused, RequestHead, Version};
use crate::hold::{HOLD, hold};
use crate::pick::{NoInstance, Pick, Tried};
use crate::reason::Reason;
use crate::refusal::Refusal;
use crate::stream::Stream;
use crate::table::{Find, RouteEntry};
use crate::upgrade::{QUIET, TunnelEnd, tunnel, wanted};
use crate::upstream::pool::FRESH;
use crate::upstream::{Upstream, connect, keep_for};

/// How long a request waits for another instance when its only one failed and nothing says yet that it stops: as long as
/// news of a container that died may take.
const NEWS: Duration = Duration::from_secs(1);

/// Most instances tried, whatever the labels say.
const ATTEMPTS_MAX: u32 = 12;

/// One request.
pub(super) struct Call<'c, S: Stream> {
    connection: &'c mut Connection<S>,
    head: RequestHead,
    began: Instant,
    id: RequestId,
    /// The request's body has been read whole: the next octets are the next request's.
    body_is_read: bool,
    record: Record,
}

/// What is told of the request once it has ended.
#[derive(Default)]
struct Record {
    client: Option<Client>,
    entry: Option<Arc<RouteEntry>>,
    pick: Option<Pick>,
    attempts: u32,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    body_bytes: u64,
}

/// What became of one attempt.
enum Attempt {
    /// The request has its answer, or can have none any more.
    Finished(After, Finish),
    /// The instance failed it, and it may go to another one if `again`.
    Failed { refused: Refused, again: bool },
}

/// Whose request it is, and where it leads.
struct Found {
    client: Client,
    route: Result<Arc<RouteEntry>, (Reason, Option<Arc<RouteEntry>>)>,
}

/// How a request ended, for log and metrics.
struct Finish {
    status: u16,
    reason: Reason,
}

impl<'c, S: Stream> Call<'c, S> {
    pub(super) fn new(connection: &'c mut Connection<S>, head: RequestHead, began: Instant) -> Self {
        // Replaced once the peer is known to be trusted, and says an id.
        let id = RequestId::random(&mut connection.worker.rng.borrow_mut());
        let body_is_read = head.body == BodyLength::Empty;
        Self { connection, head, began, id, body_is_read, record: Record::default() }
    }

    pub(super) async fn run(mut self) -> After {
        let (after, finish) = match self.serve().await {
            Ok(served) => served,
            Err(refused) => self.refuse(refused, None).await,
        };
        self.tell(&finish);
        after
    }

    /// Finds the route and gets the answer. What is refused without an instance's doing comes back as an error.
    async fn serve(&mut self) -> Result<(After, Finish), Refused> {
        let found = self.find();
        let client = found.client;
        self.record.client = Some(client);
        if client.peer_is_trusted
            && let Some(id) = self.head.first(Known::XRequestId).and_then(RequestId::sent)
        {
            self.id = id;
        }
        // What is there of the body is taken first: if that is all of it, a refusal need not end the connection.
        let mut body = RequestBody::new(&self.head, &mut self.connection.buffer)
            .map_err(|error| refused(Reason::BodyInvalid, error.text()))?;
        self.body_is_read = body.is_read();
        let worker = self.connection.worker.clone();
        if self.connection.buffer.is_empty() {
            worker.buffers.give_back(std::mem::take(&mut self.connection.buffer));
        }
        if passes(&self.head, &worker.shared.node) > PASSES_MAX {
            return Err(refused(Reason::Loop, "`Via` names this node more than 5 times"));
        }
        let entry = match found.route {
            Ok(entry) => entry,
            Err((Reason::RedirectToHttps, entry)) => {
                self.record.entry = entry;
                let location = self.https_url();
                return Ok(self.refuse(refused(Reason::RedirectToHttps, ""), Some(&location)).await);
            }
            Err((reason, _)) => return Err(refused(reason, "")),
        };
        self.record.entry = Some(entry.clone());
        let door = self.connection.door.clone();
        let upgrade = wanted(&self.head, &door.upgrades)?;
        self.over_instances(entry, client, &mut body, upgrade).await
    }

    /// Sends the request to one instance after the other, until one answers or the request may go no further.
    async fn over_instances(
        &mut self,
        mut entry: Arc<RouteEntry>,
        client: Client,
        body: &mut RequestBody,
        upgrade: Option<&Arc<str>>,
    ) -> Result<(After, Finish), Refused> {
        let worker = self.connection.worker.clone();
        let mut tried = Tried::default();
        let mut retries = 0;
        let mut last: Option<Refused> = None;
        loop {
            let view = self.head.view(client.address, client.internal, client.secure);
            let picked = entry.pick(&view, &tried, &mut worker.rng.borrow_mut(), std::time::Instant::now());
            let pick = match picked {
                Ok(pick) => pick,
                Err(NoInstance::Full) => return Err(refused(Reason::InstancesFull, "")),
                Err(NoInstance::NoneReady) => {
                    entry = self.wait_for_instance(&entry, &tried, last).await?;
                    self.record.entry = Some(entry.clone());
                    continue;
                }
            };
            self.record.attempts += 1;
            self.record.pick = Some(pick);
            let chosen = Instant::now();
            let (refused, again) = match self.attempt(client, body, upgrade).await {
                Attempt::Finished(after, finish) => return Ok((after, finish)),
                Attempt::Failed { refused, again } => (refused, again),
            };
            let Some(pick) = self.record.pick.take() else { return Err(refused) };
            tried.add(&pick);
            let now = std::time::Instant::now();
            pick.endpoint.state.observe_failure(chosen.elapsed(), now);
            // One that is known to stop, or gone, costs nobody a retry: that is what a deploy looks like.
            let free = !self.still_serves(&entry, &pick);
            let settings = &pick.version.settings;
            let allowed = again
                && self.record.attempts < ATTEMPTS_MAX
                && (free || (retries < u32::from(settings.retries) && entry.may_retry(now)));
            if !allowed {
                self.record.pick = Some(pick);
                return Err(refused);
            }
            retries += u32::from(!free);
            worker.metrics.retried(&pick.version.upstream, refused.reason);
            last = Some(refused);
            // The next choice is made from the table of now.
            if let Some(newer) = worker.table.borrow_mut().table().by_id(&entry.route.id) {
                entry = newer.clone();
            }
        }
    }

    /// Whether the present table still sends new clients to this instance.
    fn still_serves(&self, entry: &RouteEntry, pick: &Pick) -> bool {
        let mut reader = self.connection.worker.table.borrow_mut();
        let newest = reader.table().by_id(&entry.route.id);
        let mut versions = newest.into_iter().flat_map(|entry| entry.versions());
        versions.any(|version| {
            version.serving().iter().any(|endpoint| endpoint.state.uid == pick.endpoint.state.uid)
        })
    }

    /// Holds the request until the route has an instance that it has not been at (design rule 6).
    async fn wait_for_instance(
        &mut self,
        entry: &Arc<RouteEntry>,
        tried: &Tried,
        last: Option<Refused>,
    ) -> Result<Arc<RouteEntry>, Refused> {
        let deadline = self.began + HOLD;
        let route = &entry.route.id;
        // An instance that fails though nobody says that it stops: perhaps the news is on its way.
        if let Some(last) = last {
            let soon = deadline.min(Instant::now() + NEWS);
            match self.held(route, tried, soon).await? {
                Ok(entry) => return Ok(entry),
                Err(_) if self.has_serving(route) => return Err(last),
                Err(_) => {}
            }
        }
        match self.held(route, tried, deadline).await? {
            Ok(entry) => Ok(entry),
            Err(reason) => Err(refused(reason, "")),
        }
    }

    /// Waits until the deadline, unless the client leaves.
    async fn held(
        &self,
        route: &fairway_config::names::RouteId,
        tried: &Tried,
        deadline: Instant,
    ) -> Result<Result<Arc<RouteEntry>, Reason>, Refused> {
        let (handle, io) = (&self.connection.worker.handle, &self.connection.io);
        let mut holding = pin!(hold(handle, route, tried, deadline));
        poll_fn(|cx| {
            if let Poll::Ready(held) = holding.as_mut().poll(cx) {
                return Poll::Ready(Ok(held.map_err(|error| error.reason())));
            }
            io.poll_reset(cx).map(|()| Err(refused(Reason::ClientLeft, "")))
        })
        .await
    }

    fn has_serving(&self, route: &fairway_config::names::RouteId) -> bool {
        let mut reader = self.connection.worker.table.borrow_mut();
        let entry = reader.table().by_id(route);
        entry.is_some_and(|entry| entry.versions().iter().any(|version| !version.serving().is_empty()))
    }

    /// Sends the request to the instance that was picked.
    async fn attempt(
        &mut self,
        client: Client,
        body: &mut RequestBody,
        upgrade: Option<&Arc<str>>,
    ) -> Attempt {
        let Some(pick) = self.record.pick.take() else {
            return Attempt::Failed { refused: refused(Reason::Internal, ""), again: false };
        };
        let worker = self.connection.worker.clone();
        let chosen = Instant::now();
        let mut head_up = worker.buffers.lend_head();
        let ends = self.connection.ends;
        let node = &worker.shared.node;
        write_request(
            &mut head_up,
            &self.head,
            &Origin { client: &client, ends, node, id: &self.id, upgrade },
        );
        // A connection that the instance closed at the same moment is no failure of the instance: once more on a new one.
        let mut pooled = worker
            .pool
            .take(&pick.endpoint.state, if self.head.is_idempotent() { None } else { Some(FRESH) });
        let attempt = loop {
            let reused = pooled.is_some();
            let up = match pooled.take() {
                Some(up) => up,
                None => match self.open(&pick).await {
                    Ok(up) => up,
                    Err(refused) => break Attempt::Failed { refused, again: true },
                },
            };
            let seen = Seen::default();
            let end = self.exchange(&up, &head_up, body, upgrade, &pick, &seen).await;
            self.body_is_read = body.is_read();
            let untouched = !seen.any_octet.get() && seen.status.get().is_none();
            let unsent = seen.sent.get() == 0;
            let again = untouched && body.repeatable && (unsent || self.head.is_idempotent());
            self.record.first_byte = seen.first_byte.get().map(|at| at.duration_since(chosen));
            self.record.body_bytes = seen.body_bytes.get();
            match end {
                End::NoAnswer(Reason::UpstreamClosed, _) if reused && again => {}
                End::NoAnswer(reason, detail) => {
                    let again = again && reason == Reason::UpstreamClosed;
                    break Attempt::Failed { refused: refused(reason, detail), again };
                }
                end => break self.finished(end, up, &seen, &pick, chosen).await,
            }
        };
        worker.buffers.give_back_head(head_up);
        self.record.pick = Some(pick);
        attempt
    }

    async fn open(&mut self, pick: &Pick) -> Result<Upstream, Refused> {
        let start = Instant::now();
        let mut connecting = pin!(connect(&pick.endpoint));
        let io = &self.connection.io;
        let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(Some(connected)),
            Poll::Pending => io.poll_reset(cx).map(|()| None),
        });
        match connected.await {
            Some(Ok(up)) => {
                let took = start.elapsed();
                self.record.connect = Some(took);
                self.connection.worker.metrics.connected(&pick.version.upstream, took);
                Ok(up)
            }
            Some(Err(error)) => Err(refused(error.reason(), error.detail())),
            None => Err(refused(Reason::ClientLeft, "")),
        }
    }

    async fn exchange(
        &mut self,
        up: &Upstream,
        head_up: &[u8],
        body: &mut RequestBody,
        upgrade: Option<&Arc<str>>,
        pick: &Pick,
        seen: &Seen,
    ) -> End {
        let worker = self.connection.worker.clone();
        let settings = &pick.version.settings;
        let mut up_buffer = BytesMut::new();
        let Connection { io, buffer, timer, .. } = &mut *self.connection;
        let exchange = Exchange {
            down: io,
            up,
            down_buffer: buffer,
            up_buffer: &mut up_buffer,
            head: &self.head,
            head_up,
            body,
            upgrade,
            settings,
            may_stay: &|| !worker.is_draining(),
            total: settings.total_timeout.map(|total| self.began + total),
            timer,
            buffers: &worker.buffers,
            seen,
        };
        let mut end = exchange.run().await;
        if matches!(end, End::Upgraded) {
            end = self.tunnel(up, &up_buffer, pick, seen).await;
        }
        worker.buffers.give_back(up_buffer);
        end
    }

    /// Raw octets, until one side has had enough.
    async fn tunnel(&mut self, up: &Upstream, from_up: &[u8], pick: &Pick, seen: &Seen) -> End {
        let worker = self.connection.worker.clone();
        let _counted = worker.metrics.connection(&self.connection.door.name, "websocket");
        let quiet = pick.version.backend.transport.idle_timeout.unwrap_or(QUIET);
        let from_down = std::mem::take(&mut self.connection.buffer);
        let tunnelled = tunnel(&self.connection.io, up, &from_down, from_up, quiet, &worker.buffers).await;
        seen.body_bytes.set(tunnelled.down_bytes);
        match tunnelled.end {
            TunnelEnd::Both => End::Upgraded,
            TunnelEnd::Failed => End::Cut(Reason::Ok),
            TunnelEnd::Quiet => End::Cut(Reason::UpstreamTimeout),
        }
    }

    /// What follows from an exchange in which something was answered, or that the client ended.
    async fn finished(
        &mut self,
        end: End,
        up: Upstream,
        seen: &Seen,
        pick: &Pick,
        chosen: Instant,
    ) -> Attempt {
        let worker = &self.connection.worker;
        let status = seen.status.get().unwrap_or(0);
        if let Some(first_byte) = seen.first_byte.get() {
            let now = std::time::Instant::now();
            let took = first_byte.duration_since(chosen);
            match status {
                502..=504 => pick.endpoint.state.observe_failure(took, now),
                _ => pick.endpoint.state.observe(took, now),
            }
        }
        let finish = |status, reason| Finish { status, reason };
        let (after, finish) = match end {
            End::Answered { stays, reuse } => {
                if let Some(said) = reuse {
                    worker.pool.put(&pick.endpoint.state, up, keep_for(&pick.version.settings, said));
                }
                (if stays { After::Next } else { After::Close }, finish(status, Reason::Ok))
            }
            End::Upgraded => (After::Close, finish(status, Reason::Ok)),
            End::Cut(reason) => (After::Drop, finish(status, reason)),
            End::ClientLeft(reason) => (After::Drop, finish(499, reason)),
            End::BadRequest(reason, _) if seen.status.get().is_some() => {
                (After::Drop, finish(status, reason))
            }
            End::BadRequest(reason, detail) => self.refuse(refused(reason, detail), None).await,
            End::NoAnswer(reason, detail) => self.refuse(refused(reason, detail), None).await,
        };
        Attempt::Finished(after, finish)
    }

    /// Answers with a refusal.
    async fn refuse(
        &mut self,
        Refused { reason, detail }: Refused,
        location: Option<&[u8]>,
    ) -> (After, Finish) {
        if reason == Reason::ClientLeft {
            return (After::Drop, Finish { status: 499, reason });
        }
        // After any other refusal nobody is sure what the client means, or where its next request starts.
        let is_plain = matches!(reason.status(), Some(308 | 404 | 502..=504));
        let stays =
            is_plain && self.body_is_read && self.head.keep_alive && !self.connection.worker.is_draining();
        let refusal = Refusal {
            reason,
            detail,
            request_id: self.id.as_str(),
            to_head: self.head.method() == "HEAD",
            close: !stays,
            says_keep_alive: stays && self.head.version == Version::Http10,
            location,
        };
        let status = refusal.status();
        let written = self.connection.send(&refusal).await;
        let after = match (written, stays) {
            (false, _) => After::Drop,
            (true, true) => After::Next,
            (true, false) => After::Close,
        };
        (after, Finish { status, reason })
    }

    /// Whose request it is, and where it leads in the present table.
    fn find(&self) -> Found {
        let Connection { ends, tls, worker, .. } = &*self.connection;
        let mut reader = worker.table.borrow_mut();
        let table = reader.table();
        let trusted = worker.shared.trusted.load();
        let client = Client::of(&self.head, ends.peer.ip(), *tls, &trusted, &table.internal);
        let view = self.head.view(client.address, client.internal, client.secure);
        let route = match table.find(&view) {
            Find::Route(entry) => Ok(entry.clone()),
            Find::RedirectToHttps(entry) => Err((Reason::RedirectToHttps, Some(entry.clone()))),
            Find::Unknown => Err((Reason::NoRoute, None)),
            Find::NotSettled => Err((Reason::NotSettled, None)),
        };
        Found { client, route }
    }

    /// The same URL with `https`.
    fn https_url(&self) -> Vec<u8> {
        let (front, target) = self.head.forwarded_target();
        let port =
            self.connection.worker.shared.https_port.map_or_else(String::new, |port| format!(":{port}"));
        let target: &[u8] = if target == b"*" { b"" } else { target };
        [b"https://", self.head.host().as_bytes(), port.as_bytes(), front.as_bytes(), target].concat()
    }

    fn tell(&self, finish: &Finish) {
        let worker = &self.connection.worker;
        let Finish { status, reason } = *finish;
        let (record, took) = (&self.record, self.began.elapsed());
        let pick = record.pick.as_ref();
        let series = match (pick, &record.entry) {
            (Some(pick), _) => &pick.version.series,
            (None, Some(entry)) => &entry.series,
            (None, None) => worker.metrics.unrouted(),
        };
        worker.metrics.request_done(series, status, reason, took);
        let Some(access) = &worker.access else { return };
        let line = Line {
            client: record
                .client
                .map_or_else(|| self.connection.ends.peer.ip().to_canonical(), |client| client.address),
            method: self.head.method(),
            host: self.head.host(),
            path: self.head.path(),
            status,
            bytes: record.body_bytes,
            route: record.entry.as_ref().map_or("", |entry| &entry.name),
            backend: pick.map_or("", |pick| &pick.version.name),
            instance: pick.map_or("", |pick| pick.endpoint.key.id.as_str()),
            why: pick.map_or("", |pick| pick.why.as_str()),
            reason,
            attempts: record.attempts,
            total: took,
            connect: record.connect,
            first_byte: record.first_byte,
            request_id: self.id.as_str(),
        };
        access.line(&line, &worker.clock);
    }
}
