//! Who is an internal client (design rule 11): loopback, `routing.internal`, and the subnets of Docker's `bridge` and
//! `overlay` networks.
//!
//! Not here: which address counts as the client's (PROXY header, forwarding headers): that is `proxy`'s.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::facts::Network;

/// Names of networks that Swarm makes and that carry traffic from outside.
const SWARM_NETWORKS: [&str; 2] = ["ingress", "docker_gwbridge"];

/// The addresses of internal clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InternalClients {
    listed: Vec<IpNet>,
    subnets: Vec<IpNet>,
    /// Published ports arrive from a network's gateway address unless we run in the host's network namespace.
    gateways: Vec<IpAddr>,
}

impl InternalClients {
    /// From `routing.internal` and the networks of all engines.
    pub fn new<'a>(listed: &[IpNet], networks: impl IntoIterator<Item = &'a Network>) -> Self {
        let mut clients = Self { listed: listed.to_vec(), ..Self::default() };
        for network in networks {
            let carries_clients = matches!(&*network.driver, "bridge" | "overlay")
                && !network.ingress
                && !SWARM_NETWORKS.contains(&&*network.name);
            if carries_clients {
                clients.subnets.extend(&network.subnets);
            }
            if !network.gateway_is_local {
                clients.gateways.extend(&network.gateways);
            }
        }
        clients
    }

    /// Whether a client at this address is internal. An IPv4 address mapped into IPv6 counts as the IPv4 one.
    pub fn contains(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
        client.is_loopback()
            || within(&self.listed)
            || (within(&self.subnets) && !self.gateways.contains(&client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, driver: &str, subnet: &str, gateway: &str, local: bool) -> Network {
        Network {
            id: name.into(),
            name: name.into(),
            driver: driver.into(),
            ingress: name == "ingress",
            subnets: vec![subnet.parse().expect("a subnet")],
            gateways: vec![gateway.parse().expect("an address")],
            gateway_is_local: local,
        }
    }

    #[test]
    fn clients_of_bridge_and_overlay_networks_are_internal_and_others_are_not() {
        let networks = [
            network("bridge", "bridge", "172.17.0.0/16", "172.17.0.1", true),
            network("far", "overlay", "10.1.0.0/24", "10.1.0.1", false),
            network("ingress", "overlay", "10.2.0.0/24", "10.2.0.1", false),
            network("docker_gwbridge", "bridge", "172.18.0.0/16", "172.18.0.1", true),
            network("lan", "macvlan", "192.168.1.0/24", "192.168.1.1", false),
        ];
        let listed = ["192.0.2.0/24".parse().expect("a subnet")];
        let clients = InternalClients::new(&listed, &networks);
        for (address, internal) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("172.17.0.9", true),
            ("::ffff:172.17.0.9", true),
            ("172.17.0.1", true), // the host itself, seen from the host
            ("10.1.0.7", true),
            ("10.1.0.1", false), // published ports arrive from it
            ("10.2.0.7", false),
            ("172.18.0.7", false),
            ("192.168.1.7", false),
            ("192.0.2.1", true),
            ("198.51.100.1", false),
        ] {
            assert_eq!(clients.contains(address.parse().expect("an address")), internal, "{address}");
        }
    }
}
