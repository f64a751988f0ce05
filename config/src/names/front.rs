//! Front ports (`aliyun.lb.port_N`) and the routes that they are.

use std::fmt;

use super::{HostPattern, RouteId};
use crate::labels::BalancerProtocol;

/// A port with a listener of its own, and what is spoken there. Printed `tcp://:3306`, the name of its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontPort {
    /// What is spoken.
    pub protocol: BalancerProtocol,
    /// The port, 1 to 65535.
    pub port: u16,
}

impl FrontPort {
    /// The route of everything that comes to it. No request can ask for such a host.
    pub fn route(self) -> RouteId {
        let host = format!("{}:", self.protocol.as_str());
        RouteId { host: HostPattern::Exact(host.into()), path: format!("//:{}", self.port).into() }
    }
}

impl fmt::Display for FrontPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://:{}", self.protocol.as_str(), self.port)
    }
}

impl RouteId {
    /// The front port that it is the route of; `None` for a host and a path.
    pub fn front_port(&self) -> Option<FrontPort> {
        let HostPattern::Exact(host) = &self.host else { return None };
        let protocol = BalancerProtocol::of_scheme(host.strip_suffix(':')?)?;
        let port = self.path.strip_prefix("//:")?.parse().ok()?;
        Some(FrontPort { protocol, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_front_port_is_the_route_that_is_printed_like_it() {
        for text in ["tcp://:3306", "udp://:53", "http://:8081", "https://:8443"] {
            let route: RouteId = text.parse().expect(text);
            let front = route.front_port().expect(text);
            assert_eq!((front.to_string().as_str(), front.route()), (text, route));
        }
        for text in ["shop.test/", "tcp/", "tcp:/x", "tcp://:99999", "ftp://:21", "*.tcp:///:1"] {
            assert_eq!(text.parse::<RouteId>().expect(text).front_port(), None, "{text}");
        }
    }
}
