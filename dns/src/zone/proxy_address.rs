//! Which address of this proxy a client is told for a routed name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Client, ZoneConfig};

/// At most one address of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ProxyAddress {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl ProxyAddress {
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4 == Some(v4),
            IpAddr::V6(v6) => self.v6 == Some(v6),
        }
    }

    fn add(&mut self, address: IpAddr) {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4 = self.v4.or(Some(v4)),
            IpAddr::V6(v6) => self.v6 = self.v6.or(Some(v6)),
        }
    }
}

impl From<IpAddr> for ProxyAddress {
    fn from(address: IpAddr) -> Self {
        let mut one = Self::default();
        one.add(address);
        one
    }
}

/// The first match in `advertise` (of each family), else the address the query arrived on, else the local address of
/// the route to the client; the latter two only where an HTTP listener serves them.
pub(super) fn proxy_address(config: &ZoneConfig, client: &Client<'_>) -> ProxyAddress {
    let mut advertised = ProxyAddress::default();
    let matches = config.advertise.iter().filter(|entry| entry.clients.contains(&client.address));
    matches.for_each(|entry| advertised.add(entry.address));
    if !advertised.is_none() {
        return advertised;
    }
    let served = |address: &IpAddr| serves(config, *address);
    let address = client
        .arrived_on
        .filter(served)
        .or_else(|| (client.route_to)(client.address).map(|a| a.to_canonical()).filter(served));
    address.map_or_else(ProxyAddress::default, ProxyAddress::from)
}

/// Whether an HTTP listener is bound there. One on `[::]` takes IPv4 too.
fn serves(config: &ZoneConfig, address: IpAddr) -> bool {
    let reaches = |listener: IpAddr| match listener {
        IpAddr::V4(any) if any.is_unspecified() => address.is_ipv4(),
        IpAddr::V6(any) if any.is_unspecified() => true,
        specific => specific.to_canonical() == address,
    };
    !address.is_unspecified() && config.http.iter().any(|listener| reaches(listener.ip()))
}
