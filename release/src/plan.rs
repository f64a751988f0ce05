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

    /// The weights while the target has so many percent: what is left is shared by the others as in `from`, exactly if weights
    /// can say that, so that clients who are bound by `fairway.split_by` move to the target only; else to a thousandth.
    /// Nobody who has a part of `from` is left without one below 100 %.
    pub fn weights(&self, percent: u8, from: &BTreeMap<BackendId, Weight>) -> BTreeMap<BackendId, Weight> {
        let percent = u32::from(percent.min(100));
        if let Some(weights) = self.exact_weights(percent, from) {
            return weights;
        }
        let mut parts = portions((100 - percent) * 10, from);
        // In percent where that is exact, which reads best.
        let divisor = if parts.iter().all(|(_, part)| part % 10 == 0) { 10 } else { 1 };
        parts.push((self.to.clone(), percent * 10));
        let weight = |part: u32| Weight::new(u64::from(part / divisor)).unwrap_or(Weight::ZERO);
        parts.into_iter().map(|(id, part)| (id, weight(part))).collect()
    }

    /// Weights that say it exactly, where thousandths would not and none has to be above the largest weight.
    fn exact_weights(
        &self,
        percent: u32,
        from: &BTreeMap<BackendId, Weight>,
    ) -> Option<BTreeMap<BackendId, Weight>> {
        let parts = || from.values().map(|weight| u32::from(weight.get()));
        let whole: u32 = parts().sum();
        if whole == 0 || parts().all(|part| (part * (100 - percent) * 10).is_multiple_of(whole)) {
            return None;
        }
        let own = whole * percent;
        let divisor = parts().map(|part| part * (100 - percent)).fold(own, greatest_common_divisor);
        let weight = |part: u32| Weight::new(u64::from(part / divisor)).ok();
        let others = from
            .iter()
            .map(|(id, given)| Some((id.clone(), weight(u32::from(given.get()) * (100 - percent))?)));
        others.chain([Some((self.to.clone(), weight(own)?))]).collect()
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
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

/// `total` in the proportions of `from`, by largest remainders; each that has a part gets at least 1 while there is enough.
fn portions(total: u32, from: &BTreeMap<BackendId, Weight>) -> Vec<(BackendId, u32)> {
    let whole: u32 = from.values().map(|weight| u32::from(weight.get())).sum();
    if whole == 0 {
        return from.keys().map(|id| (id.clone(), 0)).collect();
    }
    let exact = |weight: &Weight| u32::from(weight.get()) * total;
    let mut parts: Vec<(BackendId, u32, u32)> =
        from.iter().map(|(id, weight)| (id.clone(), exact(weight) / whole, exact(weight) % whole)).collect();
    let mut left = total - parts.iter().map(|(_, part, _)| part).sum::<u32>();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|at| std::cmp::Reverse(parts[*at].2));
    for at in by_remainder {
        if left > 0 && parts[at].2 > 0 {
            parts[at].1 += 1;
            left -= 1;
        }
    }
    for at in 0..parts.len() {
        let (id, part, _) = &parts[at];
        let is_owed = *part == 0 && from.get(id).is_some_and(|weight| *weight > Weight::ZERO);
        let richest = (0..parts.len()).max_by_key(|at| parts[*at].1);
        if let Some(richest) = richest.filter(|richest| is_owed && parts[*richest].1 > 1) {
            parts[richest].1 -= 1;
            parts[at].1 = 1;
        }
    }
    parts.into_iter().map(|(id, part, _)| (id, part)).collect()
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
        assert_eq!(weights(5, &[("web@v0", 1), ("web@v1", 999)]), "web@v0=1 web@v1=949 web@v2=50");
        assert_eq!(weights(1, &[("web@v0", 1), ("web@v1", 1)]), "web@v0=495 web@v1=495 web@v2=10");
        // What thousandths cannot say exactly, other weights can.
        assert_eq!(weights(0, &[("web@v0", 200), ("web@v1", 100)]), "web@v0=2 web@v1=1 web@v2=0");
        assert_eq!(weights(5, &[("web@v0", 200), ("web@v1", 100)]), "web@v0=38 web@v1=19 web@v2=3");
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

    proptest! {
        #[test]
        fn few_parts_keep_their_proportions_exactly_at_each_step(percent in 0u8..100, given in vec(0u64..=10, 1..4)) {
            let whole = given.iter().sum::<u64>();
            prop_assume!((1..=10).contains(&whole));
            let from: BTreeMap<_, _> = given.iter().enumerate()
                .map(|(at, weight)| (id(&format!("web@x{at}")), Weight::new(*weight).expect("a weight"))).collect();
            let weights = plan().weights(percent, &from);
            let got = |id: &BackendId| u64::from(weights[id].get());
            let others: u64 = from.keys().map(got).sum();
            for (id, weight) in &from {
                prop_assert_eq!(got(id) * whole, others * u64::from(weight.get()), "{} of {:?}", id, weights);
            }
            prop_assert_eq!(got(&id("web@v2")) * (100 - u64::from(percent)), others * u64::from(percent));
        }

        #[test]
        fn the_target_gets_its_percent_and_the_others_their_proportions(percent in 0u8..=100, given in vec(0u64..=1000, 1..6)) {
            let from: BTreeMap<_, _> = given.iter().enumerate()
                .map(|(at, weight)| (id(&format!("web@x{at}")), Weight::new(*weight).expect("a weight"))).collect();
            prop_assume!(given.iter().sum::<u64>() > 0);
            let weights = plan().weights(percent, &from);
            let share = |id: &BackendId| f64::from(weights[id].get())
                / weights.values().map(|weight| f64::from(weight.get())).sum::<f64>();
            prop_assert!((share(&id("web@v2")) - f64::from(percent) / 100.0).abs() < 1e-9);
            let whole = given.iter().sum::<u64>() as f64;
            for (id, weight) in &from {
                let wanted = f64::from(weight.get()) / whole * f64::from(100 - percent) / 100.0;
                prop_assert!((share(id) - wanted).abs() <= 0.006, "{id}: {} and {wanted}", share(id));
                prop_assert_eq!(weights[id] > Weight::ZERO, *weight > Weight::ZERO && percent < 100);
            }
        }
    }
}
