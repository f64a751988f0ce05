//! The releases that there are, and what others see of them: notes for the feed, problems, endings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_catalog::Problem;
use fairway_catalog::inputs::{Inputs, ReleaseNote};
use fairway_config::labels::Severity;
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_proxy::metrics::VersionFigures;
use fairway_release::machine::Machine;
use fairway_release::model::{Release, Stage};
use fairway_store::Consequences;
use jiff::Timestamp;
use prometheus::{IntCounterVec, Opts};

use super::super::Shared;
use super::{Trouble, consequences};

/// The name in `InputsHandle::report` of what is wrong with releases.
const PART: &str = "releases";

/// Each route's last release.
#[derive(Debug)]
pub(crate) struct Releases {
    /// Moves forward are made by whoever has the turn, rollbacks and what is seen by anybody. Locked within a change of the inputs, and
    /// never the other way round.
    all: Mutex<BTreeMap<RouteId, Running>>,
    endings: IntCounterVec,
}

/// A release, and what keeps it up.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) machine: Machine,
    pub(super) trouble: Option<Trouble>,
    /// What each version had done at the last look; `None` before the first.
    pub(super) seen: Option<BTreeMap<BackendId, VersionFigures>>,
    /// How many moves were made on this route: what was planned before the last one is late.
    pub(super) moves: u64,
}

impl Running {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, trouble: None, seen: None, moves: 0 }
    }

    pub(super) fn is_running(&self) -> bool {
        !self.machine.release().stage.is_ended()
    }

    fn note(&self) -> ReleaseNote {
        let Release { plan, stage, weight, why, at, .. } = self.machine.release();
        ReleaseNote {
            state: stage.as_str(),
            ordered: *at,
            to: plan.to.clone(),
            weight: *weight,
            why: why.clone(),
        }
    }

    fn problem(&self, route: &RouteId) -> Option<Problem> {
        let Release { plan, stage, why, weight, .. } = self.machine.release();
        let to = &plan.to;
        let (kind, severity, text, remedy) = match &self.trouble {
            Some(Trouble::Held(error)) => (
                "release-held",
                Severity::Error,
                format!("the release of {to} stays at {weight} %: its next move cannot be stored: {error}"),
                "make room for the store, or put it back; the move is tried again every second".to_owned(),
            ),
            Some(Trouble::NotStored(error)) => (
                "release-not-stored",
                Severity::Error,
                format!(
                    "the rollback of {to} is in force and cannot be stored: {error}; a restart would go on with the release"
                ),
                "make room for the store, or put it back; it is tried again every few seconds".to_owned(),
            ),
            None if *stage == Stage::Inconclusive => (
                "release-inconclusive",
                Severity::Warning,
                format!("the release of {to} is held at {weight} %: {why}"),
                format!(
                    "wait for requests, or `fairway release resume {route}` for the next step, `confirm` or `rollback`"
                ),
            ),
            None | Some(Trouble::Storing) => return None,
        };
        Some(Problem::new(kind, severity, route.to_string(), text, remedy).at("", to.to_string()))
    }
}

impl Default for Releases {
    fn default() -> Self {
        let opts = Opts::new("fairway_releases_ended_total", "Releases that have ended, by how.");
        let endings = IntCounterVec::new(opts, &["ending"]).expect("the name and its label are valid");
        Self { all: Mutex::default(), endings }
    }
}

impl Releases {
    /// Goes on with these.
    pub(super) fn take_up(&self, kept: BTreeMap<RouteId, Release>, now: Timestamp) {
        for (route, release) in &kept {
            if !release.stage.is_ended() {
                tracing::info!(%route, to = %release.plan.to, state = release.stage.as_str(), weight = release.weight, "release goes on");
            }
        }
        let running = |release| Running::new(Machine::resumed(release, now));
        *self.lock() = kept.into_iter().map(|(route, release)| (route, running(release))).collect();
    }

    pub(super) fn get(&self, route: &RouteId) -> Option<Running> {
        self.lock().get(route).cloned()
    }

    pub(super) fn all(&self) -> BTreeMap<RouteId, Running> {
        self.lock().clone()
    }

    /// Whether there is anything to look at.
    pub(super) fn any(&self) -> bool {
        self.lock().values().any(|running| running.is_running() || running.trouble.is_some())
    }

    /// Changes what is known of a release. Moves are made by [`Shared::put_in_force`] alone.
    pub(super) fn change<T>(&self, route: &RouteId, change: impl FnOnce(&mut Running) -> T) -> Option<T> {
        self.lock().get_mut(route).map(change)
    }

    /// How many moves the releases of a route have made.
    pub(crate) fn moves(&self, route: &RouteId) -> u64 {
        self.lock().get(route).map_or(0, |running| running.moves)
    }

    /// Makes a move that was planned after so many; false when it is late.
    fn make(&self, route: &RouteId, moves: u64, change: impl FnOnce(Option<Running>) -> Running) -> bool {
        let mut all = self.lock();
        let known = all.get(route);
        if known.map_or(0, |running| running.moves) != moves {
            return false;
        }
        let mut running = change(known.cloned());
        running.moves = moves + 1;
        all.insert(route.clone(), running);
        true
    }

    /// A release of another route that one of this target would work against.
    pub(super) fn contradicting(
        &self,
        route: &RouteId,
        to: &BackendId,
        from: &BTreeMap<BackendId, Weight>,
    ) -> Option<RouteId> {
        let all = self.lock();
        let mut others = all.iter().filter(|(other, running)| *other != route && running.is_running());
        others
            .find(|(_, running)| running.machine.release().contradicts(to, from))
            .map(|(other, _)| other.clone())
    }

    /// Logs where a release is now, and counts its end.
    pub(super) fn tell(&self, route: &RouteId, release: &Release) {
        let Release { plan, stage, weight, why, ending, .. } = release;
        let (to, state) = (&plan.to, stage.as_str());
        match stage {
            Stage::RolledBack | Stage::Inconclusive => {
                tracing::warn!(%route, %to, state, weight, "release: {why}");
            }
            _ => tracing::info!(%route, %to, state, weight, "release: {why}"),
        }
        if let Some(ending) = ending {
            self.endings.with_label_values(&[ending.as_str()]).inc();
        }
    }

    fn show(&self, inputs: &mut Inputs) {
        let all = self.lock();
        let note = |(route, running): (&RouteId, &Running)| (route.clone(), running.note());
        inputs.releases = Arc::new(all.iter().map(note).collect());
        let problems = all.iter().filter_map(|(route, running)| running.problem(route)).collect();
        Arc::make_mut(&mut inputs.reports).insert(PART, problems);
    }

    pub(super) fn endings(&self) -> &IntCounterVec {
        &self.endings
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RouteId, Running>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Makes a move that was planned after so many: the release and what follows from it, in one change of the inputs. Its serial;
    /// `None` when another move was made meanwhile: then nothing is changed.
    pub(super) fn put_in_force(
        &self,
        route: &RouteId,
        moves: u64,
        then: &Consequences,
        change: impl FnOnce(Option<Running>) -> Running,
    ) -> Option<u64> {
        let mut is_made = false;
        // Within the change, so that no other order gets between the release and its split.
        let serial = self.inputs.update(|inputs| {
            is_made = self.releases.make(route, moves, change);
            if is_made {
                consequences::apply(Arc::make_mut(&mut inputs.decisions), route, then);
                self.releases.show(inputs);
            }
        });
        is_made.then_some(serial)
    }

    /// Shows where releases are.
    pub(super) fn show_releases(&self) {
        self.inputs.update(|inputs| self.releases.show(inputs));
    }
}
