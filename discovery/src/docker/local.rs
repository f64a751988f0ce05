//! Where we are: the addresses of our network namespace, this machine's address for others, and which container we may
//! be in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// Length of a container id in hex digits.
const ID_DIGITS: usize = 64;

/// Every address of an interface of this network namespace, loopback ones left out.
pub(super) fn addresses() -> BTreeSet<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => {
            interfaces.iter().map(if_addrs::Interface::ip).filter(|ip| !ip.is_loopback()).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "the interfaces of this machine cannot be listed");
            BTreeSet::new()
        }
    }
}

/// This machine's address, at which containers in the host's network are reached, never a loopback one: the source
/// address of the default route; without one the lowest global address, those in `bridges` (gateways of Docker
/// networks, which only containers can route to) last.
pub(super) fn node_address(addresses: &BTreeSet<IpAddr>, bridges: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    default_source().or_else(|| lowest_global(addresses, bridges))
}

/// The source address of the default route. Connecting a UDP socket sends nothing; the targets are addresses for
/// documentation (RFC 5737, RFC 3849), which no more specific route should cover.
fn default_source() -> Option<IpAddr> {
    let towards = |bind: IpAddr, target: IpAddr| {
        let socket = UdpSocket::bind(SocketAddr::new(bind, 0)).ok()?;
        socket.connect(SocketAddr::new(target, 9)).ok()?;
        socket.local_addr().ok().map(|addr| addr.ip()).filter(is_usable)
    };
    let v4 = || towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = || towards(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    v4().or_else(v6)
}

fn lowest_global(addresses: &BTreeSet<IpAddr>, bridges: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let usable = || addresses.iter().copied().filter(is_usable);
    usable().find(|ip| !bridges.contains(ip)).or_else(|| usable().next())
}

fn is_usable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_unspecified() && !link_local
}

/// Ids (or the first digits of one) of the container that this process may run in, the most telling first. Whether it
/// really is one of an engine is for that engine to say.
pub(super) fn own_container_candidates() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    candidates(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"), &read("/proc/sys/kernel/hostname"))
}

fn candidates(mountinfo: &str, cgroup: &str, hostname: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |id: &str| {
        if !found.iter().any(|known| known == id) {
            found.push(id.to_owned());
        }
    };
    // Docker mounts /etc/hostname and the like from a folder named after the container.
    mountinfo.lines().filter_map(|line| id_after(line, "/containers/")).for_each(&mut add);
    // cgroup v1 shows `/docker/ID`, systemd's driver `docker-ID.scope`; v2 with a namespace of its own nothing.
    cgroup
        .lines()
        .filter_map(|line| id_after(line, "/docker/").or_else(|| id_after(line, "docker-")))
        .for_each(&mut add);
    let hostname = hostname.trim();
    if hostname.len() == 12 && hostname.bytes().all(|b| b.is_ascii_hexdigit()) {
        add(hostname);
    }
    found.truncate(4);
    found
}

fn id_after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(mark)?;
    let id = rest.get(..ID_DIGITS)?;
    let ends = !rest[ID_DIGITS..].starts_with(|c: char| c.is_ascii_alphanumeric());
    (ends && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    #[test]
    fn without_a_default_route_the_lowest_global_address_that_is_no_bridge_is_the_nodes() {
        let bridges = ips(&["172.17.0.1"]);
        for (addresses, want) in [
            (&["172.17.0.1", "192.168.1.5", "203.0.113.7"][..], Some("192.168.1.5")),
            (&["172.17.0.1", "169.254.3.4"], Some("172.17.0.1")),
            (&["fe80::1", "2001:db8::7"], Some("2001:db8::7")),
            (&["127.0.0.1", "169.254.3.4"], None),
        ] {
            let want = want.map(|ip| ip.parse().expect("an address"));
            assert_eq!(lowest_global(&ips(addresses), &bridges), want, "{addresses:?}");
        }
    }

    #[test]
    fn the_own_container_is_told_by_mounts_then_cgroup_then_host_name() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let mounts = format!(
            "639 620 8:1 /var/lib/docker/containers/{a}/resolv.conf /etc/resolv.conf rw - ext4 /dev/sda1 rw\n\
             640 620 8:1 /var/lib/docker/containers/{a}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n\
             641 620 0:50 / /proc rw - proc proc rw\n"
        );
        let cgroup = format!("4:memory:/docker/{b}\n1:name=systemd:/system.slice/docker-{b}.scope\n0::/\n");
        assert_eq!(candidates(&mounts, "", "my-host\n"), [a.as_str()]);
        assert_eq!(candidates("", &cgroup, "0123456789ab\n"), [b.as_str(), "0123456789ab"]);
        assert_eq!(candidates(&mounts, &cgroup, ""), [a.as_str(), b.as_str()]);
    }

    #[test]
    fn a_machine_that_is_no_container_names_none() {
        let mounts =
            "22 27 0:21 / /proc rw - proc proc rw\n30 22 8:1 /var/lib/docker/containers/short/x / rw\n";
        for hostname in ["server", "0123456789abc", "é", ""] {
            assert!(candidates(mounts, "0::/init.scope\n1:a:/docker/é\n", hostname).is_empty(), "{hostname}");
        }
        let too_long = format!("/docker/{}", "a".repeat(65));
        assert!(candidates("", &too_long, "").is_empty());
    }
}
