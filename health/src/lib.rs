//! Probes, and the verdicts they lead to.
//!
//! [`run`] follows the catalog: a plan (`plan`) says which lives of instances are probed and how, one task each (`task`)
//! makes the attempts (`attempt`) and judges them (`rise_fall`, `suspect`), and what follows gets into the inputs of the
//! next catalog (`board`). The last answers are in the [`ProbeLog`]. [`follow_ejections`] carries over whom the data plane
//! has taken out for its failures.
//!
//! Not here: Docker's own HEALTHCHECK (the catalog reads it), how a command gets into a container (see [`Exec`]), which
//! condition an instance is shown in (the catalog decides, from our verdict and its container's life).

mod attempt;
mod board;
mod ejections;
mod exec;
mod log;
mod metrics;
pub mod plan;
mod rise_fall;
mod supervisor;
mod suspect;
mod task;
#[cfg(test)]
mod testing;

pub use ejections::follow_ejections;
pub use exec::{Exec, ExecError, ExecFuture};
pub use log::{ProbeLog, ProbeResult};
pub use supervisor::run;
