//! Values of one word: yes or no, whole numbers, durations, names, HTTP tokens.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::flaw::{Flaw, shown};
use crate::{duration, size};

/// Longest name of a project, service, network or zone, in characters.
const NAME_CHARS_MAX: usize = 128;

/// `true` or `false` in any case: YAML booleans arrive as `true`, Python's as `True`.
pub(super) fn boolean(text: &str) -> Result<bool, Flaw> {
    match () {
        () if text.eq_ignore_ascii_case("true") => Ok(true),
        () if text.eq_ignore_ascii_case("false") => Ok(false),
        () => Err(Flaw::refused(
            "label-not-boolean",
            format!("`{}` is neither true nor false", shown(text)),
            "write `true` or `false`",
        )),
    }
}

/// A whole number within `range`; `unit` is empty or ` seconds` and the like, for the message.
pub(super) fn whole(text: &str, range: RangeInclusive<u32>, unit: &str) -> Result<u32, Flaw> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| is_digits && range.contains(number));
    number.ok_or_else(|| {
        let what = format!("`{}` is not a number that can be used here", shown(text));
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let remedy = match digits.parse::<u32>() {
            Ok(number) if digits != text && range.contains(&number) => {
                format!("write `{number}`, without a unit")
            }
            _ => format!("write a whole number from {} to {}{unit}", range.start(), range.end()),
        };
        Flaw::refused("label-not-a-number", what, remedy)
    })
}

/// A duration within `range`.
pub(super) fn time(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Flaw> {
    let parsed = duration::parse(text).map_err(|error| {
        let text = format!("`{}` is not a duration", shown(text));
        Flaw::refused("label-not-a-duration", text, error.why)
    })?;
    if range.contains(&parsed) {
        return Ok(parsed);
    }
    let (least, most) = (duration::print(*range.start()), duration::print(*range.end()));
    let text = format!("`{}` is out of range", shown(text));
    Err(Flaw::refused(
        "label-duration-out-of-range",
        text,
        format!("write a duration from {least} to {most}"),
    ))
}

/// A size in octets; `none` is the largest.
pub(super) fn size(text: &str) -> Result<u64, Flaw> {
    if text == "none" {
        return Ok(u64::MAX);
    }
    size::parse(text).map_err(|_| {
        let remedy = "write a whole number of octets, or one with `k`, `m` or `g`, such as `10m`; or `none`";
        Flaw::refused("label-not-a-size", format!("`{}` is not a size", shown(text)), remedy)
    })
}

/// The name of a project, service, network or zone: `[A-Za-z0-9][A-Za-z0-9._-]*`, what Docker allows in names.
/// `/` and `@` would be read as parts of a backend's name.
pub(crate) fn name(text: &str) -> Result<Arc<str>, Flaw> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins && text.len() <= NAME_CHARS_MAX && text.bytes().all(fits) {
        return Ok(text.into());
    }
    let text = format!("`{}` cannot be a name", shown(text));
    let remedy = "write 1 to 128 of A-Z a-z 0-9 . _ - and begin with a letter or digit";
    Err(Flaw::refused("label-not-a-name", text, remedy))
}

/// A token (RFC 9110 section 5.6.2), the name of a header field or cookie.
pub(super) fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= NAME_CHARS_MAX && text.bytes().all(fits)
}

/// A port from 1 to 65535, without sign or leading zero, so that each has one spelling.
pub(super) fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_words_in_any_case() {
        assert_eq!(boolean("True"), Ok(true));
        assert_eq!(boolean("false"), Ok(false));
        for text in ["", "1", "yes", "on", "truee"] {
            assert_eq!(boolean(text).map_err(|flaw| flaw.kind), Err("label-not-boolean"), "{text}");
        }
    }

    #[test]
    fn numbers_are_whole_and_in_range() {
        assert_eq!(whole("10", 0..=10, ""), Ok(10));
        for (text, advice) in [
            ("11", "from 0 to 10 seconds"),
            ("-1", "from 0 to 10"),
            ("+1", "from 0 to 10"),
            ("1.5", "from 0 to 10"),
            ("", "from 0 to 10"),
            ("99999999999", "from 0 to 10"),
            ("10s", "`10`, without a unit"),
            ("10 seconds", "`10`, without a unit"),
        ] {
            let flaw = whole(text, 0..=10, " seconds").expect_err(text);
            assert!(flaw.remedy.contains(advice), "{text}: {}", flaw.remedy);
        }
    }

    #[test]
    fn durations_are_bounded() {
        let range = Duration::from_millis(1)..=Duration::from_secs(60);
        assert_eq!(time("500ms", range.clone()), Ok(Duration::from_millis(500)));
        assert_eq!(time("0s", range.clone()).expect_err("zero").remedy, "write a duration from 1ms to 1m");
        assert_eq!(time("5", range).expect_err("no unit").kind, "label-not-a-duration");
    }

    #[test]
    fn sizes_are_octets_or_none() {
        assert_eq!((size("10m"), size("none")), (Ok(10_485_760), Ok(u64::MAX)));
        assert_eq!(size("10 m").expect_err("a space").kind, "label-not-a-size");
    }

    #[test]
    fn names_cannot_hold_what_separates_the_parts_of_a_backend() {
        assert_eq!(name("my_shop-1.x").as_deref(), Ok("my_shop-1.x"));
        for text in ["", "a/b", "a@b", "-a", ".a", "a b", "ü", &"x".repeat(129)] {
            assert_eq!(name(text).map_err(|flaw| flaw.kind), Err("label-not-a-name"), "{text}");
        }
    }

    #[test]
    fn a_port_has_one_spelling() {
        assert_eq!(port("80"), Some(80));
        for text in ["", "0", "080", "+80", "65536", "80/tcp", "http", "８０"] {
            assert_eq!(port(text), None, "{text}");
        }
    }
}
