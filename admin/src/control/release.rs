//! Orders about releases, and the moves that they make by themselves.
//!
//! - here: who is asked, what an order needs, how a move is made: stored, then in force; a rollback the other way round.
//! - `consequences`: what a move makes of split and states.
//! - `running`: the releases that there are, and what others see of them.
//! - `watch`: the look at each release, every second.
//! - `leftovers`: states of versions that have gone.
//!
//! Not here: what a release does next (see `fairway_release::machine`).

mod consequences;
mod leftovers;
mod running;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::{Member, Route, State};
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_release::machine::{Machine, Move, NoMove, Second};
use fairway_release::model::{Release, Stage};
use fairway_release::plan::Plan;
use fairway_store::Consequences;
use jiff::Timestamp;

use super::error::{self, OrderError};
use super::names::find_route;
use super::weights::{self, WeightError};
use super::{Control, Done, Shared, Who};
use crate::types::{ReleaseEnd, ReleaseOrder};
use consequences::of_move;
pub(crate) use running::{Releases, Running};
pub use watch::Figures;

/// Who is named for what a release does by itself.
const ITSELF: &str = "release";

/// What people do to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Confirm,
    RollBack,
    Pause,
    Resume,
}

/// How a move is carried out.
struct Order<'a> {
    route: &'a RouteId,
    made: &'a Move,
    /// Split and states stay as they are.
    keep_weights: bool,
    who: &'a Who,
    reason: &'a str,
}

impl Control {
    /// Goes on with the releases of an earlier run. To be called before anything else is ordered.
    pub fn take_up(&self, kept: BTreeMap<RouteId, Release>) {
        self.0.releases.take_up(kept, Timestamp::now());
        self.0.show_releases(|_| {});
    }

    /// Looks at every release each second, for ever.
    pub async fn watch_releases(self, figures: Arc<dyn Figures>) {
        watch::watch(&self.0, &*figures).await;
    }

    /// One look at every release, so much time after the last one.
    #[cfg(test)]
    pub(crate) async fn look_at_releases(&self, figures: &dyn Figures, passed: Duration) {
        watch::look_at_all(&self.0, figures, passed, true).await;
    }

    /// Lifts what releases left behind, so much time after the last look at it.
    #[cfg(test)]
    pub(crate) async fn clear_leftovers(&self, absent: &mut leftovers::Absent, passed: Duration) {
        self.0.clear_leftovers(absent, passed).await;
    }

    /// The last release of a route.
    pub(crate) fn release(&self, route: &str) -> Result<(RouteId, Running), OrderError> {
        self.0.release(route)
    }

    /// Each route's last release.
    pub(crate) fn releases(&self) -> BTreeMap<RouteId, Running> {
        self.0.releases.all()
    }

    /// How many releases ended, by how.
    pub(crate) fn endings(&self) -> &prometheus::IntCounterVec {
        self.0.releases.endings()
    }

    /// Begins a release.
    pub(crate) async fn start_release(
        &self,
        route: String,
        order: ReleaseOrder,
        who: Who,
    ) -> Result<Done<(RouteId, Running)>, OrderError> {
        self.carry_out(move |shared| async move { shared.start_release(&route, &order, &who).await }).await
    }

    /// Lets people have their way with a release.
    pub(crate) async fn step_release(
        &self,
        route: String,
        step: Step,
        order: ReleaseEnd,
        who: Who,
    ) -> Result<Done<(RouteId, Running)>, OrderError> {
        self.carry_out(move |shared| async move { shared.step_release(&route, step, &order, &who).await })
            .await
    }
}

impl Shared {
    fn release(&self, route: &str) -> Result<(RouteId, Running), OrderError> {
        let named = route.parse::<RouteId>().ok();
        match named.and_then(|id| self.releases.get(&id).map(|running| (id, running))) {
            Some(found) => Ok(found),
            // A route that is gone may have had one; one that is there has none.
            None => Err(OrderError::NoRelease { route: find_route(&self.catalog(), route)?.id.clone() }),
        }
    }

