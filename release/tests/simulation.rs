//! What the verdicts are worth: releases of good and bad versions, drawn with fixed seeds.

use std::time::Duration;

use fairway_release::comparison::{Comparison, Respect, Sample};

const REQUESTS_PER_SECOND: u64 = 200;

/// One side's behaviour.
#[derive(Clone, Copy)]
struct Behaviour {
    /// Share of requests that fail.
    failures: f64,
    /// How many times as long as the stable version's every request takes.
    slower: f64,
    /// Share of requests that take at least three times the stable version's 99th percentile.
    stuck: f64,
}

const MEDIAN: f64 = 0.02;
const SIGMA: f64 = 0.8;
/// The standard normal distribution's 99th percentile.
const P99: f64 = 2.326;

fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

impl Behaviour {
    fn good(failures: f64) -> Self {
        Self { failures, slower: 1.0, stuck: 0.0 }
    }

    fn request(self, rng: &mut fastrand::Rng, sample: &mut Sample) {
        sample.requests += 1;
        sample.failures += u64::from(rng.f64() < self.failures);
        let mut took = MEDIAN * (SIGMA * normal(rng)).exp() * self.slower;
        if rng.f64() < self.stuck {
            took = took.max(3.0 * MEDIAN * (SIGMA * P99).exp());
        }
        sample.latencies.count(Duration::from_secs_f64(took));
    }
}

/// One second: each request is drawn by the weight of the canary, in percent.
fn second(rng: &mut fastrand::Rng, weight: u64, canary: Behaviour, stable: Behaviour) -> (Sample, Sample) {
    let (mut of_canary, mut of_stable) = (Sample::default(), Sample::default());
    for _ in 0..REQUESTS_PER_SECOND {
        if rng.u64(0..100) < weight {
            canary.request(rng, &mut of_canary);
        } else {
            stable.request(rng, &mut of_stable);
        }
    }
    (of_canary, of_stable)
}

/// When the canary is found worse, of a release that takes these steps of so many seconds.
fn release(
    seed: u64,
    steps: &[u64],
    seconds: u64,
    canary: Behaviour,
    stable: Behaviour,
) -> Option<(u64, Respect)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut comparison = Comparison::default();
    // The route has had traffic before its release starts.
    let (_, before) = second(&mut rng, 0, canary, stable);
    comparison.observe(&Sample::default(), &before);
    for at in 0..steps.len() as u64 * seconds {
        let (of_canary, of_stable) = second(&mut rng, steps[(at / seconds) as usize], canary, stable);
        comparison.observe(&of_canary, &of_stable);
        if let Some(respect) = comparison.worse() {
            return Some((at + 1, respect));
        }
    }
    None
}

fn false_alarms(failures: f64) {
    let good = Behaviour::good(failures);
    let found: Vec<_> =
        (0..2000).filter_map(|seed| release(seed, &[1, 5, 25, 50, 100], 60, good, good)).collect();
    println!("base {failures}: {} of 2000 rolled back {:?}", found.len(), found);
    assert!(found.len() <= 20, "{} of 2000 good releases were rolled back: {found:?}", found.len());
}

#[test]
fn of_good_releases_at_most_one_of_a_hundred_is_rolled_back_at_a_base_of_0_1_percent() {
    false_alarms(0.001);
}

#[test]
fn of_good_releases_at_most_one_of_a_hundred_is_rolled_back_at_a_base_of_1_percent() {
    false_alarms(0.01);
}

#[test]
fn of_good_releases_at_most_one_of_a_hundred_is_rolled_back_at_a_base_of_5_percent() {
    false_alarms(0.05);
}

/// Asserts that at least 95 % of releases with 5 % of the requests are rolled back within so many seconds.
fn found_within(seconds: u64, canary: Behaviour, stable: Behaviour) {
    const RUNS: u64 = 400;
    let times: Vec<_> =
        (0..RUNS).filter_map(|seed| release(seed, &[5], seconds, canary, stable)).map(|(at, _)| at).collect();
    println!(
        "{} of {RUNS} within {seconds} s, mean {}",
        times.len(),
        times.iter().sum::<u64>() as f64 / times.len() as f64
    );
    assert!(
        times.len() as u64 * 100 >= RUNS * 95,
        "only {} of {RUNS} were found within {seconds} s",
        times.len()
    );
}

#[test]
fn five_points_more_failures_are_found_in_time_at_every_base() {
    for (base, seconds) in [(0.0, 30), (0.001, 30), (0.005, 30), (0.02, 60), (0.05, 150)] {
        found_within(seconds, Behaviour::good(base + 0.05), Behaviour::good(base));
    }
}

#[test]
fn a_version_that_takes_three_times_as_long_is_found_within_half_a_minute() {
    found_within(30, Behaviour { slower: 3.0, ..Behaviour::good(0.001) }, Behaviour::good(0.001));
}

#[test]
fn a_version_that_gets_stuck_in_one_of_twenty_requests_is_found_within_a_minute() {
    found_within(60, Behaviour { stuck: 0.05, ..Behaviour::good(0.001) }, Behaviour::good(0.001));
}
