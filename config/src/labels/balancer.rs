//! `aliyun.lb.port_N: tcp|udp|http|https://name:front_port`: a listener of its own for one container port.

use super::flaw::{Flaw, shown};
use super::{BalancerClaim, BalancerProtocol, routing, scalar};

/// Reads the whole label.
pub(super) fn parse(port: &str, value: &str) -> Result<BalancerClaim, Flaw> {
    parse_balancer(routing::container_port("aliyun.lb.port_", port)?, value)
}

/// Reads `tcp|udp|http|https://name:front_port`, of this container port.
pub fn parse_balancer(port: u16, value: &str) -> Result<BalancerClaim, Flaw> {
    let form = "write `tcp://NAME:FRONT_PORT`, or `udp`, `http`, `https` in place of `tcp`";
    let refused =
        |kind, what: &str, remedy: &str| Flaw::refused(kind, format!("`{}` {what}", shown(value)), remedy);
    let (scheme, rest) =
        value.split_once("://").ok_or_else(|| refused("label-lb-form", "has no scheme", form))?;
    let protocol = BalancerProtocol::of_scheme(&scheme.to_ascii_lowercase())
        .ok_or_else(|| refused("label-lb-scheme", "has another scheme", form))?;
    if rest.contains([';', ',']) {
        return Err(refused("label-lb-form", "is a list", "write one listener for each container port"));
    }
    let (name, front) =
        rest.rsplit_once(':').ok_or_else(|| refused("label-lb-form", "has no front port", form))?;
    let front_port = scalar::port(front).ok_or_else(|| {
        refused(
            "label-lb-front-port",
            "has no front port",
            "write a number from 1 to 65535 after the last `:`",
        )
    })?;
    Ok(BalancerClaim { port, protocol, name: scalar::name(name)?, front_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_protocol_name_and_front_port() {
        let want = BalancerClaim {
            port: 3306,
            protocol: BalancerProtocol::Tcp,
            name: "db".into(),
            front_port: 13306,
        };
        assert_eq!(parse("3306", "TCP://db:13306"), Ok(want));
    }

    #[test]
    fn each_refusal_has_a_kind() {
        for (port, value, kind) in [
            ("0", "tcp://db:1", "label-bad-port"),
            ("1", "db:1", "label-lb-form"),
            ("1", "ftp://db:1", "label-lb-scheme"),
            ("1", "tcp://db", "label-lb-form"),
            ("1", "tcp://db:0", "label-lb-front-port"),
            ("1", "tcp://db:x", "label-lb-front-port"),
            ("1", "tcp://a:1;tcp://b:2", "label-lb-form"),
            ("1", "tcp://:1", "label-not-a-name"),
            ("1", "tcp://$NAME:1", "label-not-a-name"),
        ] {
            assert_eq!(parse(port, value).expect_err(value).kind, kind, "{value}");
        }
    }
}
