//! What a certificate says of itself: whom it is for, its names, and when it holds (RFC 5280 section 4.1).
//!
//! A walk over DER that takes the few fields that are told to people or chosen by. Nothing here decides whom to trust:
//! signatures and chains are rustls's business.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The fields of a certificate that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whom it is for, as RFC 4514 writes it: `CN=shop,O=Company`. Empty when the certificate says nothing.
    pub subject: String,
    /// The hosts that it is for, lower case; wildcards as `*.company.com`.
    pub names: Vec<Box<str>>,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
}

const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `version` of a certificate.
pub(super) const EXPLICIT_0: u8 = 0xa0;
/// `extensions` of a certificate.
const EXPLICIT_3: u8 = 0xa3;
/// `dNSName` of a `GeneralName`.
const DNS_NAME: u8 = 0x82;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Reads a certificate; `None` when it is none.
pub fn read(der: &[u8]) -> Option<Facts> {
    let mut certificate = Der(Der(der).take(SEQUENCE)?);
    let mut tbs = Der(certificate.take(SEQUENCE)?);
    tbs.take_if(EXPLICIT_0);
    tbs.take(INTEGER)?; // serial number
    tbs.take(SEQUENCE)?; // signature algorithm
    tbs.take(SEQUENCE)?; // issuer
    let mut validity = Der(tbs.take(SEQUENCE)?);
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    let subject = distinguished_name(tbs.take(SEQUENCE)?)?;
    tbs.take(SEQUENCE)?; // public key
    let mut names = Vec::new();
    while let Some((tag, content)) = tbs.next() {
        if tag == EXPLICIT_3 {
            names = dns_names(Der(content).take(SEQUENCE)?)?;
        }
    }
    Some(Facts { subject, names, not_before, not_after })
}

/// Elements one after the other.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its content.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let octets = usize::from(first & 0x7f);
            let written = rest.get(..octets).filter(|_| (1..=4).contains(&octets))?;
            length = written.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
            rest = &rest[octets..];
        }
        let content = rest.get(..length)?;
        self.0 = &rest[length..];
        Some((tag, content))
    }

    /// The content of the next element, which must be of this kind.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next element if it is of this kind.
    pub(super) fn take_if(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.take(tag) } else { None }
    }

    /// Whether there are no more.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `YYMMDDHHMMSSZ` (years from 1950), or the same with four digits of the year.
pub(super) fn time(der: &mut Der<'_>) -> Option<Timestamp> {
    let (tag, text) = der.next()?;
    let text = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0i16, |sum, digit| sum * 10 + i16::from(digit - b'0'));
    let (year, rest) = match (tag, text.len()) {
        (UTC_TIME, 12) => {
            let year = number(&text[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let part = |at: usize| i8::try_from(number(&rest[at..at + 2])).ok();
    let civil = DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?.min(59), 0).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// The hosts among the alternative names of a list of extensions.
fn dns_names(extensions: &[u8]) -> Option<Vec<Box<str>>> {
    let mut extensions = Der(extensions);
    let mut names = Vec::new();
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        let is_names = extension.take(OID)? == SUBJECT_ALT_NAME;
        extension.take_if(BOOLEAN); // critical
        let value = extension.take(OCTET_STRING)?;
        if !is_names {
            continue;
        }
        let mut general = Der(Der(value).take(SEQUENCE)?);
        while let Some((tag, name)) = general.next() {
            if tag == DNS_NAME
                && let Some(name) = host(name)
            {
                names.push(name);
            }
        }
    }
    Some(names)
}

/// A name that a client may ask for; others are left out.
fn host(name: &[u8]) -> Option<Box<str>> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let bare = name.strip_prefix(b"*.").unwrap_or(name);
    if bare.is_empty() || bare.len() > 253 || !bare.iter().all(fits) {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into())
}

/// As RFC 4514 writes a name: the last part first, parts of one level joined by `+`.
fn distinguished_name(name: &[u8]) -> Option<String> {
    let mut levels = Vec::new();
    let mut sequence = Der(name);
    while !sequence.is_empty() {
        let mut level = String::new();
        let mut set = Der(sequence.take(SET)?);
        while !set.is_empty() {
            let mut pair = Der(set.take(SEQUENCE)?);
            let key = attribute(pair.take(OID)?);
            let (tag, value) = pair.next()?;
            if !level.is_empty() {
                level.push('+');
            }
            level.push_str(&key);
            level.push('=');
            escape(&mut level, &text(tag, value));
        }
        levels.push(level);
    }
    levels.reverse();
    Some(levels.join(","))
}

/// The short name of an attribute, or its numbers.
fn attribute(oid: &[u8]) -> String {
    let known = match oid {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "street",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        _ => "",
    };
    if known.is_empty() { numbers(oid) } else { known.to_owned() }
}

fn numbers(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0u64;
    for octet in oid {
        arc = arc << 7 | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.extend([first, arc - 40 * first]);
            } else {
                arcs.push(arc);
            }
            arc = 0;
        }
    }
    arcs.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

fn text(tag: u8, value: &[u8]) -> String {
    if tag == BMP_STRING {
        let units: Vec<u16> =
            value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(value).into_owned()
}

/// RFC 4514 section 2.4; what is not visible ASCII as its octets in hex, so that it can stand in a header field.
fn escape(out: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, octet) in value.bytes().enumerate() {
        let edge_space = octet == b' ' && (at == 0 || at == last);
        match octet {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => out.extend(['\\', char::from(octet)]),
            b'#' if at == 0 => out.push_str("\\#"),
            _ if edge_space => out.push_str("\\ "),
            0x20..=0x7e => out.push(char::from(octet)),
            _ => out.push_str(&format!("\\{octet:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["Shop.Company.com".into(), "*.shop.company.com".into()])
            .expect("good names");
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_certificate_says_whom_it_is_for_and_how_long() {
        let der = certificate(|params| {
            params.not_before = rcgen::date_time_ymd(1975, 2, 3);
            params.not_after = rcgen::date_time_ymd(2077, 12, 31);
            params.distinguished_name.push(DnType::OrganizationName, "Company, Inc. + \"Söhne\"");
            params.distinguished_name.push(DnType::CommonName, "shop");
        });
        let facts = read(&der).expect("a certificate");
        assert_eq!(facts.names, ["shop.company.com".into(), "*.shop.company.com".into()]);
        assert_eq!(facts.subject, r#"CN=shop,O=Company\, Inc. \+ \"S\C3\B6hne\""#);
        let want = (at("1975-02-03T00:00:00Z"), at("2077-12-31T00:00:00Z"));
        assert_eq!((facts.not_before, facts.not_after), want);
    }

    #[test]
    fn a_name_without_parts_is_empty_and_unknown_parts_are_shown_by_number() {
        assert_eq!(read(&certificate(|_| {})).expect("a certificate").subject, "");
        let der = certificate(|params| {
            params.distinguished_name.push(DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 311, 2]), " x ");
        });
        assert_eq!(read(&der).expect("a certificate").subject, r"1.3.6.1.4.1.311.2=\ x\ ");
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in vec(any::<u8>(), 0..200)) {
            let _ = read(&octets);
        }

        #[test]
        fn no_damage_to_a_certificate_panics(at in 0usize..600, octet: u8, cut in 0usize..600) {
            let mut der = certificate(|params| params.distinguished_name.push(DnType::CommonName, "x"));
            let length = der.len();
            der[at % length] = octet;
            let _ = read(&der);
            let _ = read(&der[..cut % length]);
        }
    }
}
