//! Which certificates clients must show: those that the authorities of a file have made.
//!
//! Not here: what is passed on of them (see `session`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairway_config::file::ClientCertificates;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

/// Why the authorities of a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {text}", file.display())]
pub struct ClientCaError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub text: String,
    /// The system's error, if it is one.
    pub source: Option<io::Error>,
}

impl ClientCaError {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        "name a PEM file with the certificates of the authorities, each as `-----BEGIN CERTIFICATE-----`"
    }
}

/// Reads the authorities of a PEM file: one at least.
pub fn read_authorities(file: &Path) -> Result<Arc<RootCertStore>, ClientCaError> {
    let wrong = |text: String| ClientCaError { file: file.to_owned(), text, source: None };
    let pem = std::fs::read(file).map_err(|error| ClientCaError {
        file: file.to_owned(),
        text: format!("the file cannot be read: {error}"),
        source: Some(error),
    })?;
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("the file is not PEM: {error}")))?;
        authorities
            .add(certificate)
            .map_err(|error| wrong(format!("an authority cannot be used: {error}")))?;
    }
    if authorities.is_empty() {
        return Err(wrong("there is no PEM certificate in it".to_owned()));
    }
    Ok(Arc::new(authorities))
}

pub(super) fn verifier(
    clients: &ClientCertificates,
    authorities: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, ClientCaError> {
    let builder = WebPkiClientVerifier::builder_with_provider(authorities, provider);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| ClientCaError {
        file: clients.ca.clone(),
        text: format!("no client could be believed: {error}"),
        source: None,
    })
}
