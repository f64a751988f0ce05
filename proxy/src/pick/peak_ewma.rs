//! How slow an instance has been lately: a moving average that jumps to each peak and decays from it, as in Finagle.
//!
//! One word, written without locks by every worker. Not here: failures (see `failures`), what the balancer makes of it
//! (see `balance`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// After this long a past observation weighs 1/e of a new one. Finagle takes 10 s; a first request to a cold instance would
/// keep all others from it for that long.
const DECAY: Duration = Duration::from_secs(2);

/// The average, in microseconds as `f32` in the lower half, and the time of the last observation in milliseconds in
/// the upper half; 0 before the first. Readers and writers see one or the other observation, never half of each.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// Takes in one latency.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        let micros = (latency.as_secs_f32() * 1e6).max(1.0);
        let stamp = millis(now);
        let next = |word: u64| {
            let (average, at) = unpack(word);
            let new = match decayed_by(at, stamp) {
                _ if word == 0 || micros > average => micros,
                kept => average * kept + micros * (1.0 - kept),
            };
            Some(pack(new, stamp))
        };
        // A word lost to another worker's is one observation of many: the loop ends at the first exchange that holds.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// The average now in microseconds, less the longer nothing was observed; `None` before the first observation.
    pub(crate) fn micros(&self, now: Instant) -> Option<f32> {
        let word = self.0.load(Ordering::Relaxed);
        let (average, at) = unpack(word);
        (word != 0).then(|| average * decayed_by(at, millis(now)))
    }
}

fn pack(micros: f32, stamp: u32) -> u64 {
    u64::from(stamp) << 32 | u64::from(micros.to_bits())
}

fn unpack(word: u64) -> (f32, u32) {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the word")]
    let (micros, stamp) = (word as u32, (word >> 32) as u32);
    (f32::from_bits(micros), stamp)
}

/// How much of an observation is left between two stamps. The stamps wrap after 49 days; another worker's may be a
/// little later than ours.
fn decayed_by(at: u32, now: u32) -> f32 {
    let elapsed = now.wrapping_sub(at).cast_signed().max(0);
    if elapsed == 0 { 1.0 } else { (-(elapsed as f32) / DECAY.as_millis() as f32).exp() }
}

/// Milliseconds since the first call, wrapping.
pub(super) fn millis(now: Instant) -> u32 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(|| now);
    #[expect(clippy::cast_possible_truncation, reason = "wraps, see `decayed_by`")]
    let millis = now.saturating_duration_since(*start).as_millis() as u32;
    millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn millis_of(ewma: &PeakEwma, now: Instant) -> f32 {
        ewma.micros(now).expect("something was observed") / 1e3
    }

    #[test]
    fn it_jumps_to_a_peak_and_comes_back_slowly() {
        let (ewma, start) = (PeakEwma::default(), Instant::now());
        assert_eq!(ewma.micros(start), None);
        ewma.observe(10 * MS, start);
        ewma.observe(500 * MS, start);
        assert!((499.0..=500.0).contains(&millis_of(&ewma, start)), "the peak counts at once");
        ewma.observe(10 * MS, start + MS);
        assert!(millis_of(&ewma, start + MS) > 400.0, "one fast answer does not wash it away");
        let later = start + 3 * DECAY;
        ewma.observe(10 * MS, later);
        assert!((10.0..40.0).contains(&millis_of(&ewma, later)), "after three decays hardly any is left");
    }

    #[test]
    fn it_fades_while_nothing_is_observed() {
        let (ewma, start) = (PeakEwma::default(), Instant::now());
        ewma.observe(100 * MS, start);
        let faded = millis_of(&ewma, start + DECAY);
        assert!((36.0..37.5).contains(&faded), "{faded} is not 100 / e");
    }
}
