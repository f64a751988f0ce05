//! What must survive a restart: splits, states, mirrors, limits, releases, owners of routes, certificates, the event log and the
//! audit log, in one redb file.
//!
//! - [`error`]: why the store cannot be used, and what to do about it.
//! - `open`: the file: made, locked, checked, and noticed when it is gone.
//! - `stored`: the values as written, apart from the catalog's types so that either may change.
//! - `decisions`, `mirrors`, `limits`, `releases`, `log`, `secrets`: what is kept, each change durable before the call returns.
//!
//! Calls block (they wait for the disk): from async code, through `spawn_blocking`. Nothing here knows who asks.

mod decisions;
pub mod error;
mod holder;
mod limits;
mod log;
mod mirrors;
mod open;
mod releases;
mod secrets;
mod stored;
#[cfg(test)]
mod tests;

pub use decisions::Loaded;
pub use error::StoreError;
pub use log::{AuditRecord, EVENTS_KEPT};
pub use open::{FILE_NAME, Store};
pub use releases::Consequences;
