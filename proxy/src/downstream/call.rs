//! One request: from its head to the last octet of its answer, over as many instances as it takes.
//!
//! Not here: who is chosen (see `pick`), what happens on one connection (see `exchange`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use fairway_catalog::Condition;
use fairway_config::labels::Protocol;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::body::Kept;
use super::exchange::{End, Exchange, Seen, TOO_LARGE};
use super::extras::Extras;
use super::fault::unless_panic;
use super::guard::{Ruling, rule};
use super::hedge::Asked;
use super::lost;
use super::mirror;
use super::outcome::{Outcome, outcome};
use super::{After, Visit, refused, send};
use crate::access_log::Line;
use crate::deadline::Timer;
use crate::endpoint::{Endpoint, EndpointState};
use crate::features::edits::Words;
use crate::features::{Applied, Features};
use crate::forward::client::Client;
use crate::forward::grpc::{GrpcCall, Status};
use crate::forward::request_id::RequestId;
use crate::forward::{Origin, PASSES_MAX, passes, write_request};
use crate::h1::{BodyLength, Known, Refused, RequestHead, Version};
use crate::hold::{HOLD, NotHeld, hold, until_listening};
use crate::outlier::{Knocking, Next};
use crate::pick::{Crowded, NoInstance, Pick, Tried, Why};
use crate::queue::Told;
use crate::reason::Reason;
use crate::refusal::{Refusal, Says};
use crate::sides::http1::{Ending, Incoming};
use crate::sides::{Answers, Downstream, Sink, Source};
use crate::stream::Stream;
use crate::table::{Find, RouteEntry, Version as Backend};
use crate::turn;
use crate::upgrade::{QUIET, TunnelEnd, tunnel, wanted};
use crate::upstream::pool::Wanted;
use crate::upstream::{Upstream, connect, keep_for};

/// How long a request waits for another instance when its only one failed and nothing says yet that it stops: as long as
/// news of a container that died may take.
const NEWS: Duration = Duration::from_secs(1);

/// Most instances tried, whatever the labels say.
const ATTEMPTS_MAX: u32 = 12;

/// One request.
pub(crate) struct Call<'c, D, B> {
    pub(super) visit: &'c Visit,
    pub(super) down: &'c D,
    /// The rest of its body.
    source: B,
    timer: &'c mut Timer,
    pub(super) head: Box<RequestHead>,
    pub(super) began: Instant,
    id: RequestId,
    /// Most octets of its body: the route's limit, else the listener's.
    body_max: u64,
    /// It is a call of gRPC.
    grpc: Option<GrpcCall>,
    /// What it carries along; mostly nothing.
    extras: Option<Box<Extras>>,
    pub(super) record: Record,
}

/// What is told of the request once it has ended.
#[derive(Default)]
pub(super) struct Record {
    client: Option<Client>,
    pub(super) entry: Option<Arc<RouteEntry>>,
    pick: Option<Pick>,
    /// Where it failed last, when that is why it has no pick.
    failed: Option<Failed>,
    pub(super) attempts: u32,
    /// The head of an answer may be on its way.
    answers: bool,
    /// When the last instance was chosen.
    chosen: Option<Instant>,
    /// How long it waited for a place at full instances.
    queued: Option<Duration>,
    pub(super) connect: Option<Duration>,
    first_byte: Option<Duration>,
    /// The same from the end of the request's body, if that came after the choice of the instance.
    answered_in: Option<Duration>,
    body_bytes: u64,
    /// What the instance said of the call.
    grpc: Option<Status>,
}

/// Where a request failed; it is no longer in flight there.
struct Failed {
    version: Arc<Backend>,
    endpoint: Arc<Endpoint>,
    why: Why,
}

impl Failed {
    fn at(Pick { version, endpoint, why, in_flight: _ }: Pick) -> Self {
        Self { version, endpoint, why }
    }
}

/// A request as an instance gets it.
pub(super) struct Prepared<'a> {
    pub(super) head_up: &'a [u8],
    pub(super) kept: &'a mut Kept,
    pub(super) upgrade: Option<&'a Arc<str>>,
    /// It has been sent on the connection already.
    pub(super) sent: bool,
}

