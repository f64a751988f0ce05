//! Inputs to catalog.

use jiff::Timestamp;

use crate::inputs::Inputs;
use crate::internal::InternalClients;
use crate::model::Catalog;

/// What one catalog hands to the next: who owned what, since when a problem stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {}

impl Catalog {
    /// The catalog before anything is known, at this revision (the last one stored, 0 on a fresh start).
    pub fn empty(revision: u64) -> Self {
        Self {
            revision,
            serial: 0,
            at: Timestamp::UNIX_EPOCH,
            settled: false,
            settings: Default::default(),
            routes: Default::default(),
            backends: Default::default(),
            instances: Default::default(),
            problems: Vec::new(),
            internal: InternalClients::default().into(),
            networks: Vec::new(),
            sources: Vec::new(),
            next_deadline: None,
            memory: Default::default(),
        }
    }

    /// Pure: equal arguments give equal catalogs. `before` is the catalog that this one follows: what did not change is
    /// kept by pointer, and what must be remembered (owners, tombstones) is read from it.
    pub fn build(inputs: &Inputs, before: &Self, now: Timestamp) -> Self {
        let _ = now;
        Self { serial: inputs.serial, ..before.clone() }
    }
}
