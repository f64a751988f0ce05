//! What was agreed upon in a handshake, as far as requests of the connection depend on it.

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::{HandshakeKind, ProtocolVersion, ServerConnection, SupportedCipherSuite};

use super::x509;

/// A TLS connection of a client.
#[derive(Debug)]
pub(crate) struct Session {
    /// The name that the client asked for, lower case.
    pub(crate) server_name: Option<Box<str>>,
    /// The version of TLS.
    pub(crate) version: Option<ProtocolVersion>,
    /// It goes on from an earlier connection: what the client has shown, it has shown there.
    pub(crate) is_resumed: bool,
    /// The protocol carries requests for several hosts on one connection, so that a client may take it for another host.
    shares: bool,
    /// The certificate that the client showed.
    pub(crate) certificate: Option<ClientCertificate>,
}

/// A client's certificate that one of the listener's authorities has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// Whom it is for, as RFC 4514 writes it.
    pub(crate) subject: String,
    /// SHA-256 of the whole certificate, 64 hex digits in lower case.
    pub(crate) fingerprint: String,
}

impl Session {
    /// Of a connection whose handshake is done.
    pub(super) fn of(tls: &ServerConnection) -> Self {
        let shown = tls.peer_certificates().and_then(<[_]>::first);
        Self {
            server_name: tls.server_name().map(Into::into),
            version: tls.protocol_version(),
            is_resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
            shares: tls.alpn_protocol() == Some(b"h2"),
            certificate: shown.map(|certificate| ClientCertificate::of(certificate)),
        }
    }

    /// HTTP/2 is spoken on it, though nobody agreed upon that: it is bound to its host nevertheless.
    pub(crate) fn speaks_http2(&mut self) {
        self.shares = true;
    }

    /// Whether requests for this host belong on it. Clients of HTTP/2 use a connection for every host that its certificate
    /// names; only the host that the handshake was for is sure to be served as the listener means it (RFC 9113 section
    /// 9.1.2). Clients of HTTP/1.1 open a connection for each host: what theirs was made for is not looked at.
    pub(crate) fn may_carry(&self, host: &str) -> bool {
        !self.shares || self.server_name.as_deref().is_none_or(|name| name == host)
    }
}

impl ClientCertificate {
    fn of(certificate: &[u8]) -> Self {
        Self {
            // rustls has verified it, so it can be read.
            subject: x509::read(certificate).map(|facts| facts.subject).unwrap_or_default(),
            fingerprint: sha256(certificate).iter().map(|octet| format!("{octet:02x}")).collect(),
        }
    }
}

/// By way of a cipher suite, which has the only hash that rustls lends out.
fn sha256(octets: &[u8]) -> Vec<u8> {
    match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.hash(octets).as_ref().to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_shared_among_hosts_serves_the_one_it_was_made_for() {
        let session = |name: Option<&str>, shares| Session {
            server_name: name.map(Into::into),
            version: None,
            is_resumed: false,
            shares,
            certificate: None,
        };
        assert!(session(Some("a.test"), true).may_carry("a.test"));
        assert!(!session(Some("a.test"), true).may_carry("b.test"));
        assert!(session(Some("a.test"), false).may_carry("b.test"));
        assert!(session(None, true).may_carry("b.test"));
    }

    #[test]
    fn a_fingerprint_is_the_sha_256_of_the_certificate() {
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ClientCertificate::of(b"abc").fingerprint, want);
    }
}