/// What became of one attempt.
pub(super) enum Attempt {
    /// The request has its answer, or can have none any more.
    Finished(After, Finish),
    /// The instance failed it, and it may go to another one if `again`.
    Failed { refused: Refused, again: bool },
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// The request has taken longer than its route or its client allows.
pub(super) fn too_late() -> Refused {
    refused(Reason::TotalTimeout, "the request took longer than its route allows")
}

/// Whose request it is, and where it leads.
struct Found {
    client: Client,
    route: Result<Arc<RouteEntry>, (Reason, Option<Arc<RouteEntry>>)>,
}

impl Found {
    fn entry(&self) -> Option<&RouteEntry> {
        match &self.route {
            Ok(entry) => Some(entry),
            Err((_, entry)) => entry.as_deref(),
        }
    }
}

/// How a request ended, for log and metrics.
pub(super) struct Finish {
    status: u16,
    reason: Reason,
}

impl<'c, D: Downstream, B: Source> Call<'c, D, B> {
    pub(crate) fn new(
        visit: &'c Visit,
        down: &'c D,
        source: B,
        timer: &'c mut Timer,
        head: Box<RequestHead>,
        began: Instant,
    ) -> Self {
        // Replaced once the peer is known to be trusted, and says an id.
        let id = RequestId::random(&mut visit.worker.rng.borrow_mut());
        let body_max = visit.door.limits.get().body_max.unwrap_or(u64::MAX);
        let grpc = GrpcCall::of(&head, began);
        Self {
            visit,
            down,
            source,
            timer,
            head,
            began,
            id,
            body_max,
            grpc,
            extras: None,
            record: Record::default(),
        }
    }

    pub(crate) async fn run(mut self) -> After {
        let served = {
            let mut serving = pin!(self.serve_or_refuse());
            poll_fn(|cx| unless_panic(|| serving.as_mut().poll(cx))).await
        };
        let (after, finish) = match served {
            Some(served) => served,
            None => self.fault().await,
        };
        self.tell(&finish);
        after
    }

    async fn serve_or_refuse(&mut self) -> (After, Finish) {
        match self.serve().await {
            Ok(served) => served,
            Err(refused) => self.refuse(refused, Says::Nothing).await,
        }
    }

    /// Ends a request in which our own code panicked: its client is told as far as that can still be done.
    async fn fault(&mut self) -> (After, Finish) {
        let finish = Finish { status: 500, reason: Reason::Internal };
        let mut after = After::Drop;
        // A stream takes one head at most, a connection of HTTP/1.1 as many as it is given.
        if D::HTTP2 || !self.record.answers {
            (after, _) = self.answer(Reason::Internal, "", Says::Nothing).await;
        }
        if after == After::Drop {
            self.down.cut(BodyLength::UntilClose);
        }
        (after, finish)
    }

    /// Finds the route and gets the answer. What is refused without an instance's doing comes back as an error.
    async fn serve(&mut self) -> Result<(After, Finish), Refused> {
        let found = self.find();
        let client = found.client;
        self.record.client = Some(client);
        self.extras = Extras::of(&self.head, &client, found.entry());
        if client.peer_is_trusted
            && let Some(id) = self.head.first(Known::XRequestId).and_then(RequestId::sent)
        {
            self.id = id;
        }
        // What is there of the body is taken first: if that is all of it, a refusal need not end the connection.
        let first = self.source.there().await;
        let mut kept =
            Kept::new(&self.head, first).map_err(|error| refused(Reason::BodyInvalid, error.text()))?;
        self.source.rest();
        let worker = &self.visit.worker;
        if let Some(answer) = worker.shared.certificates.challenges.request(self.head.path()) {
            return Ok(self.answer(Reason::AcmeChallenge, &answer, Says::Nothing).await);
        }
        if self.visit.is_misdirected(self.head.host()) {
            return Err(refused(Reason::Misdirected, "this connection was made for another host"));
        }
        if passes(&self.head, &worker.shared.node) > PASSES_MAX {
            return Err(refused(Reason::Loop, "`Via` names this node more than 5 times"));
        }
        let entry = match found.route {
            Ok(entry) => entry,
            Err((Reason::RedirectToHttps, entry)) => {
                self.record.entry = entry;
                let location = self.https_url();
                return Ok(self
                    .refuse(refused(Reason::RedirectToHttps, ""), Says::Location(&location))
                    .await);
            }
            Err((Reason::PathInvalid, entry)) => {
                self.record.entry = entry;
                return Err(refused(
                    Reason::PathInvalid,
                    "a server could read it as the path of a guarded route",
                ));
            }
            Err((reason, _)) => return Err(refused(reason, "")),
        };
        self.record.entry = Some(entry.clone());
        if let Some(features) = &entry.features
            && features.answers_itself()
            && let Some(answered) = Box::pin(self.guard(features, &client)).await?
        {
            return Ok(answered);
        }
        self.body_max = entry.route.body_max.unwrap_or(self.body_max);
        let too_large = matches!(self.head.body, BodyLength::Exactly(octets) if octets > self.body_max);
        if too_large || kept.octets() > self.body_max {
            return Err(refused(Reason::BodyTooLarge, TOO_LARGE));
        }
        let upgrade = wanted(&self.head, &self.visit.door.upgrades)?;
        self.over_instances(entry, client, &mut kept, upgrade).await
    }

