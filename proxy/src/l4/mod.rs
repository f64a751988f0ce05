//! Listeners of their own (`aliyun.lb.port_N`): connections and datagrams balanced over instances, octets as they are.
//!
//! - [`fronts`]: which front ports are open: one task follows the routing table, binds and closes.
//! - [`port`]: the sockets of one.
//! - [`trouble`]: what is wrong with them.
//! - [`accept`]: the listening sockets of each worker.
//! - [`relay`]: one connection, at a front port or over TLS that is passed on: instance, octets both ways, its line in the log.
//! - [`datagrams`]: the sockets for datagrams, [`session`]: one client's.
//!
//! A front port is a route (`tcp://:3306`), so that choice, weights, drain and metrics are those of requests. Not here: which
//! ports there are and whose (see the catalog), the choice itself (see `pick`).

mod accept;
mod datagrams;
mod fronts;
mod port;
mod relay;
mod session;
mod trouble;

pub(crate) use accept::serve;
pub(crate) use fronts::{Fronts, follow};
pub(crate) use port::Front;
pub use port::FrontSocket;
pub(crate) use relay::{Passed, pass};
pub use trouble::FrontTrouble;
