//! The task of one probe: attempts, pauses, and what is told of them.

use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::{Condition, Problem};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::attempt::{Attempt, Grade, Outcome};
use crate::board::Board;
use crate::log::{ProbeLog, ProbeResult};
use crate::metrics::Metrics;
use crate::plan::{Impossible, Probe};
use crate::rise_fall::{RiseFall, Signal};
use crate::suspect::{Evidence, Seat};

/// The pauses between attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// From one attempt's start to the next one's.
    pub(crate) regular: Duration,
    /// From one attempt's end to the next one's start before the first success, and at least at any time.
    pub(crate) unproven: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { regular: Duration::from_secs(2), unproven: Duration::from_millis(250) }
    }
}

/// Containers that started within this time are asked at once; those that have been running for longer (Fairway itself
/// was started) are asked within the first short pause, so that a thousand probes do not fire together.
const FRESH: Duration = Duration::from_secs(5);

/// Regular pauses vary by this part of their length in both directions.
const JITTER: f64 = 0.1;

/// Everything a task needs, and what it tells.
pub(crate) struct Task<A> {
    pub(crate) probe: Probe,
    pub(crate) attempts: A,
    pub(crate) pace: Pace,
    pub(crate) seat: Seat,
    pub(crate) board: Arc<Board>,
    pub(crate) log: ProbeLog,
    pub(crate) metrics: Arc<Metrics>,
}

impl<A: Attempt> Task<A> {
    /// Probes until it is dropped. `known` is the condition so far, if another probe has found it.
    pub(crate) async fn run(mut self, known: Option<Condition>) {
        let overdue = self.probe.overdue;
        let mut health =
            known.map_or_else(|| RiseFall::new(overdue), |known| RiseFall::resume(known, overdue));
        sleep(self.first_pause()).await;
        loop {
            let begun = Instant::now();
            let outcome = self.attempts.attempt(&self.probe).await;
            self.count(&outcome, begun.elapsed());
            self.judge(&mut health, &outcome);
            sleep(self.pause(&health, begun.elapsed())).await;
        }
    }

    /// The initial delay counts from the container's start, not from ours. It is no longer than that where the clock was set
    /// back since, or the engine's is ahead of ours: an instance without a verdict gets nothing.
    fn first_pause(&self) -> Duration {
        let now = Timestamp::now();
        let running_for = Duration::try_from(now.duration_since(self.probe.started)).unwrap_or_default();
        let spread =
            if running_for > FRESH { self.pace.unproven.mul_f64(fastrand::f64()) } else { Duration::ZERO };
        let left =
            |since| Duration::try_from(self.probe.not_before.duration_since(since)).unwrap_or_default();
        left(now).min(left(self.probe.started)) + spread
    }

    fn pause(&self, health: &RiseFall, attempt_took: Duration) -> Duration {
        if health.is_unproven() {
            return self.pace.unproven;
        }
        let jitter = 1.0 + JITTER * (2.0 * fastrand::f64() - 1.0);
        self.pace.regular.mul_f64(jitter).saturating_sub(attempt_took).max(self.pace.unproven)
    }

    fn count(&self, outcome: &Outcome, took: Duration) {
        self.metrics.attempt(&self.probe, outcome.grade, took);
        let ok = outcome.grade == Grade::Success;
        let result = ProbeResult { at: Timestamp::now(), ok, detail: outcome.detail.clone(), duration: took };
        for key in &self.probe.keys {
            self.log.add(key, result.clone());
        }
    }

    /// Takes the outcome in, and tells the condition that follows.
    fn judge(&mut self, health: &mut RiseFall, outcome: &Outcome) {
        let evidence = match outcome.grade {
            Grade::Success | Grade::Failure => Evidence::Works,
            Grade::Local => Evidence::Local,
            Grade::Nothing | Grade::Impossible(_) => Evidence::None,
        };
        let suspect = self.seat.saw(evidence, &outcome.detail);
        health.see(match outcome.grade {
            Grade::Success => Signal::Success,
            Grade::Local if suspect => Signal::Suspect,
            Grade::Failure | Grade::Local => Signal::Failure,
            Grade::Nothing => Signal::Nothing,
            Grade::Impossible(_) => Signal::Impossible,
        });
        self.seat.hold(health.is_held());
        self.tell(health.condition(), outcome);
    }

    fn tell(&self, condition: Condition, outcome: &Outcome) {
        // An attempt speaks for the condition it leads to; a first slip of a ready instance is no reason for being ready.
        let speaks = match outcome.grade {
            Grade::Success => condition == Condition::Ready,
            Grade::Failure | Grade::Local => matches!(condition, Condition::Pending | Condition::Unhealthy),
            Grade::Nothing => condition == Condition::Pending,
            Grade::Impossible(_) => true,
        };
        let keeps_silent = self.probe.overdue && condition == Condition::Pending;
        if !speaks || keeps_silent {
            return;
        }
        let problem = match outcome.grade {
            Grade::Impossible(why) => Some(impossible(why, &self.probe)),
            _ => None,
        };
        for key in &self.probe.keys {
            self.board.tell(key, condition, &outcome.detail, problem.clone());
        }
    }
}

/// The problem of a probe that cannot be made.
fn impossible(why: Impossible, probe: &Probe) -> Problem {
    let name = &probe.name;
    let (kind, key, text, remedy) = match why {
        Impossible::NoContainer => (
            "probe-no-container",
            "aliyun.probe.cmd",
            format!("{name} has a probe command but is no container; it counts as ready"),
            "give it a probe by `url`",
        ),
        Impossible::ExecRefused => (
            "probe-exec-refused",
            "aliyun.probe.cmd",
            format!("the engine refuses to run the probe command in {name}; it counts as ready"),
            "allow exec on the engine's socket (POST /containers/ID/exec and /exec/ID/start), or write `aliyun.probe.url`",
        ),
    };
    // The command itself stays out: people write passwords into it.
    Problem::new(kind, Severity::Warning, name.clone(), text, remedy).at(key, "")
}

#[cfg(test)]
mod tests;
