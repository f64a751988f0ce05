//! How a release is taken back: in force at once, then stored.
//!
//! It waits for nobody: neither for a store that does not answer, nor for an order that waits for it. An order that was given before
//! and is stored later finds that the release has moved on, and is refused (see [`Shared::put_in_force`]); what is stored
//! last is what is in force. Not here: whether it has to be taken back (see `fairway_release::machine`).

use std::sync::Arc;

use fairway_config::names::RouteId;
use fairway_release::machine::{Move, NoMove};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::error::{self, OrderError};
use super::super::{Done, STORED_WITHIN, Shared, Who};
use super::{ITSELF, Running, Trouble, called, consequences};
use crate::types::ReleaseEnd;

/// Who ordered a rollback, and why.
pub(super) type Ordered = (Who, String);

impl Shared {
    /// People take a release back. Answered when that is in force, and stored if the store answers in time.
    pub(super) async fn roll_back(
        self: &Arc<Self>,
        route: &str,
        order: &ReleaseEnd,
        who: &Who,
    ) -> Result<Done<(RouteId, Running)>, OrderError> {
        error::check_reason(&order.reason)?;
        let (route, running) = self.release(route)?;
        let made = match running.machine.roll_back(&called(who, order)) {
            Ok(made) => made,
            Err(NoMove::Already) => return self.answer(route, true),
            Err(NoMove::Ended | NoMove::NotReady) => return Err(self.ended(&route)),
        };
        let Some(serial) = self.take_back(&route, running.moves, &made) else {
            return Err(self.ended(&route));
        };
        let stored = self.keep(&route, Some((who.clone(), order.reason.clone())));
        let is_live = self.reach(serial).await;
        // In force it is, whatever becomes of the rest.
        let _ = stored.await;
        let is_stored = self.releases.get(&route).is_some_and(|running| running.trouble.is_none());
        self.answer(route, is_live && is_stored)
    }

    /// Takes the target's requests away, now. The serial of the change; `None` when the release has made another move since.
    pub(super) fn take_back(&self, route: &RouteId, moves: u64, made: &Move) -> Option<u64> {
        let (now, catalog, decisions) = (Timestamp::now(), self.catalog(), self.inputs.current().decisions);
        let mut planned = self.releases.get(route)?.machine;
        let before = planned.release().weight;
        planned.make(made, now);
        let then = consequences::of_move(route, planned.release(), before, (&catalog, &decisions), now);
        let serial = self.put_in_force(route, moves, &then, |running| {
            let mut running = running.unwrap_or_else(|| Running::new(planned.clone()));
            running.machine.make(made, now);
            running.trouble = Some(Trouble::Storing);
            running
        })?;
        self.releases.tell(route, planned.release());
        Some(serial)
    }

    /// Stores a rollback that is in force. Ends when it is stored, or when that takes long: then it is told, and goes on.
    pub(super) fn keep(self: &Arc<Self>, route: &RouteId, ordered: Option<Ordered>) -> JoinHandle<()> {
        let (shared, route) = (self.clone(), route.clone());
        tokio::spawn(async move {
            let (writer, kept) = (shared.clone(), route.clone());
            let mut storing = tokio::spawn(async move {
                let _turn = writer.turn.lock().await;
                // What fails is told as a problem.
                let _ = writer.store_rolled_back(&kept, ordered).await;
            });
            if timeout(STORED_WITHIN, &mut storing).await.is_err() {
                let why = format!("the store has not answered for {} s", STORED_WITHIN.as_secs());
                shared.not_stored(&route, &why);
            }
        })
    }

    /// Stores a rollback that is not stored yet, if there is one: the release, and its split and state as they are by now. To be
    /// called by who has the turn.
    pub(super) async fn store_rolled_back(
        &self,
        route: &RouteId,
        ordered: Option<Ordered>,
    ) -> Result<(), OrderError> {
        let is_due = |running: &Running| !running.is_running() && running.trouble.is_some();
        let Some(running) = self.releases.get(route).filter(is_due) else { return Ok(()) };
        let release = running.machine.release().clone();
        let then = consequences::as_in_force(&self.inputs.current().decisions, route, &release);
        let itself = || (Who { name: ITSELF.to_owned(), from: "fairway".to_owned() }, String::new());
        let (who, reason) = ordered.unwrap_or_else(itself);
        let reason = if reason.is_empty() { release.why.to_string() } else { reason };
        let detail = consequences::describe(&release, &then);
        let audit =
            super::super::audit(&who, "release-rolled-back", route, detail, &reason, Timestamp::now());
        let id = route.clone();
        match self.store(move |store| store.put_release(&id, &release, &then, &audit)).await {
            Ok(()) => {
                let was_told = running.trouble != Some(Trouble::Storing);
                let before = self.releases.change(route, |running| running.trouble.take());
                if was_told || before.flatten() != Some(Trouble::Storing) {
                    tracing::info!(%route, "the rollback is stored now");
                    self.show_releases();
                }
                Ok(())
            }
            Err(error) => {
                self.not_stored(route, &error.to_string());
                Err(error)
            }
        }
    }

    /// Tells that a rollback is not stored, unless it is by now.
    fn not_stored(&self, route: &RouteId, why: &str) {
        let trouble = Trouble::NotStored(why.to_owned());
        let is_news = self.releases.change(route, |running| {
            let is_news = running.trouble.as_ref().is_some_and(|known| *known != trouble);
            if is_news {
                running.trouble = Some(trouble);
            }
            is_news
        });
        if is_news == Some(true) {
            tracing::error!(%route, why, "the rollback is in force and not stored: a restart now would go on with the release");
            self.show_releases();
        }
    }
}
