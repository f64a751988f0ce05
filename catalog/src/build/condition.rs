//! What is seen of one instance: from its container's life, its probe, Docker's own HEALTHCHECK and its requests.
//!
//! Not here: how a verdict is reached (that is `health`'s), who is ejected and when (that is `proxy`'s).

use std::net::SocketAddr;
use std::sync::Arc;

use fairway_config::labels::Severity;
use jiff::Timestamp;

use crate::facts::{DockerHealth, Lifecycle, Unit};
use crate::inputs::{Ejection, Verdict};
use crate::model::Condition;
use crate::problem::Problem;

/// What is seen of one instance.
pub(super) struct Seen {
    pub(super) condition: Condition,
    pub(super) since: Timestamp,
    pub(super) reason: Arc<str>,
    pub(super) until: Option<Timestamp>,
    pub(super) problem: Option<Problem>,
}

impl Seen {
    fn new(condition: Condition, since: Timestamp, reason: impl Into<Arc<str>>) -> Self {
        let reason = reason.into();
        Self { condition, since, reason, until: None, problem: None }
    }
}

/// The condition of an instance of this unit. `outlived`: it ought to have stopped, and was judged since.
pub(super) fn of(
    unit: &Unit,
    address: Option<SocketAddr>,
    verdict: Option<&Verdict>,
    ejection: Option<&Ejection>,
    outlived: bool,
) -> Seen {
    let seen = lives(unit, address, verdict, outlived);
    match ejection {
        // Only what would serve can be ejected: whatever else is wrong with it says more.
        Some(ejection) if seen.condition.is_ready() => Seen {
            condition: Condition::Ejected,
            since: ejection.since,
            reason: ejection.reason.clone(),
            until: Some(ejection.until),
            ..seen
        },
        _ => seen,
    }
}

/// The same, whatever its requests say.
fn lives(unit: &Unit, address: Option<SocketAddr>, verdict: Option<&Verdict>, outlived: bool) -> Seen {
    match unit.lifecycle {
        Lifecycle::Restarting => Seen::new(Condition::Pending, unit.started, "Docker is restarting it"),
        Lifecycle::Paused => Seen::new(Condition::Pending, unit.started, "it is paused"),
        Lifecycle::Stopping { since, .. } => stopping(unit, since, verdict, outlived),
        Lifecycle::Running if address.is_none() => {
            Seen::new(Condition::Pending, unit.started, unit.address_reason.clone())
        }
        Lifecycle::Running => running(unit, verdict),
    }
}

fn running(unit: &Unit, verdict: Option<&Verdict>) -> Seen {
    if unit.spec.probe.is_some() {
        return match verdict {
            None => Seen::new(Condition::Pending, unit.started, "its probe has not succeeded yet"),
            Some(verdict) => Seen {
                problem: verdict.problem.clone(),
                ..Seen::new(verdict.condition, verdict.since, verdict.reason.clone())
            },
        };
    }
    let (condition, reason) = match unit.docker_health {
        None => (Condition::Ready, "it runs and has no probe"),
        Some(DockerHealth::Starting) => (Condition::Pending, "its HEALTHCHECK has not succeeded yet"),
        Some(DockerHealth::Healthy) => (Condition::Ready, "its HEALTHCHECK succeeds"),
        Some(DockerHealth::Unhealthy) => (Condition::Unhealthy, "its HEALTHCHECK fails"),
    };
    Seen::new(condition, unit.started, reason)
}

/// A stop signal was seen. When it still runs and answers long after, it has ignored the signal and is active again.
fn stopping(unit: &Unit, since: Timestamp, verdict: Option<&Verdict>, outlived: bool) -> Seen {
    match verdict {
        Some(verdict) if outlived && verdict.condition.is_ready() => {
            let text = format!("{} got its stop signal at {since} but still runs and answers", unit.name);
            let remedy =
                "let it end on its stop signal, or stop it with `docker kill`; it gets requests again";
            let problem =
                Problem::new("stop-signal-ignored", Severity::Warning, unit.name.clone(), text, remedy);
            let reason = "it still answers long after its stop signal";
            Seen { problem: Some(problem), ..Seen::new(Condition::Ready, verdict.since, reason) }
        }
        _ => Seen::new(Condition::Stopping, since, "its stop signal was seen"),
    }
}
