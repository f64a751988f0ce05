//! `fairway.rate_limit` and `fairway.rate_limit.client`: how many requests are served, in all and of one client.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::super::flaw::{Flaw, shown};

/// Most requests in a unit of time, and most at once.
const MOST: u32 = 1_000_000;

/// The units of time, as written.
const UNITS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];

/// So many requests in a second, a minute or an hour, evenly spread; after a pause some at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many, 1 to a million.
    pub count: NonZeroU32,
    /// In this time: a second, a minute or an hour.
    pub per: Duration,
    /// How many at once, 1 to a million.
    pub burst: NonZeroU32,
}

impl RateLimit {
    /// The time in which one more request is earned.
    pub fn interval(&self) -> Duration {
        self.per / self.count.get()
    }

    /// Reads `COUNT/UNIT` or `COUNT/UNIT burst COUNT`. Without a burst it is what a second earns, at least 1.
    pub fn parse(text: &str) -> Result<Self, Flaw> {
        let mut words = text.split_ascii_whitespace();
        let (rate, burst) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(rate), None, None, None) => (rate, None),
            (Some(rate), Some("burst"), Some(burst), None) => (rate, Some(burst)),
            _ => return Err(flaw(text)),
        };
        let read = rate.split_once('/').and_then(|(count, unit)| {
            let (_, per) = UNITS.iter().find(|(name, _)| *name == unit)?;
            Some((number(count)?, *per))
        });
        let (count, per) = read.ok_or_else(|| flaw(text))?;
        let in_a_second = u64::from(count.get()) / per.as_secs().max(1);
        let earned = u32::try_from(in_a_second).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let burst = burst.map_or(Some(earned), number).ok_or_else(|| flaw(text))?;
        Ok(Self { count, per, burst })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, per)| *per == self.per).map_or("s", |(name, _)| name);
        write!(f, "{}/{unit} burst {}", self.count, self.burst)
    }
}

/// `None` for `none`, the default.
pub(super) fn limit(value: &str) -> Result<Option<RateLimit>, Flaw> {
    if value == "none" { Ok(None) } else { RateLimit::parse(value).map(Some) }
}

fn number(text: &str) -> Option<NonZeroU32> {
    let is_digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number: &NonZeroU32| is_digits && number.get() <= MOST)
}

fn flaw(text: &str) -> Flaw {
    Flaw::refused(
        "label-rate-limit",
        format!("`{}` is no rate", shown(text)),
        "write `100/s`, `600/m` or `1000/h`, perhaps with `burst 200` behind it, with numbers from 1 to 1000000; or `none`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_a_unit_of_time_perhaps_with_a_burst() {
        for (text, want) in [
            ("100/s", "100/s burst 100"),
            ("600/m", "600/m burst 10"),
            ("5/m", "5/m burst 1"),
            ("1000/h burst 50", "1000/h burst 50"),
            ("  1/s   burst 1 ", "1/s burst 1"),
            ("1000000/s burst 1000000", "1000000/s burst 1000000"),
        ] {
            let read = RateLimit::parse(text).expect(text);
            assert_eq!(read.to_string(), want);
            assert_eq!(RateLimit::parse(want), Ok(read), "it is read as it is written");
        }
        assert_eq!(RateLimit::parse("600/m").expect("a rate").interval(), Duration::from_millis(100));
        assert_eq!(limit("none"), Ok(None));
    }

    #[test]
    fn what_is_no_rate_is_told_with_the_right_form() {
        for text in [
            "",
            "100",
            "100/d",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "1000001/s",
            "100/s 200",
            "100/s burst",
            "100/s burst 0",
            "100/s burst 200 more",
            "100 / s",
            "100/S",
        ] {
            let flaw = limit(text).expect_err(text);
            assert_eq!(flaw.kind, "label-rate-limit", "{text}");
            assert!(flaw.remedy.contains("`100/s`"), "{text}");
        }
    }
}
