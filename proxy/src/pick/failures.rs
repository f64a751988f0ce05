//! Whether an instance failed a moment ago: it is avoided for a while that doubles with each further failure.
//!
//! Apart from the latency (see `peak_ewma`): an instance that refused while it was starting would look slow long after it
//! works. Not here: taking an instance out for everybody (outlier ejection), which is the catalog's business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::peak_ewma::millis;

/// How long an instance is avoided after one failure, in milliseconds.
const FIRST_MS: u32 = 250;
/// The longest, in milliseconds.
const LONGEST_MS: u32 = 16_000;

/// How often it failed in a row, in the lower half, and when last, in milliseconds in the upper half; 0: not since its
/// last success.
#[derive(Debug, Default)]
pub(crate) struct Failures(AtomicU64);

impl Failures {
    /// Takes in a failure. Those within the time that an earlier one is held against it are the same trouble.
    pub(crate) fn failed(&self, now: Instant) {
        let stamp = millis(now);
        let next = |word| {
            let (count, _) = unpack(word);
            (!is_held(word, stamp)).then(|| pack(count.saturating_add(1), stamp))
        };
        // `Err` says that it is held already.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Takes in a success: all is forgiven.
    pub(crate) fn succeeded(&self) {
        // Read first: the usual case writes nothing to a word that all workers share.
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it is to be avoided now.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word != 0 && is_held(word, millis(now))
    }
}

fn is_held(word: u64, now: u32) -> bool {
    let (count, at) = unpack(word);
    let held = FIRST_MS.saturating_mul(1 << count.saturating_sub(1).min(16)).min(LONGEST_MS);
    count > 0 && now.wrapping_sub(at).cast_signed() < held.cast_signed()
}

fn pack(count: u32, stamp: u32) -> u64 {
    u64::from(stamp) << 32 | u64::from(count)
}

fn unpack(word: u64) -> (u32, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the word")]
    let halves = (word as u32, (word >> 32) as u32);
    halves
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: Duration = Duration::from_millis(FIRST_MS as u64);

    #[test]
    fn each_further_failure_is_held_against_it_twice_as_long_until_it_succeeds() {
        let (failures, start) = (Failures::default(), Instant::now());
        assert!(!failures.is_avoided(start));
        failures.failed(start);
        failures.failed(start + FIRST / 2); // of the same trouble
        assert!(failures.is_avoided(start + FIRST / 2));
        assert!(!failures.is_avoided(start + FIRST));
        failures.failed(start + FIRST);
        assert!(failures.is_avoided(start + FIRST * 2) && !failures.is_avoided(start + FIRST * 3));
        failures.succeeded();
        assert!(!failures.is_avoided(start + FIRST * 2));
        for n in 0..100 {
            failures.failed(start + Duration::from_secs(60 * n));
        }
        let last = start + Duration::from_secs(60 * 99);
        assert!(
            !failures.is_avoided(last + Duration::from_millis(u64::from(LONGEST_MS))),
            "never longer than that"
        );
    }
}
