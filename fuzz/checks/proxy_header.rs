//! PROXY headers.

use std::net::SocketAddr;

use fairway_proxy::workbench::{ProxyHeader, proxy_header};

/// Reading never changes its mind: what is a header, or none, stays so with whatever follows. An address that was read
/// reads the same in a header written anew.
pub fn check(input: &[u8]) {
    let whole = proxy_header(input);
    for end in 0..input.len() {
        match proxy_header(&input[..end]) {
            ProxyHeader::Partial => {}
            settled => return assert_eq!(settled, whole, "it was settled after {end} octets"),
        }
    }
    if matches!(whole, ProxyHeader::Own(_) | ProxyHeader::Client { .. }) && input.starts_with(b"PROXY") {
        assert!(input.ends_with(b"\r\n"), "a line ends with CRLF");
    }
    match whole {
        ProxyHeader::Own(end) => assert_eq!(end, input.len(), "it was Partial before its last octet"),
        ProxyHeader::Client { end, peer, local, .. } => {
            assert_eq!(end, input.len(), "it was Partial before its last octet");
            assert_eq!(peer.is_ipv4(), local.is_ipv4());
            reads_back(peer, local);
        }
        ProxyHeader::Invalid | ProxyHeader::Partial => {}
    }
}

fn reads_back(peer: SocketAddr, local: SocketAddr) {
    let family = if peer.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (peer.ip(), local.ip());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", peer.port(), local.port());
    let want = ProxyHeader::Client { end: line.len(), peer, local, tls: false };
    assert_eq!(proxy_header(line.as_bytes()), want);
}
