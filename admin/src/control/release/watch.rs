//! The look at each release, every second: what its versions did meanwhile, how its target is, and the move that is due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fairway_catalog::{Catalog, Condition, Decisions, Member, Route};
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_proxy::metrics::VersionFigures;
use fairway_proxy::table::TableHandle;
use fairway_release::comparison::Sample;
use fairway_release::machine::{Move, Second, Seen};
use fairway_release::model::Stage;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::super::error::OrderError;
use super::super::{Shared, Who};
use super::leftovers::Absent;
use super::{ITSELF, Order, Running, Trouble};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// A rollback that could not be stored is tried again with one of so many looks.
const STORE_AGAIN: u64 = 5;

/// Tells what each version of a route has done so far, in numbers that only grow.
pub trait Figures: Send + Sync {
    /// Of this route; empty when it is not there.
    fn of(&self, route: &RouteId) -> Vec<VersionFigures>;
}

impl Figures for TableHandle {
    fn of(&self, route: &RouteId) -> Vec<VersionFigures> {
        self.figures(route)
    }
}

/// Looks at every release, for ever.
pub(super) async fn watch(shared: &Arc<Shared>, figures: &dyn Figures) {
    tokio::join!(looks(shared, figures), leftovers(shared));
}

async fn looks(shared: &Arc<Shared>, figures: &dyn Figures) {
    let mut every = every_second();
    let (mut last, mut looks) = (Instant::now(), 0u64);
    loop {
        every.tick().await;
        let passed = last.elapsed();
        last += passed;
        looks += 1;
        // What is due is worked on apart: the next look waits for no store.
        drop(look_at_all(shared, figures, passed, looks.is_multiple_of(STORE_AGAIN)));
    }
}

async fn leftovers(shared: &Arc<Shared>) {
    let mut every = every_second();
    let (mut last, mut absent) = (Instant::now(), Absent::new());
    loop {
        every.tick().await;
        let passed = last.elapsed();
        last += passed;
        if !shared.inputs.current().decisions.states.is_empty() && !shared.is_handed_over() {
            let _turn = shared.turn.lock().await;
            shared.clear_leftovers(&mut absent, passed).await;
        }
    }
}

fn every_second() -> Interval {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

/// A move that is due, and how many had been made before it.
type Due = (RouteId, Move, u64);

/// Looks at every release once, so much time after the last look. Who has to be taken back is; what else is due is being done
/// by what is returned.
pub(super) fn look_at_all(
    shared: &Arc<Shared>,
    figures: &dyn Figures,
    passed: Duration,
    store_again: bool,
) -> Vec<JoinHandle<()>> {
    // Until every source has been listed nobody knows what is gone.
    if !shared.releases.any() || !shared.catalog().settled {
        return Vec::new();
    }
    let (mut work, mut forward) = (Vec::new(), Vec::new());
    for (route, running) in shared.releases.all() {
        if !running.is_running() {
            let is_left = matches!(running.trouble, Some(Trouble::NotStored(_)));
            // Whoever has the turn may be waiting for the store with this very release.
            if store_again && is_left && shared.turn.try_lock().is_ok() {
                work.push(shared.keep(&route, None));
            }
            continue;
        }
        let Some((made, moves)) = shared.look(&route, figures, passed) else { continue };
        if made.stage != Stage::RolledBack {
            forward.push((route, made, moves));
        } else if shared.take_back(&route, moves, &made).is_some() {
            work.push(shared.keep(&route, None));
        }
    }
    if !forward.is_empty() && !shared.is_handed_over() {
        let shared = shared.clone();
        work.push(tokio::spawn(async move { shared.go_forward(forward).await }));
    }
    work
}

impl Shared {
    fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// What is due after a look at a release.
    fn look(&self, route: &RouteId, figures: &dyn Figures, passed: Duration) -> Option<(Move, u64)> {
        let catalog = self.catalog();
        let listed = catalog.sources.iter().all(|source| source.listed);
        let figures = figures.of(route);
        // Before the releases are locked, and not within: a change of the inputs locks them, too.
        let decisions = self.inputs.current().decisions;
        let (due, is_news) = self.releases.change(route, |running| {
            let to = &running.machine.release().plan.to;
            let is_known = catalog.routes.get(route).is_some_and(|route| member(route, to).is_some());
            if !running.is_running() || !listed && !is_known {
                // It may be where nobody has looked yet since the start.
                return (None, false);
            }
            let before = (running.machine.release().weight, running.trouble.clone());
            let second = Second {
                weight: percent(&catalog, &decisions, route, to),
                ..running.second(&catalog, route, figures, passed)
            };
            running.machine.observe(&second);
            let due = running.machine.due();
            if due.is_none() {
                running.trouble = None;
            }
            let is_news = before != (running.machine.release().weight, running.trouble.clone());
            (due.map(|made| (made, running.moves)), is_news)
        })?;
        if is_news {
            self.show_releases();
        }
        due
    }

    /// Makes these moves, unless somebody else has the turn for long: they are due again with the next look.
    async fn go_forward(&self, due: Vec<Due>) {
        let Ok(_turn) = timeout(EVERY, self.turn.lock()).await else { return };
        let who = Who { name: ITSELF.to_owned(), from: "fairway".to_owned() };
        for (route, made, moves) in due {
            let Some(running) = self.releases.get(&route).filter(|running| running.moves == moves) else {
                continue;
            };
            let order = Order { route: &route, made: &made, keep_weights: false, who: &who, reason: "" };
            if let Err(error) = self.carry(running, order).await {
                self.hold(&route, moves, &error);
            }
        }
    }

    /// Tells that a move cannot be made. It is due again with the next look.
    fn hold(&self, route: &RouteId, moves: u64, error: &OrderError) {
        let trouble = Some(Trouble::Held(error.to_string()));
        let is_news = self.releases.change(route, |running| {
            let is_news = running.moves == moves && running.trouble != trouble;
            if is_news {
                running.trouble = trouble;
            }
            is_news
        });
        if is_news == Some(true) {
            tracing::error!(%route, %error, "the release is held: its next move cannot be stored");
            self.show_releases();
        }
    }
}

impl Running {
    /// What happened since the last look.
    fn second(
        &mut self,
        catalog: &Catalog,
        route: &RouteId,
        figures: Vec<VersionFigures>,
        passed: Duration,
    ) -> Second {
        let to = self.machine.release().plan.to.clone();
        let route = catalog.routes.get(route);
        let mut second = Second {
            passed,
            instances: route.map(|route| instances(route, &to)).unwrap_or_default(),
            others_ready: route.map(|route| others_ready(route, &to)).unwrap_or_default(),
            ..Second::default()
        };
        let is_first = self.seen.is_none();
        let seen = self.seen.get_or_insert_default();
        for now in figures {
            let before = seen.entry(now.backend.clone()).or_insert_with(|| nothing(&now.backend));
            let sample = since(before, now);
            if !is_first {
                let side = if before.backend == to { &mut second.canary } else { &mut second.stable };
                side.add(&sample);
            }
        }
        second
    }
}

/// What was counted since `before`, which becomes what has been looked at. A failure that is counted a moment before its
/// request waits for it.
fn since(before: &mut VersionFigures, now: VersionFigures) -> Sample {
    if now.requests < before.requests {
        // The version was gone for long, and its numbers begin anew.
        *before = nothing(&now.backend);
    }
    let requests = now.requests - before.requests;
    let failures = now.failures.saturating_sub(before.failures).min(requests);
    let latencies = now.latencies.since(&before.latencies);
    *before = VersionFigures { failures: before.failures + failures, ..now };
    Sample { requests, failures, latencies }
}

fn nothing(backend: &BackendId) -> VersionFigures {
    VersionFigures { backend: backend.clone(), requests: 0, failures: 0, latencies: Default::default() }
}

fn member<'a>(route: &'a Route, to: &BackendId) -> Option<&'a Member> {
    route.members.iter().find(|member| member.backend.id == *to)
}

