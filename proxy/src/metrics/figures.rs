//! What a version of a route did for the requests that it was asked, as a release compares versions by.
//!
//! Apart from what a scrape shows: there a request counts once, under the version that it ended with; here every version
//! that was asked counts it, so that a canary which fails is seen though other versions save its requests.
//!
//! Not here: what counts, and as what (see `downstream/outcome.rs`).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fairway_config::names::BackendId;
use fairway_release::latency::{BUCKETS, Latencies, bucket_of};

/// What one version of a route did for its requests so far, all workers together. The numbers only grow, as long as the
/// version has not been gone from the route for [`KEPT`](super::KEPT).
///
/// They are read one after the other while workers count, so a request may be in one of them and not yet in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFigures {
    /// Which version.
    pub backend: BackendId,
    /// Requests that it was asked and that have ended, retries elsewhere notwithstanding; an upgrade counts with its 101.
    /// Not those whose client left.
    pub requests: u64,
    /// Those among them that it failed: answers of status 5xx, none at all, broken ones, and calls of gRPC that ended with
    /// a status that means the server's failure.
    pub failures: u64,
    /// For those that it answered, how long until the head of the answer had come: from the choice of the instance, or
    /// from the end of the request's body if that came later.
    pub latencies: Latencies,
}

/// One worker's share of the above.
#[derive(Debug)]
pub(super) struct Figures {
    /// By [`bucket_of`] those that were answered.
    answered: [AtomicU64; BUCKETS],
    unanswered: AtomicU64,
    failures: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { answered: std::array::from_fn(|_| zero()), unanswered: zero(), failures: zero() }
    }
}

impl Figures {
    /// Counts a request: one addition, and one more for a failure.
    pub(super) fn count(&self, answered_in: Option<Duration>, failed: bool) {
        // The request first, so that no reader sees more failures than requests.
        match answered_in {
            Some(took) => self.answered[bucket_of(took)].fetch_add(1, Relaxed),
            None => self.unanswered.fetch_add(1, Relaxed),
        };
        if failed {
            self.failures.fetch_add(1, Relaxed);
        }
    }
}

/// The sum of all workers' shares.
pub(super) fn sum<'f>(backend: &BackendId, shares: impl Iterator<Item = &'f Figures>) -> VersionFigures {
    let mut all = VersionFigures {
        backend: backend.clone(),
        requests: 0,
        failures: 0,
        latencies: Latencies::default(),
    };
    for share in shares {
        all.failures += share.failures.load(Relaxed);
        all.requests += share.unanswered.load(Relaxed);
        for (sum, count) in all.latencies.0.iter_mut().zip(&share.answered) {
            *sum += count.load(Relaxed);
        }
    }
    all.requests += all.latencies.total();
    all
}
