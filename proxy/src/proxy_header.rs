//! The PROXY protocol, versions 1 and 2: a header in front of a connection by which a load balancer tells whose it is.
//!
//! Read before anything else, TLS too, and not an octet beyond it; written for instances by [`write`]. Who may send one: see
//! `worker`; who gets one: `fairway.proxy_protocol`.

pub(crate) mod write;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::stream::Ends;

/// What every header of version 2 starts with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Longest line of version 1, its end included.
const LINE_MAX: usize = 107;

/// Longest rest of a header of version 2 that is taken: addresses and what load balancers add.
const REST_MAX: usize = 4096;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The connection is the load balancer's own: a health check.
    Own,
    /// Whose it is.
    Client {
        /// The client's address, and the one that it asked for.
        ends: Ends,
        /// The client uses TLS.
        tls: bool,
    },
}

/// Reads the header of a connection.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Said> {
    let mut header = Vec::new();
    let mut ahead = [0; 256];
    loop {
        // Looked at before it is taken: what follows the header may be TLS, which reads from the socket itself.
        let seen = stream.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = header.len();
        header.extend_from_slice(&ahead[..seen]);
        let parsed = parse(&header).ok_or_else(|| io::Error::other("no PROXY header"))?;
        let used = parsed.map_or(seen, |(end, _)| end.saturating_sub(before));
        stream.read_exact(&mut ahead[..used]).await?;
        if let Some((_, said)) = parsed {
            return Ok(said);
        }
    }
}

