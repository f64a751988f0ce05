//! The count of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::LoadOptions;
use super::wire::{Failure, Reply};

/// How many failures a report tells one by one.
const TOLD: usize = 20;

/// When, counted from the start of the load, answers came from one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub count: u64,
    /// When the first one had come.
    pub first: Duration,
    /// When the request of the last one was sent.
    pub last_sent: Duration,
}

/// One failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// When it was sent, counted from the start of the load.
    pub sent: Duration,
    /// `reset`, `cut`, ... or `status 503`.
    pub why: String,
    /// Who answered, if somebody did.
    pub instance: Option<String>,
}

/// What became of every request of a load.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// All requests: `ok + failed`.
    pub sent: u64,
    /// Answered whole, with 2xx.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Answers per status.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests without a whole answer, by what happened: `refused`, `unreachable`, `reset`, `cut` (closed before the
    /// answer was whole), `timeout`, `malformed`, `stray` (octets that nobody had asked for).
    pub by_error: BTreeMap<String, u64>,
    /// Failed requests by cause: `status 502 upstream-closed` with the `type` of a refusal, `wrong service`, or as in
    /// `by_error`, where ` in the body` follows when the head of the answer had come; `ended early` and `body taken in part` as
    /// [`LoadOptions`] wants to know; of calls of gRPC `grpc-status 14 no-instance` and the like, `no grpc-status`, `another message`.
    pub by_cause: BTreeMap<String, u64>,
    /// Answers per instance, by the field `x-instance`.
    pub by_instance: BTreeMap<String, Seen>,
    /// Answers per version, by the field `x-version`.
    pub by_version: BTreeMap<String, u64>,
    /// Connections opened.
    pub connections: u64,
    /// From the start to the last answer.
    pub duration: Duration,
    /// Half of the answered requests took no longer.
    pub p50: Duration,
    /// 99 of 100 answered requests took no longer.
    pub p99: Duration,
    /// The answered request that took longest.
    pub longest: Duration,
    /// The first failures, by time.
    pub failures: Vec<Failed>,
}

impl Report {
    /// The answers of one version.
    pub fn version(&self, version: &str) -> u64 {
        self.by_version.get(version).copied().unwrap_or(0)
    }

    /// The answers of one instance.
    pub fn instance(&self, instance: &str) -> u64 {
        self.by_instance.get(instance).map_or(0, |seen| seen.count)
    }

    /// The report as the program `load` prints it; times in microseconds.
    pub fn json(&self) -> Value {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let counts: BTreeMap<_, _> = self.by_instance.iter().map(|(name, seen)| (name, seen.count)).collect();
        let times: BTreeMap<_, _> = (self.by_instance.iter())
            .map(|(name, seen)| {
                (name, json!({ "first_us": us(seen.first), "last_sent_us": us(seen.last_sent) }))
            })
            .collect();
        let failures = self.failures.iter().map(
            |failed| json!({ "sent_us": us(failed.sent), "why": failed.why, "instance": failed.instance }),
        );
        json!({
            "sent": self.sent, "ok": self.ok, "failed": self.failed,
            "by_status": self.by_status, "by_error": self.by_error, "by_cause": self.by_cause,
            "by_instance": counts, "instance_times": times, "by_version": self.by_version,
            "connections": self.connections, "duration_us": us(self.duration),
            "p50_us": us(self.p50), "p99_us": us(self.p99), "longest_us": us(self.longest),
            "failures": failures.collect::<Vec<_>>(),
        })
    }

    /// Itself, when nothing failed and something was sent.
    ///
    /// # Panics
    /// Otherwise, with the whole report.
    pub fn without_failure(self) -> Self {
        assert!(self.failed == 0 && self.sent > 0, "{self}");
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.json())
    }
}

