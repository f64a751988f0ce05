//! Full TLS 1.3 handshakes: X25519, nothing resumed, the certificate not verified, since that would cost the load alone.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream};

use super::{Args, Told, connection, in_threads};
use crate::Outcome;
use crate::peer::HOST;

pub(super) fn run(args: &Args) -> Outcome<Told> {
    let config = config()?;
    Ok(in_threads(args, |_, until| {
        let mut told = Told::default();
        while Instant::now() < until {
            told.count(handshake(&config, args.address));
        }
        told
    }))
}

/// One handshake, to see whether that is possible.
pub(crate) fn once(address: SocketAddr) -> Outcome<()> {
    handshake(&config()?, address).map_err(|error| error.to_string())
}

/// A connection on which the handshake is done, and what goes on over it.
pub(super) fn connect(
    config: &Arc<ClientConfig>,
    address: SocketAddr,
) -> io::Result<(ClientConnection, TcpStream)> {
    let mut stream = connection::connect(address)?;
    let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok((tls, stream))
}

/// One whole one: it counts once the proxy has seen its end and closed the connection.
fn handshake(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<()> {
    let (mut tls, mut stream) = connect(config, address)?;
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut stream)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Tickets may come first. How the proxy closes is its own affair.
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
    Ok(())
}

pub(super) fn config() -> Outcome<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Sends a request and reads the answer over TLS.
pub(super) fn exchange(
    tls: &mut ClientConnection,
    stream: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    connection::exchange(&mut Stream::new(tls, stream), request, buffer)
}

/// Takes any certificate: it is a proxy that we started.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
