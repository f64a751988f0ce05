//! Authoritative names and forwarding.
//!
//! - [`zone`]: our names as one value made from the catalog. Pure.
//! - [`answer`]: request bytes to reply bytes over one zone. Pure.
//! - `server`: sockets, UDP and TCP.
//! - `forward`: other names, asked of upstream resolvers.
//! - `control`: keeps zone, listeners and upstreams in step with catalog and configuration.
//! - [`run`]: starts it all.
//!
//! No HTTP here. A query reads one zone, once.

mod adopt;
pub mod answer;
mod control;
mod forward;
mod metrics;
pub mod run;
mod server;
#[cfg(test)]
mod testkit;
pub mod zone;

pub use adopt::{Adopted, ListenerSockets};
pub use run::{Running, StartError, start};
pub use server::bind::BindError;
