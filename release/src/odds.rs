//! How much likelier a count is if one version is worse: the conditional comparison of two proportions.
//!
//! In one second `n` requests went to the canary and `m` to the stable versions, and `f` of all of them were bad. Given these
//! three numbers, and the same chance of being bad on both sides, the number `k` of bad ones at the canary follows the
//! hypergeometric distribution, whatever that chance is. If the odds of being bad are `r` times as high at the canary, it
//! follows Fisher's noncentral hypergeometric distribution with that odds ratio (Fisher 1935, "The logic of inductive
//! inference"). So nothing needs to be known, or assumed to be constant, about the base rate.
//!
//! Not here: what is made of it from one second to the next (see `evidence`).

/// The requests of one period, and how many of them were bad in one respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests to the canary.
    pub canary: u64,
    /// Bad ones among them, at most as many.
    pub canary_bad: u64,
    /// Requests to the stable versions.
    pub stable: u64,
    /// Bad ones among them, at most as many.
    pub stable_bad: u64,
}

/// Terms of the sum that are looked at on each side of the greatest one, in standard deviations. What lies beyond is less
/// than 1e-30 of it.
const WIDTH: f64 = 12.0;

impl Counts {
    /// Whether the counts say nothing, because they could not have come out in any other way.
    pub fn is_silent(&self) -> bool {
        let bad = self.canary_bad + self.stable_bad;
        bad == 0 || self.canary == 0 || self.stable == 0 || bad >= self.canary + self.stable
    }

    /// For each of `odds` the natural logarithm of: probability of these counts at this odds ratio, divided by that at `base`.
    /// All are positive. Its exponential has the mean 1 if the odds ratio is `base`, and at most 1 if it is smaller and `odds`
    /// is greater than `base`.
    pub fn log_ratios<const N: usize>(&self, odds: [f64; N], base: f64) -> [f64; N] {
        if self.is_silent() {
            return [0.0; N];
        }
        let mut terms = Terms::of(self);
        let log_base = base.ln();
        let plain = terms.log_sum(log_base);
        odds.map(|odds| {
            let tilt = (odds / base).ln();
            // Both sums are relative to the term of the same place.
            self.canary_bad as f64 * tilt - (terms.log_sum(log_base + tilt) - plain)
        })
    }

    /// The same for one odds ratio.
    pub fn log_ratio(&self, odds: f64, base: f64) -> f64 {
        let [ratio] = self.log_ratios([odds], base);
        ratio
    }

    /// So many terms behind the greatest one everything may be negligible.
    fn spread(&self) -> f64 {
        let (n, m) = (self.canary as f64, self.stable as f64);
        let bad = (self.canary_bad + self.stable_bad) as f64;
        let share = n / (n + m);
        WIDTH * (bad * share * (1.0 - share)).sqrt() + WIDTH
    }
}

/// The terms of the distribution at the odds ratio 1, each worked out once, for as far as any sum needs them.
struct Terms<'a> {
    counts: &'a Counts,
    least: u64,
    most: u64,
    spread: f64,
    /// The logarithms of the terms above the centre, which is `canary_bad`, relative to it; the nearest first.
    above: Vec<f64>,
    /// Of those below.
    below: Vec<f64>,
}

impl<'a> Terms<'a> {
    fn of(counts: &'a Counts) -> Self {
        let bad = counts.canary_bad + counts.stable_bad;
        Self {
            least: bad.saturating_sub(counts.stable),
            most: bad.min(counts.canary),
            spread: counts.spread(),
            above: Vec::new(),
            below: Vec::new(),
            counts,
        }
    }

    /// The logarithm of term k + 1 over term k.
    fn step(&self, k: u64) -> f64 {
        let Counts { canary, canary_bad, stable, stable_bad } = *self.counts;
        let bad = canary_bad + stable_bad;
        let up = (canary - k) as f64 * (bad - k) as f64;
        let down = (k + 1) as f64 * ((stable + k + 1) - bad) as f64;
        (up / down).ln()
    }

    /// The logarithm of the sum of the terms from `least` to `most`, each times `exp(k * slope)`, relative to the term at
    /// the centre, which is the same for every slope.
    fn log_sum(&mut self, slope: f64) -> f64 {
        let centre = self.counts.canary_bad;
        let at_centre = slope * centre as f64;
        let mut sum = Sum::default();
        sum.add(at_centre);
        // Terms rise to the greatest one and fall behind it, so a side is done once its terms have become negligible.
        let (mut before, mut past) = (at_centre, 0.0);
        for (at, k) in (centre..self.most).enumerate() {
            if at == self.above.len() {
                self.above.push(self.above.last().unwrap_or(&0.0) + self.step(k));
            }
            let log = at_centre + self.above[at] + slope * (at + 1) as f64;
            sum.add(log);
            past += f64::from(u8::from(log < before));
            before = log;
            if past > self.spread && sum.dwarfs(log) {
                break;
            }
        }
        let (mut before, mut past) = (at_centre, 0.0);
        for (at, k) in (self.least..centre).rev().enumerate() {
            if at == self.below.len() {
                self.below.push(self.below.last().unwrap_or(&0.0) - self.step(k));
            }
            let log = at_centre + self.below[at] - slope * (at + 1) as f64;
            sum.add(log);
            past += f64::from(u8::from(log < before));
            before = log;
            if past > self.spread && sum.dwarfs(log) {
                break;
            }
        }
        sum.log()
    }
}

