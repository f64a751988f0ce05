//! TLS towards instances: whose certificates are believed, and what we show of ourselves.
//!
//! Not here: reading the files (the program's business), the handshake with one instance (see `upstream::tls`).

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, VerifierBuilderError};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificate::{Certificate, CertificateError, provider};
use super::x509;

/// Whom we believe, and what we show, when we speak TLS to instances. Replaced whole when its files change.
#[derive(Debug)]
pub struct Trust {
    checked: ClientConfig,
    unchecked: ClientConfig,
    /// Whether a certificate is checked where labels do not say.
    verify: bool,
}

impl Trust {
    /// Believes these authorities, and shows this certificate to instances that ask for one.
    ///
    /// # Errors
    /// None in practice: what rustls's own defaults refuse.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        identity: Option<&Certificate>,
        verify: bool,
    ) -> Result<Arc<Self>, rustls::Error> {
        let provider = provider();
        let named = authorities.clone();
        let mut roots = RootCertStore::empty();
        // What a system keeps beside usable ones is of no use to anybody.
        roots.add_parsable_certificates(authorities);
        let unchecked = Arc::new(Anybody(provider.clone()));
        let checked: Arc<dyn ServerCertVerifier> =
            match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build() {
                Ok(by_authorities) => Arc::new(Believed { by_authorities, named }),
                Err(VerifierBuilderError::NoRootAnchors) => Arc::new(Nobody(provider.clone())),
                Err(error) => return Err(rustls::Error::General(error.to_string())),
            };
        let with = |verifier| client_config(&provider, verifier, identity);
        Ok(Arc::new(Self { checked: with(checked)?, unchecked: with(unchecked)?, verify }))
    }

    /// How an instance is spoken to, whose labels ask so for the check of its certificate.
    pub(crate) fn config(&self, verify: Option<bool>) -> ClientConfig {
        if verify.unwrap_or(self.verify) { self.checked.clone() } else { self.unchecked.clone() }
    }
}

/// The authorities in a PEM file.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .map(|section| section.map(CertificateDer::into_owned))
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateError::NotPem("certificate"))?;
    if all.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let mut roots = RootCertStore::empty();
    for certificate in &all {
        roots.add(certificate.clone()).map_err(|_| CertificateError::Unreadable)?;
    }
    Ok(all)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Option<&Certificate>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match identity {
        Some(identity) => {
            let shown: Arc<dyn ResolvesClientCert> =
                Arc::new(SingleCertAndKey::from((*identity.key.bare).clone()));
            builder.with_client_cert_resolver(shown)
        }
        None => builder.with_no_client_auth(),
    })
}

macro_rules! signatures_are_checked {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Believes any certificate, as long as whoever shows it has its key.
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

    signatures_are_checked!();
}

/// Believes what an authority signed, and a certificate that is itself named as one: what `openssl req -x509` makes for a server
/// says of itself that it is an authority, which nobody else takes for a server's.
#[derive(Debug)]
struct Believed {
    by_authorities: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Believed {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if !self.named.iter().any(|named| named == shown) {
            return self.by_authorities.verify_server_cert(shown, chain, name, ocsp, now);
        }
        let facts = x509::read(shown).ok_or(rustls::CertificateError::BadEncoding)?;
        let now = Timestamp::from_second(now.as_secs().cast_signed()).unwrap_or(Timestamp::MAX);
        if now > facts.not_after {
            return Err(rustls::CertificateError::Expired.into());
        }
        if now < facts.not_before {
            return Err(rustls::CertificateError::NotValidYet.into());
        }
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authorities.supported_verify_schemes()
    }
}

/// Believes no certificate: there is no authority.
#[derive(Debug)]
struct Nobody(Arc<CryptoProvider>);

impl ServerCertVerifier for Nobody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(rustls::CertificateError::UnknownIssuer.into())
    }

    signatures_are_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_holds_at_least_one_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        let pem = made.cert.pem();
        assert_eq!(authorities(format!("{pem}{pem}").as_bytes()).map(|all| all.len()), Ok(2));
        assert_eq!(authorities(b""), Err(CertificateError::NoCertificate));
        assert_eq!(authorities(&pem.as_bytes()[..60]), Err(CertificateError::NotPem("certificate")));
        let other = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(authorities(other), Err(CertificateError::Unreadable));
    }

    #[test]
    fn without_any_authority_nobody_is_believed_and_nothing_else_fails() {
        assert!(Trust::new(Vec::new(), None, true).is_ok());
    }
}
