//! The first message of a client (RFC 8446 section 4.1.2), read without being used up: which host it asks for.
//!
//! rustls reads it, so that what is looked up here is what the handshake would be for; its octets are kept and go either to
//! that handshake or to an instance. Looked at only while the TLS of some host is passed on. Not here: which hosts those are
//! (see `table`).

use rustls::server::Acceptor;

use super::handshake::HANDSHAKE_RECORD;

/// Most octets that are read of it: what rustls takes of one message, 64 KiB, and room for the heads of many records.
const OCTETS_MAX: usize = 80 * 1024;

/// What a client has said.
#[derive(Debug)]
pub(crate) struct Hello {
    /// The host that it asks for, lower case.
    pub(crate) host: Box<str>,
    /// All octets so far.
    pub(crate) octets: Vec<u8>,
}

/// A message that is being read.
#[derive(Default)]
pub(crate) struct Reader {
    acceptor: Acceptor,
    octets: Vec<u8>,
}

/// What is known of it so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is not all there.
    Partial,
    /// It asks for this host.
    For(Box<str>),
    /// It asks for no host, or is none that could be read: the handshake will say what is wrong.
    Nobody,
}

impl Reader {
    /// Looks at the next octets of the connection. Nothing is to be read any more once it is not [`Look::Partial`].
    pub(crate) fn read(&mut self, octets: &[u8]) -> Look {
        let too_long = self.octets.len() > OCTETS_MAX;
        self.octets.extend_from_slice(octets);
        if too_long || self.octets.first().is_some_and(|first| *first != HANDSHAKE_RECORD) {
            return Look::Nobody;
        }
        let mut left = octets;
        while !left.is_empty() {
            if !matches!(self.acceptor.read_tls(&mut left), Ok(1..)) {
                return Look::Nobody;
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let host = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                    return host.map_or(Look::Nobody, |host| Look::For(host.into()));
                }
                Err(_) => return Look::Nobody,
            }
        }
        Look::Partial
    }

    /// All octets that were looked at.
    pub(crate) fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a client sends first that asks for this host, or for none.
    fn hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let roots = RootCertStore::empty();
        let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut octets = Vec::new();
        session.write_tls(&mut octets).expect("a vector takes it");
        octets
    }

    /// Reads these pieces until something is known.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Look, Vec<u8>) {
        let mut reader = Reader::default();
        for piece in pieces {
            let look = reader.read(piece);
            if look != Look::Partial {
                return (look, reader.into_octets());
            }
        }
        (Look::Partial, reader.into_octets())
    }

    #[test]
    fn the_host_is_read_in_lower_case_and_the_octets_stay_as_they_came() {
        let octets = [hello("DB.Company.com"), b"more".to_vec()].concat();
        assert_eq!(read([&octets[..]]), (Look::For("db.company.com".into()), octets.clone()));
        let nameless = hello("192.0.2.1");
        assert_eq!(read([&nameless[..]]), (Look::Nobody, nameless.clone()));
        assert_eq!(read([&octets[..200]]).0, Look::Partial);
    }

    #[test]
    fn what_is_no_first_message_is_known_as_soon_as_it_can_be() {
        for octets in [
            &b"G"[..],
            b"\x80",
            b"\x16\x03\x01\x00\x04nope",
            b"\x16\x03\x01\xff\xff",
            b"\x16\x09\x01\x00\x01",
        ] {
            assert_eq!(read([octets]).0, Look::Nobody, "{octets:?}");
        }
        assert_eq!(read([&b"\x16\x03\x01"[..]]).0, Look::Partial);
        let record = [&b"\x16\x03\x01\x40\x00\x01\x00\xff\xff"[..], &[0; 0x4000 - 4]].concat();
        let filler = [&b"\x16\x03\x01\x40\x00"[..], &[0; 0x4000]].concat();
        let pieces = std::iter::once(&record[..]).chain(std::iter::repeat_n(&filler[..], 100));
        let (look, octets) = read(pieces);
        assert_eq!(look, Look::Nobody);
        assert!(octets.len() <= OCTETS_MAX + filler.len(), "{}", octets.len());
    }

    proptest! {
        #[test]
        fn the_host_is_the_same_however_the_message_is_cut(
            sizes in proptest::collection::vec(1usize..300, 1..40),
            records in 1usize..200,
        ) {
            let whole = hello("db.company.com");
            let records: Vec<u8> = whole[5..]
                .chunks(records)
                .flat_map(|part| [&[0x16, 3, 1, 0, part.len() as u8], part].concat())
                .collect();
            for octets in [&whole, &records] {
                let (mut left, mut pieces) = (&octets[..], Vec::new());
                for size in sizes.iter().cycle() {
                    let (piece, rest) = left.split_at((*size).min(left.len()));
                    pieces.push(piece);
                    left = rest;
                    if left.is_empty() {
                        break;
                    }
                }
                prop_assert_eq!(read(pieces), (Look::For("db.company.com".into()), octets.clone()));
            }
        }

        #[test]
        fn no_octets_panic(mut octets in proptest::collection::vec(any::<u8>(), 0..600), at: u16, tls: bool) {
            let _ = read([&octets[..]]);
            if tls {
                let mut broken = hello("db.company.com");
                let at = usize::from(at) % broken.len();
                broken.truncate(at.max(1));
                broken.append(&mut octets);
                let _ = read(broken.chunks(7));
            }
        }
    }
}
