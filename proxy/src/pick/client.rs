//! What a request tells about its client: the key that binds it to a version or an instance, and whether a rule of
//! `fairway.match` fits it.

use std::net::IpAddr;

use fairway_config::labels::{ClientKey, MatchRule};

use super::stable_hash;
use crate::request::RequestView;

/// The hash of what tells this client from others; `None` when the request does not have it. What is empty tells nobody
/// from anybody: all who are not logged in, perhaps, who would be one client.
pub(crate) fn hash(key: &ClientKey, request: &RequestView<'_>) -> Option<u64> {
    match key {
        ClientKey::Ip => Some(match request.client.to_canonical() {
            IpAddr::V4(address) => stable_hash::of(&address.octets()),
            IpAddr::V6(address) => stable_hash::of(&address.octets()),
        }),
        ClientKey::Header(name) => told(request.fields.get(name)),
        ClientKey::Cookie(name) => told(request.cookie(name)),
    }
}

fn told(value: Option<&[u8]>) -> Option<u64> {
    value.filter(|value| !value.is_empty()).map(stable_hash::of)
}

/// Whether the rule fits the request. Values are compared octet by octet; a field or cookie that is sent several times
/// counts with its first value.
pub(crate) fn matches(rule: &MatchRule, request: &RequestView<'_>) -> bool {
    match rule {
        MatchRule::Header(name, value) => request.fields.get(name) == Some(value.as_bytes()),
        MatchRule::Cookie(name, value) => request.cookie(name) == Some(value.as_bytes()),
        MatchRule::Query(name, value) => request.query_value(name) == Some(&**value),
        MatchRule::Client(net) => net.contains(&request.client.to_canonical()),
    }
}

/// The key as labels say it; the address is `ip` for an instance and `client-ip` for a version.
pub(crate) fn show_key(key: &ClientKey, address: &str) -> String {
    match key {
        ClientKey::Ip => address.to_owned(),
        ClientKey::Header(name) => format!("header:{name}"),
        ClientKey::Cookie(name) => format!("cookie:{name}"),
    }
}

/// What the rule looks at, without the value that it looks for: whoever knows that may get the version.
pub(crate) fn show_rule_key(rule: &MatchRule) -> String {
    match rule {
        MatchRule::Header(name, _) => format!("header:{name}"),
        MatchRule::Cookie(name, _) => format!("cookie:{name}"),
        MatchRule::Query(name, _) => format!("query:{name}"),
        MatchRule::Client(_) => "client".to_owned(),
    }
}

/// The rule as its label says it.
pub(crate) fn show_rule(rule: &MatchRule) -> String {
    match rule {
        MatchRule::Header(name, value) => format!("header:{name}={value}"),
        MatchRule::Cookie(name, value) => format!("cookie:{name}={value}"),
        MatchRule::Query(name, value) => format!("query:{name}={value}"),
        MatchRule::Client(net) => format!("client:{net}"),
    }
}