    async fn start_release(
        &self,
        route: &str,
        order: &ReleaseOrder,
        who: &Who,
    ) -> Result<Done<(RouteId, Running)>, OrderError> {
        let catalog = self.catalog();
        let route = find_route(&catalog, route)?;
        error::check_reason(&order.reason)?;
        if let Some(running) = self.releases.get(&route.id).filter(Running::is_running) {
            let to = running.machine.release().plan.to.clone();
            return Err(OrderError::ReleaseRunning { route: route.id.clone(), to });
        }
        let to = weights::resolve(&order.to, route.members.iter().map(|member| &member.backend.id))
            .map_err(|error: WeightError| OrderError::Weights(vec![error]))?;
        let ReleaseOrder { steps, step_seconds, manual, max_error_rate, .. } = order;
        let plan = Plan::check(to.clone(), steps.as_deref(), *step_seconds, *manual, *max_error_rate)
            .map_err(OrderError::Plan)?;
        if route.members.iter().any(|member| member.backend.id == to && member.state == State::Disabled) {
            return Err(OrderError::TargetDisabled { to });
        }
        let from = others(&route, &to)?;
        if let Some(other) = self.releases.contradicting(&route.id, &to, &from) {
            return Err(OrderError::Contradiction { to, other });
        }
        let now = Timestamp::now();
        let former = self.inputs.current().decisions.splits.get(&route.id).cloned();
        let mut machine = Machine::new(Release {
            plan,
            from,
            former: former.and_then(|former| former.effective(now).cloned()),
            stage: Stage::Waiting,
            step: None,
            confirming: false,
            weight: 0,
            spent: Duration::ZERO,
            since: now,
            why: "no instance of the target is ready yet".into(),
            ending: None,
            author: who.name.as_str().into(),
            at: now,
            reason: order.reason.as_str().into(),
        });
        // One that is ready already gets its first step at once.
        machine.observe(&Second { instances: watch::instances(&route, &to), ..Second::default() });
        if let Some(begin) = machine.due() {
            machine.make(&begin, now);
        }
        let then = consequences::of_start(machine.release(), &catalog, now);
        let detail = consequences::describe(machine.release(), &then);
        let audit = super::audit(who, "release-start", &route.id, detail, &order.reason, now);
        let (id, stored, written) = (route.id.clone(), machine.release().clone(), then.clone());
        self.store(move |store| store.put_release(&id, &stored, &written, &audit)).await?;
        tracing::info!(route = %route.id, %to, state = machine.release().stage.as_str(), by = who.name, "release begins");
        let live = self.take_effect(&route.id, Running::new(machine), &then).await;
        self.answer(route.id.clone(), live)
    }

    async fn step_release(
        &self,
        route: &str,
        step: Step,
        order: &ReleaseEnd,
        who: &Who,
    ) -> Result<Done<(RouteId, Running)>, OrderError> {
        error::check_reason(&order.reason)?;
        let (route, running) = self.release(route)?;
        let machine = &running.machine;
        let name = match order.reason.is_empty() {
            true => who.name.clone(),
            false => format!("{} ({})", who.name, order.reason),
        };
        let made = match step {
            Step::Confirm => machine.confirm(&name),
            Step::RollBack => machine.roll_back(&name),
            Step::Pause => machine.pause(&name),
            Step::Resume => machine.resume(&name),
        };
        let made = match made {
            Ok(made) => made,
            Err(NoMove::Already) => return self.answer(route, true),
            Err(NoMove::Ended) => {
                let state = machine.release().stage.as_str();
                return Err(OrderError::ReleaseEnded { route, state });
            }
            Err(NoMove::NotReady) => {
                return Err(OrderError::TargetNotReady { to: machine.release().plan.to.clone() });
            }
        };
        let keep_weights = order.keep_weights && step == Step::Confirm;
        let order = Order { route: &route, made: &made, keep_weights, who, reason: &order.reason };
        let live = self.carry(running, order).await?;
        self.answer(route, live)
    }

    /// Makes a move. What goes forward is stored first: it waits until it can be. What takes the target's requests away is in
    /// force first: whether it can be stored or not, nobody is to be sent there for another second.
    async fn carry(&self, mut running: Running, order: Order<'_>) -> Result<bool, OrderError> {
        let Order { route, made, keep_weights, who, reason } = order;
        let now = Timestamp::now();
        let before = running.machine.release().weight;
        running.machine.make(made, now);
        let catalog = self.catalog();
        let then = match keep_weights {
            true => Consequences::default(),
            false => of_move(route, running.machine.release(), before, &catalog, now),
        };
        if made.stage == Stage::Done && !keep_weights {
            running.machine.promoted();
        }
        let action = format!("release-{}", made.stage.as_str().replace('_', "-"));
        let detail = consequences::describe(running.machine.release(), &then);
        let reason = if reason.is_empty() { &made.why } else { reason };
        let audit = super::audit(who, &action, route, detail, reason, now);
        let (id, stored, written) = (route.clone(), running.machine.release().clone(), then.clone());
        let write = self.store(move |store| store.put_release(&id, &stored, &written, &audit));
        running.trouble = None;
        if made.stage != Stage::RolledBack {
            write.await?;
            self.releases.tell(route, running.machine.release());
            return Ok(self.take_effect(route, running, &then).await);
        }
        let serial = self.put_in_force(route, running.clone(), &then);
        self.releases.tell(route, running.machine.release());
        if let Err(error) = write.await {
            tracing::error!(%route, %error, "the rollback is in force and cannot be stored: a restart now would go on with the release");
            running.trouble = Some(Trouble::NotStored(error.to_string()));
            self.put_in_force(route, running, &Consequences::default());
            return Ok(false);
        }
        Ok(self.reach(serial).await)
    }

