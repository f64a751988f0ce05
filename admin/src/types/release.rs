//! Releases.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The last release of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// The route.
    pub route: String,
    /// `waiting`, `stepping`, `paused`, `inconclusive`, `confirming`, `done`, `rolled_back`.
    pub state: String,
    /// The backend that is released.
    pub to: String,
    /// Those it takes from, by name.
    pub from: Vec<String>,
    /// Which step, from 1; 0 before the first and in a manual release.
    pub step: usize,
    /// The target's share in each step, in percent; empty for a manual release.
    pub steps: Vec<u8>,
    /// How long a step takes.
    pub step_seconds: u64,
    /// How much of it is over.
    pub step_seconds_over: u64,
    /// The target's share now, in percent.
    pub weight: u8,
    /// People move the weights.
    pub manual: bool,
    /// The share of its requests that may fail.
    pub max_error_rate: Option<f64>,
    /// When it came where it is.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Why it is where it is, with the figures that caused it.
    pub reason: String,
    /// How it ended: `completed`, `confirmed`, `ordered`, `failures`, `latency`, `max-error-rate`, `not-ready`, `probe`; null
    /// while it runs.
    pub ending: Option<String>,
    /// What is known about the target so far; since the restart, if there was one.
    pub evidence: Evidence,
    /// Who ordered it.
    pub ordered: Ordered,
}

/// What both sides did while the target had a share, and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// The target.
    pub canary: Side,
    /// The other versions of the route in the same seconds.
    pub stable: Side,
    /// How strong the evidence is that the target is worse: so many to one, 1 at the start.
    pub odds: f64,
    /// From here on it is taken back.
    pub odds_needed: f64,
    /// In what there is most evidence, however little.
    pub most: String,
}

/// What one side did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// Requests that ended.
    pub requests: u64,
    /// Failures among them.
    pub failures: u64,
    /// Failures by requests; null without any.
    pub failure_rate: Option<f64>,
    /// Milliseconds until the answer's head, for half of them; null without any.
    pub p50_ms: Option<f64>,
    /// For nine of ten.
    pub p90_ms: Option<f64>,
    /// For 99 of 100.
    pub p99_ms: Option<f64>,
}

/// Who ordered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ordered {
    /// What the client called itself.
    pub author: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}
