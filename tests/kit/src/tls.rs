//! Certificates made for a test, and requests over TLS that trust them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Answer, Request};

/// Longest wait for a handshake or an answer.
const LONGEST: Duration = Duration::from_secs(20);

/// An authority that certifies whatever a test wants.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// With a new key.
    ///
    /// # Panics
    /// Never in practice.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("the system has randomness");
        let made = params.self_signed(&key).expect("the parameters are good");
        Self { certificate: made.der().clone(), pem: made.pem(), issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, in PEM: what clients trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these hosts.
    ///
    /// # Panics
    /// When a host is none.
    pub fn server(&self, hosts: &[&str]) -> Pair {
        self.certify(hosts, |_| {})
    }

    /// A certificate for these hosts, with `change` made to it.
    ///
    /// # Panics
    /// When a host is none.
    pub fn certify(&self, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("the hosts are valid names");
        params.distinguished_name.push(DnType::CommonName, "fairway test");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("the system has randomness");
        let made = params.signed_by(&key, &self.issuer).expect("the parameters are good");
        Pair { cert: made.pem(), key: key.serialize_pem() }
    }

    /// One that has expired.
    ///
    /// # Panics
    /// When a host is none.
    pub fn expired(&self, hosts: &[&str]) -> Pair {
        self.certify(hosts, |params| {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    /// A client that trusts this authority.
    pub fn client(&self) -> Client {
        Client::new(&[self], None)
    }

    /// A client that trusts this authority and shows this certificate where one is asked for.
    pub fn client_with(&self, pair: &Pair) -> Client {
        Client::new(&[self], Some(pair))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Writes `cert.pem` and `key.pem` into `folder`, each by a rename.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let put = |name: &str, text: &str| {
            let (new, path) = (folder.join(format!(".{name}.new")), folder.join(name));
            std::fs::write(&new, text).expect("the folder can be written");
            std::fs::rename(&new, &path).expect("the folder can be written");
            path
        };
        (put("cert.pem", &self.cert), put("key.pem", &self.key))
    }

    /// The certificate, as it goes over the wire.
    ///
    /// # Panics
    /// Never in practice: it was made here.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("it was made here")
    }
}

/// Connects over TLS.
#[derive(Debug, Clone)]
pub struct Client(Arc<ClientConfig>);

impl Client {
    fn new(trusted: &[&Authority], shows: Option<&Pair>) -> Self {
        let mut roots = RootCertStore::empty();
        trusted.iter().for_each(|one| roots.add(one.certificate.clone()).expect("it was made here"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots);
        Self(Arc::new(match shows {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("it was made here");
                config.with_client_auth_cert(vec![pair.der()], key).expect("it was made here")
            }
        }))
    }

    /// Takes whatever certificate it is shown.
    ///
    /// # Panics
    /// Never in practice.
    pub fn trusting_anybody() -> Self {
        Self::trusting_anybody_in(rustls::ALL_VERSIONS)
    }

    /// The same, in these versions of TLS alone.
    ///
    /// # Panics
    /// When there is none.
    pub fn trusting_anybody_in(versions: &[&'static SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("the provider has them")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
        Self(Arc::new(config.with_no_client_auth()))
    }

    /// The same, offering these protocols (ALPN).
    pub fn speaking(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    /// A handshake that a test carries itself: what it wants to send first is the client's hello.
    ///
    /// # Panics
    /// When `name` is none.
    pub fn begin(&self, name: &str) -> ClientConnection {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        ClientConnection::new(self.0.clone(), name).expect("the configuration is good")
    }

    /// A connection to `address`, asking for `name`; `Err` says what went wrong.
    pub async fn connect(&self, address: SocketAddr, name: &str) -> Result<TlsStream<TcpStream>, String> {
        let connected = async {
            let tcp = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
            let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
            let connecting = TlsConnector::from(self.0.clone()).connect(name, tcp);
            connecting.await.map_err(|error| format!("handshake: {error}"))
        };
        tokio::time::timeout(LONGEST, connected).await.map_err(|_| format!("no handshake in {LONGEST:?}"))?
    }

    /// Sends a request on a connection of its own, asking for the certificate of its Host; `Err` says what cut it short.
    pub async fn try_send(&self, request: &Request, address: SocketAddr) -> Result<Answer, String> {
        let stream = self.connect(address, &request.host).await?;
        let answer = request.exchange(stream);
        tokio::time::timeout(LONGEST, answer).await.map_err(|_| format!("no answer in {LONGEST:?}"))?
    }

    /// GET `target` with the Host `host` from the server at `address`.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn get(&self, address: SocketAddr, host: &str, target: &str) -> Answer {
        match self.try_send(&Request::get(host, target), address).await {
            Ok(answer) => answer,
            Err(why) => panic!("https://{host}{target} at {address}: {why}"),
        }
    }

    /// The certificate that the server at `address` shows to who asks for `name`.
    ///
    /// # Panics
    /// When there is no handshake.
    pub async fn shown(&self, address: SocketAddr, name: &str) -> CertificateDer<'static> {
        match self.connect(address, name).await {
            Ok(stream) => {
                let chain = stream.get_ref().1.peer_certificates().expect("a server shows a certificate");
                chain[0].clone().into_owned()
            }
            Err(why) => panic!("{name} at {address}: {why}"),
        }
    }
}

/// Believes everybody.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
