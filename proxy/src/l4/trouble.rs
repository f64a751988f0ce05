//! What is wrong with front ports, for those who run them.
//!
//! Not here: how it is shown (the program makes problems of it).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use fairway_config::names::FrontPort;

use crate::endpoint::Endpoint;
use crate::listener::BindError;

/// Why a front port, or an instance of it, does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontTrouble {
    /// The kind of problem: `balancer-port-failed`, `own-listener`.
    pub kind: &'static str,
    /// The front port.
    pub front: FrontPort,
    /// What it is about: the front port, or the instance's name.
    pub subject: String,
    /// The address that it is about.
    pub address: SocketAddr,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

impl FrontTrouble {
    /// It cannot be opened.
    pub(super) fn not_open(front: FrontPort, error: &BindError) -> Self {
        let remedy = error.remedy.replace("listen on another port", "choose another front port");
        Self {
            kind: "balancer-port-failed",
            front,
            subject: front.to_string(),
            address: error.address,
            text: format!("cannot listen on {}: {}", error.address, error.text),
            remedy: format!("{remedy}; it is tried again and again"),
        }
    }

    /// An instance of it is a front port.
    pub(super) fn own(front: FrontPort, endpoint: &Endpoint) -> Self {
        let (name, address) = (endpoint.instance.unit.name.to_string(), endpoint.address);
        let text = format!(
            "{name} of {front} leads to {address}, a front port of Fairway itself: its traffic would go round for ever"
        );
        let remedy = "correct the instance's address or port, or choose another front port".to_owned();
        Self { kind: "own-listener", front, subject: name, address, text, remedy }
    }
}

/// Whether this is an address of this machine: what it sends there comes from there. Sends nothing.
pub(super) fn is_local(ip: IpAddr) -> bool {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        // Any port: a datagram socket says nothing to anybody by being connected.
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    ip.is_loopback() || ip.is_unspecified() || source().is_ok_and(|source| source.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_local_if_the_machine_would_answer_there() {
        let local = |text: &str| is_local(text.parse().expect("an address"));
        assert!(local("127.0.0.1") && local("127.0.0.2") && local("0.0.0.0") && local("::1"));
        assert!(!local("192.0.2.1"));
    }
}
