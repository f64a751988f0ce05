//! Orders about releases, and the moves that they make by themselves.
//!
//! - here: who is asked, what an order needs, how a move forward is made: stored, then in force.
//! - `back`: how a rollback is: in force, then stored. It waits for nobody.
//! - `consequences`: what a move makes of split and states.
//! - `running`: the releases that there are, and what others see of them.
//! - `watch`: the look at each release, every second.
//! - `leftovers`: states of versions that have gone.
//!
//! Not here: what a release does next (see `fairway_release::machine`).

mod back;
mod consequences;
mod leftovers;
mod running;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fairway_catalog::{Member, Route, State};
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_release::machine::{Machine, Move, NoMove, Second};
use fairway_release::model::{Release, Stage};
use fairway_release::plan::Plan;
use fairway_store::Consequences;
use jiff::Timestamp;
#[cfg(test)]
use tokio::task::JoinHandle;

use super::error::{self, OrderError};
use super::mirror::carries_requests;
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
        self.0.show_releases();
    }

    /// Another process is about to take over and has the store. Until [`Control::take_back`] releases make no move but to be
    /// rolled back.
    pub fn hand_over(&self) {
        self.0.handed_over.store(true, Ordering::Relaxed);
    }

    /// The other process did not: releases go on.
    pub fn take_back(&self) {
        self.0.handed_over.store(false, Ordering::Relaxed);
    }

    /// Looks at every release each second, for ever.
    pub async fn watch_releases(self, figures: Arc<dyn Figures>) {
        watch::watch(&self.0, &*figures).await;
    }

    /// One look at every release, so much time after the last one; what is being done about it.
    #[cfg(test)]
    pub(crate) fn look_at_releases(&self, figures: &dyn Figures, passed: Duration) -> Vec<JoinHandle<()>> {
        watch::look_at_all(&self.0, figures, passed, true)
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
        if step == Step::RollBack {
            return self.0.roll_back(&route, &order, &who).await;
        }
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
        // What follows from it has to be stored before anything else is.
        self.store_rolled_back(&route.id, None).await?;
        let to = weights::resolve(&order.to, route.members.iter().map(|member| &member.backend.id))
            .map_err(|error: WeightError| OrderError::Weights(vec![error]))?;
        let ReleaseOrder { steps, step_seconds, manual, max_error_rate, .. } = order;
        let plan = Plan::check(to.clone(), steps.as_deref(), *step_seconds, *manual, *max_error_rate)
            .map_err(OrderError::Plan)?;
        if route.members.iter().any(|member| member.backend.id == to && member.state == State::Disabled) {
            return Err(OrderError::TargetDisabled { to });
        }
        if !plan.manual && !carries_requests(&route.id) {
            return Err(OrderError::NothingToCompare { route: route.id.clone(), to });
        }
        let from = others(&route, &to)?;
        if let Some(other) = self.releases.contradicting(&route.id, &to, &from) {
            return Err(OrderError::Contradiction { to, other });
        }
        let now = Timestamp::now();
        let decisions = self.inputs.current().decisions;
        let former = decisions.splits.get(&route.id).cloned();
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
        let then = consequences::of_start(&route.id, machine.release(), (&catalog, &decisions), now);
        let detail = consequences::describe(machine.release(), &then);
        let audit = super::audit(who, "release-start", &route.id, detail, &order.reason, now);
        let (id, stored, written) = (route.id.clone(), machine.release().clone(), then.clone());
        self.store(move |store| store.put_release(&id, &stored, &written, &audit)).await?;
        tracing::info!(route = %route.id, %to, state = machine.release().stage.as_str(), by = who.name, "release begins");
        let moves = self.releases.moves(&route.id);
        let serial = self.put_in_force(&route.id, moves, &then, |_| Running::new(machine));
        let live = self.reach(serial.ok_or(OrderError::Failed)?).await;
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
        let name = called(who, order);
        let made = match step {
            Step::Confirm => machine.confirm(&name),
            Step::RollBack => machine.roll_back(&name),
            Step::Pause => machine.pause(&name),
            Step::Resume => machine.resume(&name),
        };
        let made = match made {
            Ok(made) => made,
            Err(NoMove::Already) => return self.answer(route, true),
            Err(NoMove::Ended) => return Err(self.ended(&route)),
            Err(NoMove::NotReady) => {
                return Err(OrderError::TargetNotReady { to: machine.release().plan.to.clone() });
            }
        };
        let keep_weights = order.keep_weights && step == Step::Confirm;
        let order = Order { route: &route, made: &made, keep_weights, who, reason: &order.reason };
        let live = self.carry(running, order).await?;
        self.answer(route, live)
    }

    /// Makes a move forward. It is stored first, and waits until it can be; when the release is rolled back meanwhile, it is late.
    async fn carry(&self, running: Running, order: Order<'_>) -> Result<bool, OrderError> {
        let Order { route, made, keep_weights, who, reason } = order;
        let (now, before) = (Timestamp::now(), running.machine.release().weight);
        let is_promoted = made.stage == Stage::Done && !keep_weights;
        let mut planned = running.machine;
        planned.make(made, now);
        let then = match keep_weights {
            true => Consequences::default(),
            false => {
                let known = (&*self.catalog(), &*self.inputs.current().decisions);
                of_move(route, planned.release(), before, known, now)
            }
        };
        if is_promoted {
            planned.promoted();
        }
        let action = format!("release-{}", made.stage.as_str().replace('_', "-"));
        let detail = consequences::describe(planned.release(), &then);
        let reason = if reason.is_empty() { &made.why } else { reason };
        let audit = super::audit(who, &action, route, detail, reason, now);
        let (id, stored, written) = (route.clone(), planned.release().clone(), then.clone());
        self.store(move |store| store.put_release(&id, &stored, &written, &audit)).await?;
        let serial = self.put_in_force(route, running.moves, &then, |running| {
            // What was seen meanwhile stays.
            let mut running = running.unwrap_or_else(|| Running::new(planned.clone()));
            running.machine.make(made, now);
            if is_promoted {
                running.machine.promoted();
            }
            running.trouble = None;
            running
        });
        let serial = serial.ok_or_else(|| self.ended(route))?;
        self.releases.tell(route, planned.release());
        Ok(self.reach(serial).await)
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

    /// Nothing can be done to a release that has ended.
    pub(super) fn ended(&self, route: &RouteId) -> OrderError {
        let running = self.releases.get(route);
        let state = running.map_or(Stage::RolledBack, |running| running.machine.release().stage).as_str();
        OrderError::ReleaseEnded { route: route.clone(), state }
    }
}

