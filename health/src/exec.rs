//! What `aliyun.probe.cmd` needs from a Docker engine: to run a command inside a container.
//!
//! Not here: the engine's side of it (that is `discovery`'s), what an exit code means (see `command`).

use std::pin::Pin;
use std::time::Duration;

use fairway_catalog::SourceId;

/// What [`Exec::exec`] gives: the command's exit code.
pub type ExecFuture<'a> = Pin<Box<dyn Future<Output = Result<i64, ExecError>> + Send + 'a>>;

/// Runs commands inside containers.
pub trait Exec: Send + Sync + 'static {
    /// Runs `sh -c shell` in the container (full id) on the engine `source`, its output discarded, and waits for its
    /// exit code, `timeout` at most. The future may be dropped at any time.
    ///
    /// The engine cannot end a command that hangs, and a probe comes back every 2 s: while an earlier command for the
    /// same container still runs, the implementation starts no other and answers [`ExecError::Timeout`].
    fn exec<'a>(
        &'a self,
        source: &'a SourceId,
        container: &'a str,
        shell: &'a str,
        timeout: Duration,
    ) -> ExecFuture<'a>;
}

/// Why a command gave no exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The engine, or a filter in front of it, does not allow exec; says what it answered.
    #[error("the engine refuses exec: {0}")]
    Refused(String),
    /// The command did not end in time.
    #[error("the command did not end in time")]
    Timeout,
    /// The container is gone or does not run.
    #[error("the container does not run")]
    Gone,
    /// The engine cannot be reached, or answered something else; one line. Says nothing about the container.
    #[error("{0}")]
    Other(String),
}
