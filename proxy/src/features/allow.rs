//! Which clients are served (`fairway.allow`).

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of clients. An empty list has nobody in it.
#[derive(Debug)]
pub(crate) struct AllowList(Box<[IpNet]>);

impl AllowList {
    /// Of these networks; those within others of them are left out.
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(IpNet::aggregate(&networks.to_vec()).into())
    }

    /// Whether this client, by its effective address, is served.
    pub(crate) fn contains(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.0.iter().any(|network| network.contains(&client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_of_the_list_are_served() {
        let nets: Vec<IpNet> = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "fd00::/8"]
            .map(|net| net.parse().expect(net))
            .into();
        let list = AllowList::new(&nets);
        for (client, want) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.0.0.1", true),
            ("fd12::1", true),
            ("::1", false),
        ] {
            assert_eq!(list.contains(client.parse().expect(client)), want, "{client}");
        }
        assert!(!AllowList::new(&[]).contains("127.0.0.1".parse().expect("an address")));
    }
}
