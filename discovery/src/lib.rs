//! Sources that fill the catalog's inputs: Docker engines and the configuration file.
//!
//! Each source is the one writer of its [`SourceFacts`](fairway_catalog::facts::SourceFacts) and keeps the last good
//! ones for ever. What follows from them is the catalog's business.
//!
//! - [`docker`]: one task per engine.
//! - [`file`]: the `[[service]]` entries.
//! - [`exec`]: commands inside containers, for probes.

pub mod docker;
pub mod exec;
pub mod file;

use std::sync::Arc;

/// This node, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its zone, empty for none.
    pub zone: Arc<str>,
}
