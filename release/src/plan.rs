//! What a release is to do: its target, its steps, and the weights of each.

use std::collections::BTreeMap;
use std::time::Duration;

use fairway_catalog::config::names::{BackendId, Weight};

/// The shares of the target where nobody says others, in percent.
pub const STEPS: [u8; 5] = [1, 5, 25, 50, 100];
/// How long a step takes where nobody says.
pub const STEP_SECONDS: u64 = 60;
/// Longest step: a day.
pub const STEP_SECONDS_MAX: u64 = 86_400;
/// Most steps.
pub const STEPS_MAX: usize = 32;
/// What the weights add up to where they can: these read best.
const ROUND_SUMS: [u64; 2] = [100, 1000];

/// A plan that can be followed as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The version that is released.
    pub to: BackendId,
    /// Its share in each step, in percent: 1 to 100, each above the one before, the last one 100.
    pub steps: Vec<u8>,
    /// How long a step takes; 1 s to a day.
    pub step_time: Duration,
    /// People move the weights, and confirm.
    pub manual: bool,
    /// The share of the target's requests that may fail, above 0 and below 1; more takes it back at once.
    pub max_error_rate: Option<f64>,
}

/// One thing that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No steps.
    #[error("steps: there is none; write shares in percent such as [1, 5, 25, 50, 100], or leave it out")]
    NoSteps,
    /// Too many.
    #[error("steps: {given} are too many; {STEPS_MAX} are the most")]
    TooManySteps {
        /// How many.
        given: usize,
    },
    /// A step that is no share.
    #[error("steps: {given} is no share of the target; write whole percents from 1 to 100")]
    NoShare {
        /// As written.
        given: f64,
    },
    /// A step that is not above the one before.
    #[error(
        "steps: {given} comes after {before}; each step is above the one before (`rollback` takes a release back)"
    )]
    NotAbove {
        /// The step.
        given: f64,
        /// The one before.
        before: f64,
    },
    /// The time of a step is out of range.
    #[error("step_seconds: {given} is out of range; write whole seconds from 1 to {STEP_SECONDS_MAX}")]
    StepSeconds {
        /// As written.
        given: f64,
    },
    /// The limit is no rate.
    #[error("max_error_rate: {given} is no rate; write a number above 0 and below 1, such as 0.05 for 5 %")]
    MaxErrorRate {
        /// As written.
        given: f64,
    },
    /// Steps for a release without steps.
    #[error(
        "steps: a manual release has none, its weights are set by hand; leave them out, or leave `manual` out"
    )]
    ManualSteps,
}

impl Plan {
    /// A plan for this target; else everything that is wrong. Steps that end below 100 get a last one of 100: a release ends
    /// with its target alone.
    pub fn check(
        to: BackendId,
        steps: Option<&[f64]>,
        step_seconds: Option<f64>,
        manual: bool,
        max_error_rate: Option<f64>,
    ) -> Result<Self, Vec<PlanError>> {
        let mut errors = Vec::new();
        if manual && steps.is_some() {
            errors.push(PlanError::ManualSteps);
        }
        let steps = match steps {
            Some(steps) => check_steps(steps, &mut errors),
            None => STEPS.to_vec(),
        };
        let step_seconds = step_seconds.unwrap_or(STEP_SECONDS as f64);
        if step_seconds.fract() != 0.0 || !(1.0..=STEP_SECONDS_MAX as f64).contains(&step_seconds) {
            errors.push(PlanError::StepSeconds { given: step_seconds });
        }
        let step_time = Duration::from_secs(step_seconds as u64);
        if let Some(given) = max_error_rate.filter(|rate| !(*rate > 0.0 && *rate < 1.0)) {
            errors.push(PlanError::MaxErrorRate { given });
        }
        match errors.is_empty() {
            true => Ok(Self { to, steps, step_time, manual, max_error_rate }),
            false => Err(errors),
        }
    }