    /// What the route's features answer without asking an instance.
    async fn guard(
        &mut self,
        features: &Features,
        client: &Client,
    ) -> Result<Option<(After, Finish)>, Refused> {
        let ruling = rule(features, &self.head, client, self.down).await?;
        let (reason, says) = match &ruling {
            Ruling::Serve => return Ok(None),
            Ruling::Wait(reason, seconds) => (*reason, Says::RetryAfter(*seconds)),
            Ruling::LogIn(challenge) => (Reason::Unauthorized, Says::Challenge(challenge)),
            Ruling::GoTo(status, location) => {
                (Reason::Redirected, Says::Redirect(*status, location.as_bytes()))
            }
        };
        Ok(Some(self.refuse(refused(reason, ""), says).await))
    }

    /// Sends the request to one instance after the other, until one answers or the request may go no further.
    async fn over_instances(
        &mut self,
        mut entry: Arc<RouteEntry>,
        client: Client,
        kept: &mut Kept,
        upgrade: Option<&Arc<str>>,
    ) -> Result<(After, Finish), Refused> {
        let worker = &self.visit.worker;
        let mut tried = Tried::default();
        let mut retries = 0;
        let mut last: Option<(Refused, Failed)> = None;
        let mut knocking = Knocking::default();
        loop {
            let view = self.head.view(client.address, client.internal, client.secure);
            let bound = self.extras.as_ref().and_then(|extras| extras.bound());
            let now = turn::now().into_std();
            let picked = entry.pick_bound(&view, bound, &tried, &mut worker.rng.borrow_mut(), now);
            let pick = match picked {
                Ok(pick) => pick,
                // Boxed, so that others need no room for it.
                Err(NoInstance::Full(crowded)) => {
                    match Box::pin(self.wait_for_place(&mut entry, crowded, &client, &tried)).await? {
                        Some(pick) => pick,
                        None => continue,
                    }
                }
                Err(NoInstance::NoneReady) => {
                    let refused = last.as_ref().map(|(refused, _)| *refused);
                    entry = match self.wait_for_instance(&entry, &tried, refused).await {
                        Ok(entry) => entry,
                        Err(why) => {
                            // Told as that of the instance that failed the request, if it is that failure.
                            self.record.failed =
                                last.filter(|(refused, _)| refused.reason == why.reason).map(|(_, at)| at);
                            return Err(why);
                        }
                    };
                    self.record.entry = Some(entry.clone());
                    continue;
                }
            };
            let next = knocking.next(&pick.endpoint.state, turn::now().into_std());
            if next != Next::Ask {
                if next == Next::Wait {
                    let (state, refusal) =
                        (pick.endpoint.state.clone(), last.as_ref().map(|(refused, _)| *refused));
                    drop(pick);
                    // Boxed, so that others need no room for it.
                    if let Err(why) = Box::pin(self.until_it_listens(&entry, &state, refusal)).await? {
                        self.record.failed = last.map(|(_, at)| at);
                        return Err(why);
                    }
                    knocking.waited_for(&state);
                    self.renew(&mut entry);
                }
                continue;
            }
            self.record.attempts += 1;
            self.record.pick = Some(pick);
            let chosen = turn::now();
            self.record.chosen = Some(chosen);
            let (refused, again) = match self.attempt(client, kept, upgrade).await {
                Attempt::Finished(after, finish) => {
                    self.count_answer(&finish);
                    return Ok((after, finish));
                }
                Attempt::Failed { refused, again } => (refused, again),
            };
            let Some(pick) = self.record.pick.take() else { return Err(refused) };
            if refused.reason == Reason::ConnectFailed
                && pick.endpoint.may_yet_listen()
                && self.still_serves(&entry, &pick)
            {
                // As if it had not been asked: it has just started.
                let state = &pick.endpoint.state;
                state.peers.does_not_listen(state, turn::now().into_std());
                self.record.attempts -= 1;
                last = Some((refused, Failed::at(pick)));
                continue;
            }
            tried.add(&pick);
            let now = turn::now().into_std();
            if !refused.reason.is_of_the_way() {
                self.record.pick = Some(pick);
                return Err(refused);
            }
            if self.blames_instance(refused.reason) {
                let state = &pick.endpoint.state;
                state.observe_failure(turn::now().duration_since(chosen), now, refused.reason.as_str());
                state.keep_failure(refused.reason, refused.detail);
            }
            // One that is known to stop, or gone, costs nobody a retry: that is what a deploy looks like.
            let mut free = !self.still_serves(&entry, &pick);
            let settings = &pick.version.settings;
            let limit = self.limit(settings.total_timeout);
            let is_late = limit.is_some_and(|limit| limit <= turn::now());
            let again = again && self.record.attempts < ATTEMPTS_MAX && !is_late;
            let mut allowed =
                again && (free || (retries < u32::from(settings.retries) && entry.may_retry(now)));
            // Nobody listens there: when several are replaced at a time, the news of some may still be on its way.
            if again && !allowed && refused.reason == Reason::ConnectFailed {
                let until = earlier(Some(turn::now() + NEWS), limit).unwrap_or(chosen);
                pick.in_flight.end(); // or else requests that wait for news would keep the instance full
                free = Box::pin(lost::leaves(&worker.handle, &entry, &pick, until)).await;
                allowed = free;
            }
            self.count_failure(&pick, refused.reason, allowed);
            if !allowed {
                self.record.pick = Some(pick);
                return Err(refused);
            }
            retries += u32::from(!free);
            worker.metrics.retried(&pick.version.upstream, refused.reason);
            if let Some(extras) = &mut self.extras {
                extras.failed(&pick, refused.reason);
            }
            last = Some((refused, Failed::at(pick)));
            // The next choice is made from the table of now.
            if let Some(newer) = worker.table.borrow_mut().table().by_id(&entry.route.id) {
                entry = newer.clone();
            }
        }
    }

