//! `fairway.allow`: the addresses of clients that are served.

use std::sync::Arc;

use ipnet::IpNet;

use super::super::clients::network;
use super::super::flaw::Flaw;

/// Most networks in one list.
const NETWORKS_MAX: usize = 1000;

/// The good networks of a list; the others are added to `found`. Without a good one nobody is served.
pub(super) fn list<'a>(value: &'a str, found: &mut Vec<(&'a str, Flaw)>) -> Arc<[IpNet]> {
    let mut networks = Vec::new();
    let mut written = value.split([',', ';', ' ', '\n', '\t']).map(str::trim).filter(|text| !text.is_empty());
    for text in written.by_ref().take(NETWORKS_MAX) {
        match network(text) {
            Ok(network) if networks.contains(&network) => {}
            Ok(network) => networks.push(network),
            Err(flaw) => found.push((text, flaw)),
        }
    }
    if let Some(text) = written.next() {
        let what =
            format!("there are more than {NETWORKS_MAX} networks; the clients of the rest are refused");
        found.push((text, Flaw::refused("label-allow", what, "write larger networks")));
    }
    if networks.is_empty() {
        let what = "there is no network in it that can be used, so that every client is refused";
        let remedy = "write networks or addresses: `10.0.0.0/8, 192.0.2.7`";
        found.push((value, Flaw::refused("label-allow", what, remedy)));
    }
    networks.into()
}
