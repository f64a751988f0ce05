//! How the process itself is: sources, listeners, store, readiness.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// This node's name.
    pub node: String,
    /// This node's zone, empty for none.
    pub zone: String,
    /// When the process started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Of the cluster as it is now.
    pub revision: u64,
    /// What `/readyz` answers.
    pub ready: bool,
    /// Every source has been listed once, or 10 s have passed.
    pub settled: bool,
    /// The process was asked to stop.
    pub draining: bool,
    /// The configuration file, empty when there is none.
    pub config_file: String,
    /// Where instances come from.
    pub sources: Vec<Source>,
    /// Where requests and queries come in.
    pub listeners: Vec<Listener>,
    /// Where orders are kept.
    pub store: StoreStatus,
    /// How many there are of everything.
    pub counts: Counts,
    /// The kernel's table of tracked connections; null where it has none. Full, it drops new connections, of loopback
    /// too.
    pub conntrack: Option<Conntrack>,
}

/// Where instances come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// `file`, or a Docker engine's URL.
    pub id: String,
    /// Whether it has been listed whole once.
    pub listed: bool,
    /// Why it cannot be reached now; null when it can.
    pub lost: Option<Lost>,
    /// What answers there.
    pub peer: String,
    /// How many containers or static instances it told.
    pub units: usize,
}

/// Why a source cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lost {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// The error.
    pub error: String,
}

/// Where requests or queries come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listener {
    /// `http`, `https`, `dns`, `admin`.
    pub kind: String,
    /// The address, `unix:/path` for a socket.
    pub address: String,
    /// Why it is not bound; null when it is.
    pub error: Option<String>,
}

/// Where orders are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    /// The file, empty when there is no store.
    pub path: String,
    /// Why nothing can be stored; null when it can.
    pub error: Option<String>,
}

/// How many there are of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Routes, those that are about to go too.
    pub routes: usize,
    /// Backends.
    pub backends: usize,
    /// Instances.
    pub instances: usize,
    /// Instances that are ready and active.
    pub ready: usize,
    /// Problems by which something is lost.
    pub errors: usize,
    /// Other problems.
    pub warnings: usize,
}

/// The kernel's table of tracked connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conntrack {
    /// How many it holds.
    pub count: u64,
    /// How many it can hold.
    pub max: u64,
}

/// Whether new clients may be sent here, and each condition of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// The answer.
    pub ready: bool,
    /// What it is made of, and what else is to be known.
    pub conditions: Vec<ReadyCondition>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyCondition {
    /// `settled`, `draining`, `source`, `listener`, `store`, `conntrack`, `problems`.
    pub name: String,
    /// Which one, empty when there is only one.
    pub subject: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether the process is unready without it.
    pub required: bool,
    /// How it is, one line.
    pub detail: String,
}
