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
        self.octets.extend_from_slice(octets);
        let speaks_tls = self.octets.first().is_none_or(|first| *first == HANDSHAKE_RECORD);
        if !speaks_tls || self.octets.len() > OCTETS_MAX {
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
