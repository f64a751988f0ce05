//! Docker's networks as the catalog knows them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairway_catalog::facts::Network;
use ipnet::IpNet;

use super::raw;

/// A network of an engine. `local` holds the addresses of this machine, empty when the engine is another machine's: two
/// machines may well use the same bridge addresses.
///
/// `None` without an id. What cannot be read as a subnet or gateway is left out.
pub(super) fn read(network: raw::Network, local: &BTreeSet<IpAddr>) -> Option<Network> {
    let id: Arc<str> = network.id.filter(|id| !id.is_empty())?.into();
    let driver: Arc<str> = network.driver.unwrap_or_default().into();
    let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let text = |config: &raw::IpamConfig| (config.subnet.clone(), config.gateway.clone());
    let (subnets, gateways): (Vec<_>, Vec<_>) = configs.iter().map(text).unzip();
    let subnets: Vec<IpNet> = subnets
        .into_iter()
        .flatten()
        .filter_map(|subnet| subnet.parse().ok().map(|net: IpNet| net.trunc()))
        .collect();
    let mut gateways: Vec<IpAddr> =
        gateways.into_iter().flatten().filter_map(|gateway| address(&gateway)).collect();
    if gateways.is_empty() && &*driver == "bridge" {
        // The default bridge of some engines tells no gateway: it is our own address in its subnet.
        gateways.extend(local.iter().filter(|ip| subnets.iter().any(|subnet| subnet.contains(*ip))));
    }
    Some(Network {
        id,
        name: network.name.unwrap_or_default().into(),
        gateway_is_local: gateways.iter().any(|gateway| local.contains(gateway)),
        driver,
        ingress: network.ingress.unwrap_or_default(),
        subnets,
        gateways,
    })
}

/// An address, with or without a prefix length behind it; `None` for one that no instance can have.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.split_once('/').map_or(text, |(ip, _)| ip).parse().ok()?;
    let unusable = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
    (!unusable).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> BTreeSet<IpAddr> {
        ["172.17.0.1", "10.0.0.5", "fd00::1"].iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    fn parse(json: serde_json::Value) -> Option<Network> {
        read(serde_json::from_value(json).expect("an answer of the API"), &local())
    }

    #[test]
    fn a_bridge_of_this_machine_has_a_local_gateway() {
        let network = parse(serde_json::json!({
            "Name": "bridge", "Id": "n1", "Driver": "bridge", "Ingress": false,
            "IPAM": { "Config": [{ "Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1" }, { "Subnet": "fd00::/64", "Gateway": "fd00::1/64" }] },
        }))
        .expect("a network");
        assert!(network.gateway_is_local);
        assert_eq!(network.subnets.len(), 2);
        assert_eq!(
            network.gateways,
            ["172.17.0.1".parse::<IpAddr>().expect("v4"), "fd00::1".parse().expect("v6")]
        );
    }

    #[test]
    fn a_bridge_that_tells_no_gateway_has_our_address_in_its_subnet() {
        let network = parse(serde_json::json!({
            "Name": "bridge", "Id": "n1", "Driver": "bridge", "IPAM": { "Config": [{ "Subnet": "172.17.0.0/16" }] },
        }));
        assert!(network.is_some_and(|network| network.gateway_is_local));
        let overlay = parse(serde_json::json!({
            "Name": "far", "Id": "n1", "Driver": "overlay", "IPAM": { "Config": [{ "Subnet": "10.0.0.0/24" }] },
        }));
        assert!(overlay.is_some_and(|network| !network.gateway_is_local && network.gateways.is_empty()));
    }

    #[test]
    fn the_bridge_of_another_machine_is_not_local_though_it_has_the_same_address() {
        let bridge: raw::Network = serde_json::from_value(serde_json::json!({
            "Name": "bridge", "Id": "n1", "Driver": "bridge",
            "IPAM": { "Config": [{ "Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1" }] },
        }))
        .expect("an answer of the API");
        assert!(read(bridge, &BTreeSet::new()).is_some_and(|network| !network.gateway_is_local));
    }

    #[test]
    fn what_is_missing_or_wrong_is_left_out() {
        assert_eq!(parse(serde_json::json!({ "Name": "x" })), None);
        let network = parse(serde_json::json!({
            "Name": "none", "Id": "n0", "Driver": "null",
            "IPAM": { "Config": [{ "Subnet": "not a subnet", "Gateway": "0.0.0.0" }, {}] },
        }))
        .expect("a network");
        assert!(network.subnets.is_empty() && network.gateways.is_empty() && !network.gateway_is_local);
    }
}
