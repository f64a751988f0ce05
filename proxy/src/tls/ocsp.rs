//! Until when an authority's word on a certificate holds (RFC 6960 section 4.2): what has expired is stapled no longer,
//! because clients take it for worse than none.
//!
//! Not here: whether the word is true, which the client checks; reading the file (the program's business).

use jiff::Timestamp;

use super::x509::{Der, EXPLICIT_0, OCTET_STRING, OID, SEQUENCE, time};

const ENUMERATED: u8 = 0x0a;
const SUCCESSFUL: &[u8] = &[0];
/// 1.3.6.1.5.5.7.48.1.1
const BASIC_RESPONSE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// The answer of an authority, as it is stapled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// DER.
    pub(super) der: Vec<u8>,
    /// Until when it holds; `None`: the authority does not say.
    pub(super) until: Option<Timestamp>,
}

impl Answer {
    /// Reads an answer; `None` when it is none, or none of success.
    pub(super) fn read(der: Vec<u8>) -> Option<Self> {
        let until = next_update(&der)?;
        Some(Self { der, until })
    }
}

/// The first `nextUpdate` of all that it says, if it has any.
fn next_update(der: &[u8]) -> Option<Option<Timestamp>> {
    let mut response = Der(Der(der).take(SEQUENCE)?);
    if response.take(ENUMERATED)? != SUCCESSFUL {
        return None;
    }
    let mut bytes = Der(Der(response.take(EXPLICIT_0)?).take(SEQUENCE)?);
    if bytes.take(OID)? != BASIC_RESPONSE {
        return None;
    }
    let mut basic = Der(Der(bytes.take(OCTET_STRING)?).take(SEQUENCE)?);
    let mut data = Der(basic.take(SEQUENCE)?);
    data.take_if(EXPLICIT_0); // version
    data.next()?; // who says it
    time(&mut data)?; // produced at
    let mut singles = Der(data.take(SEQUENCE)?);
    let mut first = None;
    while !singles.is_empty() {
        let mut single = Der(singles.take(SEQUENCE)?);
        single.take(SEQUENCE)?; // which certificate
        single.next()?; // its status
        time(&mut single)?; // this update
        if let Some(next) = single.take_if(EXPLICIT_0) {
            let next = time(&mut Der(next))?;
            first = Some(first.map_or(next, |first: Timestamp| first.min(next)));
        }
    }
    Some(first)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).expect("it is short").to_be_bytes();
        [&[tag, 0x82, length[0], length[1]][..], &content].concat()
    }

    /// An answer for certificates whose words hold until these times (`YYYYMMDDHHMMSSZ`), or for good.
    pub(in super::super) fn answer(until: &[Option<&str>]) -> Vec<u8> {
        let at = element(0x18, &[b"20260101000000Z"]);
        let single = |until: &Option<&str>| {
            let next = until.map(|until| element(EXPLICIT_0, &[&element(0x18, &[until.as_bytes()])]));
            let id = element(SEQUENCE, &[]);
            element(SEQUENCE, &[&id, &[0x80, 0], &at, &next.unwrap_or_default()])
        };
        let singles: Vec<Vec<u8>> = until.iter().map(single).collect();
        let singles = element(SEQUENCE, &[&singles.concat()]);
        let data = element(SEQUENCE, &[&element(0xa2, &[&[4, 1, 7]]), &at, &singles]);
        let basic = element(SEQUENCE, &[&data]);
        let bytes = [element(OID, &[BASIC_RESPONSE]), element(OCTET_STRING, &[&basic])].concat();
        element(SEQUENCE, &[&[ENUMERATED, 1, 0], &element(EXPLICIT_0, &[&element(SEQUENCE, &[&bytes])])])
    }

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().expect("a time"))
    }

    #[test]
    fn the_first_time_at_which_a_word_ends_counts() {
        let several = answer(&[Some("20260301000000Z"), None, Some("20260201123000Z")]);
        assert_eq!(next_update(&several), Some(at("2026-02-01T12:30:00Z")));
        assert_eq!(next_update(&answer(&[None])), Some(None));
        assert_eq!(next_update(&answer(&[])), Some(None));
    }

    #[test]
    fn what_is_no_answer_of_success_is_none() {
        for other in [&b"<html>"[..], &[], &[0x30, 3, 0x0a, 1, 3], &[0x30, 3, 0x0a, 1, 0]] {
            assert_eq!(Answer::read(other.to_vec()), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_and_no_damage_panic(octets in vec(any::<u8>(), 0..100), at in 0usize..200, octet: u8) {
            let _ = next_update(&octets);
            let mut damaged = answer(&[Some("20260301000000Z")]);
            let length = damaged.len();
            damaged[at % length] = octet;
            let _ = next_update(&damaged);
            let _ = next_update(&damaged[..at % length]);
        }
    }
}
