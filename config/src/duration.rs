//! Durations as people write them: `500ms`, `3s`, `1m`, `2h`, `1h30m`.

use std::time::Duration;

/// The units, largest first, each with its length in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a duration: {why}")]
pub struct NotADuration {
    /// What was written.
    pub given: String,
    /// What is wrong with it and what to write.
    pub why: String,
}

/// Reads one or more whole numbers, each with its unit (`h`, `m`, `s`, `ms`), from the largest unit to the smallest.
///
/// A bare number is refused, `0` too: nobody can tell seconds from milliseconds.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let wrong = |why: String| NotADuration { given: text.to_owned(), why };
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms = 0u64;
    while !rest.is_empty() || total_ms == 0 && rest.len() == text.len() {
        let (digits, after) = rest.split_at(leading(rest, |c| c.is_ascii_digit()));
        let (unit, after) = after.split_at(leading(after, |c| !c.is_ascii_digit()));
        if digits.is_empty() {
            return Err(wrong(
                "write a whole number and a unit, such as `500ms`, `3s`, `1m`, `1h30m`".into(),
            ));
        }
        let Some((_, unit_ms)) = units.find(|(name, _)| *name == unit) else {
            return Err(wrong(unit_advice(digits, unit)));
        };
        let part_ms = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(*unit_ms));
        total_ms = part_ms
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(|| wrong("it is longer than any clock counts".into()))?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Prints what [`parse`] reads, to the millisecond: `1h30m`, `1s500ms`, `0s`.
pub fn print(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        if left >= unit_ms {
            text.push_str(&format!("{}{unit}", left / unit_ms));
            left %= unit_ms;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn unit_advice(digits: &str, unit: &str) -> String {
    let digits = &digits[..digits.len().min(20)];
    match unit {
        "" => format!("add a unit: `{digits}s` or `{digits}ms`"),
        "." | "," => "write whole numbers: `1500ms` instead of `1.5s`".into(),
        u if UNITS.iter().any(|(name, _)| *name == u) => {
            "write each unit once, the largest first, such as `1h30m`".into()
        }
        _ => "the units are `h`, `m`, `s` and `ms`".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_with_units_are_read_and_printed() {
        for (text, ms) in [
            ("500ms", 500),
            ("3s", 3_000),
            ("1m", 60_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(print(Duration::from_millis(ms)), text);
        }
        assert_eq!(print(Duration::from_micros(1_500_700)), "1s500ms");
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        for (text, advice) in [
            ("", "whole number and a unit"),
            ("s", "whole number and a unit"),
            ("-1s", "whole number and a unit"),
            ("3", "`3s` or `3ms`"),
            ("0", "`0s`"),
            ("1.5s", "`1500ms`"),
            ("3 s", "the units are"),
            ("3sec", "the units are"),
            ("3S", "the units are"),
            ("1s1h", "largest first"),
            ("1s1s", "largest first"),
            ("99999999999999999999h", "longer than"),
            ("18446744073709551615s", "longer than"),
            ("1m٣s", "the units are"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.to_string().contains(advice), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}|[0-9hms]{0,12}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_printed_is_read_back(ms in 0u64..1_000_000_000_000) {
            prop_assert_eq!(parse(&print(Duration::from_millis(ms))), Ok(Duration::from_millis(ms)));
        }
    }
}
