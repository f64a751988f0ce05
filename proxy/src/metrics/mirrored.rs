//! What became of the copies of a route's requests that went to one of its versions.
//!
//! Counted apart from requests, which clients wait for, and from the figures that releases compare.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::proto;

use super::histogram::{self, Histogram, REQUEST};

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mirrored {
    /// It was answered, and not with a failure.
    Ok,
    /// It was answered with a failure of the version: 5xx, or a status of gRPC that means as much.
    Failed,
    /// It was not answered in time, or not even taken.
    Timeout,
    /// The answer broke off, or could not be read.
    Broken,
    /// There was no connection.
    Unreachable,
    /// The version had no instance that serves new clients.
    NoInstance,
    /// Its body was too large to be copied, or never came whole.
    Skipped,
    /// There were too many copies already.
    Dropped,
}

impl Mirrored {
    const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Timeout,
        Self::Broken,
        Self::Unreachable,
        Self::NoInstance,
        Self::Skipped,
        Self::Dropped,
    ];

    /// Whether there was an answer.
    pub(crate) fn is_answer(self) -> bool {
        matches!(self, Self::Ok | Self::Failed)
    }

    /// The stable word, the label `result`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Unreachable => "unreachable",
            Self::NoInstance => "no-instance",
            Self::Skipped => "skipped",
            Self::Dropped => "dropped",
        }
    }
}

/// One worker's copies for one version of a route.
#[derive(Debug, Default)]
pub(super) struct Copies {
    results: [AtomicU64; Mirrored::ALL.len()],
    durations: Histogram,
}

impl Copies {
    pub(super) fn count(&self, result: Mirrored, took: Option<Duration>) {
        self.results[result as usize].fetch_add(1, Relaxed);
        if let Some(took) = took {
            self.durations.observe(&REQUEST, took);
        }
    }
}

/// How often there was which result, without those that there never were.
pub(super) fn results<'c>(
    parts: impl Iterator<Item = &'c Copies> + Clone,
) -> impl Iterator<Item = (Mirrored, u64)> {
    let count = move |result: Mirrored| {
        parts.clone().map(|part| part.results[result as usize].load(Relaxed)).sum::<u64>()
    };
    Mirrored::ALL.into_iter().map(move |result| (result, count(result))).filter(|(_, count)| *count > 0)
}

/// How long those took that were answered.
pub(super) fn durations<'c>(parts: impl Iterator<Item = &'c Copies>) -> Option<proto::Histogram> {
    histogram::sum(parts.map(|part| &part.durations), &REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_has_a_place_and_a_word_of_its_own() {
        for (place, result) in Mirrored::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, place);
            assert_eq!(Mirrored::ALL.iter().filter(|other| other.as_str() == result.as_str()).count(), 1);
        }
    }
}
