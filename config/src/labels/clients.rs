//! Which clients: `fairway.balance`, `fairway.split_by` and `fairway.match` name parts of a request in one way.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::flaw::{Flaw, shown};
use super::known_keys::nearest_of;
use super::{Balance, ClientKey, MatchRule, SplitBy, scalar};

/// Most rules in one `fairway.match`.
const RULES_MAX: usize = 64;
/// Longest value of a rule, in octets.
const VALUE_BYTES_MAX: usize = 1024;

/// `fairway.balance`
pub(super) fn balance(value: &str) -> Result<Balance, Flaw> {
    match value {
        "p2c-ewma" => return Ok(Balance::P2cEwma),
        "round-robin" => return Ok(Balance::RoundRobin),
        "least-request" => return Ok(Balance::LeastRequest),
        "random" => return Ok(Balance::Random),
        "hash:ip" => return Ok(Balance::Hash(ClientKey::Ip)),
        _ => {}
    }
    if let Some(key) = value.strip_prefix("hash:").and_then(client_key) {
        return Ok(Balance::Hash(key));
    }
    let words = [
        "p2c-ewma",
        "round-robin",
        "least-request",
        "random",
        "hash:ip",
        "hash:header:NAME",
        "hash:cookie:NAME",
    ];
    Err(one_of("label-balance", "way to balance", value, &words))
}

/// `fairway.split_by`
pub(super) fn split_by(value: &str) -> Result<SplitBy, Flaw> {
    match value {
        "request" => return Ok(SplitBy::Request),
        "client-ip" => return Ok(SplitBy::Client(ClientKey::Ip)),
        _ => {}
    }
    client_key(value).map(SplitBy::Client).ok_or_else(|| {
        one_of(
            "label-split-by",
            "way to draw the version",
            value,
            &["request", "client-ip", "header:NAME", "cookie:NAME"],
        )
    })
}

/// `header:NAME`, the name in lower case, or `cookie:NAME`.
fn client_key(text: &str) -> Option<ClientKey> {
    match text.split_once(':')? {
        ("header", name) if scalar::is_token(name) => {
            Some(ClientKey::Header(name.to_ascii_lowercase().into()))
        }
        ("cookie", name) if scalar::is_token(name) => Some(ClientKey::Cookie(name.into())),
        _ => None,
    }
}

/// A word that is none of `words`.
pub(super) fn one_of(kind: &'static str, what: &str, value: &str, words: &[&str]) -> Flaw {
    let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let lower: String = value.chars().take(64).collect::<String>().to_ascii_lowercase();
    let meant = nearest_of(&lower, words).map(|word| format!("did you mean `{word}`? "));
    let remedy = format!("{}write one of {listed}", meant.unwrap_or_default());
    Flaw::refused(kind, format!("`{}` is no {what}", shown(value)), remedy)
}

/// `fairway.match`: the good rules; the others are added to `found`, each with its text.
pub(super) fn rules<'a>(value: &'a str, found: &mut Vec<(&'a str, Flaw)>) -> Vec<MatchRule> {
    let mut good = Vec::new();
    let mut written = value.split(';').map(str::trim).filter(|text| !text.is_empty()).peekable();
    if written.peek().is_none() {
        let remedy = "write a rule, such as `header:x-group=beta`, or leave it out";
        found.push((value, Flaw::refused("label-match", "there is no rule", remedy)));
    }
    for text in written.by_ref().take(RULES_MAX) {
        match rule(text) {
            Ok(rule) => good.push(rule),
            Err(flaw) => found.push((text, flaw)),
        }
    }
    if let Some(text) = written.next() {
        let what = format!("there are more than {RULES_MAX} rules; the rest is left out");
        found.push((text, Flaw::refused("label-match", what, "use fewer rules")));
    }
    good
}