impl Reply {
    /// Why it is a failure, if it is one.
    fn failure(&self, options: &LoadOptions) -> Option<String> {
        if !(200..300).contains(&self.status) {
            let problem = self.problem.as_ref().map_or_else(String::new, |problem| format!(" {problem}"));
            return Some(format!("status {}{problem}", self.status));
        }
        if self.fault.is_some() {
            return self.fault.clone();
        }
        let is_wrong = options.service.is_some() && self.service != options.service;
        let is_short =
            !options.ends.is_empty() && !options.ends.iter().any(|end| self.tail.ends_with(end.as_bytes()));
        let is_lost = options.is_taken && self.taken != Some(options.body.len() as u64);
        let told = [(is_wrong, "wrong service"), (is_short, "ended early"), (is_lost, "body taken in part")];
        told.into_iter().find_map(|(is, cause)| is.then(|| cause.to_owned()))
    }
}

/// The count of one connection, or of several.
#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
    latencies: Vec<Duration>,
    /// Connections opened.
    pub(super) opened: u64,
}

impl Tally {
    /// Counts one request, with what makes an answer right, when it was sent, how long it took, and when it had ended.
    pub(super) fn count(
        &mut self,
        outcome: Result<Reply, Failure>,
        options: &LoadOptions,
        sent: Duration,
        took: Duration,
        ended: Duration,
    ) {
        self.report.sent += 1;
        let (why, instance) = match outcome {
            Ok(reply) => {
                self.latencies.push(took);
                let why = reply.failure(options);
                let instance = reply.instance.clone();
                self.count_reply(reply, sent, ended);
                (why, instance)
            }
            Err(failure) => {
                *self.report.by_error.entry(failure.word().to_owned()).or_default() += 1;
                (Some(failure.cause().to_owned()), None)
            }
        };
        let Some(why) = why else { return self.report.ok += 1 };
        self.report.failed += 1;
        *self.report.by_cause.entry(why.clone()).or_default() += 1;
        if self.report.failures.len() < TOLD {
            self.report.failures.push(Failed { sent, why, instance });
        }
    }

    fn count_reply(&mut self, reply: Reply, sent: Duration, ended: Duration) {
        *self.report.by_status.entry(reply.status).or_default() += 1;
        if let Some(version) = reply.version {
            *self.report.by_version.entry(version).or_default() += 1;
        }
        if let Some(instance) = reply.instance {
            self.see(instance, Seen { count: 1, first: ended, last_sent: sent });
        }
    }

    fn see(&mut self, instance: String, more: Seen) {
        let seen = self.report.by_instance.entry(instance).or_insert(Seen { count: 0, ..more });
        seen.count += more.count;
        seen.first = seen.first.min(more.first);
        seen.last_sent = seen.last_sent.max(more.last_sent);
    }

    /// Adds another connection's count.
    pub(super) fn add(&mut self, other: Self) {
        let Self { report, latencies, opened } = other;
        self.latencies.extend(latencies);
        self.opened += opened;
        self.report.sent += report.sent;
        self.report.ok += report.ok;
        self.report.failed += report.failed;
        report.by_status.into_iter().for_each(|(key, n)| *self.report.by_status.entry(key).or_default() += n);
        report.by_error.into_iter().for_each(|(key, n)| *self.report.by_error.entry(key).or_default() += n);
        report.by_cause.into_iter().for_each(|(key, n)| *self.report.by_cause.entry(key).or_default() += n);
        report
            .by_version
            .into_iter()
            .for_each(|(key, n)| *self.report.by_version.entry(key).or_default() += n);
        report.by_instance.into_iter().for_each(|(instance, seen)| self.see(instance, seen));
        self.report.failures.extend(report.failures);
    }

    /// The end of the count.
    pub(super) fn report(mut self, duration: Duration) -> Report {
        self.latencies.sort_unstable();
        self.report.failures.sort_by_key(|failed| failed.sent);
        self.report.failures.truncate(TOLD);
        Report {
            connections: self.opened,
            duration,
            p50: quantile(&self.latencies, 50),
            p99: quantile(&self.latencies, 99),
            longest: quantile(&self.latencies, 100),
            ..self.report
        }
    }
}

/// The smallest value that this percentage of the sorted values does not exceed; zero without values.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_smallest_value_that_covers_its_share() {
        let values: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        for (percent, want) in [(50, 100), (99, 198), (100, 200)] {
            assert_eq!(quantile(&values, percent), Duration::from_micros(want), "{percent} %");
        }
        assert_eq!(quantile(&[], 99), Duration::ZERO);
    }
}
