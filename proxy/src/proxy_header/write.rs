//! PROXY headers for instances (`fairway.proxy_protocol`), as sections 2.1 and 2.2 of the protocol's specification have them.
//!
//! Not here: the header of a connection that is nobody's (see `ProxyProtocol::own_header`), reading (see the module above).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairway_config::labels::ProxyProtocol;
use rustls::ProtocolVersion;

use super::{CLIENT_SSL, SIGNATURE, SSL};
use crate::stream::Ends;
use crate::tls::session::Session;

/// Version 2, and the connection is a client's (PROXY).
const PROXY: u8 = 0x21;
/// TCP over IPv4, over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The name that the client asked for in its handshake.
const AUTHORITY: u8 = 0x02;
/// The version of TLS as text, within [`SSL`].
const SSL_VERSION: u8 = 0x21;

/// The client has shown a certificate on this connection; at least once in this TLS session.
const CERT_CONN: u8 = 0x02;
const CERT_SESS: u8 = 0x04;

/// What an instance is told of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    /// The client's address, and the one that it asked for.
    pub ends: Ends,
    /// The name that it asked for in a TLS handshake.
    pub authority: Option<&'a str>,
    /// How it uses TLS, if it does.
    pub tls: Option<Secured>,
}

/// How a client uses TLS, as far as it is known: another balancer may have ended it in front.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Secured {
    version: Option<&'static str>,
    certificate: u8,
}

impl Secured {
    /// As agreed upon in our own handshake.
    pub(crate) fn by(session: &Session) -> Self {
        let version = match session.version {
            Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
            Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
            _ => None,
        };
        let certificate = match (&session.certificate, session.is_resumed) {
            (None, _) => 0,
            (Some(_), true) => CERT_SESS,
            (Some(_), false) => CERT_SESS | CERT_CONN,
        };
        Self { version, certificate }
    }
}

