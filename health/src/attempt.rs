//! One attempt: by a connection, a request or a command, and what its end says of the instance.
//!
//! Not here: what a row of them leads to (see `rise_fall`), when they are made (see `task`).

mod grpc;
mod http;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::labels::ProxyProtocol;
use fairway_catalog::{InputsHandle, SourceId};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::exec::{Exec, ExecError};
use crate::plan::{Check, Impossible, Probe};

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) grade: Grade,
    /// One line, the same whenever the same is seen: it becomes the reason of a verdict.
    pub(crate) detail: Arc<str>,
}

/// What the end of an attempt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// The instance answers as it should.
    Success,
    /// It does not.
    Failure,
    /// It does not, and the error is one of this machine's.
    Local,
    /// Nothing: the attempt did not get as far as the instance.
    Nothing,
    /// It cannot be asked.
    Impossible(Impossible),
}

impl Outcome {
    fn new(grade: Grade, detail: impl Into<Arc<str>>) -> Self {
        Self { grade, detail: detail.into() }
    }

    fn of_error(what: &str, error: &io::Error) -> Self {
        let grade = if is_local(error) { Grade::Local } else { Grade::Failure };
        Self::new(grade, format!("{what}: {}", plain(error)))
    }

    fn timed_out(what: &str, timeout: Duration) -> Self {
        let limit = fairway_catalog::config::duration::print(timeout);
        Self::new(Grade::Failure, format!("{what}: no answer within {limit}"))
    }
}

/// Makes attempts.
pub(crate) trait Attempt: Clone + Send + Sync + 'static {
    /// Tries once. Ends within the probe's timeout, whatever the instance does.
    fn attempt(&self, probe: &Probe) -> impl Future<Output = Outcome> + Send;
}

/// Makes them for real.
#[derive(Clone)]
pub(crate) struct Prober {
    pub(crate) exec: Arc<dyn Exec>,
    /// Tells which engine a container is on.
    pub(crate) inputs: InputsHandle,
}

impl Attempt for Prober {
    async fn attempt(&self, probe: &Probe) -> Outcome {
        let limit = Limit::starting_now(probe.timeout);
        let target = |address: &SocketAddr| Target { address: *address, header: probe.header };
        match &probe.check {
            Check::Http { address, path } => http::get(target(address), path, limit).await,
            Check::Tcp { address } => match connect(target(address), limit).await {
                Ok(_) => Outcome::new(Grade::Success, format!("{address} accepts connections")),
                Err(outcome) => outcome,
            },
            Check::Grpc { address, service } => grpc::check(target(address), service, limit).await,
            Check::Command { container, shell } => self.run_command(container, shell, limit).await,
            Check::Impossible(why) => Outcome::new(Grade::Impossible(*why), why.reason()),
        }
    }
}

impl Impossible {
    /// Why the instance is of unknown condition.
    fn reason(self) -> &'static str {
        match self {
            Self::NoContainer => "a probe command runs inside a container, and this is none",
            Self::ExecRefused => "the engine refuses to run its probe command",
        }
    }
}

/// Where a connection is made to, and what it starts with.
#[derive(Debug, Clone, Copy)]
struct Target {
    address: SocketAddr,
    header: Option<ProxyProtocol>,
}

/// The end of an attempt's time.
#[derive(Debug, Clone, Copy)]
struct Limit {
    timeout: Duration,
    end: Instant,
}

impl Limit {
    fn starting_now(timeout: Duration) -> Self {
        Self { timeout, end: Instant::now() + timeout }
    }
}

/// Opens a connection; the error is the attempt's outcome.
async fn connect(Target { address, header }: Target, limit: Limit) -> Result<TcpStream, Outcome> {
    let what = || format!("connecting to {address}");
    let connecting = async {
        let mut stream = TcpStream::connect(address).await?;
        if let Some(version) = header {
            stream.write_all(version.own_header()).await?;
        }
        Ok(stream)
    };
    match timeout_at(limit.end, connecting).await {
        Err(_) => Err(Outcome::timed_out(&what(), limit.timeout)),
        Ok(Err(error)) => Err(Outcome::of_error(&what(), &error)),
        // Where nobody listens on a local port, the kernel may have chosen that port for our own end and connected us
        // with ourselves.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|own| own == address) => {
            Err(Outcome::of_error(&what(), &io::ErrorKind::ConnectionRefused.into()))
        }
        Ok(Ok(stream)) => Ok(stream),
    }
}

impl Prober {
    /// The command is not part of any text: people write passwords into it.
    async fn run_command(&self, container: &str, shell: &str, limit: Limit) -> Outcome {
        let Some(source) = self.engine_of(container) else {
            return Outcome::new(Grade::Nothing, "its container is gone");
        };
        let run = self.exec.exec(&source, container, shell, limit.timeout);
        match timeout_at(limit.end, run).await {
            Ok(Ok(0)) => Outcome::new(Grade::Success, "its probe command exited with 0"),
            Ok(Ok(code)) => {
                Outcome::new(Grade::Failure, format!("its probe command exited with {code}{}", advice(code)))
            }
            Ok(Err(ExecError::Timeout)) | Err(_) => Outcome::timed_out("its probe command", limit.timeout),
            Ok(Err(ExecError::Refused(answer))) => {
                tracing::debug!(%container, %answer, "exec refused");
                let why = Impossible::ExecRefused;
                Outcome::new(Grade::Impossible(why), why.reason())
            }
            Ok(Err(error @ (ExecError::Gone | ExecError::Other(_)))) => {
                Outcome::new(Grade::Nothing, error.to_string())
            }
        }
    }

    fn engine_of(&self, container: &str) -> Option<SourceId> {
        let sources = self.inputs.current().sources;
        sources.iter().find(|(_, facts)| facts.units.contains_key(container)).map(|(id, _)| id.clone())
    }
}

/// What a shell means by its own exit codes.
fn advice(code: i64) -> &'static str {
    match code {
        126 => " (it cannot be executed)",
        127 => " (there is no such command in the container)",
        _ => "",
    }
}

/// Errors that say something about this machine and nothing about the instance.
fn is_local(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
        )
    )
}

/// An error as a part of a sentence: `connection refused`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests;
