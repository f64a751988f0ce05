//! Listeners of their own (`aliyun.lb.port_N: tcp://name:front_port`): connections balanced over instances, octets as they
//! are.
//!
//! - [`fronts`]: which front ports are open: one task follows the routing table, binds and closes.
//! - [`accept`]: the listening sockets of each worker.
//! - [`relay`]: one connection: instance, octets both ways, its line in the log.
//!
//! A front port is a route (`tcp://:3306`), so that choice, weights, drain and metrics are those of requests. Not here: which
//! ports there are and whose (see the catalog), the choice itself (see `pick`).

mod accept;
mod fronts;
mod relay;

pub(crate) use accept::serve;
pub(crate) use fronts::{Front, Fronts, follow};