/// Where the header ends and what it says; `Some(None)` while it is not all there, `None` when it is none.
pub(crate) fn parse(input: &[u8]) -> Option<Option<(usize, Said)>> {
    let common = input.len().min(SIGNATURE.len());
    if input[..common] == SIGNATURE[..common] {
        return version_2(input);
    }
    let prefix = b"PROXY ";
    let common = input.len().min(prefix.len());
    if input[..common] != prefix[..common] {
        return None;
    }
    match input.iter().take(LINE_MAX).position(|b| *b == b'\n') {
        Some(lf) => Some(Some((lf + 1, version_1(input[..lf].strip_suffix(b"\r")?)?))),
        None if input.len() < LINE_MAX => Some(None),
        None => None,
    }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`
fn version_1(line: &[u8]) -> Option<Said> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Said::Own);
    }
    let mut address = || words.next()?.parse::<IpAddr>().ok();
    let (source, target) = (address()?, address()?);
    let fits = match family {
        "TCP4" => source.is_ipv4() && target.is_ipv4(),
        "TCP6" => source.is_ipv6() && target.is_ipv6(),
        _ => false,
    };
    let mut port =
        || words.next().filter(|word| word.bytes().all(|b| b.is_ascii_digit()))?.parse::<u16>().ok();
    let (source_port, target_port) = (port()?, port()?);
    let whole = words.next().is_none();
    let ends =
        Ends { peer: SocketAddr::new(source, source_port), local: SocketAddr::new(target, target_port) };
    (fits && whole).then_some(Said::Client { ends, tls: false })
}

fn version_2(input: &[u8]) -> Option<Option<(usize, Said)>> {
    let Some(fixed) = input.get(SIGNATURE.len()..16) else { return Some(None) };
    let (command, family) = (fixed[0], fixed[1]);
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if command >> 4 != 2 || length > REST_MAX {
        return None;
    }
    let end = 16 + length;
    let Some(rest) = input.get(16..end) else { return Some(None) };
    let said = match (command & 0xf, family) {
        (0, _) => Said::Own,
        (1, 0x11) => {
            client(rest, 4, |octets| Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()))?
        }
        (1, 0x21) => {
            client(rest, 16, |octets| Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()))?
        }
        // A connection of another kind: its address means nothing here.
        (1, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Said::Own,
        _ => return None,
    };
    Some(Some((end, said)))
}

/// Two addresses of `size` octets, two ports, then fields.
fn client(rest: &[u8], size: usize, address: impl Fn(&[u8]) -> Option<IpAddr>) -> Option<Said> {
    let (source, target) = (address(rest.get(..size)?)?, address(rest.get(size..2 * size)?)?);
    let ports = rest.get(2 * size..2 * size + 4)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let ends = Ends { peer: SocketAddr::new(source, port(0)), local: SocketAddr::new(target, port(2)) };
    Some(Said::Client { ends, tls: says_tls(&rest[2 * size + 4..]) })
}

/// The field that says how the client uses TLS (PP2_TYPE_SSL), and in it that it does (PP2_CLIENT_SSL).
const SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Whether the fields say that the client uses TLS.
fn says_tls(mut fields: &[u8]) -> bool {
    while let [kind, high, low, rest @ ..] = fields {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(value) = rest.get(..length) else { return false };
        if *kind == SSL {
            return value.first().is_some_and(|flags| flags & CLIENT_SSL != 0);
        }
        fields = &rest[length..];
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn said(peer: &str, local: &str, tls: bool) -> Said {
        let ends =
            Ends { peer: peer.parse().expect("an address"), local: local.parse().expect("an address") };
        Said::Client { ends, tls }
    }

    /// A header of version 2 with this command, family and rest.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("it is short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[test]
    fn a_line_of_version_1_names_the_client() {
        for (line, want) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
                said("192.0.2.1:56324", "198.51.100.1:443", false),
            ),
            ("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", said("[2001:db8::1]:1", "[::1]:2", false)),
            ("PROXY UNKNOWN\r\n", Said::Own),
            ("PROXY UNKNOWN ffff::1 ::1 1 2\r\n", Said::Own),
        ] {
            let input = [line.as_bytes(), b"GET /"].concat();
            assert_eq!(parse(&input), Some(Some((line.len(), want))), "{line}");
            for end in 0..line.len() {
                assert_eq!(parse(&input[..end]), Some(None), "{end} octets of {line}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_as_soon_as_it_can_be() {
        for input in [
            "GET / HTTP/1.1\r\n",
            "P OXY",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
            &format!("PROXY TCP4 {}", "1".repeat(200)),
            "\r\n\r\nG",
        ] {
            assert_eq!(parse(input.as_bytes()), None, "{input:?}");
        }
        assert_eq!(parse(&header(0x11, 0x11, &[0; 12])), None, "version 1 in the form of 2");
        assert_eq!(parse(&header(0x21, 0x11, &[0; 11])), None, "too short for its addresses");
        assert_eq!(parse(&header(0x22, 0x11, &[0; 12])), None, "an unknown command");
    }

    #[test]
    fn a_header_of_version_2_names_the_client_and_whether_it_uses_tls() {
        let addresses = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        let other = [0x04, 0, 1, 9];
        for (fields, tls) in [
            (vec![], false),
            (vec![0x20, 0, 5, 1, 0, 0, 0, 0], true),
            (vec![0x20, 0, 5, 0, 0, 0, 0, 0], false),
            ([&other[..], &[0x20, 0, 1, 1]].concat(), true),
            (vec![0x20, 0, 9, 1], false),
        ] {
            let input = header(0x21, 0x11, &[&addresses[..], &fields].concat());
            let want = said("192.0.2.1:56324", "198.51.100.1:443", tls);
            assert_eq!(
                parse(&[&input[..], b"GET /"].concat()),
                Some(Some((input.len(), want))),
                "{fields:?}"
            );
            for end in 0..input.len() {
                assert_eq!(parse(&input[..end]), Some(None), "{end} octets");
            }
        }
        assert_eq!(parse(&header(0x20, 0x00, &[])), Some(Some((16, Said::Own))));
    }

    proptest! {
        #[test]
        fn no_octets_panic(rest in vec(any::<u8>(), 0..80), command: u8, family: u8) {
            let _ = parse(&rest);
            let _ = parse(&header(command, family, &rest));
            let _ = parse(&[b"PROXY ", &rest[..]].concat());
        }
    }
}
