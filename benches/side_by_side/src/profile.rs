//! Where the time of one row goes: system calls and instructions per request, the hottest symbols.
//!
//! The numbers come from perf, strace and valgrind; what cannot be had here is told and left out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::measure::origin;
use crate::peer::{Kind, Peer, Setup};
use crate::process::{LOAD_CORE, Process};
use crate::rows::{Load, Row};
use crate::{Outcome, machine, rows, tools};

/// Seconds of each look.
const SECONDS: f64 = 4.0;

/// How long valgrind may take to sum up.
const VALGRIND_PATIENCE: Duration = Duration::from_secs(60);

/// Symbols told.
const SYMBOLS: usize = 40;

/// Looks into one row of one proxy. Of a row with two ways, the second is looked into.
pub(crate) fn row(name: &str, kind: Kind) -> Outcome<()> {
    let row = rows::named(name)?;
    if matches!(row.load, Load::Idle { .. }) {
        return Err(format!("the row {name} has no load to look into"));
    }
    let setup = row.setups[1];
    let _origin = origin((setup.threads == 1).then_some(LOAD_CORE))?;
    println!("# {} of {}, {}", row.what, kind.name(), jiff::Zoned::now().date());
    {
        let peer = Peer::start(kind, setup, 0)?;
        tools::run(row.load, setup, &peer, 1.0)?;
        told("cost", cost(&row, setup, &peer));
        told(
            "system calls",
            counted_by_perf(&row, setup, &peer, &["raw_syscalls:sys_enter", "context-switches"]),
        );
        told("system calls by name", named_by_strace(&row, setup, &peer));
        let counters =
            counted_by_perf(&row, setup, &peer, &["instructions:u", "instructions:k", "cache-misses"]);
        let has_counters = counters.is_ok();
        told("hardware counters", counters);
        told("hottest symbols", symbols(&row, setup, &peer));
        if has_counters {
            return Ok(());
        }
    }
    told("instructions (valgrind)", instructions_by_valgrind(&row, setup, kind));
    Ok(())
}

fn told(what: &str, result: Outcome<String>) {
    println!("\n## {what}\n");
    match result {
        Ok(text) => println!("{text}"),
        Err(error) => println!("not to be had here: {error}"),
    }
}

fn cost(row: &Row, setup: Setup, peer: &Peer) -> Outcome<String> {
    let before = peer.process.cpu_seconds();
    let told = tools::run(row.load, setup, peer, SECONDS)?;
    let used = peer.process.cpu_seconds() - before;
    let per = used * 1e6 / told.done.max(1) as f64;
    Ok(format!(
        "{per:.2} µs CPU per request, {:.0} requests/s, {:.2} cores busy, {} errors",
        told.done as f64 / told.seconds.max(1e-3),
        used / told.seconds.max(1e-3),
        told.errors
    ))
}

/// Runs the load while another program watches the proxy; gives what that program said, and how many requests there were.
fn watched(row: &Row, setup: Setup, peer: &Peer, watcher: &mut Command) -> Outcome<(String, f64)> {
    let name = watcher.get_program().to_string_lossy().into_owned();
    let log = machine::folder()?.join("watcher.log");
    let mut watching = Process::start(watcher, &log)?;
    sleep(Duration::from_millis(500)); // it has no way to tell that it has begun
    if !watching.is_running() {
        return Err(format!("{name}: {}", watching.last_words()));
    }
    let done = tools::run(row.load, setup, peer, SECONDS);
    watching.stop(Signal::INT, Duration::from_secs(20));
    let said = fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    Ok((said, done?.done.max(1) as f64))
}

