//! A child process that cannot outlive the test, and the lines it wrote.
//!
//! Not here: which program and with what arguments (see [`crate::engine`], [`crate::fairway`]).

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::wait::within;

/// A running child. Dropped: killed and reaped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: i32,
    exit: watch::Receiver<Option<ExitStatus>>,
    waiter: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`. It inherits the network namespace of the calling thread.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {name}: {error}"),
        };
        let pid = i32::try_from(child.id()).expect("the kernel's process ids fit 31 bits");
        let (told, exit) = watch::channel(None);
        // A thread of its own: the exit is an event for whoever waits, and nobody has to poll for it.
        let waiter = std::thread::spawn(move || {
            let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(0));
            told.send_replace(Some(status));
        });
        Self { name, pid, exit, waiter: Some(waiter) }
    }

    /// Starts `command` with both outputs collected in the returned log.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn_logged(command: &mut Command) -> (Self, Log) {
        let (stdout_end, stdout) = std::io::pipe().expect("a pipe: descriptors are not scarce in a test");
        let (stderr_end, stderr) = std::io::pipe().expect("a pipe: descriptors are not scarce in a test");
        let process = Self::spawn(command.stdin(Stdio::null()).stdout(stdout).stderr(stderr));
        // `command` still holds the writing ends: they must go, or the log would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let log = Log::default();
        log.collect(stdout_end);
        log.collect(stderr_end);
        (process, log)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended; `None` while it runs.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends `signal` (`libc::SIGTERM`), unless it has ended.
    pub fn signal(&self, signal: i32) {
        if self.exited().is_none() {
            send_signal(self.pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// After `longest`.
    pub async fn wait(&self, longest: Duration) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some);
        let status = within(format_args!("the end of {}", self.name), longest, ended).await;
        let status = status.expect("the waiter sends before it drops its end");
        status.expect("waited for a status that is there")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        if let Some(waiter) = self.waiter.take() {
            // A panic in the waiter leaves nothing to clean up.
            let _ = waiter.join();
        }
    }
}

/// Sends `signal` to the process `pid`; false when there is none.
pub fn send_signal(pid: i32, signal: i32) -> bool {
    assert!(pid > 1, "{pid} is not a process that a test has started");
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Every line that a process wrote, oldest first. Clones share the lines.
#[derive(Debug, Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    progress: Arc<watch::Sender<Progress>>,
}

/// How far the readers of a log are.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    lines: usize,
    open_ends: usize,
}

impl Default for Log {
    fn default() -> Self {
        Self { lines: Arc::default(), progress: Arc::new(watch::Sender::new(Progress::default())) }
    }
}

impl Log {
    /// What was written up to now, a line each.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// The lines written up to now.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `find` makes of all lines, asked again at each new one; `None` when the last was written in vain.
    pub async fn find<T>(&self, mut find: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let mut progress = self.progress.subscribe();
        loop {
            let ended = progress.borrow_and_update().open_ends == 0;
            let found = find(&self.lines());
            if found.is_some() || ended {
                return found;
            }
            progress.changed().await.expect("`self` holds the sender");
        }
    }

    /// Returns once every line has been read: after the end of the process and of all who hold its outputs.
    pub async fn complete(&self) {
        self.find(|_| None::<()>).await;
    }

    fn collect(&self, output: impl Read + Send + 'static) {
        let log = self.clone();
        log.progress.send_modify(|progress| progress.open_ends += 1);
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                log.progress.send_modify(|progress| progress.lines += 1);
            }
            log.progress.send_modify(|progress| progress.open_ends -= 1);
        });
    }
}

/// Raises this process's limit of open files to the most it may have; that limit. Processes started later inherit it.
///
/// # Panics
/// Never in practice: a process may always raise its own limit that far.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) fills the struct it is given, setrlimit(2) reads it; both outlive the calls.
    let done = unsafe {
        let got = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        got == 0 && libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
    };
    assert!(done, "the limit of open files: {}", std::io::Error::last_os_error());
    limit.rlim_cur
}

/// Memory of the process `pid` that is in RAM, in KiB.
///
/// # Panics
/// When there is no such process.
pub fn resident_kib(pid: i32) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number of KiB")
}
