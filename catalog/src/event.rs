//! What changed from one catalog to the next, for the event feed. Pure.

use std::sync::Arc;

use jiff::Timestamp;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision it came with; events of one revision share it.
    pub revision: u64,
    /// When.
    pub at: Timestamp,
    /// What kind: `instance-added`, `instance-removed`, `instance-condition`, `instance-state`, `backend-added`,
    /// `backend-removed`, `backend-state`, `route-added`, `route-removed`, `route-split`, `route-owner`,
    /// `problem-raised`, `problem-cleared`, `source-lost`, `source-found`.
    pub kind: Arc<str>,
    /// Whom it concerns, by the name that the API uses.
    pub subject: Arc<str>,
    /// What it was, empty for something new.
    pub from: Arc<str>,
    /// What it is, empty for something gone.
    pub to: Arc<str>,
    /// Why, one line.
    pub reason: Arc<str>,
}
