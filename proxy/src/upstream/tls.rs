//! TLS with an instance: whose certificate it must show, and what goes wrong, in words for people.
//!
//! Not here: whom we believe (see `tls::trust`).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use fairway_catalog::facts::UnitKind;
use fairway_config::labels::Protocol;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConnection, Error};
use tokio::net::TcpStream;

use super::ConnectError;
use crate::endpoint::Endpoint;
use crate::tls::Trust;
use crate::tls::stream::TlsStream;

/// TLS over this connection. What was agreed upon before with the same life of the instance is taken up again.
pub(super) async fn handshake(
    tcp: TcpStream,
    endpoint: &Endpoint,
    trust: &Trust,
) -> Result<TlsStream<ClientConnection>, ConnectError> {
    let mut config = trust.config(endpoint.settings.tls_verify);
    let speaks_h2 = endpoint.settings.protocol == Protocol::H2;
    config.alpn_protocols = vec![if speaks_h2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config.resumption = endpoint.state.sessions();
    let tls = ClientConnection::new(Arc::new(config), server_name(endpoint))
        .map_err(|_| ConnectError::Tls("TLS with the instance cannot be begun"))?;
    let mut stream = TlsStream::new(tcp, tls);
    poll_fn(|cx| stream.poll_handshake(cx, |_| Ok(()))).await.map_err(|error| failed(&error))?;
    if speaks_h2 && stream.tls().alpn_protocol() != Some(b"h2") {
        return Err(ConnectError::Tls(
            "the instance does not speak HTTP/2 over TLS (no `h2` by ALPN): try `fairway.protocol: https`",
        ));
    }
    Ok(stream)
}

/// Whom its certificate must be for: what the labels say, the name that a static instance is written with, else the name
/// of the service, which is how others in the cluster call it. Never the request's host: a connection carries requests of
/// many, and a certificate inside a cluster is seldom for the public name.
fn server_name(endpoint: &Endpoint) -> ServerName<'static> {
    let (unit, backend) = (&endpoint.instance.unit, &endpoint.instance.backend);
    let name = match (&endpoint.settings.tls_server_name, unit.kind) {
        (Some(name), _) => name,
        (None, UnitKind::Static) => &unit.node,
        (None, UnitKind::Container) => &backend.service,
    };
    let address = || ServerName::IpAddress(endpoint.address.ip().into());
    ServerName::try_from(&**name).map_or_else(|_| address(), |name| name.to_owned())
}

fn failed(error: &io::Error) -> ConnectError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    ConnectError::Tls(match tls {
        Some(Error::InvalidCertificate(wrong)) => certificate(wrong),
        Some(Error::InvalidMessage(_)) => "the instance does not speak TLS on this port",
        Some(Error::NoApplicationProtocol) => {
            "the instance speaks neither HTTP protocol that was offered (ALPN)"
        }
        Some(Error::PeerIncompatible(_)) => {
            "the instance speaks no version or cipher of TLS that is spoken here"
        }
        Some(Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            "the instance does not speak the protocol that `fairway.protocol` names (ALPN)"
        }
        Some(Error::AlertReceived(rustls::AlertDescription::UnrecognisedName)) => {
            "the instance does not know the name it was asked for: set `fairway.tls.server_name`"
        }
        Some(Error::AlertReceived(_)) => {
            "the instance refused the TLS handshake; if it asks for a certificate, see `[upstream_tls] cert`"
        }
        Some(_) => "the instance breaks the rules of TLS",
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the instance closed the connection during the TLS handshake: does it speak TLS?"
        }
        None => "the connection to the instance broke during the TLS handshake",
    })
}

fn certificate(wrong: &CertificateError) -> &'static str {
    use CertificateError as Wrong;
    match wrong {
        // A wrong signature is that of an authority of the same name with another key.
        Wrong::UnknownIssuer | Wrong::BadSignature => {
            "nobody who is trusted signed the instance's certificate: name its authority in `[upstream_tls] ca`, or set `fairway.tls.verify: false`"
        }
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            "the instance's certificate is for another name: set `fairway.tls.server_name`"
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => "the instance's certificate has expired",
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "the instance's certificate is not valid yet"
        }
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            "the instance's certificate is not meant for a server"
        }
        _ => "the instance's certificate cannot be accepted",
    }
}
