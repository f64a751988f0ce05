//! How long requests took, as counts that can be added and subtracted.

use std::array;
use std::time::Duration;

/// Buckets of each doubling.
const PER_DOUBLING: usize = 4;
/// Doublings above the first bucket.
const DOUBLINGS: usize = 20;
/// Number of buckets: the first one up to 64 us, four for each doubling up to 67 s, and one for all that is longer.
pub const BUCKETS: usize = 2 + PER_DOUBLING * DOUBLINGS;
/// The first bucket holds what took less than two to this power, in microseconds.
const FIRST: u32 = 6;

/// The bucket that a request belongs to which took so long. Its bounds are at most 25 % apart.
pub fn bucket_of(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let doubling = micros.max(1).ilog2();
    if doubling < FIRST {
        return 0;
    }
    let quarter = (micros >> (doubling - 2)) as usize & (PER_DOUBLING - 1);
    let bucket = 1 + (doubling - FIRST) as usize * PER_DOUBLING + quarter;
    bucket.min(BUCKETS - 1)
}

/// What took less belongs to the buckets before this one; `None` for the first bucket.
pub fn lower_bound(bucket: usize) -> Option<Duration> {
    let at = bucket.checked_sub(1)?;
    let (doubling, quarter) = (at / PER_DOUBLING, at % PER_DOUBLING);
    let micros =
        (1u64 << (FIRST as usize + doubling)) + ((quarter as u64) << (FIRST as usize + doubling - 2));
    Some(Duration::from_micros(micros))
}

/// Requests by how long they took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies(pub [u64; BUCKETS]);

impl Default for Latencies {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Latencies {
    /// Counts one request.
    pub fn count(&mut self, took: Duration) {
        self.0[bucket_of(took)] += 1;
    }

    /// All of these and those.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, more)| *mine += more);
    }

    /// What has been counted since `before`, an earlier state of the same counts.
    pub fn since(&self, before: &Self) -> Self {
        Self(array::from_fn(|bucket| self.0[bucket].saturating_sub(before.0[bucket])))
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// How many are in this bucket or a later one.
    pub fn from(&self, bucket: usize) -> u64 {
        self.0[bucket.min(BUCKETS)..].iter().sum()
    }

    /// The first bucket behind that of the quantile: a share of about `1 - quantile` of the requests took as long as this
    /// bucket says, or longer. `None` without any requests.
    pub fn above(&self, quantile: f64) -> Option<usize> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let wanted = quantile * total as f64;
        let mut so_far = 0;
        let at = self.0.iter().position(|count| {
            so_far += count;
            so_far as f64 >= wanted
        })?;
        Some(at + 1)
    }

    /// So long took a share of `quantile` of the requests at most, to the bucket's upper bound; `None` without any.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        self.above(quantile).and_then(lower_bound)
    }

    /// Half of the counts, rounded up: so that the past is forgotten by and by.
    pub fn fade(&mut self) {
        self.0.iter_mut().for_each(|count| *count = count.div_ceil(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_between_the_bounds_of_its_bucket() {
        let mut micros = 0u64;
        while micros < 200_000_000 {
            let took = Duration::from_micros(micros);
            let bucket = bucket_of(took);
            assert!(lower_bound(bucket).is_none_or(|bound| bound <= took), "{took:?}");
            assert!(
                bucket + 1 == BUCKETS || lower_bound(bucket + 1).is_some_and(|bound| took < bound),
                "{took:?}"
            );
            micros += micros / 50 + 1;
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(lower_bound(BUCKETS - 1), Some(Duration::from_micros(1 << 26)));
    }

    #[test]
    fn a_quantile_splits_the_counts() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.above(0.5), None);
        (1..=1000).for_each(|millis| latencies.count(Duration::from_millis(millis)));
        for quantile in [0.5, 0.9, 0.99] {
            let beyond = latencies.from(latencies.above(quantile).expect("there are requests"));
            let share = beyond as f64 / 1000.0;
            assert!(
                share <= 1.0 - quantile + 1e-9 && share > (1.0 - quantile) / 2.0 - 0.12,
                "{quantile}: {share}"
            );
        }
    }
}
