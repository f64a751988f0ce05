//! PROXY headers.

use std::net::SocketAddr;

use fairway_proxy::workbench::{ProxyHeader, ProxyProtocol, proxy_header, written_proxy_header};

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
        ProxyHeader::Client { end, peer, local, tls } => {
            assert_eq!(end, input.len(), "it was Partial before its last octet");
            assert_eq!(peer.is_ipv4(), local.is_ipv4());
            reads_back(peer, local, tls);
        }
        ProxyHeader::Invalid | ProxyHeader::Partial => {}
    }
}

/// What instances are told is read as it was said; IPv4 in IPv6 at both ends is told as IPv4.
fn reads_back(peer: SocketAddr, local: SocketAddr, tls: bool) {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (plain_peer, plain_local) = (plain(peer), plain(local));
    let both_plain = plain_peer.is_ipv4() && plain_local.is_ipv4();
    let (want_peer, want_local) = if both_plain { (plain_peer, plain_local) } else { (peer, local) };
    for (version, tls) in [(ProxyProtocol::V1, false), (ProxyProtocol::V2, tls)] {
        let header = written_proxy_header(version, peer, local, tls);
        let want = ProxyHeader::Client { end: header.len(), peer: want_peer, local: want_local, tls };
        assert_eq!(proxy_header(&header), want);
    }
}