    /// Whether this says something against the instance. A deadline that the client set is the client's affair, and an
    /// instance that does not switch protocols may answer everything else well.
    fn blames_instance(&self, reason: Reason) -> bool {
        match reason {
            Reason::OutOfFiles | Reason::UpstreamNoUpgrade | Reason::DrainEnded => false,
            Reason::TotalTimeout => self.deadline().is_none(),
            _ => true,
        }
    }

    /// Counts what the version that was asked made of the request. One that switched protocols was counted then.
    fn count_answer(&self, finish: &Finish) {
        let Some(pick) = self.record.pick.as_ref().filter(|_| finish.status != 101) else { return };
        let failed = match outcome(finish.reason, finish.status, self.grpc_status(finish)) {
            Outcome::Served => false,
            Outcome::Failed => true,
            Outcome::Nothing => return,
        };
        self.visit.worker.metrics.attempt_done(&pick.version.series, self.record.answered_in, failed);
    }

    /// Counts that a version gave no answer, whether another instance is asked instead or not. An instance that was told to
    /// stop may pass requests on to others: that is no failure, but the way of every deploy.
    fn count_failure(&self, pick: &Pick, reason: Reason, goes_on: bool) {
        if outcome(reason, 0, None) == Outcome::Failed && !(goes_on && self.stops(pick)) {
            self.visit.worker.metrics.attempt_done(&pick.version.series, None, true);
        }
    }

    /// Whether the instance of this pick is known to have been told to stop.
    fn stops(&self, pick: &Pick) -> bool {
        let Some(route) = self.record.entry.as_ref().map(|entry| &entry.route.id) else { return false };
        let mut reader = self.visit.worker.table.borrow_mut();
        let of_now = reader.table().by_id(route).and_then(|entry| {
            entry.endpoints().find(|endpoint| endpoint.state.uid == pick.endpoint.state.uid)
        });
        of_now.is_some_and(|endpoint| endpoint.instance.condition == Condition::Stopping)
    }

