//! One certificate with its key, from the text of its files to what a handshake uses; or why it cannot be used.
//!
//! Not here: reading and watching the files (the program's business), which certificate a client gets (see `choice`).

use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::ocsp::Answer;
use super::x509::{self, Facts};

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// What it says of itself.
    pub facts: Facts,
    /// Until when the stapled answer of the authority holds; `None`: there is none, or it does not say.
    pub stapled_until: Option<Timestamp>,
    pub(super) key: Shown,
}

/// What a client is shown: the chain, its key, and what the authority says of it as long as that holds.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) bare: Arc<CertifiedKey>,
    stapled: Option<Stapled>,
}

#[derive(Debug, Clone)]
struct Stapled {
    key: Arc<CertifiedKey>,
    until: Option<Timestamp>,
}

impl Shown {
    fn new(bare: CertifiedKey, answer: Option<Answer>) -> Self {
        let stapled = answer.map(|Answer { der, until }| {
            let key = CertifiedKey { ocsp: Some(der), ..bare.clone() };
            Stapled { key: Arc::new(key), until }
        });
        Self { bare: Arc::new(bare), stapled }
    }

    /// As it is shown now.
    pub(super) fn now(&self) -> Arc<CertifiedKey> {
        match &self.stapled {
            Some(Stapled { key, until }) if until.is_none_or(|until| Timestamp::now() < until) => key.clone(),
            _ => self.bare.clone(),
        }
    }
}

/// Why a certificate cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text holds no certificate.
    #[error("there is no PEM certificate in the certificate file")]
    NoCertificate,
    /// The PEM text is broken.
    #[error("the {0} file is not PEM")]
    NotPem(&'static str),
    /// What is in it cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// The text holds no key.
    #[error("there is no PEM private key in the key file")]
    NoKey,
    /// The key wants a passphrase.
    #[error("the key is encrypted")]
    KeyEncrypted,
    /// The key is of a kind that is not known.
    #[error("the key cannot be used: {0}")]
    KeyUnusable(String),
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate")]
    Mismatch,
    /// The key belongs to a certificate of the file that is not the first one.
    #[error("the key belongs to certificate {0} of the file, not to the first one")]
    WrongOrder(usize),
    /// The OCSP answer is none.
    #[error("the OCSP file holds no successful OCSP answer in DER")]
    Ocsp,
}

impl CertificateError {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoCertificate | Self::NotPem(_) | Self::Unreadable => {
                "write the certificate first and its chain behind it, each as `-----BEGIN CERTIFICATE-----`"
            }
            Self::NoKey => "write the key as `-----BEGIN PRIVATE KEY-----`",
            Self::KeyEncrypted => "write it without a passphrase: `openssl pkey -in KEY -out NEW`",
            Self::KeyUnusable(_) => {
                "use a key for RSA (2048 to 8192 bits), ECDSA P-256, P-384 or P-521, or Ed25519"
            }
            Self::Mismatch => "name the key that the certificate was made for",
            Self::WrongOrder(_) => {
                "put the server's own certificate first, then the chain up to the authority"
            }
            Self::Ocsp => "write the authority's answer as it came: `openssl ocsp -respout FILE`",
        }
    }
}

impl Certificate {
    /// From the text of a PEM file with the chain, of one with the key, and perhaps an OCSP answer to staple.
    pub fn from_pem(chain: &[u8], key: &[u8], ocsp: Option<Vec<u8>>) -> Result<Self, CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .map(|section| section.map(CertificateDer::into_owned))
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NotPem("certificate"))?;
        let key = private_key(key)?;
        Self::from_der(chain, key, ocsp)
    }

    /// From a chain, the server's own certificate first, and its key.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ocsp: Option<Vec<u8>>,
    ) -> Result<Self, CertificateError> {
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let facts = x509::read(first).ok_or(CertificateError::Unreadable)?;
        let answer = ocsp.map(|der| Answer::read(der).ok_or(CertificateError::Ocsp)).transpose()?;
        let certified = certify(chain, key, &provider())?;
        let stapled_until = answer.as_ref().and_then(|answer| answer.until);
        Ok(Self { facts, stapled_until, key: Shown::new(certified, answer) })
    }

    /// Whether it no longer holds.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.facts.not_after < now
    }
}

