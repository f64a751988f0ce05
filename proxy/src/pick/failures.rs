//! Whether an instance failed a moment ago: it is avoided for a while that doubles with each further failure.
//!
//! Apart from the latency (see `peak_ewma`): an instance that refused while it was starting would look slow long after it
//! works. `p2c-ewma` looks at it, other balances do not: single failures are nothing to them. Not here: what follows from
//! many failures, for every balance (see `outlier`); it is told how many were in a row.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::peak_ewma::millis;

/// How long an instance is avoided after one failure, in milliseconds.
const FIRST_MS: u32 = 250;
/// The longest, in milliseconds.
const LONGEST_MS: u32 = 16_000;

/// How often it failed in a row, how many troubles these were, and when the last of them began: 0 when it has not failed
/// since its last success. Sixteen, sixteen and thirty-two bits, the time in milliseconds the highest.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    word: AtomicU64,
    /// When the first of these failures was, in milliseconds.
    first: AtomicU32,
}

impl Failures {
    /// Takes in a failure, and gives how many there were in a row. Those within the time that an earlier one is held
    /// against it are the same trouble.
    pub(crate) fn failed(&self, now: Instant) -> u32 {
        let stamp = millis(now);
        let next = |word| {
            let Seen { run, troubles, at } = unpack(word);
            let run = run.saturating_add(1);
            Some(if is_held(word, stamp) {
                pack(Seen { run, troubles, at })
            } else {
                pack(Seen { run, troubles: troubles.saturating_add(1), at: stamp })
            })
        };
        if self.in_a_row() == 0 {
            // Before the run is seen: whoever sees it asks how long it has lasted.
            self.first.store(stamp, Ordering::Release);
        }
        let before = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
        u32::from(unpack(before.unwrap_or_default()).run) + 1
    }

    /// For how long it has done nothing but fail.
    pub(crate) fn since(&self, now: Instant) -> Duration {
        match self.in_a_row() {
            0 => Duration::ZERO,
            // Another worker's clock may be a little ahead of ours.
            _ => {
                let passed = millis(now).wrapping_sub(self.first.load(Ordering::Relaxed)).cast_signed();
                Duration::from_millis(passed.max(0).unsigned_abs().into())
            }
        }
    }

    /// Failures in a row up to now.
    pub(crate) fn in_a_row(&self) -> u32 {
        unpack(self.word.load(Ordering::Acquire)).run.into()
    }

    /// Takes in a success: all is forgiven.
    pub(crate) fn succeeded(&self) {
        // Read first: the usual case writes nothing to a word that all workers share.
        if self.word.load(Ordering::Relaxed) != 0 {
            self.word.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it is to be avoided now.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word != 0 && is_held(word, millis(now))
    }
}

struct Seen {
    run: u16,
    troubles: u16,
    at: u32,
}

fn is_held(word: u64, now: u32) -> bool {
    let Seen { troubles, at, .. } = unpack(word);
    let held = FIRST_MS.saturating_mul(1 << troubles.saturating_sub(1).min(16)).min(LONGEST_MS);
    troubles > 0 && now.wrapping_sub(at).cast_signed() < held.cast_signed()
}

fn pack(Seen { run, troubles, at }: Seen) -> u64 {
    u64::from(at) << 32 | u64::from(troubles) << 16 | u64::from(run)
}

fn unpack(word: u64) -> Seen {
    #[expect(clippy::cast_possible_truncation, reason = "the parts of the word")]
    let seen = Seen { run: word as u16, troubles: (word >> 16) as u16, at: (word >> 32) as u32 };
    seen
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
        assert_eq!(failures.failed(start + FIRST / 2), 2, "of the same trouble, but another failure");
        assert!(failures.is_avoided(start + FIRST / 2));
        assert!(!failures.is_avoided(start + FIRST));
        failures.failed(start + FIRST);
        assert!(failures.is_avoided(start + FIRST * 2) && !failures.is_avoided(start + FIRST * 3));
        assert_eq!((failures.in_a_row(), failures.since(start + FIRST * 3)), (3, FIRST * 3));
        failures.succeeded();
        assert_eq!(failures.since(start + FIRST * 3), Duration::ZERO);
        assert!(!failures.is_avoided(start + FIRST * 2) && failures.in_a_row() == 0);
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
