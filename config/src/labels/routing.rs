//! `aliyun.routing.port_N`: a list of entries for one container port.
//!
//! Not here: the entries themselves (see `entry`).

use super::entry::parse_entry;
use super::flaw::{Flaw, shown};
use super::{PortClaim, scalar};
use crate::names::RouteEntry;

/// Most entries of one label that are used.
const ENTRIES_MAX: usize = 256;

/// A flaw with the entry that it is about.
pub(super) type Found<'a> = (&'a str, Flaw);

/// Reads the whole label. `None` when nothing of it can be used; what cannot be used is added to `found`.
pub(super) fn parse<'a>(port: &str, value: &'a str, found: &mut Vec<Found<'a>>) -> Option<PortClaim> {
    let port = container_port("aliyun.routing.port_", port).map_err(|flaw| found.push((value, flaw))).ok()?;
    let entries = parse_entries(value, found);
    (!entries.is_empty()).then_some(PortClaim { port, entries })
}

/// The number at the end of a key that names a container port.
pub(super) fn container_port(key: &str, given: &str) -> Result<u16, Flaw> {
    scalar::port(given).ok_or_else(|| {
        let bare: String = given.chars().skip_while(|c| *c == '0').take_while(char::is_ascii_digit).collect();
        let remedy = match scalar::port(&bare) {
            Some(port) => format!("write the container port alone: `{key}{port}`"),
            None => format!("write the container port as a number from 1 to 65535: `{key}8080`"),
        };
        Flaw::refused("label-bad-port", format!("`{}` is no container port", shown(given)), remedy)
    })
}

/// Every good entry once, in the order written, whatever stands between them.
fn parse_entries<'a>(value: &'a str, found: &mut Vec<Found<'a>>) -> Vec<RouteEntry> {
    let mut entries: Vec<RouteEntry> = Vec::new();
    let mut written = value.split(';').map(str::trim).filter(|text| !text.is_empty()).peekable();
    if written.peek().is_none() {
        let remedy = "write a host, such as `shop` or `shop.company.com`, or leave it out";
        found.push((value, Flaw::refused("label-no-entry", "it names no route", remedy)));
    }
    for text in written.by_ref().take(ENTRIES_MAX) {
        match parse_entry(text) {
            Ok((entry, warnings)) => {
                found.extend(warnings.into_iter().map(|flaw| (text, flaw)));
                if entries.contains(&entry) {
                    found.push((text, duplicate(text)))
                } else {
                    entries.push(entry)
                }
            }
            Err(flaw) => found.push((text, flaw)),
        }
    }
    if let Some(first_left_out) = written.next() {
        let text = format!(
            "the label has more than {ENTRIES_MAX} entries; those from `{}` on are left out",
            shown(first_left_out)
        );
        let remedy = "use a wildcard, `*.company.com`, or fewer entries";
        found.push((first_left_out, Flaw::refused("label-too-many-entries", text, remedy)));
    }
    entries
}

fn duplicate(text: &str) -> Flaw {
    let what = format!("`{}` is written twice", shown(text));
    Flaw::warning("label-duplicate-entry", what, "leave one of them out")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> (Vec<String>, Vec<&'static str>) {
        let mut found = Vec::new();
        let claim = parse("80", value, &mut found);
        let entries = claim.map(|claim| claim.entries.iter().map(ToString::to_string).collect());
        (entries.unwrap_or_default(), found.into_iter().map(|(_, flaw)| flaw.kind).collect())
    }

    #[test]
    fn empty_entries_are_skipped_and_duplicates_warned_of() {
        for (value, want, kinds) in [
            (";;a;; b ;", vec!["http://a", "http://b"], vec![]),
            (
                "a;http://A;ws://a;a/",
                vec!["http://a", "ws://a"],
                vec!["label-duplicate-entry", "label-duplicate-entry"],
            ),
            ("", vec![], vec!["label-no-entry"]),
            (" ; ", vec![], vec!["label-no-entry"]),
            ("a;b_c;d", vec!["http://a", "http://d"], vec!["label-underscore"]),
        ] {
            let (entries, found) = read(value);
            assert_eq!(entries, want, "{value}");
            assert_eq!(found, kinds, "{value}");
        }
    }

    #[test]
    fn a_port_must_be_a_plain_number() {
        for (port, advice) in [
            ("0", "port_8080"),
            ("", "port_8080"),
            ("http", "port_8080"),
            ("65536", "port_8080"),
            ("80/tcp", "`aliyun.routing.port_80`"),
            ("080", "`aliyun.routing.port_80`"),
        ] {
            let flaw = container_port("aliyun.routing.port_", port).expect_err(port);
            assert_eq!(flaw.kind, "label-bad-port");
            assert!(flaw.remedy.contains(advice), "{port}: {}", flaw.remedy);
        }
        assert_eq!(container_port("", "65535"), Ok(65535));
    }

    #[test]
    fn entries_beyond_the_limit_are_left_out_and_said() {
        let value: String = (0..300).map(|i| format!("h{i};")).collect();
        let (entries, kinds) = read(&value);
        assert_eq!((entries.len(), kinds), (ENTRIES_MAX, vec!["label-too-many-entries"]));
    }

    proptest! {
        #[test]
        fn a_bad_entry_never_removes_a_good_one(bad in vec("\\PC{0,20}", 0..6), at in 0usize..6) {
            let bad: Vec<String> = bad.into_iter().map(|text| text.replace(';', "")).collect();
            let (before, after) = bad.split_at(at.min(bad.len()));
            let value = [before, &["good.company.com/x".to_owned()], after].concat().join(";");
            let (entries, _) = read(&value);
            prop_assert!(entries.contains(&"http://good.company.com/x".to_owned()), "{}", value);
        }
    }
}