/// How all TLS is spoken here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let sealed = b"ENCRYPTED PRIVATE KEY";
            let is_sealed = text.windows(sealed.len()).any(|window| window == sealed);
            if is_sealed { CertificateError::KeyEncrypted } else { CertificateError::NoKey }
        }
        _ => CertificateError::NotPem("key"),
    })
}

fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let spare = key.clone_key();
    CertifiedKey::from_der(chain.clone(), key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let fits = |other: &CertificateDer<'static>| {
                CertifiedKey::from_der(vec![other.clone()], spare.clone_key(), provider).is_ok()
            };
            match chain.iter().position(fits) {
                Some(at) => CertificateError::WrongOrder(at + 1),
                None => CertificateError::Mismatch,
            }
        }
        Error::InvalidCertificate(_) => CertificateError::Unreadable,
        other => CertificateError::KeyUnusable(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    use super::super::ocsp::tests::answer;
    use super::*;

    fn made(name: &str) -> (String, String) {
        let Made { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn error(chain: &str, key: &str) -> CertificateError {
        Certificate::from_pem(chain.as_bytes(), key.as_bytes(), None).expect_err("it cannot be used")
    }

    #[test]
    fn a_certificate_and_its_key_can_be_in_one_file() {
        let (chain, key) = made("a.test");
        let both = format!("{key}{chain}");
        let certificate = Certificate::from_pem(both.as_bytes(), both.as_bytes(), None).expect("it is good");
        assert_eq!(certificate.facts.names, ["a.test".into()]);
    }

    #[test]
    fn what_cannot_be_served_says_why() {
        let ((a, a_key), (b, b_key)) = (made("a.test"), made("b.test"));
        assert_eq!(error(&a, &b_key), CertificateError::Mismatch);
        assert_eq!(error(&format!("{a}{b}"), &b_key), CertificateError::WrongOrder(2));
        assert_eq!(error("", &a_key), CertificateError::NoCertificate);
        assert_eq!(error("nonsense", &a_key), CertificateError::NoCertificate);
        assert_eq!(error(&a, ""), CertificateError::NoKey);
        assert_eq!(error(&a, &a_key.replace("PRIVATE", "ENCRYPTED PRIVATE")), CertificateError::KeyEncrypted);
        assert_eq!(error(&a[..a.len() / 2], &a_key), CertificateError::NotPem("certificate"));
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(error(other, &a_key), CertificateError::Unreadable);
        let other = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(error(&a, other), CertificateError::KeyUnusable(_)));
    }

    #[test]
    fn an_ocsp_answer_must_be_a_successful_one_and_is_stapled_while_it_holds() {
        let (chain, key) = made("a.test");
        let with = |ocsp: &[u8]| Certificate::from_pem(chain.as_bytes(), key.as_bytes(), Some(ocsp.to_vec()));
        assert_eq!(with(b"<html>").expect_err("no answer"), CertificateError::Ocsp);
        assert_eq!(with(&[0x30, 3, 0x0a, 1, 3]).expect_err("try later"), CertificateError::Ocsp);
        for (until, holds) in
            [(Some("20990101000000Z"), true), (None, true), (Some("20260102000000Z"), false)]
        {
            let answer = answer(&[until]);
            let certificate = with(&answer).expect("an answer");
            let stapled = certificate.key.now().ocsp.clone();
            assert_eq!(stapled, holds.then_some(answer), "{until:?}");
            assert_eq!(certificate.stapled_until.is_some(), until.is_some());
        }
    }
}
