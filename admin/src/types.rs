//! The shapes of the admin API, for those who answer and for those who ask. Fields may be added, never renamed.
//!
//! Not here: how they are made of a catalog (see `view`), refusals (see [`crate::problem`]).

mod cluster;
mod feed;
mod limits;
mod order;
mod process;
mod release;

pub use cluster::{
    Backend, Instance, InstanceFound, Layer, Mirror, ProblemItem, Route, RouteBackend, Severity, Split,
};
pub use cluster::{Condition, State};
pub use feed::{AuditEntry, BackendHealth, EventItem, HealthList, InstanceHealth, ProbeAnswer};
pub use limits::{
    BackendLimit, LimitItem, LimitLayer, LimitValues, LimitsGiven, LimitsOrder, LimitsOrdered, RouteLimits,
};
pub use order::{MirrorOrder, ReleaseEnd, ReleaseOrder, SplitOrder, StateOrder, Weights};
pub use process::{Conntrack, Counts, Listener, Lost, Ready, ReadyCondition, Source, Status, StoreStatus};
pub use release::{Evidence, Ordered, Release, Side};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use fairway_proxy::explain::Explanation;

/// A list, and the revision of the cluster that it shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// In a fixed order.
    pub items: Vec<T>,
    /// What `GET /api/v1/events?after=` takes to follow from here.
    pub revision: u64,
}
