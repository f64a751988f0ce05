//! Octets that may stand where, and lists of tokens (RFC 9110 section 5.6).

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let symbols = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < symbols.len() {
        table[symbols[i] as usize] = true;
        i += 1;
    }
    let mut octet = 0;
    while octet < 128 {
        if (octet as u8).is_ascii_alphanumeric() {
            table[octet] = true;
        }
        octet += 1;
    }
    table
};

/// Whether the octet may be part of a token.
pub fn is_token_octet(octet: u8) -> bool {
    TOKEN[octet as usize]
}

/// Whether this is a token: one or more of its octets.
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_token_octet(*b))
}

/// Whether a field value holds only what it may: visible octets, space, tab, and octets above ASCII.
pub fn is_field_value(value: &[u8]) -> bool {
    // Without a branch per octet, so that it vectorises: values are most of a head.
    value.iter().fold(true, |fine, b| fine & ((*b >= b' ' && *b != 0x7f) || *b == b'\t'))
}

/// The value without space and tab around it.
pub fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !is_blank(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_blank(b)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// The elements of a comma list without quoted strings, trimmed, empty ones skipped.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(trim).filter(|element| !element.is_empty())
}

/// A number of decimal digits and nothing else; `None` also when it does not fit.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_only_and_fits() {
        for (text, want) in [
            ("0", Some(0)),
            ("0012", Some(12)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("0x1", None),
            ("1,1", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), want, "{text:?}");
        }
    }

    #[test]
    fn a_list_skips_empty_elements_and_blanks() {
        let got: Vec<_> = list(b" ,close,\t keep-alive ,,x").collect();
        assert_eq!(got, [&b"close"[..], b"keep-alive", b"x"]);
    }

    #[test]
    fn only_space_and_tab_are_blanks() {
        assert_eq!(trim(b"\t a b \t"), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba\x0c"), b"\x0ba\x0c");
    }
}