fn pids(peer: &Peer) -> String {
    peer.process.tree().iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn counted_by_perf(row: &Row, setup: Setup, peer: &Peer, events: &[&str]) -> Outcome<String> {
    let mut perf = Command::new("perf");
    perf.args(["stat", "-x", ",", "-e", &events.join(","), "-p", &pids(peer)]);
    let (said, requests) = watched(row, setup, peer, &mut perf)?;
    let count = |event: &&str| {
        let line = said.lines().find(|line| line.split(',').any(|part| part == *event))?;
        let count: f64 = line.split(',').next()?.parse().ok()?;
        Some(format!("{event}: {:.2} per request", count / requests))
    };
    let counts: Vec<_> = events.iter().filter_map(count).collect();
    if counts.is_empty() { Err(format!("perf says {}", said.trim())) } else { Ok(counts.join("\n")) }
}

fn named_by_strace(row: &Row, setup: Setup, peer: &Peer) -> Outcome<String> {
    let mut strace = Command::new("strace");
    strace.args(["-c", "-f", "-U", "calls,name"]);
    strace.args(peer.process.tree().iter().map(|pid| format!("--attach={pid}")));
    let (said, requests) = watched(row, setup, peer, &mut strace)?;
    let mut calls: Vec<(f64, &str)> = said
        .lines()
        .filter_map(|line| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((count.parse::<f64>().ok()? / requests, name.trim()))
        })
        .filter(|(per, name)| *per > 0.005 && *name != "total")
        .collect();
    calls.sort_by(|a, b| b.0.total_cmp(&a.0));
    let lines: Vec<_> = calls.iter().map(|(per, name)| format!("{per:6.2} {name}")).collect();
    if lines.is_empty() { Err(format!("strace says {}", said.trim())) } else { Ok(lines.join("\n")) }
}

/// By the clock: virtual machines seldom have counters.
fn symbols(row: &Row, setup: Setup, peer: &Peer) -> Outcome<String> {
    let data = machine::folder()?.join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-e", "cpu-clock", "-F", "2500", "-g", "-p", &pids(peer), "-o"]).arg(&data);
    watched(row, setup, peer, &mut perf)?;
    let report = |fields: &str| {
        let mut perf = Command::new("perf");
        perf.args(["report", "--no-children", "--stdio", "-g", "none", "-F", fields, "-i"]).arg(&data);
        let said = perf.stdin(Stdio::null()).output().map_err(|error| format!("perf: {error}"))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let cut = |line: &str| line.chars().take(140).collect::<String>().trim_end().to_owned();
        Ok::<_, String>(lines.take(SYMBOLS).map(cut).collect::<Vec<_>>().join("\n"))
    };
    let kept = format!("\n\n(call graphs: perf report -i {})", data.display());
    Ok(report("overhead,dso")? + "\n\n" + &report("overhead,dso,symbol")? + &kept)
}

/// In user space alone: the difference of a short and a long run, so that the start does not count.
fn instructions_by_valgrind(row: &Row, setup: Setup, kind: Kind) -> Outcome<String> {
    let folder = machine::folder()?;
    let [short, long] = [2.0, 8.0].map(|seconds| under_valgrind(row, setup, kind, &folder, seconds));
    let ((short_count, short_done), (long_count, long_done)) = (short?, long?);
    let requests = long_done - short_done;
    if requests <= 0.0 {
        return Err("the longer run had no more requests than the shorter one".into());
    }
    Ok(format!("{:.0} instructions in user space per request", (long_count - short_count) / requests))
}

fn under_valgrind(row: &Row, setup: Setup, kind: Kind, folder: &Path, seconds: f64) -> Outcome<(f64, f64)> {
    let is_log = |name: &str| name.starts_with("valgrind.");
    for name in names(folder).filter(|name| is_log(name)) {
        let _ = fs::remove_file(folder.join(name)); // of an earlier run
    }
    let log = format!("--log-file={}/valgrind.%p", folder.display());
    let wrapper = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--trace-children=yes",
        "--cachegrind-out-file=/dev/null",
        &log,
    ];
    let mut peer = Peer::start_under(&wrapper, kind, setup, 0)?;
    let told = tools::run(row.load, setup, &peer, seconds)?;
    peer.process.stop(Signal::TERM, VALGRIND_PATIENCE);
    let count = |name: String| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        let line =
            text.lines().find_map(|line| line.split_once("I refs:").or(line.split_once("I   refs:")))?;
        line.1.trim().replace(',', "").parse::<f64>().ok()
    };
    let counts: Vec<f64> = names(folder).filter(|name| is_log(name)).filter_map(count).collect();
    if counts.is_empty() {
        return Err("valgrind tells no sum".into());
    }
    Ok((counts.iter().sum(), told.done as f64))
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
