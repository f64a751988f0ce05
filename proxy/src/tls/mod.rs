//! TLS towards clients and instances.
//!
//! - [`x509`], [`certificate`]: one certificate, from the text of its files; [`ocsp`]: what its authority says of it.
//! - [`challenges`]: what an authority asks before it certifies a host.
//! - [`choice`]: which certificate a client gets; [`clients`]: which one it must show.
//! - [`stream`]: a TLS connection as the data plane uses it, also towards instances.
//! - [`trust`]: whom we believe when we speak TLS to instances, and what we show.
//! - [`handshake`]: its time, its number, what goes wrong in it.
//! - [`hello`]: which host a client asks for, where its TLS may be passed on.
//! - [`session`]: what was agreed upon.
//!
//! Here: what a listener asks of TLS, and what serves a connection afterwards. Not here: reading and watching files.

pub mod certificate;
pub mod challenges;
pub mod choice;
pub mod clients;
pub(crate) mod handshake;
pub(crate) mod hello;
mod ocsp;
pub(crate) mod session;
pub(crate) mod stream;
pub mod trust;
pub mod x509;

use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use fairway_config::file::{ListenerTls, TlsVersion};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::NoServerSessionStorage;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version};

pub use certificate::{Certificate, CertificateError};
use challenges::ACME_TLS;
pub use choice::Certificates;
use clients::ClientCaError;
use session::Session;
use stream::TlsStream;
use tokio::io::AsyncWriteExt;
pub use trust::{Trust, authorities};

use crate::downstream::{Connection, Visit, http2};

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authorities of its clients' certificates cannot be read.
    #[error(transparent)]
    ClientCa(#[from] ClientCaError),
    /// What it asks for is not possible.
    #[error("TLS cannot be spoken")]
    Rustls(#[from] rustls::Error),
}

/// What clients are offered to speak, the preferred first (ALPN). Each has its place in [`serve`].
const OFFERED: &[&[u8]] = &[b"h2", b"http/1.1", ACME_TLS];

/// What serves a connection behind its handshake. Boxed, so that each takes the room that its protocol needs.
pub(crate) type Served = Pin<Box<dyn Future<Output = ()>>>;

/// Serves a connection whose handshake is done: here the protocol that was agreed upon chooses who does it.
pub(crate) fn serve(mut stream: TlsStream<ServerConnection>, mut visit: Visit) -> Served {
    visit.tls = true;
    visit.session = Some(Box::new(Session::of(stream.tls())));
    match stream.tls().alpn_protocol() {
        Some(b"h2") => Box::pin(http2::serve(stream, BytesMut::new(), visit)),
        None | Some(b"http/1.1") => Box::pin(Connection::new(stream, visit).serve()),
        // The authority has seen what it asked for, or it is nobody: nothing else is offered.
        Some(_) => Box::pin(async move { drop(stream.shutdown().await) }),
    }
}

/// How one listener speaks TLS, for all workers. `authorities` are those that it asks its clients' certificates of.
pub(crate) fn server_config(
    asked: &ListenerTls,
    authorities: Option<Arc<RootCertStore>>,
    certificates: &Arc<Certificates>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions: &[&SupportedProtocolVersion] = match asked.min_version {
        TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V13 => &[&version::TLS13],
    };
    let provider = certificate::provider();
    let config = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let config = match (&asked.clients, authorities) {
        (Some(clients), Some(authorities)) => {
            config.with_client_cert_verifier(clients::verifier(clients, authorities, provider)?)
        }
        _ => config.with_no_client_auth(),
    };
    let mut config = config.with_cert_resolver(certificates.clone());
    config.alpn_protocols = OFFERED.iter().map(|protocol| protocol.to_vec()).collect();
    // Sessions are resumed by tickets alone, whose keys change every 6 hours: nothing is kept per session. Each listener has
    // keys of its own, so that a session of a listener that asks for no client certificate is worth nothing at one that does.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is what a client needs for its next connection; each costs a key derivation and a cipher.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
