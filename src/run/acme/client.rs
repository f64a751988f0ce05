//! HTTP towards the authority: each request on a connection of its own, as there are few.

use std::error::Error as StdError;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fairway_proxy::tls::certificate::provider;
use fairway_proxy::tls::clients::read_authorities;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longest time for one request and its whole answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest answer that is read, in octets.
const ANSWER_MAX: usize = 1024 * 1024;

type Cause = Box<dyn StdError + Send + Sync>;

/// The way to an authority.
pub(super) struct Client(TlsConnector);

impl Client {
    /// Trusts the authorities in this file; without one, those of the machine.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        let roots = match ca {
            Some(file) => read_authorities(file).map_err(|error| error.to_string())?,
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(
                        "this machine has no certificate authorities; name a file in `[acme] ca`".to_owned()
                    );
                }
                Arc::new(roots)
            }
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(Self(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            match timeout(PATIENCE, send(connector, request)).await {
                Ok(answer) => answer.map(BytesResponse::from).map_err(Error::Other),
                Err(_) => Err(Error::Other(format!("no answer within {PATIENCE:?}").into())),
            }
        })
    }
}

async fn send(
    connector: TlsConnector,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<Response<Full<Bytes>>, Cause> {
    let (mut parts, body) = request.into_parts();
    let host = parts.uri.host().ok_or("the authority's URL names no host")?.to_owned();
    if parts.uri.scheme_str() != Some("https") {
        return Err("the authority's URL is not `https`".into());
    }
    let tcp =
        TcpStream::connect((host.trim_matches(['[', ']']), parts.uri.port_u16().unwrap_or(443))).await?;
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let tls = connector.connect(name, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let driver = tokio::spawn(connection);
    let authority = parts.uri.authority().map(ToString::to_string).unwrap_or(host);
    parts.headers.insert(hyper::header::HOST, authority.parse()?);
    parts.uri = parts.uri.path_and_query().map_or("/", |target| target.as_str()).parse()?;
    let answer = sender.send_request(Request::from_parts(parts, body)).await?;
    let (head, body) = answer.into_parts();
    let octets = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
    driver.abort();
    Ok(Response::from_parts(head, Full::new(octets)))
}