    /// The weights while the target has so many percent: what is left is shared by the others exactly as in `from`, so that
    /// clients who are bound by `fairway.split_by` move to the target only. In percent or thousandths where these say it, which
    /// reads best; else in the smallest numbers that do, which may be above what people may write ([`Weight::MAX`]).
    pub fn weights(&self, percent: u8, from: &BTreeMap<BackendId, Weight>) -> BTreeMap<BackendId, Weight> {
        let percent = u64::from(percent.min(100));
        let whole: u64 = from.values().map(|weight| u64::from(weight.get())).sum();
        let mut parts: BTreeMap<BackendId, u64> =
            from.iter().map(|(id, weight)| (id.clone(), u64::from(weight.get()) * (100 - percent))).collect();
        parts.insert(self.to.clone(), whole * percent);
        let divisor = parts.values().copied().fold(0, greatest_common_divisor).max(1);
        let sum = parts.values().sum::<u64>() / divisor;
        let round = ROUND_SUMS.into_iter().find(|round| sum > 0 && round.is_multiple_of(sum)).unwrap_or(sum);
        let (times, largest) =
            (round.checked_div(sum).unwrap_or(1), parts.values().max().map_or(0, |part| part / divisor));
        parts.into_iter().map(|(id, part)| (id, weight(part / divisor * times, largest))).collect()
    }
}

