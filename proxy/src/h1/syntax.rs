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
    field_value_len(value) == value.len()
}

/// How many octets from the start may stand in a field value: up to the first control octet but tab.
pub fn field_value_len(text: &[u8]) -> usize {
    let mut at = 0;
    // Eight octets at a time: values are most of a head.
    while let Some(octets) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        match first_control(octets) {
            None => at += octets.len(),
            Some(control) if octets[control] == b'\t' => at += control + 1,
            Some(control) => return at + control,
        }
    }
    let is_fine = |b: &u8| (*b >= b' ' && *b != 0x7f) || *b == b'\t';
    at + text[at..].iter().position(|b| !is_fine(b)).unwrap_or(text.len() - at)
}

/// Where the first octet is that is below the space, or 0x7f.
fn first_control(octets: &[u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let word = u64::from_le_bytes(*octets);
    // Of each octet the high bit is set if it is smaller than n: x - n borrows, and x itself has no high bit. A borrow may
    // spread from an octet to the next ones, but only from one that is a control octet itself, and that one is found first.
    let smaller = |x: u64, n: u64| x.wrapping_sub(ONES * n) & !x & HIGH;
    let controls = smaller(word, 0x20) | smaller(word ^ (ONES * 0x7f), 1);
    (controls != 0).then(|| controls.trailing_zeros() as usize / 8)
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
    fn a_control_octet_is_found_wherever_it_stands_in_a_value() {
        for len in 1..=20 {
            for at in 0..len {
                for octet in 0..=u8::MAX {
                    let mut value = vec![b'v'; len];
                    value[at] = octet;
                    let fine = matches!(octet, b'\t' | b' '..=b'~' | 0x80..);
                    assert_eq!(is_field_value(&value), fine, "{octet:#x} at {at} of {len}");
                    assert_eq!(
                        field_value_len(&value),
                        if fine { len } else { at },
                        "{octet:#x} at {at} of {len}"
                    );
                }
            }
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
