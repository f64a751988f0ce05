//! Instances that fail are taken out for a while: outlier ejection, passive health checking in other words.
//!
//! Decided where the failures are seen, so that it holds at once and for all workers: each life of an instance has a
//! [`Standing`], atomics that every choice of an instance looks at. Its [`Peers`], the instances of the same backend, say
//! whether it may go: at most half of them, never the last, and not while they do no better. What was done is in the
//! [`Book`], which others follow.
//!
//! An instance is ejected
//! - after [`IN_A_ROW`] gateway failures in a row: no connection, no answer, not in time, or 502, 503, 504;
//! - when more of its requests fail in 10 s than can be chance, compared with its peers (see [`rate`]);
//! - when it says so itself, by the field `x-envoy-immediate-health-check-fail` in an answer.
//!
//! Not here: what the choice makes of it (see `pick`), the condition that others see (the catalog's), a short avoidance
//! after single failures (see `pick::failures`).

mod book;
mod knocking;
mod peers;
pub(crate) mod rate;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub(crate) use book::Book;
pub use book::Ejections;
pub(crate) use knocking::{Knocking, Next};
pub(crate) use peers::Peers;
pub(crate) use standing::Standing;

/// Gateway failures in a row that eject an instance.
pub(crate) const IN_A_ROW: u32 = 5;
/// How long the first ejection lasts; the n-th in a row lasts n times as long.
pub(crate) const EJECTION: Duration = Duration::from_secs(30);
/// The longest ejection.
pub(crate) const EJECTION_MAX: Duration = Duration::from_secs(300);
/// After this long without a further one, an ejection less counts as being in a row.
const FORGIVEN: Duration = Duration::from_secs(60);
/// How long an instance is new, or newly back: its part of the requests grows from [`FLOOR`] to the whole.
pub(crate) const SLOW_START: Duration = Duration::from_secs(10);
/// The part of its requests that a new instance gets at first.
pub(crate) const FLOOR: f32 = 0.1;

/// Why an instance is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cause {
    /// Too many failures in a row.
    InARow,
    /// Too many more failures than its peers.
    Rate,
    /// It asked for it.
    Own,
}

impl Cause {
    pub(crate) const ALL: [Self; 3] = [Self::InARow, Self::Rate, Self::Own];

    /// The word for it, a label of the metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::InARow => "failures-in-a-row",
            Self::Rate => "failure-rate",
            Self::Own => "own-request",
        }
    }
}

/// Milliseconds since the first call and one more, so that 0 can stand for never.
pub(crate) fn stamp(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = now.saturating_duration_since(*START.get_or_init(|| now));
    millis(elapsed) + 1
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The part of its requests that an instance gets this long after it became ready, or came back.
pub(crate) fn part_after(elapsed: Duration) -> f32 {
    (elapsed.as_secs_f32() / SLOW_START.as_secs_f32()).clamp(FLOOR, 1.0)
}
