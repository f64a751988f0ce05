//! Rounds: in each every proxy has its turn, one after the other, so that whatever else the machine does hits all alike.

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::load::Told;
use crate::peer::{Kind, Peer, Setup};
use crate::process::{LOAD_CORE, Process, on_core};
use crate::rows::{Beside, Load, Row};
use crate::{Measure, Outcome, machine, report, rows, tools};

/// The load before the first round, in seconds.
const WARM_UP: f64 = 1.0;

/// How long idle connections are left alone before memory is read: buffers are given back late.
const SETTLE: Duration = Duration::from_millis(700);

/// What was measured for a row, kept from run to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The row's name.
    pub(crate) row: String,
    /// The day.
    pub(crate) date: String,
    /// On what, with which programs.
    pub(crate) machine: machine::Machine,
    /// The load average before the first row: what else the machine did.
    pub(crate) load_before: f64,
    /// Rounds, and seconds of a turn.
    pub(crate) rounds: usize,
    /// See `rounds`.
    pub(crate) seconds: u64,
    /// The proxies in the order of the tables.
    pub(crate) turns: Vec<Turns>,
}

/// What one proxy did, set up in one way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Turns {
    /// The proxy.
    pub(crate) kind: Kind,
    /// Which of the row's two ways.
    pub(crate) way: usize,
    /// One sample per round.
    pub(crate) samples: Vec<Sample>,
    /// Why it could not be measured.
    pub(crate) failure: Option<String>,
}

/// One turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The row's figure, in its unit.
    pub(crate) value: f64,
    /// Requests (handshakes, connections) per second.
    pub(crate) rate: f64,
    /// Cores that the proxy kept busy.
    pub(crate) cores: f64,
    /// Errors: any makes the row invalid.
    pub(crate) errors: u64,
    /// The first of them.
    pub(crate) first_error: Option<String>,
}

/// Measures rows, keeps each, and shows the tables.
pub(crate) fn rows(how: &Measure) -> Outcome<()> {
    let rows = match &how.rows[..] {
        [] => rows::all(),
        names => names.iter().map(|name| rows::named(name)).collect::<Outcome<_>>()?,
    };
    let load_before = machine::load_average();
    if load_before > machine::QUIET {
        eprintln!("this machine is busy (load {load_before}): the figures will be of little worth");
    }
    for row in rows {
        eprintln!("== {} ({})", row.what, row.name);
        let measured = Measured { load_before, ..one(&row, how)? };
        for turns in &measured.turns {
            eprintln!("   {}", report::in_words(turns));
        }
        keep(&measured)?;
    }
    report::show(how.write.as_deref())
}

fn one(row: &Row, how: &Measure) -> Outcome<Measured> {
    let core = (row.setups[0].threads == 1).then_some(LOAD_CORE);
    let _origin = origin(core)?;
    let ways = if row.beside == Beside::Peers { 1 } else { 2 };
    let kinds = Kind::ALL.into_iter().filter(|kind| how.only.contains(kind));
    let turns = kinds.flat_map(|kind| (0..ways).map(move |way| (kind, way)));
    let turns = turns.map(|(kind, way)| Turns { kind, way, samples: Vec::new(), failure: None });
    let turns = match row.load {
        Load::Idle { .. } => held(row, how, turns.collect()),
        _ => under_load(row, how, turns.collect()),
    };
    Ok(Measured {
        row: row.name.to_owned(),
        date: jiff::Zoned::now().date().to_string(),
        machine: machine::Machine::of_this(),
        load_before: 0.0,
        rounds: how.rounds,
        seconds: how.seconds,
        turns,
    })
}

/// The server behind the proxies.
pub(crate) fn origin(core: Option<usize>) -> Outcome<Process> {
    let me = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    Process::start(on_core(core, me).arg("origin"), &machine::folder()?.join("origin.log"))
}

/// All proxies run at once; those whose turn it is not do nothing.
fn under_load(row: &Row, how: &Measure, mut turns: Vec<Turns>) -> Vec<Turns> {
    let mut peers = Vec::new();
    for (turns, number) in turns.iter_mut().zip(0..) {
        let setup = row.setups[turns.way];
        let started = Peer::start(turns.kind, setup, number);
        let warm = started.and_then(|peer| tools::run(row.load, setup, &peer, WARM_UP).map(|_| peer));
        peers.push(warm.map_err(|error| turns.failure = Some(error)).ok());
    }
    for _ in 0..how.rounds {
        for (turns, peer) in turns.iter_mut().zip(&mut peers) {
            let Some(running) = peer else { continue };
            match turn(row, row.setups[turns.way], running, how.seconds as f64) {
                Ok(sample) => turns.samples.push(sample),
                Err(error) => {
                    turns.failure = Some(error);
                    *peer = None;
                }
            }
        }
    }
    turns
}

/// One turn of one proxy.
fn turn(row: &Row, setup: Setup, peer: &Peer, seconds: f64) -> Outcome<Sample> {
    let before = peer.process.cpu_seconds();
    let told = tools::run(row.load, setup, peer, seconds)?;
    let used = peer.process.cpu_seconds() - before;
    if setup.log {
        peer.process.forget_output();
    }
    let value = match told.latency {
        Some(median) => median,
        None => used * 1e6 / told.done.max(1) as f64,
    };
    Ok(sample(value, used, told))
}

/// Memory: each proxy starts afresh in each round, since it seldom gives back what it once had.
fn held(row: &Row, how: &Measure, mut turns: Vec<Turns>) -> Vec<Turns> {
    for _ in 0..how.rounds {
        for turns in turns.iter_mut().filter(|turns| turns.failure.is_none()) {
            match hold(row, turns.kind) {
                Ok(sample) => turns.samples.push(sample),
                Err(error) => turns.failure = Some(error),
            }
        }
    }
    turns
}

fn hold(row: &Row, kind: Kind) -> Outcome<Sample> {
    let setup = row.setups[0];
    let peer = Peer::start(kind, setup, 0)?;
    // What is made once, for the first requests, is no connection's.
    tools::run(Load::Churn, setup, &peer, WARM_UP)?;
    sleep(SETTLE);
    let before = peer.process.memory_kib();
    let held = tools::hold(row.load, setup, &peer)?;
    sleep(SETTLE);
    let grown = peer.process.memory_kib().saturating_sub(before);
    let told = held.told.clone();
    let value = grown as f64 / told.done.max(1) as f64;
    drop(held);
    Ok(sample(value, 0.0, told))
}

fn sample(value: f64, used: f64, told: Told) -> Sample {
    let seconds = told.seconds.max(1e-3);
    let rate = if told.seconds > 0.0 { told.done as f64 / seconds } else { 0.0 };
    Sample { value, rate, cores: used / seconds, errors: told.errors, first_error: told.first_error }
}

fn kept(row: &str) -> Outcome<PathBuf> {
    Ok(machine::folder()?.join(format!("result-{row}.json")))
}

fn keep(measured: &Measured) -> Outcome<()> {
    let path = kept(&measured.row)?;
    let text = serde_json::to_string_pretty(measured).map_err(|error| error.to_string())?;
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What was measured last for this row, if anything.
pub(crate) fn last(row: &Row) -> Outcome<Option<Measured>> {
    let path = kept(row.name)?;
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let read = serde_json::from_str(&text);
    if let Err(error) = &read {
        eprintln!("{} is left out, it was written by another version ({error})", path.display());
    }
    Ok(read.ok())
}