/// Two addresses of one family.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Pair {
    /// A header has one family for both: of two, IPv4 becomes IPv6.
    fn of(ends: &Ends) -> Self {
        match (ends.peer.ip().to_canonical(), ends.local.ip().to_canonical()) {
            (IpAddr::V4(peer), IpAddr::V4(local)) => Self::V4(peer, local),
            (peer, local) => Self::V6(v6(peer), v6(local)),
        }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The header that says this.
pub(crate) fn header(version: ProxyProtocol, client: &Client<'_>) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => version_1(&client.ends),
        ProxyProtocol::V2 => version_2(client),
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`; it has no words for TLS.
fn version_1(ends: &Ends) -> Vec<u8> {
    let (family, from, to) = match Pair::of(ends) {
        Pair::V4(from, to) => ("TCP4", from.to_string(), to.to_string()),
        Pair::V6(from, to) => ("TCP6", hexadecimal(from), hexadecimal(to)),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", ends.peer.port(), ends.local.port()).into_bytes()
}

/// Without the decimal form that others know for IPv4 in IPv6, and the specification does not.
fn hexadecimal(address: Ipv6Addr) -> String {
    match address.to_ipv4_mapped() {
        Some(_) => {
            let [.., high, low] = address.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        None => address.to_string(),
    }
}

fn version_2(client: &Client<'_>) -> Vec<u8> {
    let mut rest = Vec::with_capacity(64);
    let family = match Pair::of(&client.ends) {
        Pair::V4(from, to) => {
            rest.extend([from.octets(), to.octets()].concat());
            TCP4
        }
        Pair::V6(from, to) => {
            rest.extend([from.octets(), to.octets()].concat());
            TCP6
        }
    };
    rest.extend(client.ends.peer.port().to_be_bytes());
    rest.extend(client.ends.local.port().to_be_bytes());
    if let Some(name) = client.authority {
        field(&mut rest, AUTHORITY, name.as_bytes());
    }
    if let Some(tls) = client.tls {
        field(&mut rest, SSL, &ssl(tls));
    }
    let mut header = SIGNATURE.to_vec();
    header.extend([PROXY, family]);
    header.extend(length(&rest));
    header.append(&mut rest);
    header
}

/// Flags, four octets that are 0 when a certificate was shown and found good, and the version.
fn ssl(tls: Secured) -> Vec<u8> {
    let unverified = u32::from(tls.certificate == 0);
    let mut value = vec![CLIENT_SSL | tls.certificate];
    value.extend(unverified.to_be_bytes());
    if let Some(version) = tls.version {
        field(&mut value, SSL_VERSION, version.as_bytes());
    }
    value
}

fn field(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    out.push(kind);
    out.extend(length(value));
    out.extend_from_slice(value);
}

/// Names have 255 octets at most, so that nothing here comes near the limit.
fn length(octets: &[u8]) -> [u8; 2] {
    u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::super::{Said, parse};
    use super::*;

    fn ends(peer: &str, local: &str) -> Ends {
        Ends { peer: peer.parse().expect("an address"), local: local.parse().expect("an address") }
    }

    fn plain(peer: &str, local: &str) -> Client<'static> {
        Client { ends: ends(peer, local), authority: None, tls: None }
    }

    #[test]
    fn a_line_names_both_ends_in_one_family() {
        for (peer, local, want) in [
            ("192.0.2.1:56324", "198.51.100.1:443", "TCP4 192.0.2.1 198.51.100.1 56324 443"),
            ("[2001:db8::1]:1", "[::1]:65535", "TCP6 2001:db8::1 ::1 1 65535"),
            ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2", "TCP4 192.0.2.1 192.0.2.2 1 2"),
            ("192.0.2.1:1", "[2001:db8::2]:2", "TCP6 ::ffff:c000:201 2001:db8::2 1 2"),
            ("[2001:db8::2]:1", "192.0.2.10:2", "TCP6 2001:db8::2 ::ffff:c000:20a 1 2"),
        ] {
            let line = header(ProxyProtocol::V1, &plain(peer, local));
            assert_eq!(String::from_utf8_lossy(&line), format!("PROXY {want}\r\n"));
        }
    }

    #[test]
    fn version_2_has_addresses_ports_and_what_is_known_of_tls() {
        let fixed = |family: u8, length: u8| [&SIGNATURE[..], &[0x21, family, 0, length]].concat();
        let v4 = plain("192.0.2.1:56324", "198.51.100.1:443");
        let addresses = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        assert_eq!(header(ProxyProtocol::V2, &v4), [fixed(0x11, 12), addresses.to_vec()].concat());

        let mixed = header(ProxyProtocol::V2, &plain("192.0.2.1:1", "[2001:db8::2]:2"));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let other = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(mixed, [&fixed(0x21, 36)[..], &mapped, &other, &[0, 1, 0, 2]].concat());

        let tls = Secured { version: Some("TLSv1.3"), certificate: CERT_SESS | CERT_CONN };
        let secured = Client { authority: Some("a.test"), tls: Some(tls), ..v4 };
        let fields = b"\x02\0\x06a.test\x20\0\x0f\x07\0\0\0\0\x21\0\x07TLSv1.3";
        let want = [&fixed(0x11, 39)[..], &addresses, fields].concat();
        assert_eq!(header(ProxyProtocol::V2, &secured), want);

        let unknown = Client { tls: Some(Secured::default()), ..v4 };
        let want = [&fixed(0x11, 20)[..], &addresses, b"\x20\0\x05\x01\0\0\0\x01"].concat();
        assert_eq!(header(ProxyProtocol::V2, &unknown), want);
    }

    #[test]
    fn a_connection_of_our_own_is_read_as_one() {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let own = version.own_header();
            assert_eq!(parse(own), Some(Some((own.len(), Said::Own))));
        }
    }

    /// The two ends as a reader sees them.
    fn in_one_family(ends: &Ends) -> Ends {
        let with = |end: SocketAddr, ip: IpAddr| SocketAddr::new(ip, end.port());
        match Pair::of(ends) {
            Pair::V4(a, b) => Ends { peer: with(ends.peer, a.into()), local: with(ends.local, b.into()) },
            Pair::V6(a, b) => Ends { peer: with(ends.peer, a.into()), local: with(ends.local, b.into()) },
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_meant(
            peer: SocketAddr,
            local: SocketAddr,
            secure: bool,
            name in proptest::option::of("[a-z0-9.-]{1,253}"),
        ) {
            let ends = Ends { peer, local };
            let tls = secure.then_some(Secured { version: Some("TLSv1.2"), certificate: 0 });
            let client = Client { ends, authority: name.as_deref(), tls };
            for (version, tls) in [(ProxyProtocol::V1, false), (ProxyProtocol::V2, secure)] {
                let written = header(version, &client);
                let want = Said::Client { ends: in_one_family(&ends), tls };
                prop_assert_eq!(parse(&written), Some(Some((written.len(), want))));
                for end in 0..written.len() {
                    prop_assert_eq!(parse(&written[..end]), Some(None));
                }
                prop_assert!(version == ProxyProtocol::V2 || written.len() <= super::super::LINE_MAX);
            }
        }
    }
}