/// Who ordered a move, and why, as its reason has it.
fn called(who: &Who, order: &ReleaseEnd) -> String {
    match order.reason.is_empty() {
        true => who.name.clone(),
        false => format!("{} ({})", who.name, order.reason),
    }
}

/// What keeps a release from what it has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its next move cannot be stored, so it is not made.
    Held(String),
    /// Its rollback is in force and about to be stored.
    Storing,
    /// Its rollback is in force and not stored.
    NotStored(String),
}

/// The other backends of the route with the weights that they have now, by which they share what the target does not have.
fn others(route: &Route, to: &BackendId) -> Result<BTreeMap<BackendId, Weight>, OrderError> {
    let others = || route.members.iter().filter(|member| member.backend.id != *to);
    // Without weights each ready instance has as many parts. One that has none at the moment is not left out for good.
    let counted = |member: &Member| {
        let ready = member.instances.iter().filter(|instance| instance.serves_new()).count();
        let counted = if ready > 0 { ready } else { member.instances.len().max(1) };
        u32::try_from(counted).unwrap_or(u32::MAX)
    };
    let parts = (u32::from(Weight::MAX) / others().map(counted).max().unwrap_or(1)).clamp(1, 100);
    let weight = |member: &Member| match member.state {
        State::Active => {
            member.weight.unwrap_or_else(|| Weight::computed(counted(member).saturating_mul(parts)))
        }
        // It gets nothing new, whatever its weight.
        State::Draining | State::Disabled => Weight::ZERO,
    };
    let from: BTreeMap<BackendId, Weight> =
        others().map(|member| (member.backend.id.clone(), weight(member))).collect();
    match from.values().all(|weight| *weight == Weight::ZERO) {
        true => Err(OrderError::NothingToTakeFrom { route: route.id.clone(), to: to.clone() }),
        false => Ok(from),
    }
}
