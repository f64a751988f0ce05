//! Commands inside containers, for `aliyun.probe.cmd`.
//!
//! Not here: what an exit code means for an instance (that is health's), how an engine is found (see `docker`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use fairway_catalog::facts::SourceId;
use fairway_config::labels::shown;
use futures_util::StreamExt;
use tokio::sync::oneshot;

use crate::docker::Client;

/// Longest wait for an answer of the engine to one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command is followed after nobody waits for it any more.
const FOLLOW_MAX: Duration = Duration::from_secs(600);
/// How much of a command's output is kept, in octets.
const OUTPUT_BYTES_MAX: usize = 1024;

/// The connected engines, for whoever runs commands; cheap to clone. [`crate::docker::DockerSource`] keeps it current.
#[derive(Debug, Clone, Default)]
pub struct Engines(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    clients: Mutex<HashMap<SourceId, Client>>,
    /// Containers in which a command of ours still runs.
    running: Mutex<HashSet<(SourceId, Arc<str>)>>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// 0 is success; 126 and 127 come from the engine when the shell itself cannot be run.
    pub exit_code: i64,
    /// The start of what it wrote to both outputs, escaped, 160 characters at most.
    pub output: String,
}

/// Why a command gave no exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// The engine, or a filter in front of it, does not allow it; says what it answered.
    #[error("the engine refuses exec: {0}")]
    Refused(String),
    /// It did not end in time, or one before it in the same container has not ended yet.
    #[error("the command did not end in time")]
    Timeout,
    /// The container is gone, paused or does not run.
    #[error("the container does not run")]
    Gone,
    /// The engine cannot be reached, or answered something else; one line.
    #[error("{0}")]
    Other(String),
}

impl Engines {
    /// Runs `sh -c shell` in a container (by its full id) of an engine and waits `timeout` at most for its end. May be
    /// dropped at any time.
    ///
    /// No engine can end a command that hangs. While one still runs, no other is started in the same container:
    /// [`ExecError::Timeout`].
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub async fn exec(
        &self,
        source: &SourceId,
        container_id: &str,
        shell: &str,
        timeout: Duration,
    ) -> Result<ExecOutcome, ExecError> {
        let client = locked(&self.0.clients).get(source).cloned();
        let client = client.ok_or_else(|| ExecError::Other(format!("{source} is not connected")))?;
        let claim = Claim::take(self, source, container_id).ok_or(ExecError::Timeout)?;
        let (answer, answered) = oneshot::channel();
        let (container, shell) = (container_id.to_owned(), shell.to_owned());
        // A task of its own, so that the claim lasts as long as the command, whoever waits. It ends with the command,
        // with the connection, or after FOLLOW_MAX.
        tokio::spawn(async move {
            let run = tokio::time::timeout(FOLLOW_MAX, run(&client, &container, &shell)).await;
            drop(claim);
            let _ = answer.send(run.unwrap_or(Err(ExecError::Timeout))); // nobody may wait any more
        });
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ExecError::Other("the command was given up".to_owned())),
            Err(_) => Err(ExecError::Timeout),
        }
    }

    pub(crate) fn enter(&self, source: SourceId, client: Client) {
        locked(&self.0.clients).insert(source, client);
    }

    pub(crate) fn forget(&self, source: &SourceId) {
        locked(&self.0.clients).remove(source);
    }
}

/// One command in one container, for as long as it lives.
struct Claim {
    engines: Engines,
    key: (SourceId, Arc<str>),
}

impl Claim {
    fn take(engines: &Engines, source: &SourceId, container: &str) -> Option<Self> {
        let key = (source.clone(), Arc::from(container));
        let taken = locked(&engines.0.running).insert(key.clone());
        taken.then(|| Self { engines: engines.clone(), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.engines.0.running).remove(&self.key);
    }
}

/// The maps stay whole whatever panics beside them.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(client: &Client, container: &str, shell: &str) -> Result<ExecOutcome, ExecError> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["sh", "-c", shell]),
        ..CreateExecOptions::default()
    };
    let exec = in_time(client.docker.create_exec(container, options)).await?;
    let start = StartExecOptions { detach: false, tty: false, output_capacity: None };
    let mut output = Vec::new();
    if let StartExecResults::Attached { output: mut lines, .. } =
        in_time(client.docker.start_exec(&exec.id, Some(start))).await?
    {
        while let Some(line) = lines.next().await {
            keep(&mut output, &line.map_err(explain)?);
        }
    }
    let exit_code = exit_code(client, &exec.id).await?;
    Ok(ExecOutcome { exit_code, output: shown(String::from_utf8_lossy(&output).trim()) })
}

fn keep(output: &mut Vec<u8>, line: &LogOutput) {
    let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
    let line = line.as_ref();
    output.extend_from_slice(&line[..line.len().min(room)]);
}

/// The output may end a moment before the engine has noted the exit.
async fn exit_code(client: &Client, exec: &str) -> Result<i64, ExecError> {
    let mut wait = Duration::from_millis(2);
    loop {
        let state = in_time(client.docker.inspect_exec(exec)).await?;
        match state.exit_code {
            Some(code) if state.running != Some(true) => return Ok(code),
            _ => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, ExecError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(explain),
        Err(_) => {
            Err(ExecError::Other(format!("no answer of the engine within {} s", CALL_TIMEOUT.as_secs())))
        }
    }
}

fn explain(error: Error) -> ExecError {
    let Error::DockerResponseServerError { status_code, message } = &error else {
        return ExecError::Other(shown(&error.to_string()));
    };
    let message = shown(message.trim());
    match status_code {
        404 | 409 => ExecError::Gone,
        401 | 403 | 405 | 501 => ExecError::Refused(format!("{status_code} {message}")),
        _ => ExecError::Other(format!("the engine answered exec with {status_code}: {message}")),
    }
}
