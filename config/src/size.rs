//! Sizes in octets as people write them: `512`, `64k`, `10MiB`, `2g`.

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a size: write a whole number of octets, or one with `k`, `m` or `g`: `10m`")]
pub struct NotASize {
    /// What was written.
    pub given: String,
}

/// Reads a whole number with or without a unit. Units are those of Docker's own sizes: `b`, `k`, `m` and `g` in any case,
/// with or without `b` or `ib` behind, each 1024 of the smaller one.
pub fn parse(text: &str) -> Result<u64, NotASize> {
    let wrong = || NotASize { given: text.to_owned() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Prints what [`parse`] reads: `10m`, `1000`; `none` for the largest number, which stands for no limit.
pub fn print(octets: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "g"), (20, "m"), (10, "k")];
    let unit = UNITS.iter().find(|(shift, _)| octets > 0 && octets.trailing_zeros() >= *shift);
    match (octets, unit) {
        (u64::MAX, _) => "none".to_owned(),
        (_, Some((shift, unit))) => format!("{}{unit}", octets >> shift),
        (_, None) => octets.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, want) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("64k", 65_536),
            ("64KiB", 65_536),
            ("10m", 10_485_760),
            ("10MB", 10_485_760),
            ("2G", 2_147_483_648),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for text in ["", "m", "-1", "+1", "1.5m", "1 m", "10t", "99999999999999999999", "99999999999g", "１"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_printed_in_the_largest_unit_that_loses_nothing() {
        for (octets, want) in
            [(0, "0"), (1000, "1000"), (1024, "1k"), (1536, "1536"), (10 << 20, "10m"), (u64::MAX, "none")]
        {
            assert_eq!(print(octets), want);
            assert!(octets == u64::MAX || parse(want) == Ok(octets));
        }
    }
}
