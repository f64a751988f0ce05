//! Opens the connection to the admin API: TCP, TLS over TCP, or a Unix socket.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::address::Place;

/// Longest wait for a connection, the TLS handshake included.
const PATIENCE: Duration = Duration::from_secs(5);

/// Either kind of connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Unopened {
    pub(super) why: String,
    pub(super) remedy: &'static str,
}

/// What to do when nobody listens.
const NOBODY: &str =
    "is `fairway run` running? If its admin listener is elsewhere, give `--admin URL` or FAIRWAY_ADMIN_URL";
/// What to do when the way there is closed.
const NO_WAY: &str = "check the URL, `--admin URL` or FAIRWAY_ADMIN_URL, and the way there";

/// Opens a connection.
pub(super) async fn open(place: &Place) -> Result<TokioIo<Box<dyn Stream>>, Unopened> {
    match timeout(PATIENCE, open_in_time(place)).await {
        Ok(opened) => opened.map(TokioIo::new),
        Err(_) => {
            Err(Unopened { why: format!("no connection within {} s", PATIENCE.as_secs()), remedy: NO_WAY })
        }
    }
}

async fn open_in_time(place: &Place) -> Result<Box<dyn Stream>, Unopened> {
    match place {
        Place::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(unopened(&error)),
        },
        Place::Tcp { tls, host, port, .. } => {
            let stream =
                TcpStream::connect((host.as_str(), *port)).await.map_err(|error| unopened(&error))?;
            if *tls { secure(stream, host).await } else { Ok(Box::new(stream)) }
        }
    }
}

async fn secure(stream: TcpStream, host: &str) -> Result<Box<dyn Stream>, Unopened> {
    let failed = |why: String| Unopened {
        why,
        remedy: "if its certificate is of a private authority, name that in SSL_CERT_FILE",
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let connector = TlsConnector::from(Arc::new(tls_config().map_err(failed)?));
    let stream = connector.connect(name, stream).await.map_err(|error| failed(innermost(&error)))?;
    Ok(Box::new(stream))
}

/// Trusts what this machine trusts.
fn tls_config() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(format!("this machine has no certificate authorities: {why}"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn unopened(error: &io::Error) -> Unopened {
    let remedy = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => NOBODY,
        io::ErrorKind::PermissionDenied => "run it as a user that may open this socket",
        _ => NO_WAY,
    };
    Unopened { why: innermost(error), remedy }
}

/// The last error of a chain, which is what happened.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
