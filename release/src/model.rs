//! A release as it is kept over a restart.
//!
//! Not here: what it does next (see `machine`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::names::{BackendId, Weight};
use fairway_catalog::inputs::SplitRecord;
use jiff::Timestamp;

use crate::plan::Plan;

/// Where a release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The target has no ready instance yet; it gets nothing.
    Waiting,
    /// One step after the other.
    Stepping,
    /// Held by people. It is watched as before.
    Paused,
    /// Held because too little is known: never promoted blind. It goes on by itself once enough is.
    Inconclusive,
    /// The target has everything; one more step time until the end.
    Confirming,
    /// The target has everything, or what people left it with.
    Done,
    /// What was before is back, and the target is disabled.
    RolledBack,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Stepping,
        Self::Paused,
        Self::Inconclusive,
        Self::Confirming,
        Self::Done,
        Self::RolledBack,
    ];

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Stepping => "stepping",
            Self::Paused => "paused",
            Self::Inconclusive => "inconclusive",
            Self::Confirming => "confirming",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Whether nothing happens any more.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack)
    }
}

/// How a release ended, as a word for metrics and scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// By itself, after its last step.
    Completed,
    /// By people, for good.
    Confirmed,
    /// Taken back by people.
    Ordered,
    /// More of the canary's requests failed than of the stable versions'.
    Failures,
    /// The canary was slower.
    Latency,
    /// More of its requests failed than may.
    MaxErrorRate,
    /// It had no ready instance any more.
    NotReady,
    /// A probe of it failed.
    Probe,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 8] = [
        Self::Completed,
        Self::Confirmed,
        Self::Ordered,
        Self::Failures,
        Self::Latency,
        Self::MaxErrorRate,
        Self::NotReady,
        Self::Probe,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Confirmed => "confirmed",
            Self::Ordered => "ordered",
            Self::Failures => "failures",
            Self::Latency => "latency",
            Self::MaxErrorRate => "max-error-rate",
            Self::NotReady => "not-ready",
            Self::Probe => "probe",
        }
    }
}

/// A release of one route.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// What it is to do.
    pub plan: Plan,
    /// The other backends with their weights before: in this proportion they share what the target does not have. At least
    /// one is above 0.
    pub from: BTreeMap<BackendId, Weight>,
    /// The API's split before, which a rollback brings back; `None`: there was none.
    pub former: Option<SplitRecord>,
    /// Where it is.
    pub stage: Stage,
    /// Which step, from 0; `None` before the first.
    pub step: Option<usize>,
    /// It has all its steps behind it, also while it is paused.
    pub confirming: bool,
    /// The target's share now, in percent.
    pub weight: u8,
    /// How much of the step's time was over at `since`.
    pub spent: Duration,
    /// When it came where it is.
    pub since: Timestamp,
    /// Why, with the figures that caused it.
    pub why: Arc<str>,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// Who ordered it.
    pub author: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Why, in the author's words.
    pub reason: Arc<str>,
}

impl Release {
    /// The share of the target that its step asks for, in percent.
    pub fn step_weight(&self) -> u8 {
        self.step.and_then(|step| self.plan.steps.get(step)).copied().unwrap_or(0)
    }

    /// Whether the step it is in is the last one.
    pub fn is_last_step(&self) -> bool {
        self.step.is_some_and(|step| step + 1 >= self.plan.steps.len())
    }

    /// The weights of the share that the target has.
    pub fn weights(&self) -> BTreeMap<BackendId, Weight> {
        self.plan.weights(self.weight, &self.from)
    }

    /// Whether this one and that of another route work against each other: one takes from the backend that the other
    /// releases. States are of backends, not of routes: an end of the one would take the other's target out, or its others.
    pub fn contradicts(&self, to: &BackendId, from: &BTreeMap<BackendId, Weight>) -> bool {
        let takes = |from: &BTreeMap<BackendId, Weight>, id| from.get(id).is_some_and(|w| *w > Weight::ZERO);
        takes(from, &self.plan.to) || takes(&self.from, to)
    }
}