/// A sum of exponentials by their logarithms.
#[derive(Debug, Clone, Copy)]
struct Sum {
    greatest: f64,
    scaled: f64,
}

impl Default for Sum {
    fn default() -> Self {
        Self { greatest: f64::NEG_INFINITY, scaled: 0.0 }
    }
}

impl Sum {
    fn add(&mut self, log: f64) {
        if log <= self.greatest {
            self.scaled += (log - self.greatest).exp();
        } else {
            self.scaled = self.scaled * (self.greatest - log).exp() + 1.0;
            self.greatest = log;
        }
    }

    /// Whether a term is nothing beside the sum.
    fn dwarfs(&self, log: f64) -> bool {
        log < self.greatest - 70.0
    }

    fn log(&self) -> f64 {
        self.greatest + self.scaled.ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The probabilities of every `k`, by definition.
    fn distribution(canary: u64, stable: u64, bad: u64, odds: f64) -> Vec<(u64, f64)> {
        let choose = |n: u64, k: u64| (0..k).map(|i| ((n - i) as f64 / (k - i) as f64).ln()).sum::<f64>();
        let terms: Vec<_> = (bad.saturating_sub(stable)..=bad.min(canary))
            .map(|k| (k, (choose(canary, k) + choose(stable, bad - k) + k as f64 * odds.ln()).exp()))
            .collect();
        let whole: f64 = terms.iter().map(|(_, term)| term).sum();
        terms.into_iter().map(|(k, term)| (k, term / whole)).collect()
    }

    proptest! {
        #[test]
        fn the_ratio_is_that_of_the_two_probabilities(
            canary in 1u64..60, stable in 1u64..60, share in 0.0f64..1.0, odds in 0.2f64..20.0, base in 0.2f64..5.0,
        ) {
            let bad = (share * (canary + stable) as f64) as u64;
            let (at_odds, at_base) =
                (distribution(canary, stable, bad, odds), distribution(canary, stable, bad, base));
            for ((k, p), (_, q)) in at_odds.into_iter().zip(at_base) {
                let counts = Counts { canary, canary_bad: k, stable, stable_bad: bad - k };
                let got = counts.log_ratio(odds, base);
                prop_assert!((got - (p / q).ln()).abs() < 1e-6, "{counts:?}: {got} and {}", (p / q).ln());
            }
        }

        #[test]
        fn its_mean_is_one_at_the_base_and_no_more_below_it(
            canary in 1u64..40, stable in 1u64..40, share in 0.0f64..1.0, more in 1.0f64..10.0, less in 0.1f64..1.0,
        ) {
            let bad = (share * (canary + stable) as f64) as u64;
            let mean = |truth: f64| {
                distribution(canary, stable, bad, truth).into_iter().map(|(k, p)| {
                    let counts = Counts { canary, canary_bad: k, stable, stable_bad: bad - k };
                    p * counts.log_ratio(1.25 * more, 1.25).exp()
                }).sum::<f64>()
            };
            prop_assert!((mean(1.25) - 1.0).abs() < 1e-6);
            prop_assert!(mean(1.25 * less) < 1.0 + 1e-6);
        }
    }

    #[test]
    fn large_counts_are_exact_too_and_quick() {
        // 400,000 requests in a second, half of them slower than the median.
        let counts = Counts { canary: 200_000, canary_bad: 100_000, stable: 200_000, stable_bad: 100_000 };
        let even = counts.log_ratio(2.0, 1.0);
        // By the normal approximation: k has the mean n/2 and the variance n/8 at odds 1; at odds 2 its mean moves by
        // n * (sqrt 2 - 1) / (sqrt 2 + 1) / 2, and the density falls by the saddlepoint's exponent.
        assert!(even < -5_000.0 && even > -8_000.0, "{even}");
        let moved = Counts { canary_bad: 117_157, stable_bad: 82_843, ..counts };
        assert!(moved.log_ratio(2.0, 1.0) > 5_000.0);
    }

    #[test]
    fn counts_that_could_not_be_otherwise_say_nothing() {
        for (canary, canary_bad, stable, stable_bad) in
            [(0, 0, 10, 3), (10, 3, 0, 0), (10, 0, 10, 0), (10, 10, 10, 10)]
        {
            let counts = Counts { canary, canary_bad, stable, stable_bad };
            assert_eq!(counts.log_ratio(3.0, 1.0), 0.0, "{counts:?}");
        }
    }
}
