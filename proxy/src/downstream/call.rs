//! One request: from its head to the last octet of its answer, over as many instances as it takes.
//!
//! Not here: its way over instances (see `trail`), one attempt (see `attempt`), what is told of it at its end (see `record`).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::body::Kept;
use super::exchange::TOO_LARGE;
use super::extras::Extras;
use super::fault::unless_panic;
use super::guard::{Ruling, rule};
use super::record::{Finish, Record};
use super::{After, Visit, refused, send};
use crate::deadline::Timer;
use crate::features::Features;
use crate::forward::client::Client;
use crate::forward::grpc::GrpcCall;
use crate::forward::request_id::RequestId;
use crate::forward::{PASSES_MAX, passes};
use crate::h1::{BodyLength, Known, Refused, RequestHead, Version};
use crate::pick::Pick;
use crate::reason::Reason;
use crate::refusal::{Refusal, Says};
use crate::sides::{Downstream, Source};
use crate::table::{Find, RouteEntry};
use crate::upgrade::wanted;

/// One request.
pub(crate) struct Call<'c, D, B> {
    pub(super) visit: &'c Visit,
    pub(super) down: &'c D,
    /// The rest of its body.
    pub(super) source: B,
    pub(super) timer: &'c mut Timer,
    pub(super) head: Box<RequestHead>,
    pub(super) began: Instant,
    pub(super) id: RequestId,
    /// Most octets of its body: the route's limit, else the listener's.
    pub(super) body_max: u64,
    /// It is a call of gRPC.
    pub(super) grpc: Option<GrpcCall>,
    /// What it carries along; mostly nothing.
    pub(super) extras: Option<Box<Extras>>,
    pub(super) record: Record,
}

pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
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

    /// When the client gives the request up, as far as it says.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.grpc.and_then(|call| call.deadline)
    }

    /// When the request as a whole has taken too long, by what its client says and by the longest time that is allowed.
    pub(super) fn limit(&self, total: Option<Duration>) -> Option<Instant> {
        earlier(total.map(|total| self.began + total), self.deadline())
    }

    /// The same before a version is chosen: the shortest of the route's.
    pub(super) fn limit_on(&self, entry: &RouteEntry) -> Option<Instant> {
        self.limit(entry.versions().iter().filter_map(|version| version.settings.total_timeout).min())
    }

    /// What the work for this pick gives, unless the client leaves, the instance loses its address or the request takes too long
    /// before.
    pub(super) async fn in_time<F: Future>(&mut self, pick: &Pick, work: F) -> Result<F::Output, Refused> {
        let (down, limit) = (self.down, self.limit(pick.version.settings.total_timeout));
        let (mut work, state) = (pin!(work), &*pick.endpoint.state);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if down.poll_gone(cx).is_ready() => {
                Poll::Ready(Err(refused(Reason::ClientLeft, "")))
            }
            Poll::Pending if state.is_cut_off() => Poll::Ready(Err(refused(Reason::UpstreamLost, ""))),
            Poll::Pending => match limit {
                Some(limit) => self.timer.poll_passed(cx, limit).map(|()| Err(too_late())),
                None => Poll::Pending,
            },
        })
        .await
    }

    /// Answers with a refusal.
    pub(super) async fn refuse(
        &mut self,
        Refused { reason, detail }: Refused,
        says: Says<'_>,
    ) -> (After, Finish) {
        if reason == Reason::ClientLeft {
            return (After::Drop, Finish { status: 499, reason });
        }
        self.answer(reason, detail, says).await
    }

    /// Answers without an instance.
    pub(super) async fn answer(&mut self, reason: Reason, detail: &str, says: Says<'_>) -> (After, Finish) {
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
}
