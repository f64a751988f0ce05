//! Answers to an authority that asks whether a host is ours: by a handshake (RFC 8737) or by a request (RFC 8555 section 8.3).
//!
//! Not here: what the answers are, and when they are wanted (the program's business).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{CertificateError, provider};

/// The protocol that an authority offers in a handshake that is a question.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Where an authority asks over HTTP.
const PATH: &str = "/.well-known/acme-challenge/";

/// The challenges that are open. There are some for seconds in weeks, so the question whether there are any costs nothing.
#[derive(Debug, Default)]
pub struct Challenges {
    open: AtomicUsize,
    handshakes: DashMap<Box<str>, Arc<CertifiedKey>>,
    requests: DashMap<Box<str>, Arc<str>>,
}

impl Challenges {
    /// Whether there are any.
    pub fn are_open(&self) -> bool {
        self.open.load(Relaxed) > 0
    }

    /// Shows this certificate to an authority that asks for `host` in a handshake. Nothing of it is checked: it has an
    /// extension that only authorities know.
    pub fn answer_handshakes(
        &self,
        host: &str,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), CertificateError> {
        let unusable = |error: rustls::Error| CertificateError::KeyUnusable(error.to_string());
        let key = provider().key_provider.load_private_key(key).map_err(unusable)?;
        self.handshakes.insert(host.into(), Arc::new(CertifiedKey::new(vec![certificate], key)));
        self.count();
        Ok(())
    }

    /// Answers an authority's request for `token` with `text`.
    pub fn answer_requests(&self, token: &str, text: &str) {
        self.requests.insert(token.into(), text.into());
        self.count();
    }

    /// Answers neither for this host nor for this token any more.
    pub fn forget(&self, host: &str, token: &str) {
        self.handshakes.remove(host);
        self.requests.remove(token);
        self.count();
    }

    fn count(&self) {
        self.open.store(self.handshakes.len() + self.requests.len(), Relaxed);
    }

    pub(super) fn handshake(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        self.handshakes.get(host).map(|certificate| certificate.clone())
    }

    /// The answer to a request for this path, if it is a question that is open.
    pub(crate) fn request(&self, path: &str) -> Option<Arc<str>> {
        if !self.are_open() {
            return None;
        }
        self.requests.get(path.strip_prefix(PATH)?).map(|answer| answer.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_while_it_is_open() {
        let challenges = Challenges::default();
        assert!(!challenges.are_open());
        challenges.answer_requests("token", "token.print");
        assert_eq!(challenges.request("/.well-known/acme-challenge/token").as_deref(), Some("token.print"));
        assert_eq!(challenges.request("/.well-known/acme-challenge/other"), None);
        assert_eq!(challenges.request("/token"), None);
        challenges.forget("a.test", "token");
        assert!(!challenges.are_open());
        assert_eq!(challenges.request("/.well-known/acme-challenge/token"), None);
    }
}
