//! What a value without quotes becomes on its way through YAML into a label.
//!
//! Compose reads it with its YAML type and prints that: `1.10` becomes the number 1.1 and then the text `1.1`.

/// The text that a plain scalar becomes, if it is another than the one written.
pub(super) fn becomes(text: &str) -> Option<String> {
    let printed = integer(text).or_else(|| float(text)).or_else(|| date(text))?;
    (printed != text).then_some(printed)
}

/// `0x1F`, `0o17`, `017`, `1_000`, `+1`.
fn integer(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let (sign, digits) = match plain.strip_prefix(['+', '-']) {
        Some(digits) if plain.starts_with('-') => ("-", digits),
        Some(digits) => ("", digits),
        None => ("", plain.as_str()),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) => (8, digits),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !text.starts_with(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '-'])
    {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(|value| format!("{sign}{value}"))
}

/// `1.10`, `1e3`; also `.inf` and `.nan` are numbers, but stay as they are.
fn float(text: &str) -> Option<String> {
    let plain = text.replace('_', "");
    let fits = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    let begins = plain.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let is_number = begins && plain.bytes().all(fits) && plain.contains(['.', 'e', 'E']);
    let value: f64 = plain.parse().ok().filter(|_| is_number)?;
    value.is_finite().then(|| value.to_string())
}

/// `2024-01-31` is a point in time.
fn date(text: &str) -> Option<String> {
    let digits = |part: &str, len: usize| part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = text.split('-');
    let [year, month, day] = [parts.next()?, parts.next()?, parts.next()?];
    let is_date = digits(year, 4) && digits(month, 2) && digits(day, 2) && parts.next().is_none();
    is_date.then(|| format!("{text} 00:00:00 +0000 UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_change_and_other_texts_do_not() {
        for (text, want) in [
            ("1.10", Some("1.1")),
            ("2.0", Some("2")),
            ("1e3", Some("1000")),
            ("010", Some("8")),
            ("0x1F", Some("31")),
            ("0o17", Some("15")),
            ("1_000", Some("1000")),
            ("+1", Some("1")),
            ("2024-01-31", Some("2024-01-31 00:00:00 +0000 UTC")),
            ("2", None),
            ("0", None),
            ("-1", None),
            ("1.5", None),
            ("1.2.3", None),
            ("v1.10", None),
            ("089", None),
            ("1s", None),
            ("true", None),
            ("e3", None),
            ("-", None),
            ("", None),
            ("ü0", None),
        ] {
            assert_eq!(becomes(text).as_deref(), want, "{text}");
        }
    }
}