/// The target's instances in its route.
pub(super) fn instances(route: &Route, to: &BackendId) -> Vec<Seen> {
    let instances = member(route, to).map_or(&[][..], |member| &member.instances);
    let seen = |instance: &Arc<fairway_catalog::Instance>| Seen {
        id: instance.id.clone(),
        ready: instance.serves_new(),
        failing: (instance.condition == Condition::Unhealthy).then(|| instance.reason.clone()),
    };
    instances.iter().map(seen).collect()
}

/// How many instances of the other versions get new requests, or would.
fn others_ready(route: &Route, to: &BackendId) -> usize {
    let others = route.members.iter().filter(|member| member.backend.id != *to);
    others.flat_map(|member| &member.instances).filter(|instance| instance.serves_new()).count()
}

/// The target's weight in the split in force, in percent of all weights; above 0 when it has any. Without a split its share.
fn percent(catalog: &Catalog, decisions: &Decisions, id: &RouteId, to: &BackendId) -> Option<u8> {
    let route = catalog.routes.get(id);
    let part = match route.and_then(|route| Some((route, member(route, to)?))) {
        Some((route, member)) => match member.weight {
            Some(weight) => part(weight, route.members.iter().filter_map(|member| member.weight)),
            None => member.share,
        },
        // It is gone, perhaps in the very second in which it got its weight.
        None => {
            let weights = &decisions.splits.get(id)?.effective(Timestamp::now())?.weights;
            part(*weights.get(to)?, weights.values().copied())
        }
    };
    // Rounded up: what gets anything at all is watched.
    Some((part * 100.0).ceil().clamp(0.0, 100.0) as u8)
}

fn part(weight: Weight, all: impl Iterator<Item = Weight>) -> f64 {
    let all: u64 = all.map(|weight| u64::from(weight.get())).sum();
    f64::from(weight.get()) / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(requests: u64, failures: u64) -> VersionFigures {
        let mut figures = nothing(&"web@v1".parse().expect("a backend"));
        (figures.requests, figures.failures) = (requests, failures);
        figures
    }

    #[test]
    fn a_failure_waits_for_its_request_and_numbers_that_begin_anew_are_no_loss() {
        let mut before = figures(10, 1);
        let mut seen = Vec::new();
        for (requests, failures) in [(10, 2), (11, 2), (20, 4), (3, 1)] {
            let Sample { requests, failures, .. } = since(&mut before, figures(requests, failures));
            seen.push((requests, failures));
        }
        assert_eq!(seen, [(0, 0), (1, 1), (9, 2), (3, 1)]);
    }
}
