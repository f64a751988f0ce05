//! A histogram of durations with fixed buckets, one writer in mind and any number harmless.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::proto;

/// Upper bounds of the buckets in microseconds; the last bucket has none.
pub(super) type Bounds = [u64; 16];

/// For whole requests: 500 us to 60 s.
pub(super) const REQUEST: Bounds = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// For connecting, 25 us to 5 s.
pub(super) const CONNECT: Bounds = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];
/// For waiting for a place at full instances, 100 us to 60 s.
pub(super) const WAIT: Bounds = [
    100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 15_000_000, 60_000_000,
];
/// For building what is derived from the catalog, 10 us to 1 s.
pub(super) const BUILD: Bounds = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000,
];

/// Counts per bucket, not cumulative, and their sum.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; 17],
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, bounds: &Bounds, took: Duration) {
        let micros = saturated(took.as_micros());
        let bucket = bounds.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(saturated(took.as_nanos()), Relaxed);
    }

    /// How many were observed.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }
}

fn saturated(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Several histograms as one, for a scrape; `None` when nothing was observed.
pub(super) fn sum<'a>(
    parts: impl Iterator<Item = &'a Histogram>,
    bounds: &Bounds,
) -> Option<proto::Histogram> {
    let (mut counts, mut sum_nanos) = ([0u64; 17], 0u64);
    for part in parts {
        for (total, count) in counts.iter_mut().zip(&part.counts) {
            *total += count.load(Relaxed);
        }
        sum_nanos = sum_nanos.wrapping_add(part.sum_nanos.load(Relaxed));
    }
    let mut below = 0;
    let bucket = |(bound, count): (&u64, &u64)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e6);
        bucket.set_cumulative_count(below);
        bucket
    };
    let buckets = bounds.iter().zip(&counts).map(bucket).collect();
    let total = counts.iter().sum();
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(sum_nanos as f64 / 1e9);
    (total > 0).then_some(histogram)
}
