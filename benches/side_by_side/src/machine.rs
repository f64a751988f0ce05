//! What the rows are measured on, and whether it will do.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::{Outcome, peer};

/// The programs that are needed, and Debian's packages that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
    ("taskset", "util-linux"),
];

/// Descriptors that the row with most connections takes, on either side of a proxy's process.
const FILES: u64 = 12_000;

/// A load average below this is a quiet machine.
pub(crate) const QUIET: f64 = 0.5;

/// Machine and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Cores, model, kernel.
    pub(crate) hardware: String,
    /// Programs with their versions.
    pub(crate) programs: String,
}

impl Machine {
    /// This one.
    pub(crate) fn of_this() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let hardware =
            format!("{} cores ({}), Linux {}", cores(), model.unwrap_or("model unknown"), kernel.trim());
        let fairway = fairway().map(|path| path.display().to_string()).unwrap_or_default();
        let commit = match std::env::var_os("FAIRWAY") {
            Some(_) => "of another build".to_owned(),
            None => first_line("git", &["describe", "--always", "--dirty"]),
        };
        let programs = [
            format!("{} ({commit})", first_line(&fairway, &["--version"])),
            first_line("nginx", &["-v"]).replace("nginx version: ", ""),
            first_line("haproxy", &["-v"])
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
                .replace("version ", ""),
            first_line("wrk", &["-v"]).split(" [").next().unwrap_or_default().to_owned(),
            first_line("h2load", &["--version"]),
        ];
        Self { hardware, programs: programs.join(", ") }
    }
}

/// Of the last minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first line that a program says, wherever it says it.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let Ok(said) = Command::new(program).args(arguments).output() else { return format!("no {program}") };
    let text = if said.stdout.is_empty() { said.stderr } else { said.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

/// Where configurations, logs and results go: `SIDE_BY_SIDE_DIR`, else `target/side_by_side` of the current folder.
pub(crate) fn folder() -> Outcome<PathBuf> {
    let folder = std::env::var("SIDE_BY_SIDE_DIR").unwrap_or_else(|_| "target/side_by_side".into());
    let made = fs::create_dir_all(&folder).and_then(|()| fs::canonicalize(&folder));
    made.map_err(|error| format!("{folder}: {error}"))
}

/// The Fairway that is measured: `FAIRWAY`, else the one built beside this program.
pub(crate) fn fairway() -> Outcome<PathBuf> {
    let path: PathBuf = match std::env::var_os("FAIRWAY") {
        Some(path) => path.into(),
        None => {
            let me = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
            me.with_file_name("fairway")
        }
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("there is no {}: build it, or set FAIRWAY", path.display()))
    }
}

/// Checks what is needed, all at once, and makes ready what can be.
pub(crate) fn ready() -> Outcome<()> {
    let mut wrong = Vec::new();
    let missing = PROGRAMS.iter().filter(|(program, _)| !is_in_path(program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        wrong.push(format!(
            "programs are missing: apt-get install --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    wrong.extend(fairway().err());
    if cores() < 2 {
        wrong.push("two cores are needed: one for the proxy, one for the load".into());
    }
    let others = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    if others.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:")) {
        wrong.push("this is no network namespace of its own: start it by benches/side_by_side/run.sh".into());
    }
    wrong.extend(raise_file_limit().err());
    if !wrong.is_empty() {
        return Err(wrong.join("\n  "));
    }
    // Of this namespace alone. Where it is refused, there are fewer ports, which is enough for most rows.
    let _ = fs::write("/proc/sys/net/ipv4/ip_local_port_range", "16384 65000");
    peer::make_certificate(&folder()?)
}

fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn raise_file_limit() -> Outcome<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < FILES) {
        return Err(format!("{FILES} open files are needed: raise `ulimit -Hn`"));
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    raised.map_err(|error| format!("the limit of open files cannot be raised: {error}"))
}
