//! A part of the requests: above 0 %, at most 100 %, in steps of a thousandth of a percent.

use std::fmt;
use std::str::FromStr;

/// Thousandths of a percent in the whole.
const WHOLE: u32 = 100_000;

/// A part of the requests, 0.001 % to 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

/// A number that is no such part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a percentage: write a number above 0 and up to 100, with three decimals at most")]
pub struct NotAPercent {
    /// What was written.
    pub given: String,
}

impl Percent {
    /// Of this number of percent. Fails outside of 0.001 to 100, and for what is finer than a thousandth.
    pub fn new(percent: f64) -> Result<Self, NotAPercent> {
        let thousandths = (percent * 1000.0).round();
        let is_exact = (percent * 1000.0 - thousandths).abs() < 1e-6;
        if is_exact && (1.0..=f64::from(WHOLE)).contains(&thousandths) {
            return Ok(Self(thousandths as u32));
        }
        Err(NotAPercent { given: percent.to_string() })
    }

    /// The number of percent.
    pub fn get(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Whether a number that is drawn evenly from the whole range of `u32` falls into this part.
    pub fn takes(self, drawn: u32) -> bool {
        // The draw as thousandths of a percent: a multiplication in place of a division with its remainder.
        (u64::from(drawn) * u64::from(WHOLE)) >> 32 < u64::from(self.0)
    }
}

/// Without digits that say nothing: `10`, `0.5`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// Digits, with or without a point and decimals.
impl FromStr for Percent {
    type Err = NotAPercent;
    fn from_str(text: &str) -> Result<Self, NotAPercent> {
        // `f64::from_str` takes `inf`, `1e1` and `+1`, too.
        let is_plain = text.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
        let number = text.parse().ok().filter(|_| is_plain);
        number.and_then(|number| Self::new(number).ok()).ok_or_else(|| NotAPercent { given: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_above_zero_and_at_most_a_hundred_in_thousandths() {
        for (text, want) in [
            ("10", Some("10")),
            ("100", Some("100")),
            ("0.5", Some("0.5")),
            ("0.001", Some("0.001")),
            ("33.333", Some("33.333")),
            ("99.999", Some("99.999")),
            ("10.0", Some("10")),
            ("0", None),
            ("0.0004", None),
            ("0.0015", None),
            ("100.001", None),
            ("1000", None),
            ("-1", None),
            ("+1", None),
            ("1e1", None),
            ("inf", None),
            ("nan", None),
            ("", None),
            (".", None),
            ("10%", None),
        ] {
            let got = text.parse::<Percent>().ok().map(|percent| percent.to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        }
        for number in [f64::NAN, f64::INFINITY, -10.0, 1e300, 0.0] {
            assert!(Percent::new(number).is_err(), "{number}");
        }
    }

    #[test]
    fn it_takes_its_part_of_all_draws() {
        for (percent, want) in [(100.0, 1.0), (50.0, 0.5), (12.5, 0.125), (0.001, 0.00001)] {
            let percent = Percent::new(percent).expect("a percentage");
            let draws = (0..=u32::MAX).step_by(1009);
            let all = draws.clone().count() as f64;
            let taken = draws.filter(|drawn| percent.takes(*drawn)).count() as f64;
            assert!((taken / all - want).abs() < 1e-5, "{percent}: {}", taken / all);
        }
    }
}
