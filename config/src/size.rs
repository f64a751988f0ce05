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
}
