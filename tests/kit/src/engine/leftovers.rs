//! Ends and removes what an engine leaves on the machine: processes, mounts, cgroups. By force and without its help, so
//! that an engine that hangs, was killed or keeps its containers (live restore) leaves as little as one that obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::netns::try_run;
use crate::process::send_signal;

/// Longest wait for the kernel to let go of something.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks: neither the end of a foreign process nor an emptied cgroup is told to anybody.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Programs of an engine, by which its processes are told from a test that names the same folder.
const PROGRAMS: [&str; 3] = ["dockerd", "containerd", "containerd-shim"];

/// Kills the engine whose files lie in `folder`, and everything that runs in its containers.
pub(super) fn end_processes(folder: &Path, cgroup: &str) {
    thaw(cgroup);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = processes_of(folder);
        if found.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            eprintln!("processes of {} do not end: {found:?}", folder.display());
            return;
        }
        for pid in found {
            send_signal(pid, libc::SIGKILL);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The engine's own processes and their descendants; a container's processes descend from its shim.
pub(super) fn processes_of(folder: &Path) -> BTreeSet<i32> {
    let folder = format!("{}/", folder.display());
    let all = running();
    let mut found: BTreeSet<i32> =
        all.iter().filter(|(_, process)| process.is_of_engine(&folder)).map(|(pid, _)| *pid).collect();
    loop {
        let children = all.iter().filter(|(_, process)| found.contains(&process.parent)).map(|(pid, _)| *pid);
        let before = found.len();
        found.extend(children.collect::<Vec<_>>());
        if found.len() == before {
            return found;
        }
    }
}

struct Running {
    parent: i32,
    arguments: Vec<String>,
}

impl Running {
    fn is_of_engine(&self, folder: &str) -> bool {
        let program = self.arguments.first().map(|path| path.rsplit('/').next().unwrap_or(path));
        program.is_some_and(|name| PROGRAMS.iter().any(|known| name.starts_with(known)))
            && self.arguments.iter().any(|argument| argument.contains(folder))
    }
}

/// Every process but the ended ones that nobody has reaped yet.
fn running() -> BTreeMap<i32, Running> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, read_process(pid)?))).collect()
}

fn read_process(pid: i32) -> Option<Running> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything; state and parent follow the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let arguments = arguments.split(|octet| *octet == 0).map(|one| String::from_utf8_lossy(one).into_owned());
    Some(Running { parent, arguments: arguments.collect() })
}

/// Undoes every mount in `folder`, the last one first.
pub(super) fn unmount(folder: &Path) {
    for mount in mounts_in(folder).iter().rev() {
        // Lazily: a mount that is still busy goes as soon as it is not.
        if let Err(why) = try_run("umount", &["-l", &mount.to_string_lossy()]) {
            eprintln!("{why}");
        }
    }
}

/// The mounts in `folder`, oldest first.
pub(super) fn mounts_in(folder: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(folder)).collect()
}

/// Removes the empty cgroup `name` and those below it, in every hierarchy.
pub(super) fn remove_cgroups(name: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = cgroups(name);
        left.iter().rev().for_each(|cgroup| {
            // Busy until the kernel has taken the last killed process out of it.
            let _ = fs::remove_dir(cgroup);
        });
        if left.is_empty() || Instant::now() > deadline {
            left.iter().for_each(|cgroup| eprintln!("the cgroup {} was not empty", cgroup.display()));
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A frozen process (`docker pause`) does not even die.
fn thaw(name: &str) {
    for cgroup in cgroups(name) {
        for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = cgroup.join(file);
            if file.exists() {
                // The process may be gone already, and its cgroup with it.
                let _ = fs::write(file, value);
            }
        }
    }
}

/// The cgroup `name` and all below it in every hierarchy, version 1 or 2, parents first.
pub(super) fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = subfolders(root).into_iter().chain([root.to_owned()]);
    let mut found: Vec<PathBuf> =
        hierarchies.map(|hierarchy| hierarchy.join(name)).filter(|top| top.is_dir()).collect();
    let mut next = 0;
    while next < found.len() {
        found.extend(subfolders(&found[next]));
        next += 1;
    }
    found
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
