//! Names of requests: `X-Request-Id`, and whether a `traceparent` is one.

use fastrand::Rng;

/// Longest id that is taken over from a trusted proxy.
const LONGEST: usize = 128;

/// The id of a request: printable ASCII without quotes and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// One of ours: 32 hex digits.
    Made([u8; 32]),
    /// One that came with the request.
    Sent(Box<[u8]>),
}

impl RequestId {
    /// A new one.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let mut digits = [0; 32];
        for (two, octet) in digits.chunks_exact_mut(2).zip(rng.u128(..).to_le_bytes()) {
            two.copy_from_slice(&[digit(octet >> 4), digit(octet & 0xf)]);
        }
        Self::Made(digits)
    }

    /// One that a trusted proxy sent, if it can be one.
    pub(crate) fn sent(value: &[u8]) -> Option<Self> {
        let is_plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b',');
        ((1..=LONGEST).contains(&value.len()) && value.iter().all(is_plain)).then(|| Self::Sent(value.into()))
    }

    /// Its octets.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Made(digits) => digits,
            Self::Sent(octets) => octets,
        }
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("")
    }
}

fn digit(number: u8) -> u8 {
    if number < 10 { b'0' + number } else { b'a' + number - 10 }
}

/// Whether this is a trace context that others can go on with (W3C Trace Context section 3.2).
pub(crate) fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let parts: Vec<&[u8]> = value.splitn(5, |b| *b == b'-').collect();
    let [version, trace, parent, flags, rest @ ..] = &parts[..] else { return false };
    let lengths = (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2);
    let fits = *version != b"ff" && (rest.is_empty() || *version != b"00");
    lengths
        && fits
        && [version, trace, parent, flags].iter().all(|p| is_hex(p))
        && !is_zero(trace)
        && !is_zero(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_new_each_time_and_plain() {
        let mut rng = Rng::with_seed(7);
        let (a, b) = (RequestId::random(&mut rng), RequestId::random(&mut rng));
        assert_ne!(a, b);
        assert!(RequestId::sent(a.as_bytes()).is_some_and(|sent| sent.as_str() == a.as_str()));
        assert!(a.as_str().len() == 32 && a.as_str().bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        for bad in [&b""[..], b"a b", b"a\"b", &[b'a'; 129], "ä".as_bytes()] {
            assert_eq!(RequestId::sent(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_trace_context_has_four_hex_parts_that_are_not_zero() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (value, want) in [
            (good.to_owned(), true),
            (good.replace("00-", "01-") + "-more", true),
            (good.to_owned() + "-more", false),
            (good.replace("00-", "ff-"), false),
            (good.to_uppercase(), false),
            (good.replace("b7ad6b7169203331", "0000000000000000"), false),
            (good.replace("-01", ""), false),
            (String::new(), false),
        ] {
            assert_eq!(is_traceparent(value.as_bytes()), want, "{value}");
        }
    }
}
