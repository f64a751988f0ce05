//! Whose request it is: the effective client, whether it used TLS, and whether the peer is believed (design rule 11).
//!
//! Not here: the fields that are passed on (see the module above).

use std::net::{IpAddr, SocketAddr};

use fairway_catalog::InternalClients;
use ipnet::IpNet;

use crate::h1::syntax::{list, trim};
use crate::h1::{Known, RequestHead};

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its effective address: the rightmost of the chain that is not a trusted proxy's.
    pub address: IpAddr,
    /// Whether it is internal. A trusted proxy never is by its own address.
    pub internal: bool,
    /// Whether it uses TLS: towards us, or as a trusted proxy says.
    pub secure: bool,
    /// Whether the peer is a trusted proxy.
    pub peer_is_trusted: bool,
}

impl Client {
    /// The client of this request, which came from `peer`, over TLS of our own or not.
    pub(crate) fn of(
        head: &RequestHead,
        peer: IpAddr,
        tls: bool,
        trusted: &[IpNet],
        internal: &InternalClients,
    ) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
        if !is_trusted(&peer) {
            let internal = internal.contains(peer);
            return Self { address: peer, internal, secure: tls, peer_is_trusted: false };
        }
        let (address, is_client) = behind(head, peer, is_trusted);
        Self {
            address,
            internal: is_client && internal.contains(address),
            secure: tls || says_tls(head),
            peer_is_trusted: true,
        }
    }
}

/// The rightmost address that is no trusted proxy's, and true; or the last proxy that is known, and false: what is left of
/// it cannot be read, or there is nothing.
fn behind(head: &RequestHead, peer: IpAddr, is_trusted: impl Fn(&IpAddr) -> bool) -> (IpAddr, bool) {
    let mut last = peer;
    for address in chain(head).iter().rev() {
        let Some(address) = *address else { return (last, false) };
        if !is_trusted(&address) {
            return (address, true);
        }
        last = address;
    }
    (last, false)
}

/// The addresses that the proxies in front say, client first; `None` for one that cannot be read. `X-Forwarded-For`
/// counts, without it `Forwarded`.
fn chain(head: &RequestHead) -> Vec<Option<IpAddr>> {
    let mut addresses: Vec<_> = head.values(Known::XForwardedFor).flat_map(list).map(address).collect();
    if addresses.is_empty() {
        let elements = head.values(Known::Forwarded).flat_map(list);
        addresses = elements.map(|element| parameter(element, b"for").and_then(address)).collect();
    }
    addresses
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

/// A parameter of one element of `Forwarded` (RFC 7239 section 4), quotes removed.
fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut pairs = element.split(|b| *b == b';').map(trim);
    pairs.find_map(|pair| {
        let (key, value) = pair.split_at(pair.iter().position(|b| *b == b'=')?);
        let value = &value[1..];
        let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        key.eq_ignore_ascii_case(name).then_some(bare.unwrap_or(value))
    })
}

/// Whether the nearest proxy says that its client used TLS.
fn says_tls(head: &RequestHead) -> bool {
    let is_tls = |scheme: &[u8]| scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss");
    match head.values(Known::XForwardedProto).flat_map(list).last() {
        Some(scheme) => is_tls(scheme),
        None => {
            let last = head.values(Known::Forwarded).flat_map(list).last();
            last.and_then(|element| parameter(element, b"proto")).is_some_and(is_tls)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn client(peer: &str, fields: &str) -> Client {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::read(Bytes::from(head.into_bytes())).expect("a request");
        let trusted = ["10.0.0.0/8".parse().expect("a net"), "fd00::/8".parse().expect("a net")];
        let internal = InternalClients::new(&["172.17.0.0/16".parse().expect("a net")], []);
        Client::of(&head, peer.parse().expect("an address"), false, &trusted, &internal)
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxys() {
        let xff = "X-Forwarded-For: 1.1.1.1, 2.2.2.2:99\r\nX-Forwarded-For: 10.0.0.7\r\n";
        for (peer, fields, want, internal) in [
            ("3.3.3.3", xff, "3.3.3.3", false),
            ("10.0.0.1", xff, "2.2.2.2", false),
            ("::ffff:10.0.0.1", xff, "2.2.2.2", false),
            ("10.0.0.1", "", "10.0.0.1", false),
            ("10.0.0.1", "X-Forwarded-For: 172.17.0.4\r\n", "172.17.0.4", true),
            ("10.0.0.1", "X-Forwarded-For: 127.0.0.1, unknown\r\n", "10.0.0.1", false),
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.2\r\n", "10.0.0.2", false),
            (
                "10.0.0.1",
                "Forwarded: for=1.1.1.1, For=\"[2001:db8::1]:80\";proto=https\r\n",
                "2001:db8::1",
                false,
            ),
            ("172.17.0.9", "X-Forwarded-For: 1.1.1.1\r\n", "172.17.0.9", true),
            ("127.0.0.1", "", "127.0.0.1", true),
        ] {
            let got = client(peer, fields);
            assert_eq!(
                (got.address, got.internal),
                (want.parse().expect("an address"), internal),
                "{peer} {fields}"
            );
        }
    }

    #[test]
    fn only_a_trusted_proxy_may_say_that_its_client_used_tls() {
        for (peer, fields, want) in [
            ("10.0.0.1", "X-Forwarded-Proto: https\r\n", true),
            ("10.0.0.1", "X-Forwarded-Proto: https, http\r\n", false),
            ("10.0.0.1", "Forwarded: for=1.1.1.1;proto=HTTPS\r\n", true),
            ("10.0.0.1", "", false),
            ("3.3.3.3", "X-Forwarded-Proto: https\r\n", false),
        ] {
            assert_eq!(client(peer, fields).secure, want, "{peer} {fields}");
        }
    }
}
