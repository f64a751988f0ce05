//! Fields that are set, added and removed (`fairway.headers.request`, `.response`).

use std::net::IpAddr;

use fairway_config::labels::features::{HeaderAction, HeaderEdit, ValuePart};

use crate::forward::address_text::AddressText;

/// The edits of one direction.
#[derive(Debug)]
pub(crate) struct Edits {
    /// Names of fields that do not go on as they came.
    drops: Box<[Box<[u8]>]>,
    lines: Box<[Line]>,
}

#[derive(Debug)]
struct Line {
    /// With `: ` behind it.
    name: Box<str>,
    value: Box<[ValuePart]>,
}

/// What variables stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    /// The host asked for.
    pub host: &'a str,
    /// The effective address of the client.
    pub client: IpAddr,
    /// The id of the request.
    pub id: &'a str,
    /// The client uses TLS.
    pub secure: bool,
}

impl Edits {
    /// Of these edits, and of a field that is dropped besides; `None` when nothing is edited.
    pub(crate) fn new(edits: Option<&[HeaderEdit]>, also: Option<&str>) -> Option<Self> {
        let edits = edits.unwrap_or_default();
        let dropped = edits.iter().filter(|edit| edit.action != HeaderAction::Add).map(|edit| &*edit.name);
        let drops: Box<[_]> = dropped.chain(also).map(|name| name.as_bytes().into()).collect();
        let written = edits.iter().filter(|edit| edit.action != HeaderAction::Remove);
        let lines: Box<[_]> = written
            .map(|edit| Line { name: format!("{}: ", edit.name).into(), value: edit.value.as_ref().into() })
            .collect();
        (!drops.is_empty() || !lines.is_empty()).then_some(Self { drops, lines })
    }

    /// Whether a field of this name does not go on as it came.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.drops.iter().any(|drop| drop.eq_ignore_ascii_case(name))
    }

    /// Whether a field of this name is written.
    pub(crate) fn adds(&self, name: &[u8]) -> bool {
        self.lines.iter().any(|line| line.name.as_bytes()[..line.name.len() - 2].eq_ignore_ascii_case(name))
    }

    /// Appends the fields that are set or added.
    pub(crate) fn write(&self, out: &mut Vec<u8>, words: &Words<'_>) {
        for line in &self.lines {
            out.extend_from_slice(line.name.as_bytes());
            for part in &line.value {
                match part {
                    ValuePart::Text(text) => out.extend_from_slice(text.as_bytes()),
                    ValuePart::Host => out.extend_from_slice(words.host.as_bytes()),
                    ValuePart::ClientIp => out.extend_from_slice(AddressText::new(words.client).as_bytes()),
                    ValuePart::RequestId => out.extend_from_slice(words.id.as_bytes()),
                    ValuePart::Scheme => {
                        out.extend_from_slice(if words.secure { b"https" } else { b"http" });
                    }
                }
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use fairway_config::labels;

    use super::*;
    use crate::h1::Known;

    const WORDS: Words<'_> =
        Words { host: "shop.a", client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), id: "id-1", secure: true };

    fn edits(value: &str) -> Edits {
        let parsed = labels::parse([("fairway.headers.request", value)]);
        assert_eq!(parsed.problems, []);
        Edits::new(parsed.spec.features.request_headers.as_deref(), None).expect("edits")
    }

    #[test]
    fn what_is_set_or_removed_is_dropped_and_what_is_added_stays() {
        let edits = edits("set X-A: 1; add X-B: {host} {client_ip} {request_id} {scheme}; remove X-C");
        for (name, drops, adds) in
            [("x-a", true, true), ("X-B", false, true), ("X-C", true, false), ("X-AA", false, false)]
        {
            assert_eq!((edits.drops(name.as_bytes()), edits.adds(name.as_bytes())), (drops, adds), "{name}");
        }
        let mut out = Vec::new();
        edits.write(&mut out, &WORDS);
        assert_eq!(String::from_utf8(out).expect("text"), "X-A: 1\r\nX-B: shop.a 127.0.0.1 id-1 https\r\n");
        assert!(Edits::new(None, None).is_none());
        assert!(Edits::new(None, Some("authorization")).expect("one").drops(b"Authorization"));
    }

    #[test]
    fn no_label_edits_what_frames_a_request_or_says_where_it_came_from() {
        let own = |known: &&Known| known.is_hop_by_hop() || known.is_forwarding() || **known == Known::Host;
        for known in Known::ALL.iter().filter(own) {
            let value = format!("set {}: x", known.name());
            let parsed = labels::parse([("fairway.headers.request", &*value)]);
            assert_eq!(parsed.spec.features.request_headers, None, "{value}");
        }
        for known in Known::ALL.iter().filter(|known| known.is_hop_by_hop()) {
            let value = format!("remove {}", known.name());
            let parsed = labels::parse([("fairway.headers.response", &*value)]);
            assert_eq!(parsed.spec.features.response_headers, None, "{value}");
        }
    }
}
