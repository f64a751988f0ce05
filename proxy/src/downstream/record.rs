//! What is told of a request once it has ended: to the log, to the metrics of its route, to the figures of its version.
//!
//! Not here: what an ending says of a version (see `outcome`), how lines and metrics are written (see `access_log`, `metrics`).

use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::Condition;
use tokio::time::Instant;

use super::call::Call;
use super::exchange::Seen;
use super::outcome::{Outcome, outcome};
use crate::access_log::Line;
use crate::endpoint::Endpoint;
use crate::forward::client::Client;
use crate::forward::grpc::Status;
use crate::pick::{Pick, Tried, Why};
use crate::reason::Reason;
use crate::sides::{Downstream, Source};
use crate::table::{RouteEntry, Version as Backend};
use crate::turn;

/// What is told of the request once it has ended.
#[derive(Default)]
pub(super) struct Record {
    pub(super) client: Option<Client>,
    pub(super) entry: Option<Arc<RouteEntry>>,
    pub(super) pick: Option<Pick>,
    /// Where it failed last, when that is why it has no pick.
    pub(super) failed: Option<Failed>,
    /// Who has been asked beside the picks, mostly nobody: they are not asked again either.
    pub(super) asked_too: Option<Box<Tried>>,
    pub(super) attempts: u32,
    /// Whether it is to be copied has been drawn.
    pub(super) mirrored: bool,
    /// The head of an answer may be on its way.
    pub(super) answers: bool,
    /// When the last instance was chosen.
    pub(super) chosen: Option<Instant>,
    /// How long it waited for a place at full instances.
    pub(super) queued: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    /// The same from the end of the request's body, if that came after the choice of the instance.
    pub(super) answered_in: Option<Duration>,
    pub(super) body_bytes: u64,
    /// What the instance said of the call.
    pub(super) grpc: Option<Status>,
}

/// Where a request failed; it is no longer in flight there.
pub(super) struct Failed {
    pub(super) version: Arc<Backend>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) why: Why,
}

impl Failed {
    pub(super) fn at(Pick { version, endpoint, why, in_flight: _ }: Pick) -> Self {
        Self { version, endpoint, why }
    }
}

/// How a request ended, for log and metrics.
pub(super) struct Finish {
    pub(super) status: u16,
    pub(super) reason: Reason,
}

impl<D: Downstream, B: Source> Call<'_, D, B> {
    /// Whether this says something against the instance. A deadline that the client set is the client's affair, and an
    /// instance that does not switch protocols may answer everything else well.
    pub(super) fn blames_instance(&self, reason: Reason) -> bool {
        match reason {
            Reason::OutOfFiles | Reason::UpstreamNoUpgrade | Reason::DrainEnded => false,
            Reason::TotalTimeout => self.deadline().is_none(),
            _ => true,
        }
    }

    /// Counts what the version that was asked made of the request. One that switched protocols was counted then.
    pub(super) fn count_answer(&self, finish: &Finish) {
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
    pub(super) fn count_failure(&self, pick: &Pick, reason: Reason, goes_on: bool) {
        if outcome(reason, 0, None) == Outcome::Failed && !(goes_on && self.stops(pick)) {
            self.visit.worker.metrics.attempt_done(&pick.version.series, None, true);
        }
    }

    /// Whether the instance of this pick is known to have been told to stop.
    pub(super) fn stops(&self, pick: &Pick) -> bool {
        let Some(route) = self.record.entry.as_ref().map(|entry| &entry.route.id) else { return false };
        let mut reader = self.visit.worker.table.borrow_mut();
        let of_now = reader.table().by_id(route).and_then(|entry| {
            entry.endpoints().find(|endpoint| endpoint.state.uid == pick.endpoint.state.uid)
        });
        of_now.is_some_and(|endpoint| endpoint.instance.condition == Condition::Stopping)
    }

    /// How the request ended as a call of gRPC, if it is one.
    pub(super) fn grpc_status(&self, finish: &Finish) -> Option<Status> {
        self.grpc?;
        Some(match (finish.reason, self.record.grpc) {
            (Reason::Ok, Some(said)) => said,
            (Reason::Ok, None) => Status::of_http(finish.status),
            (reason, _) => Status::of_refusal(reason),
        })
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

    pub(super) fn tell(&self, finish: &Finish) {
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