/// A part as a weight. Where the largest part is none (a release upon a release that was confirmed with its weights kept, many
/// times over), it is as near as the largest weight allows, and not 0.
fn weight(part: u64, largest: u64) -> Weight {
    let near = || u128::from(part) * u128::from(u32::MAX) / u128::from(largest.max(1));
    let fits = largest <= u64::from(u32::MAX);
    let value = if fits { u128::from(part) } else { near().max(u128::from(part.min(1))) };
    Weight::computed(u32::try_from(value).unwrap_or(u32::MAX))
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn check_steps(given: &[f64], errors: &mut Vec<PlanError>) -> Vec<u8> {
    if given.is_empty() {
        errors.push(PlanError::NoSteps);
    }
    if given.len() > STEPS_MAX {
        errors.push(PlanError::TooManySteps { given: given.len() });
        return Vec::new();
    }
    for given in given.iter().copied().filter(|step| step.fract() != 0.0 || !(1.0..=100.0).contains(step)) {
        errors.push(PlanError::NoShare { given });
    }
    for pair in given.windows(2).filter(|pair| pair[1] <= pair[0]) {
        errors.push(PlanError::NotAbove { given: pair[1], before: pair[0] });
    }
    let mut steps: Vec<u8> = given.iter().map(|step| *step as u8).collect();
    if steps.last() != Some(&100) {
        steps.push(100);
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> BackendId {
        name.parse().expect("a backend")
    }

    fn plan() -> Plan {
        Plan::check(id("web@v2"), None, None, false, None).expect("the defaults are a plan")
    }

    fn weights(percent: u8, from: &[(&str, u64)]) -> String {
        let from =
            from.iter().map(|(name, weight)| (id(name), Weight::new(*weight).expect("a weight"))).collect();
        let weights = plan().weights(percent, &from);
        weights.iter().map(|(id, weight)| format!("{id}={weight}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_others_share_what_is_left_as_before() {
        assert_eq!(weights(0, &[("web@v1", 7)]), "web@v1=100 web@v2=0");
        assert_eq!(weights(1, &[("web@v1", 7)]), "web@v1=99 web@v2=1");
        assert_eq!(weights(100, &[("web@v1", 7)]), "web@v1=0 web@v2=100");
        assert_eq!(
            weights(25, &[("web@v0", 0), ("web@v1", 1), ("web@v3", 2)]),
            "web@v0=0 web@v1=25 web@v2=25 web@v3=50"
        );
        assert_eq!(weights(1, &[("web@v0", 1), ("web@v1", 1)]), "web@v0=495 web@v1=495 web@v2=10");
        // What thousandths cannot say, other weights can.
        assert_eq!(weights(0, &[("web@v0", 200), ("web@v1", 100)]), "web@v0=2 web@v1=1 web@v2=0");
        assert_eq!(weights(5, &[("web@v0", 200), ("web@v1", 100)]), "web@v0=38 web@v1=19 web@v2=3");
        assert_eq!(weights(1, &[("web@v0", 333), ("web@v1", 667)]), "web@v0=32967 web@v1=66033 web@v2=1000");
    }

    #[test]
    fn weights_that_grow_from_release_to_release_end_as_near_as_weights_can_be() {
        let (plan, mut from) = (plan(), BTreeMap::new());
        from.insert(id("web@v0"), Weight::computed(1));
        from.insert(id("web@v1"), Weight::computed(u32::MAX));
        let weights = plan.weights(50, &from);
        let got = |name| weights[&id(name)].get();
        assert_eq!((got("web@v0"), got("web@v1"), got("web@v2")), (1, u32::MAX - 1, u32::MAX));
        let nobody = BTreeMap::from([(id("web@v1"), Weight::ZERO)]);
        assert!(plan.weights(50, &nobody).values().all(|weight| *weight == Weight::ZERO));
    }

    #[test]
    fn steps_that_end_early_end_with_the_target_alone() {
        let plan =
            Plan::check(id("web@v2"), Some(&[10.0, 50.0]), Some(1.0), false, Some(0.5)).expect("a plan");
        assert_eq!(plan.steps, [10, 50, 100]);
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_with_what_to_write() {
        let many: Vec<f64> = (1..=40).map(f64::from).collect();
        let steps: [(&[f64], &str); 9] = [
            (&[], "there is none"),
            (&many, "40 are too many"),
            (&[0.0, 50.0], "0 is no share"),
            (&[-5.0], "-5 is no share"),
            (&[101.0], "101 is no share"),
            (&[0.5], "0.5 is no share"),
            (&[5.0, 5.0], "5 comes after 5"),
            (&[50.0, 25.0, 100.0], "25 comes after 50"),
            (&[1e300], "is no share"),
        ];
        for (steps, says) in steps {
            let errors = Plan::check(id("web@v2"), Some(steps), None, false, None).expect_err(says);
            assert!(errors[0].to_string().contains(says), "{errors:?}");
        }
        for seconds in [0.0, -1.0, 1.5, 86_401.0, -1e300, 1e300] {
            let errors =
                Plan::check(id("web@v2"), None, Some(seconds), false, None).expect_err("out of range");
            assert_eq!(errors, [PlanError::StepSeconds { given: seconds }]);
        }
        for rate in [0.0, -0.1, 1.0, 5.0, f64::NAN, f64::INFINITY] {
            assert!(Plan::check(id("web@v2"), None, None, false, Some(rate)).is_err(), "{rate}");
        }
        assert!(Plan::check(id("web@v2"), Some(&[5.0]), None, true, None).is_err());
        let errors =
            Plan::check(id("web@v2"), Some(&[0.0]), Some(0.0), false, Some(2.0)).expect_err("three things");
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    /// Weights as people write them and at the edges.
    fn written() -> impl Strategy<Value = Vec<u64>> {
        vec(prop_oneof![Just(0), Just(1), Just(999), Just(1000), 0u64..=1000], 1..6)
            .prop_filter("somebody has a part", |weights| weights.iter().sum::<u64>() > 0)
    }

    proptest! {
        #[test]
        fn the_target_gets_its_percent_and_the_others_their_proportions_exactly(percent in 0u8..=100, given in written()) {
            let from: BTreeMap<_, _> = given.iter().enumerate()
                .map(|(at, weight)| (id(&format!("web@x{at}")), Weight::new(*weight).expect("a weight"))).collect();
            let weights = plan().weights(percent, &from);
            let got = |id: &BackendId| u64::from(weights[id].get());
            let (whole, others) = (given.iter().sum::<u64>(), from.keys().map(got).sum::<u64>());
            for (id, weight) in &from {
                prop_assert_eq!(got(id) * whole, others * u64::from(weight.get()), "{} of {:?}", id, weights);
            }
            let percent = u64::from(percent);
            prop_assert_eq!(got(&id("web@v2")) * (100 - percent), others * percent);
            prop_assert!(weights.values().any(|weight| *weight > Weight::ZERO));
        }
    }
}
