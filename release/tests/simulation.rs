//! What the verdicts are worth: whole releases of good and bad versions, drawn with fixed seeds.

use std::sync::LazyLock;
use std::time::Duration;

use fairway_catalog::config::names::{BackendId, Weight};
use fairway_catalog::ids::InstanceId;
use fairway_release::comparison::Sample;
use fairway_release::machine::{Machine, Second, Seen};
use fairway_release::model::{Ending, Release, Stage};
use fairway_release::plan::Plan;
use jiff::Timestamp;

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

/// Latencies of a stable version, drawn once: a request takes one of these.
fn latencies() -> &'static [f64] {
    static DRAWN: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut normal =
            || (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
        (0..1 << 16).map(|_| MEDIAN * (SIGMA * normal()).exp()).collect()
    });
    &DRAWN
}

impl Behaviour {
    fn good(failures: f64) -> Self {
        Self { failures, slower: 1.0, stuck: 0.0 }
    }

    fn request(self, rng: &mut fastrand::Rng, sample: &mut Sample) {
        sample.requests += 1;
        sample.failures += u64::from(rng.f64() < self.failures);
        let mut took = latencies()[rng.usize(0..1 << 16)] * self.slower;
        if rng.f64() < self.stuck {
            took = took.max(3.0 * MEDIAN * (SIGMA * P99).exp());
        }
        sample.latencies.count(Duration::from_secs_f64(took));
    }
}

/// One second: each request is drawn by the weight of the canary, in percent.
fn second(rng: &mut fastrand::Rng, weight: u64, canary: Behaviour, stable: Behaviour) -> (Sample, Sample) {
    let (mut of_canary, mut of_stable) = (Sample::default(), Sample::default());
    // With everything at the canary nobody is compared, and fewer do.
    let requests = if weight == 100 { REQUESTS_PER_SECOND / 10 } else { REQUESTS_PER_SECOND };
    for _ in 0..requests {
        if rng.u64(0..100) < weight {
            canary.request(rng, &mut of_canary);
        } else {
            stable.request(rng, &mut of_stable);
        }
    }
    (of_canary, of_stable)
}

/// A release of `web@v2` from `web@v1` in these steps of so many seconds.
fn machine(steps: &[u64], step_seconds: u32) -> Machine {
    let id = |name: &str| -> BackendId { name.parse().expect("a backend") };
    let steps: Vec<f64> = steps.iter().map(|step| *step as f64).collect();
    Machine::new(Release {
        plan: Plan::check(id("web@v2"), Some(&steps), Some(step_seconds.into()), false, None)
            .expect("a plan"),
        from: [(id("web@v1"), Weight::DEFAULT)].into(),
        former: None,
        stage: Stage::Waiting,
        step: None,
        confirming: false,
        weight: 0,
        spent: Duration::ZERO,
        since: Timestamp::UNIX_EPOCH,
        why: "".into(),
        ending: None,
        author: "".into(),
        at: Timestamp::UNIX_EPOCH,
        reason: "".into(),
    })
}

/// A whole release, as it runs: when it ended and how; `None` if it still runs after so many seconds.
fn release(
    seed: u64,
    (steps, step_seconds): (&[u64], u32),
    seconds: u64,
    canary: Behaviour,
    stable: Behaviour,
) -> Option<(u64, Ending)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut machine = machine(steps, step_seconds);
    let ready = Seen { id: InstanceId::from_printed("abc:80"), ready: true, failing: None };
    // The first second is that before the release: its route has had traffic.
    for at in 0..=seconds {
        let weight = u64::from(machine.release().weight);
        let (canary, stable) = second(&mut rng, weight, canary, stable);
        let passed = Duration::from_secs(1);
        machine.observe(&Second {
            passed,
            canary,
            stable,
            instances: vec![ready.clone()],
            others_ready: 1,
            weight: None,
        });
        if let Some(due) = machine.due() {
            machine.make(&due, Timestamp::UNIX_EPOCH);
        }
        if let Some(ending) = machine.release().ending {
            return Some((at, ending));
        }
    }
    None
}

fn false_alarms(failures: f64) {
    let good = Behaviour::good(failures);
    // A step that is held because of a suspicion takes longer, but all come to an end.
    let ends = (0..2000).map(|seed| release(seed, (&[1, 5, 25, 50, 100], 60), 3600, good, good));
    let ends: Vec<_> = ends.map(|end| end.expect("it ends within an hour")).collect();
    let found: Vec<_> = ends.iter().filter(|(_, ending)| *ending != Ending::Completed).collect();
    let late = ends.iter().filter(|(at, _)| *at > 360).count();
    println!(
        "base {failures}: {} of 2000 rolled back {found:?}, {late} took longer than their steps",
        found.len()
    );
    assert!(found.len() <= 20, "{} of 2000 good releases were rolled back: {found:?}", found.len());
    assert!(late <= 200, "{late} of 2000 good releases were held");
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

#[test]
fn with_hardly_any_requests_good_releases_are_held_and_not_taken_back() {
    let good = Behaviour::good(0.05);
    let (mut held, mut back) = (0, 0);
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut machine = machine(&[10, 50], 10);
        let mut in_step = 0;
        for _ in 0..600 {
            let weight = u64::from(machine.release().weight);
            // A request every other second.
            let (mut canary, mut stable) = (Sample::default(), Sample::default());
            if rng.bool() {
                let to_canary = rng.u64(0..100) < weight;
                good.request(&mut rng, if to_canary { &mut canary } else { &mut stable });
            }
            in_step += canary.requests;
            let ready = Seen { id: InstanceId::from_printed("abc:80"), ready: true, failing: None };
            let passed = Duration::from_secs(1);
            machine.observe(&Second {
                passed,
                canary,
                stable,
                instances: vec![ready],
                others_ready: 1,
                weight: None,
            });
            let Some(due) = machine.due() else { continue };
            let was_inconclusive = due.stage == Stage::Inconclusive;
            assert!(
                due.step.is_none_or(|step| step == 0 || in_step >= 20),
                "{due:?} after {in_step} requests"
            );
            machine.make(&due, Timestamp::UNIX_EPOCH);
            held += u64::from(was_inconclusive);
            back += u64::from(due.stage == Stage::RolledBack);
            if due.step.is_some() {
                in_step = 0;
            }
        }
    }
    println!("{held} times held, {back} of 2000 taken back");
    assert!(held >= 1900 && back <= 20, "{held} times held, {back} taken back");
}

/// Asserts that at least 95 % of releases with 5 % of the requests are rolled back within so many seconds.
fn found_within(seconds: u64, canary: Behaviour, stable: Behaviour) {
    const RUNS: u64 = 400;
    let times: Vec<_> = (0..RUNS)
        .filter_map(|seed| release(seed, (&[5], 3600), seconds, canary, stable))
        .map(|(at, _)| at)
        .collect();
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
