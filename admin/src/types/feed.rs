//! What happened, what probes say, who ordered what.

use fairway_catalog::event::Event;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Instance, State};

/// One change in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventItem {
    /// The revision that it came with; several may share it.
    pub revision: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `instance-added`, `instance-removed`, `instance-condition`, `instance-state`, `instance-drained`, `backend-added`,
    /// `backend-removed`, `backend-state`, `route-added`, `route-removed`, `route-split`, `route-mirror`, `route-limits`,
    /// `problem-raised`, `problem-cleared`, `source-lost`, `source-found`, `release-state`, `release-step`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whom it concerns.
    pub subject: String,
    /// What it was, empty for something new.
    pub from: String,
    /// What it is, empty for something gone.
    pub to: String,
    /// Why.
    pub reason: String,
}

impl From<&Event> for EventItem {
    fn from(event: &Event) -> Self {
        let Event { revision, at, kind, subject, from, to, reason } = event;
        Self {
            revision: *revision,
            at: *at,
            kind: kind.to_string(),
            subject: subject.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Every instance as schedulers want it, and the counts of each backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthList {
    /// By id.
    pub items: Vec<InstanceHealth>,
    /// By name.
    pub backends: Vec<BackendHealth>,
    /// What `GET /api/v1/events?after=` takes to follow from here.
    pub revision: u64,
}

/// An instance, and what its probe last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceHealth {
    /// The instance.
    #[serde(flatten)]
    pub instance: Instance,
    /// The last answers, the newest last; empty for one that is not probed by us.
    pub probes: Vec<ProbeAnswer>,
}

/// One answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProbeAnswer {
    /// When the attempt ended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whether it succeeded.
    pub ok: bool,
    /// What was seen: `GET /health answered 503`.
    pub detail: String,
    /// How long it took, in whole milliseconds.
    pub duration_ms: u64,
}

/// "Ready 1 of 3".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendHealth {
    /// The backend.
    pub id: String,
    /// How many instances are ready and active.
    pub ready: usize,
    /// How many are wanted, as far as anybody said.
    pub desired: Option<u32>,
    /// How many there are.
    pub instances: usize,
    /// Set on the backend as a whole.
    pub state: State,
    /// Whether its service asks for rolling updates (`aliyun.rolling_updates`).
    pub rolling_updates: bool,
    /// How many at once (`aliyun.rolling_updates.parallelism`).
    pub rolling_parallelism: Option<u32>,
}

/// Who ordered what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who: what the client calls itself.
    pub who: String,
    /// From where: an address, or the user at the other end of a Unix socket.
    pub from: String,
    /// What was done: `put-split`, `delete-split`, `put-state`, `release-start`, `release-stepping`, ...
    pub action: String,
    /// To what.
    pub subject: String,
    /// The order itself: weights, a state.
    pub detail: String,
    /// Why, in the client's words.
    pub reason: String,
}
