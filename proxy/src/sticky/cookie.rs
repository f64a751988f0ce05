//! Our cookie among those of a request (RFC 6265 section 4.2), and the field that sets it (section 4.1).
//!
//! Not here: what its value says (see `token`).

use crate::h1::write::push_number;

/// The cookie's name.
pub(crate) const NAME: &str = "FAIRWAY";

/// The values of our cookie in one `Cookie` field, in the order sent.
pub(crate) fn ours(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| *b == b';').filter_map(value_of_ours)
}

/// Whether one `Cookie` field holds our cookie.
pub(crate) fn is_among(line: &[u8]) -> bool {
    ours(line).next().is_some()
}

/// Appends the `Cookie` field without our cookie, the others octet by octet; nothing when there are none.
pub(crate) fn push_others(out: &mut Vec<u8>, line: &[u8]) {
    let mut others = line.split(|b| *b == b';').filter(|pair| value_of_ours(pair).is_none());
    // What stands before the first one separated it from ours.
    let Some(first) = others.next().map(<[u8]>::trim_ascii_start) else { return };
    let start = out.len();
    out.extend_from_slice(b"Cookie: ");
    out.extend_from_slice(first);
    let mut is_empty = first.is_empty();
    for pair in others {
        out.push(b';');
        out.extend_from_slice(pair);
        is_empty &= pair.trim_ascii().is_empty();
    }
    match is_empty {
        true => out.truncate(start),
        false => out.extend_from_slice(b"\r\n"),
    }
}

/// The field that sets our cookie, with its CRLF. `left_secs`: how long the client is to keep it.
pub(crate) fn set(value: &str, path: &str, left_secs: u64, secure: bool) -> Vec<u8> {
    let mut line = Vec::with_capacity(96 + value.len() + path.len());
    for part in ["Set-Cookie: ", NAME, "=", value, "; Path=", path, "; Max-Age="] {
        line.extend_from_slice(part.as_bytes());
    }
    push_number(&mut line, left_secs);
    line.extend_from_slice(b"; HttpOnly; SameSite=Lax");
    if secure {
        line.extend_from_slice(b"; Secure");
    }
    line.extend_from_slice(b"\r\n");
    line
}

fn value_of_ours(pair: &[u8]) -> Option<&[u8]> {
    let at = pair.iter().position(|b| *b == b'=')?;
    (pair[..at].trim_ascii() == NAME.as_bytes()).then(|| pair[at + 1..].trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_cookie_goes_and_the_others_stay_octet_by_octet() {
        for (line, values, others) in [
            ("FAIRWAY=x", &["x"][..], ""),
            ("a=1; FAIRWAY=x; b=2", &["x"], "Cookie: a=1; b=2\r\n"),
            ("FAIRWAY=x; a=1", &["x"], "Cookie: a=1\r\n"),
            ("a=1;FAIRWAY=x;b=2", &["x"], "Cookie: a=1;b=2\r\n"),
            ("FAIRWAY=x; FAIRWAY=y", &["x", "y"], ""),
            ("FAIRWAY=x; a=\"1 ; 2\";  b = =3 ;c", &["x"], "Cookie: a=\"1 ; 2\";  b = =3 ;c\r\n"),
            (" FAIRWAY = x ;", &["x"], ""),
            ("a=1; FAIRWAY=", &[""], "Cookie: a=1\r\n"),
            (
                "fairway=x; FAIRWAYS=y; XFAIRWAY=z; FAIRWAY",
                &[],
                "Cookie: fairway=x; FAIRWAYS=y; XFAIRWAY=z; FAIRWAY\r\n",
            ),
            ("a=FAIRWAY=x", &[], "Cookie: a=FAIRWAY=x\r\n"),
            ("", &[], ""),
        ] {
            let found: Vec<_> = ours(line.as_bytes()).map(String::from_utf8_lossy).collect();
            assert_eq!(
                (found, is_among(line.as_bytes())),
                (values.iter().map(|v| (*v).into()).collect(), !values.is_empty()),
                "{line}"
            );
            let mut out = b"before".to_vec();
            push_others(&mut out, line.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), format!("before{others}"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn whatever_cookies_there_are_the_others_go_on_and_ours_does_not(
            pairs in vec("(FAIRWAY|FAIRWAYS|a|b|) ?(=[a-zA-Z=\" ]{0,6})?", 0..8), between in "; ?|;",
        ) {
            let line = pairs.join(&between);
            let mut out = Vec::new();
            push_others(&mut out, line.as_bytes());
            prop_assert!(!is_among(&out[..]) && out.iter().filter(|b| **b == b'\n').count() <= 1);
            let value = String::from_utf8(out).expect("text");
            let value = value.strip_prefix("Cookie: ").map_or("", |value| value.trim_end_matches("\r\n"));
            let others = |line: &str| -> Vec<String> {
                let others = line.split(';').filter(|pair| value_of_ours(pair.as_bytes()).is_none());
                others.map(|pair| pair.trim_start().to_owned()).filter(|pair| !pair.trim().is_empty()).collect()
            };
            prop_assert_eq!(others(value), others(&line));
        }
    }

    #[test]
    fn the_cookie_is_set_for_the_path_of_its_route_and_out_of_reach_of_scripts() {
        let line = |path, secure| String::from_utf8(set("v_-", path, 1800, secure)).expect("text");
        assert_eq!(
            line("/api", false),
            "Set-Cookie: FAIRWAY=v_-; Path=/api; Max-Age=1800; HttpOnly; SameSite=Lax\r\n"
        );
        assert_eq!(
            line("/", true),
            "Set-Cookie: FAIRWAY=v_-; Path=/; Max-Age=1800; HttpOnly; SameSite=Lax; Secure\r\n"
        );
    }
}
