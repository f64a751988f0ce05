//! Which resolvers other names are forwarded to: those of the configuration, else the machine's; never ourselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fairway_catalog::Problem;
use fairway_catalog::config::labels::Severity;

/// Where the machine names its resolvers.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Which resolvers to ask, and what is wrong with them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upstreams {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) problems: Vec<Problem>,
}

impl Upstreams {
    /// No upstream has answered of late.
    pub(crate) fn unanswered(&self) -> Problem {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        let text = format!("no answer comes from {}: other names get SERVFAIL", servers.join(", "));
        let remedy = "see whether these resolvers can be reached from here, or set `dns.upstreams` to others";
        Problem::new("dns-upstream-silent", Severity::Error, "dns", text, remedy)
            .at("dns.upstreams", servers.join(","))
    }
}

/// Pure. `resolv_conf`: the file's text, used when nothing is configured. `own`: where we answer; `local`: this
/// machine's addresses, for an `own` that is bound to all.
pub(crate) fn choose(
    configured: &[SocketAddr],
    resolv_conf: &str,
    own: &[SocketAddr],
    local: &[IpAddr],
) -> Upstreams {
    let (key, mut servers) = match configured {
        [] => (RESOLV_CONF, name_servers(resolv_conf)),
        listed => ("dns.upstreams", listed.to_vec()),
    };
    let mut problems = Vec::new();
    servers.retain(|server| {
        let loops = leads_to_us(*server, own, local);
        if loops {
            problems.push(loop_problem(key, *server));
        }
        !loops
    });
    if servers.is_empty() {
        let text = "there is no resolver to forward other names to; they get SERVFAIL";
        let remedy = "set `dns.upstreams` to the addresses of your resolvers";
        problems.push(Problem::new("dns-no-upstream", Severity::Error, "dns", text, remedy).at(key, ""));
    }
    Upstreams { servers, problems }
}

fn loop_problem(key: &str, server: SocketAddr) -> Problem {
    let text =
        format!("the resolver {server} is this name server itself: questions would go round; it is left out");
    let remedy = "set `dns.upstreams` to the addresses of your resolvers";
    Problem::new("dns-upstream-loop", Severity::Warning, "dns", text, remedy).at(key, server.to_string())
}

fn leads_to_us(server: SocketAddr, own: &[SocketAddr], local: &[IpAddr]) -> bool {
    let ip = server.ip().to_canonical();
    let is_ours = |listener: &SocketAddr| {
        listener.port() == server.port()
            && (listener.ip().to_canonical() == ip
                || (listener.ip().is_unspecified() && (ip.is_loopback() || local.contains(&ip))))
    };
    own.iter().any(is_ours)
}

/// The `nameserver` lines of a resolv.conf; an unspecified address there means this machine.
fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A scope (`fe80::1%eth0`) names an interface; the resolver cannot be told, so such a server is left out.
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        let ip = match ip {
            IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let server = SocketAddr::new(ip, 53);
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn chosen(configured: &[&str], resolv_conf: &str, own: &[&str]) -> (Vec<String>, Vec<&'static str>) {
        let parse = |list: &[&str]| list.iter().map(|text| address(text)).collect::<Vec<_>>();
        let local = ["192.0.2.1".parse().expect("an address")];
        let chosen = choose(&parse(configured), resolv_conf, &parse(own), &local);
        let servers = chosen.servers.iter().map(ToString::to_string).collect();
        (servers, chosen.problems.iter().map(|problem| problem.kind).collect())
    }

    #[test]
    fn configured_resolvers_replace_those_of_the_machine() {
        let conf = "# a comment\nsearch x.com\nnameserver 10.0.0.2\nnameserver\t10.0.0.3 \nnameserver 10.0.0.2\noptions x";
        assert_eq!(chosen(&[], conf, &[]).0, ["10.0.0.2:53", "10.0.0.3:53"]);
        assert_eq!(chosen(&["10.9.9.9:5353"], conf, &[]).0, ["10.9.9.9:5353"]);
    }

    #[test]
    fn a_resolver_that_is_ourselves_is_left_out_and_told() {
        for (own, conf, servers) in [
            ("127.0.0.1:53", "nameserver 127.0.0.1\nnameserver 10.0.0.2", vec!["10.0.0.2:53"]),
            ("0.0.0.0:53", "nameserver 192.0.2.1\nnameserver 10.0.0.2", vec!["10.0.0.2:53"]),
            ("0.0.0.0:53", "nameserver 127.0.0.53\nnameserver 10.0.0.2", vec!["10.0.0.2:53"]),
            ("127.0.0.1:53", "nameserver 0.0.0.0\nnameserver 10.0.0.2", vec!["10.0.0.2:53"]),
        ] {
            assert_eq!(
                chosen(&[], conf, &[own]),
                (servers.iter().map(|s| s.to_string()).collect(), vec!["dns-upstream-loop"]),
                "{conf}"
            );
        }
        assert_eq!(chosen(&[], "nameserver 127.0.0.53", &["127.0.0.1:53"]).1, Vec::<&str>::new());
        assert_eq!(chosen(&[], "nameserver 127.0.0.1", &["127.0.0.1:5300"]).1, Vec::<&str>::new());
    }

    #[test]
    fn without_any_resolver_there_is_a_problem() {
        for conf in ["", "search x", "nameserver fe80::1%eth0", "nameserver", "\0\u{fffd}"] {
            assert_eq!(chosen(&[], conf, &[]), (vec![], vec!["dns-no-upstream"]), "{conf:?}");
        }
        assert_eq!(
            chosen(&["127.0.0.1:53"], "", &["127.0.0.1:53"]).1,
            ["dns-upstream-loop", "dns-no-upstream"]
        );
    }
}