fn rule(text: &str) -> Result<MatchRule, Flaw> {
    let wrong = || {
        let what = format!("`{}` is no rule", shown(text));
        let remedy = "write `header:NAME=VALUE`, `cookie:NAME=VALUE`, `query:NAME=VALUE` or `client:CIDR`";
        Flaw::refused("label-match", what, remedy)
    };
    let (part, rest) = text.split_once(':').ok_or_else(wrong)?;
    if part == "client" {
        return network(rest).map(MatchRule::Client);
    }
    let (name, value) = rest.split_once('=').ok_or_else(wrong)?;
    let (name, value) = (name.trim(), value.trim());
    let is_text = value.len() <= VALUE_BYTES_MAX && !value.chars().any(char::is_control);
    if !scalar::is_token(name) || !is_text {
        return Err(wrong());
    }
    match part {
        "header" => Ok(MatchRule::Header(name.to_ascii_lowercase().into(), value.into())),
        "cookie" => Ok(MatchRule::Cookie(name.into(), value.into())),
        "query" => Ok(MatchRule::Query(Arc::from(name), value.into())),
        _ => Err(wrong()),
    }
}

/// A network, `10.1.0.0/16`, or one address. Bits beyond the prefix are cleared.
pub(crate) fn network(text: &str) -> Result<IpNet, Flaw> {
    let text = text.trim();
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map(|network| network.trunc()).map_err(|_| {
        let what = format!("`{}` is no network", shown(text));
        Flaw::refused(
            "label-network-range",
            what,
            "write a CIDR, `10.1.0.0/16` or `fd00::/8`, or one address",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_balance_and_to_split_is_read() {
        for (value, want) in [
            ("p2c-ewma", Balance::P2cEwma),
            ("round-robin", Balance::RoundRobin),
            ("least-request", Balance::LeastRequest),
            ("random", Balance::Random),
            ("hash:ip", Balance::Hash(ClientKey::Ip)),
            ("hash:header:X-User", Balance::Hash(ClientKey::Header("x-user".into()))),
            ("hash:cookie:Sid", Balance::Hash(ClientKey::Cookie("Sid".into()))),
        ] {
            assert_eq!(balance(value), Ok(want), "{value}");
        }
        for (value, want) in [
            ("request", SplitBy::Request),
            ("client-ip", SplitBy::Client(ClientKey::Ip)),
            ("header:X-User", SplitBy::Client(ClientKey::Header("x-user".into()))),
            ("cookie:Sid", SplitBy::Client(ClientKey::Cookie("Sid".into()))),
        ] {
            assert_eq!(split_by(value), Ok(want), "{value}");
        }
    }

    #[test]
    fn a_wrong_word_gets_the_list_and_the_nearest() {
        for value in ["round_robin", "Round-Robin", "roundrobin"] {
            assert!(
                balance(value).expect_err(value).remedy.starts_with("did you mean `round-robin`?"),
                "{value}"
            );
        }
        for value in ["", "hash", "hash:header:", "hash:header:a b", "hash:query:x"] {
            assert_eq!(balance(value).expect_err(value).kind, "label-balance", "{value}");
        }
        for value in ["", "ip", "header:", "cookie:a;b"] {
            assert_eq!(split_by(value).expect_err(value).kind, "label-split-by", "{value}");
        }
    }

    #[test]
    fn good_rules_stay_when_others_are_wrong() {
        let mut found = Vec::new();
        let value = "header:X-Group=beta; cookie:beta=1;; query:preview = 1; client:10.1.2.3/16; client:::1; \
                     header:a b=c; client:10.0.0.0/33; x:y=z; query:q; cookie:c=";
        let rules = rules(value, &mut found);
        assert_eq!(
            rules,
            [
                MatchRule::Header("x-group".into(), "beta".into()),
                MatchRule::Cookie("beta".into(), "1".into()),
                MatchRule::Query("preview".into(), "1".into()),
                MatchRule::Client("10.1.0.0/16".parse().expect("a network")),
                MatchRule::client(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
                MatchRule::Cookie("c".into(), "".into()),
            ]
        );
        let texts: Vec<_> = found.iter().map(|(text, flaw)| (*text, flaw.kind)).collect();
        assert_eq!(
            texts,
            [
                ("header:a b=c", "label-match"),
                ("client:10.0.0.0/33", "label-network-range"),
                ("x:y=z", "label-match"),
                ("query:q", "label-match"),
            ]
        );
    }
}