    /// Puts a release and what follows from it into the inputs; whether that is live everywhere in time.
    async fn take_effect(&self, route: &RouteId, running: Running, then: &Consequences) -> bool {
        let serial = self.put_in_force(route, running, then);
        self.reach(serial).await
    }

    fn put_in_force(&self, route: &RouteId, running: Running, then: &Consequences) -> u64 {
        self.releases.put(route.clone(), running);
        self.show_releases(|decisions| consequences::apply(decisions, route, then))
    }

    fn answer(&self, route: RouteId, live: bool) -> Result<Done<(RouteId, Running)>, OrderError> {
        let running = self.releases.get(&route).ok_or(OrderError::Failed)?;
        Ok(Done { now: (route, running), live })
    }

    /// An order about the split of a route whose weights belong to a release.
    pub(super) fn check_no_release(&self, route: &RouteId) -> Result<(), OrderError> {
        match self.releases.get(route) {
            Some(running) if running.is_running() && !running.machine.release().plan.manual => {
                let to = running.machine.release().plan.to.clone();
                Err(OrderError::ReleaseHasSplit { route: route.clone(), to })
            }
            _ => Ok(()),
        }
    }

    /// Stores again what could not be stored: the release, and its split and state as they are by now.
    async fn store_again(&self, route: &RouteId, mut running: Running) -> Result<(), StoreFailed> {
        let release = running.machine.release().clone();
        let decisions = self.inputs.current().decisions;
        let then = consequences::as_in_force(&decisions, route, &release);
        let who = Who { name: ITSELF.to_owned(), from: "fairway".to_owned() };
        let detail = consequences::describe(&release, &then);
        let audit = super::audit(&who, "release-rolled-back", route, detail, &release.why, Timestamp::now());
        let id = route.clone();
        let written = self.store(move |store| store.put_release(&id, &release, &then, &audit)).await;
        written.map_err(|_| StoreFailed)?;
        tracing::info!(%route, "the rollback is stored now");
        running.trouble = None;
        self.put_in_force(route, running, &Consequences::default());
        Ok(())
    }
}

/// It could not be stored this time either.
struct StoreFailed;

/// What keeps a release from what it has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its next move cannot be stored, so it is not made.
    Held(String),
    /// Its rollback is in force and not stored.
    NotStored(String),
}

/// The other backends of the route with the weights that they have now, by which they share what the target does not have.
fn others(route: &Route, to: &BackendId) -> Result<BTreeMap<BackendId, Weight>, OrderError> {
    let others = || route.members.iter().filter(|member| member.backend.id != *to);
    let ready =
        |member: &Member| member.instances.iter().filter(|instance| instance.serves_new()).count() as u64;
    // Without weights each ready instance has as many parts.
    let parts = (u64::from(Weight::MAX) / others().map(ready).max().unwrap_or(0).max(1)).clamp(1, 100);
    let active = |member: &Member, weight| match member.state {
        State::Active => weight,
        // It gets nothing new, whatever its weight.
        State::Draining | State::Disabled => Weight::ZERO,
    };
    let counted = |member: &Member| Weight::new(ready(member) * parts).unwrap_or(Weight::DEFAULT);
    let mut from: BTreeMap<BackendId, Weight> = others()
        .map(|member| {
            (member.backend.id.clone(), active(member, member.weight.unwrap_or_else(|| counted(member))))
        })
        .collect();
    let has_none = |from: &BTreeMap<BackendId, Weight>| from.values().all(|weight| *weight == Weight::ZERO);
    if has_none(&from) && route.split.is_none() {
        // None of them is ready now: as many parts for each.
        from = others().map(|member| (member.backend.id.clone(), active(member, Weight::DEFAULT))).collect();
    }
    match has_none(&from) {
        true => Err(OrderError::NothingToTakeFrom { route: route.id.clone(), to: to.clone() }),
        false => Ok(from),
    }
}
