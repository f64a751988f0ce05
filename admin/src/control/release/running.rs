//! The releases that there are, and what others see of them: notes for the feed, problems, endings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_catalog::inputs::ReleaseNote;
use fairway_catalog::{Decisions, Problem};
use fairway_config::labels::Severity;
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_proxy::metrics::VersionFigures;
use fairway_release::machine::Machine;
use fairway_release::model::{Release, Stage};
use jiff::Timestamp;
use prometheus::{IntCounterVec, Opts};

use super::super::Shared;
use super::Trouble;

/// The name in `InputsHandle::report` of what is wrong with releases.
const PART: &str = "releases";

/// Each route's last release.
#[derive(Debug)]
pub(crate) struct Releases {
    /// Changed by whoever has the turn; read by anybody.
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
}

impl Running {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, trouble: None, seen: None }
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
            None => return None,
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

    pub(super) fn put(&self, route: RouteId, running: Running) {
        self.lock().insert(route, running);
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

    pub(super) fn endings(&self) -> &IntCounterVec {
        &self.endings
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RouteId, Running>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Changes the decisions and shows where releases are, in one change of the inputs; its serial.
    pub(super) fn show_releases(&self, change: impl FnOnce(&mut Decisions)) -> u64 {
        let all = self.releases.all();
        let notes = Arc::new(all.iter().map(|(route, running)| (route.clone(), running.note())).collect());
        let problems: Vec<Problem> =
            all.iter().filter_map(|(route, running)| running.problem(route)).collect();
        self.inputs.update(|inputs| {
            change(Arc::make_mut(&mut inputs.decisions));
            inputs.releases = notes;
            Arc::make_mut(&mut inputs.reports).insert(PART, problems);
        })
    }
}
