//! The cluster as one value: instances, backends, routes, splits, states, problems, revision.
//!
//! [`Inputs`] come from the sources, the store, health and the configuration; [`Catalog::build`] makes the [`Catalog`]
//! of them, and [`publish`] is the only writer. Pure, but for the times that [`publish`] gives each build. What reads the catalog does not
//! know that Docker exists.
//!
//! - [`ids`], [`problem`]: the words.
//! - [`facts`]: what a source says of containers, networks and itself.
//! - [`inputs`]: everything a catalog is built from, and the handle that changes it.
//! - [`model`]: the catalog.
//! - [`event`]: what changed between two catalogs.

mod build;
pub mod event;
pub mod facts;
pub mod ids;
pub mod inputs;
pub mod internal;
pub mod model;
mod now;
pub mod problem;
pub mod publish;

pub use facts::{Lifecycle, Network, SourceFacts, SourceId, Unit};
pub use fairway_config as config;
pub use ids::{InstanceId, InstanceKey};
pub use inputs::{Decisions, Ejection, Inputs, InputsHandle, Settings, Verdict};
pub use internal::InternalClients;
pub use model::{Backend, Catalog, Condition, Instance, Layer, Member, Route, SplitInfo, State};
pub use now::Now;
pub use problem::Problem;
pub use publish::publish;
