//! The data plane: listeners, routing table, balancing, retries, drain.

pub mod endpoint;
pub mod explain;
pub mod h1;
pub mod hold;
pub mod metrics;
pub mod pick;
pub mod reason;
pub mod request;
pub mod table;
