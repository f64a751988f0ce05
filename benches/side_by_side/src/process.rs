//! A program with its children: started, pinned, ended; what CPU time and memory they all use.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// How long a program may take to end when it is no longer wanted.
const PATIENCE: Duration = Duration::from_secs(3);

/// The core of the proxies with one worker, and the one of the load and the origin beside them.
pub(crate) const PROXY_CORE: usize = 0;
/// See [`PROXY_CORE`].
pub(crate) const LOAD_CORE: usize = 1;

/// A command, kept to one core if one is given.
pub(crate) fn on_core(core: Option<usize>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let Some(core) = core else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// A running program whose output goes to a file. Dropped, it is ended with its children.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it. The file is appended to, so that it may be cut while the program runs.
    pub(crate) fn start(command: &mut Command, output: &Path) -> Outcome<Self> {
        let told = |error: std::io::Error| format!("{}: {error}", output.display());
        File::create(output).map_err(told)?;
        let file = OpenOptions::new().append(true).open(output).map_err(told)?;
        let both = file.try_clone().map_err(told)?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn();
        let child = child.map_err(|error| format!("{:?} does not start: {error}", command.get_program()))?;
        Ok(Self { child, output: output.to_owned() })
    }

    /// It and all its descendants.
    pub(crate) fn tree(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            next += 1;
            for task in entries(&format!("/proc/{pid}/task")) {
                let children = fs::read_to_string(task.join("children")).unwrap_or_default();
                all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        all
    }

    /// CPU time used so far by all threads of all of them, in seconds, as the scheduler counts it.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let tasks = self.tree().into_iter().flat_map(|pid| entries(&format!("/proc/{pid}/task")));
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        nanos.sum::<u64>() as f64 / 1e9
    }

    /// Memory of all of them in KiB, pages that several share counted once (PSS).
    pub(crate) fn memory_kib(&self) -> u64 {
        let of_one = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        self.tree().iter().filter_map(of_one).sum()
    }

    /// The last lines of its output.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }

    /// Cuts its output: an access log grows fast.
    pub(crate) fn forget_output(&self) {
        // If it cannot be cut it goes on growing; nothing depends on it.
        let _ = OpenOptions::new().write(true).truncate(true).open(&self.output);
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end by a signal and waits for that; what is left then is killed.
    pub(crate) fn stop(&mut self, signal: Signal, patience: Duration) {
        let tree = self.tree();
        signal_all(&tree[..1], signal);
        let asked = Instant::now();
        while self.is_running() && asked.elapsed() < patience {
            // The standard library waits for a child either not at all or without a limit.
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.is_running() {
            signal_all(&tree, Signal::KILL);
        }
        let _ = self.child.wait(); // it has ended, or is about to
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.stop(Signal::TERM, PATIENCE);
        }
    }
}

fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
        let _ = kill_process(pid, signal); // it may have ended by itself
    }
}

fn entries(folder: &str) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