    /// How the request ended as a call of gRPC, if it is one.
    fn grpc_status(&self, finish: &Finish) -> Option<Status> {
        self.grpc?;
        Some(match (finish.reason, self.record.grpc) {
            (Reason::Ok, Some(said)) => said,
            (Reason::Ok, None) => Status::of_http(finish.status),
            (reason, _) => Status::of_refusal(reason),
        })
    }

    /// Whether the present table still sends new clients to this instance.
    fn still_serves(&self, entry: &RouteEntry, pick: &Pick) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        reader.table().by_id(&entry.route.id).is_some_and(|newest| newest.serves_new_at(pick))
    }

    /// Holds the request until the route has an instance that it has not been at (design rule 6).
    async fn wait_for_instance(
        &mut self,
        entry: &Arc<RouteEntry>,
        tried: &Tried,
        last: Option<Refused>,
    ) -> Result<Arc<RouteEntry>, Refused> {
        let held_until = self.began + HOLD;
        let deadline = earlier(Some(held_until), self.limit_on(entry)).unwrap_or(held_until);
        let route = &entry.route.id;
        // An instance that fails though nobody says that it stops: perhaps the news is on its way.
        if let Some(last) = last {
            let soon = deadline.min(turn::now() + NEWS);
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

    /// Waits until it is this request's turn to find out whether an instance listens that has just started, or there is
    /// news; as long as a request may be held.
    async fn until_it_listens(
        &self,
        entry: &RouteEntry,
        state: &EndpointState,
        last: Option<Refused>,
    ) -> Result<Result<(), Refused>, Refused> {
        let held_until = self.began + HOLD;
        let deadline = earlier(Some(held_until), self.limit_on(entry)).unwrap_or(held_until);
        let mut waiting = pin!(until_listening(&self.visit.worker.handle, &entry.route.id, state, deadline));
        let waited = self.unless_client_leaves(|cx| waiting.as_mut().poll(cx)).await?;
        Ok(waited.map_err(|error| match (error, last) {
            (NotHeld::Expired, Some(last)) => last,
            (error, _) => refused(error.reason(), ""),
        }))
    }

    /// Waits until the deadline, unless the client leaves.
    async fn held(
        &self,
        route: &fairway_config::names::RouteId,
        tried: &Tried,
        deadline: Instant,
    ) -> Result<Result<Arc<RouteEntry>, Reason>, Refused> {
        let mut holding = pin!(hold(&self.visit.worker.handle, route, tried, deadline));
        let held = self.unless_client_leaves(|cx| holding.as_mut().poll(cx)).await?;
        Ok(held.map_err(|error| error.reason()))
    }

    async fn unless_client_leaves<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Refused> {
        let down = self.down;
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => down.poll_left(cx).map(|()| Err(refused(Reason::ClientLeft, ""))),
        })
        .await
    }

    /// Waits for a place at an instance of the route, all of which are full; `None`: the route has changed, choose again.
    async fn wait_for_place(
        &mut self,
        entry: &mut Arc<RouteEntry>,
        crowded: Crowded,
        client: &Client,
        tried: &Tried,
    ) -> Result<Option<Pick>, Refused> {
        let (worker, down) = (&self.visit.worker, self.down);
        let limits = &worker.handle.queue_limits;
        let began = turn::now();
        // What it has waited before counts: a route that changes all the time must not hold it for ever.
        let waited = self.record.queued.unwrap_or_default();
        let longest = began + limits.longest().saturating_sub(waited);
        let until = earlier(Some(longest), self.limit_on(entry)).unwrap_or(longest);
        let refuse = |reason| Err(refused(reason, ""));
        if limits.most() == 0 {
            return refuse(Reason::InstancesFull);
        }
        let Ok(mut place) = entry.queue.enter(entry, crowded, tried, until, limits.most()) else {
            return refuse(Reason::QueueFull);
        };
        if self.renew(entry) {
            return Ok(None);
        }
        let view = self.head.view(client.address, client.internal, client.secure);
        let now = began.into_std();
        if let Some(pick) = entry.pick_crowded(crowded, &view, tried, &mut worker.rng.borrow_mut(), now) {
            return Ok(Some(pick));
        }
        let told = {
            let mut told = pin!(place.told());
            poll_fn(|cx| match told.as_mut().poll(cx) {
                Poll::Ready(told) => Poll::Ready(Ok(told)),
                Poll::Pending => down.poll_left(cx).map(|()| Err(refused(Reason::ClientLeft, ""))),
            })
            .await
        };
        let took = turn::now().duration_since(began);
        self.record.queued = Some(waited + took);
        entry.series.queued(took);
        match told? {
            None => refuse(Reason::InstancesFull),
            Some(Told::Look) => {
                self.renew(entry);
                Ok(None)
            }
            Some(Told::Place(in_flight)) => {
                self.renew(entry);
                Ok(entry.pick_at(in_flight, crowded.why, tried, turn::now().into_std()))
            }
        }
    }

    /// Takes the route's entry from the table of now; whether it is another.
    fn renew(&self, entry: &mut Arc<RouteEntry>) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        let Some(newest) = reader.table().by_id(&entry.route.id) else { return false };
        let is_new = !Arc::ptr_eq(newest, entry);
        if is_new {
            *entry = newest.clone();
        }
        is_new
    }

    fn has_serving(&self, route: &fairway_config::names::RouteId) -> bool {
        let mut reader = self.visit.worker.table.borrow_mut();
        reader.table().by_id(route).is_some_and(|entry| entry.has_serving())
    }

    /// Sends the request to the instance that was picked.
    async fn attempt(&mut self, client: Client, kept: &mut Kept, upgrade: Option<&Arc<str>>) -> Attempt {
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
            Protocol::H2c | Protocol::H2 => Box::pin(self.over_http2(&pick, request)).await,
        };
        worker.buffers.give_back_head(head_up);
        self.record.pick = Some(pick);
        attempt
    }

    /// Sends the request over a connection of its own for the time being: a pooled one, or a new one.
    /// Or over one on which it was sent already.
    async fn over_http1(&mut self, pick: &Pick, mut request: Prepared<'_>, asked: Option<Asked>) -> Attempt {
        let worker = &self.visit.worker;
        let chosen = asked.as_ref().map_or_else(turn::now, |asked| asked.chosen);
        // A connection that the instance closed at the same moment is no failure of the instance: once more on a new one.
        let wanted = if !request.kept.will_be_whole(&self.head) {
            Wanted::New
        } else if self.head.is_idempotent() {
            Wanted::Open
        } else {
            Wanted::Fresh
        };
        let kept = self.visit.kept(pick.version.settings.proxy_protocol);
        let (mut pooled, mut read) = match asked {
            Some(asked) => (Some(asked.up), asked.read),
            None => (kept.pool.take(&pick.endpoint.state, wanted), BytesMut::new()),
        };
        loop {
            let reused = pooled.is_some();
            let up = match pooled.take() {
                Some(up) => up,
                None => match self.open(pick).await {
                    Ok(up) => up,
                    Err(refused) => return Attempt::Failed { refused, again: true },
                },
            };
            let (seen, mut buffer) = (Seen::default(), std::mem::take(&mut read));
            let begun = !buffer.is_empty();
            let mut answers =
                Incoming { io: &up, buffer: &mut buffer, buffers: &worker.buffers, begun, ended: None };
            let end = self.exchange(&up, &mut answers, &mut request, pick, &seen).await;
            request.sent = false;
            let untouched = !answers.has_begun() && seen.status.get().is_none();
            let repeatable = self.may_repeat(untouched, &seen, &request);
            let (whole, ended) = (untouched && lost::is_there(&seen, request.kept), answers.ended);
            worker.buffers.give_back(buffer);
            let again = repeatable || whole && lost::came_late(&up, ended, &seen);
            self.note(&seen, chosen);
            match end {
                End::NoAnswer(Reason::UpstreamClosed, _) if reused && again => {}
                End::Answered { reuse: Some(said), .. } => {
                    kept.pool.put(&pick.endpoint.state, up, keep_for(&pick.version.settings, said));
                    return self.finished(end, &seen, again, pick, chosen).await;
                }
                End::NoAnswer(Reason::UpstreamClosed, _) if !again && whole && lost::is_one_read(&seen) => {
                    let link = up.into_inner();
                    let lost = Box::pin(self.was_lost(link.tcp(), ended, pick, chosen)).await;
                    return self.finished(end, &seen, lost, pick, chosen).await;
                }
                end => return self.finished(end, &seen, again, pick, chosen).await,
            }
        }
    }

    /// Whether a request that was written at once was never read, since the instance is leaving. May wait for the news.
    async fn was_lost(&self, tcp: &TcpStream, ended: Option<Ending>, pick: &Pick, chosen: Instant) -> bool {
        let Some(entry) = &self.record.entry else { return false };
        let news = (&*self.visit.worker.handle, &**entry, pick);
        pick.in_flight.end(); // the instance is done with it, and others wait for its place
        let left = self.limit(pick.version.settings.total_timeout);
        let left = left.map_or(NEWS, |limit| limit.saturating_duration_since(turn::now()));
        lost::was_lost(tcp, ended, chosen, news, left.min(NEWS)).await
    }

    /// Whether the request may be sent again after an attempt that came this far.
    pub(super) fn may_repeat(&self, untouched: bool, seen: &Seen, request: &Prepared<'_>) -> bool {
        untouched && request.kept.repeatable && (seen.sent.get() == 0 || self.head.is_idempotent())
    }

    /// Whether the route's budget has one more retry, which is spent then.
    pub(super) fn may_retry(&self) -> bool {
        self.record.entry.as_ref().is_some_and(|entry| entry.may_retry(turn::now().into_std()))
    }

    /// Notes what was seen of an attempt.
    pub(super) fn note(&mut self, seen: &Seen, chosen: Instant) {
        let first_byte = seen.first_byte.get();
        let asked = seen.waited_for_client.get().filter(|whole| first_byte.is_some_and(|at| *whole < at));
        self.record.first_byte = first_byte.map(|at| at.duration_since(chosen));
        self.record.answered_in = first_byte.map(|at| at.duration_since(asked.unwrap_or(chosen)));
        self.record.body_bytes = seen.body_bytes.get();
        self.record.grpc = seen.grpc.get();
    }

    /// When the client gives the request up, as far as it says.
    fn deadline(&self) -> Option<Instant> {
        self.grpc.and_then(|call| call.deadline)
    }

    /// When the request as a whole has taken too long, by what its client says and by the longest time that is allowed.
    pub(super) fn limit(&self, total: Option<Duration>) -> Option<Instant> {
        earlier(total.map(|total| self.began + total), self.deadline())
    }

    /// The same before a version is chosen: the shortest of the route's.
    fn limit_on(&self, entry: &RouteEntry) -> Option<Instant> {
        self.limit(entry.versions().iter().filter_map(|version| version.settings.total_timeout).min())
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

    /// What the work for this pick gives, unless the client leaves or the request takes too long before.
    pub(super) async fn in_time<F: Future>(&mut self, pick: &Pick, work: F) -> Result<F::Output, Refused> {
        let (down, limit) = (self.down, self.limit(pick.version.settings.total_timeout));
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if down.poll_gone(cx).is_ready() => {
                Poll::Ready(Err(refused(Reason::ClientLeft, "")))
            }
            Poll::Pending => match limit {
                Some(limit) => self.timer.poll_passed(cx, limit).map(|()| Err(too_late())),
                None => Poll::Pending,
            },
        })
        .await
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
    async fn tunnel<O: Sink, A: Answers>(
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
                && matches!(reason, Reason::UpstreamClosed | Reason::UpstreamRefused | Reason::DrainEnded);
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

    /// Answers with a refusal.
    async fn refuse(&mut self, Refused { reason, detail }: Refused, says: Says<'_>) -> (After, Finish) {
        if reason == Reason::ClientLeft {
            return (After::Drop, Finish { status: 499, reason });
        }
        self.answer(reason, detail, says).await
    }

    /// Answers without an instance.
    async fn answer(&mut self, reason: Reason, detail: &str, says: Says<'_>) -> (After, Finish) {
        // After any other refusal nobody is sure what the client means, or where its next request starts.
        let is_plain = matches!(reason.status(), Some(200 | 307 | 308 | 401 | 403 | 404 | 429 | 502..=504));
        let stays = is_plain && self.source.is_done() && self.head.keep_alive && self.visit.may_stay();
        let entry = self.record.entry.as_deref();
        let added = self.extras.as_ref().map(|extras| extras.line_of_refusal(reason, entry));
        let refusal = Refusal {
            reason,
            detail,
            request_id: self.id.as_str(),
            to_head: self.head.is_head(),
            close: !stays,
            says_keep_alive: stays && self.head.version == Version::Http10,
            says,
            added: added.as_deref().unwrap_or_default(),
            hsts: self.visit.hsts(),
            grpc: D::HTTP2 && self.grpc.is_some(),
        };
        let status = refusal.status();
        self.record.answers = true;
        let written = send(self.down, self.timer, &refusal, &self.visit.worker).await;
        let after = match (written, stays) {
            (false, _) => After::Drop,
            (true, true) => After::Next,
            (true, false) => After::Close,
        };
        (after, Finish { status, reason })
    }

    /// Whose request it is, and where it leads in the present table.
    fn find(&self) -> Found {
        let Visit { ends, tls, door, worker, .. } = self.visit;
        let mut reader = worker.table.borrow_mut();
        let table = reader.table();
        let trusted = worker.shared.trusted.load();
        let client = Client::of(&self.head, ends.peer.ip(), *tls, &trusted, &table.internal);
        let view = self.head.view(client.address, client.internal, client.secure);
        let to_https = |host| door.redirect_to_https && !client.secure && !table.is_internal_name(host);
        let found = match &door.route {
            Some(id) => table.by_id(id).map_or(Find::Unknown, Find::Route),
            None => table.find(&view),
        };
        let route = match found {
            Find::Route(entry) if to_https(view.host) => Err((Reason::RedirectToHttps, Some(entry.clone()))),
            Find::Route(entry) => Ok(entry.clone()),
            Find::RedirectToHttps(entry) => Err((Reason::RedirectToHttps, Some(entry.clone()))),
            Find::Disguised(entry) => Err((Reason::PathInvalid, Some(entry.clone()))),
            Find::Unknown => Err((Reason::NoRoute, None)),
            Find::NotSettled => Err((Reason::NotSettled, None)),
        };
        Found { client, route }
    }

    /// The same URL with `https`.
    fn https_url(&self) -> Vec<u8> {
        let (front, target) = self.head.forwarded_target();
        let port = self.visit.worker.shared.https_port().map_or_else(String::new, |port| format!(":{port}"));
        let target: &[u8] = if target == b"*" { b"" } else { target };
        [b"https://", self.head.host().as_bytes(), port.as_bytes(), front.as_bytes(), target].concat()
    }

    fn tell(&self, finish: &Finish) {
        let worker = &self.visit.worker;
        let Finish { status, reason } = *finish;
        let (record, took) = (&self.record, turn::now().duration_since(self.began));
        let of_pick = record.pick.as_ref().map(|pick| (&pick.version, &pick.endpoint, pick.why));
        let of_failed = || record.failed.as_ref().map(|at| (&at.version, &at.endpoint, at.why));
        let at = of_pick.or_else(of_failed);
        let series = match (at, &record.entry) {
            (Some((version, ..)), _) => &version.series,
            (None, Some(entry)) => &entry.series,
            (None, None) => worker.metrics.unrouted(),
        };
        worker.metrics.request_done(series, status, reason, took);
        let grpc = self.grpc_status(finish);
        if let Some(grpc) = grpc {
            worker.metrics.grpc_done(series, grpc);
        }
        let Some(access) = &worker.access else { return };
        let line = Line {
            client: record
                .client
                .map_or_else(|| self.visit.ends.peer.ip().to_canonical(), |client| client.address),
            method: self.head.method(),
            host: self.head.host(),
            path: self.head.path(),
            status,
            bytes: record.body_bytes,
            route: record.entry.as_ref().map_or("", |entry| &entry.name),
            backend: at.map_or("", |(version, ..)| &version.name),
            instance: at.map_or("", |(_, endpoint, _)| endpoint.key.id.as_str()),
            why: at.map_or("", |(.., why)| why.as_str()),
            reason,
            grpc_status: grpc.map(Status::name),
            attempts: record.attempts,
            total: took,
            queued: record.queued,
            connect: record.connect,
            first_byte: record.first_byte,
            request_id: self.id.as_str(),
        };
        access.line(&line, &worker.clock);
    }
}

/// The features of the request's route, if it has any.
fn applied<'a>(record: &'a Record, head: &'a RequestHead, id: &'a RequestId) -> Option<Applied<'a>> {
    let features = record.entry.as_ref()?.features.as_deref()?;
    let client = record.client?;
    let words = Words { host: head.host(), client: client.address, id: id.as_str(), secure: client.secure };
    Some(Applied { features, words })
}
