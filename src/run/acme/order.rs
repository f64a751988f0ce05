//! One certificate: the order, the proof that the host is ours, the chain.
//!
//! Not here: when, and what becomes of it (see the module above).

use std::sync::Arc;

use fairway_config::file::AcmeChallenge;
use fairway_proxy::tls::challenges::Challenges;
use fairway_proxy::tls::{Certificate, CertificateError};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use std::time::Duration;

/// How long the authority may take for its questions, and for the certificate.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));

/// What an authority made, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Issued {
    /// PEM, the host's own first.
    chain: String,
    /// PEM.
    key: String,
}

impl Issued {
    pub(super) fn certificate(&self) -> Result<Certificate, CertificateError> {
        Certificate::from_pem(self.chain.as_bytes(), self.key.as_bytes(), None)
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The authority refused, or could not be asked.
    #[error("{}", told(.0))]
    Acme(#[from] Error),
    /// The proof did not hold.
    #[error("the authority's check failed: {0}")]
    NotProven(String),
    /// It offers no way to prove it that is configured.
    #[error("the authority does not offer the challenge {0}")]
    NotOffered(&'static str),
    /// What it made cannot be served.
    #[error("the authority's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failed {
    /// What people can do.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NotProven(_) => {
                "let the host's address lead here, with the ports 80 and 443 open to the authority"
            }
            Self::NotOffered(_) => "write the other one in `[acme] challenge`",
            Self::Acme(Error::Other(_) | Error::Timeout(_)) => {
                "let this machine reach `[acme] directory`; one that no public authority has certified needs `[acme] ca`"
            }
            Self::Acme(_) | Self::Certificate(_) | Self::Other(_) => {
                "compare `[acme]` with what the authority asks for; `[[certificate]]` serves the host meanwhile"
            }
        }
    }

    /// Whether the authority does not know our account any more.
    pub(super) fn is_unknown_account(&self) -> bool {
        let Self::Acme(Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
    }
}

/// An error with its cause: what the authority says, or why it was not reached.
fn told(error: &Error) -> String {
    match error {
        Error::Api(problem) => describe(problem),
        Error::Other(cause) => {
            let mut last: &dyn std::error::Error = &**cause;
            while let Some(source) = last.source() {
                last = source;
            }
            format!("the authority cannot be asked: {last}")
        }
        other => other.to_string(),
    }
}

fn describe(problem: &instant_acme::Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("no type");
    let kind = kind.rsplit(':').next().unwrap_or(kind);
    // Written by others: bounded, and in one line.
    let detail: String = problem.detail.as_deref().unwrap_or("no reason given").chars().take(500).collect();
    format!("{} ({})", detail.escape_debug(), kind.escape_debug())
}

/// An order for one host.
pub(super) struct Order<'a> {
    pub(super) account: &'a Account,
    pub(super) host: &'a Arc<str>,
    pub(super) challenge: AcmeChallenge,
    pub(super) challenges: &'a Challenges,
}

impl Order<'_> {
    /// Orders, proves, and takes the certificate.
    pub(super) async fn issue(&self) -> Result<Issued, Failed> {
        let identifiers = [Identifier::Dns(self.host.to_string())];
        let mut order = self.account.new_order(&NewOrder::new(&identifiers)).await?;
        let mut open = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                other => return Err(Failed::NotProven(format!("the authorization is {other:?}"))),
            }
            let (kind, name) = match self.challenge {
                AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
                AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
            };
            let mut challenge = authorization.challenge(kind).ok_or(Failed::NotOffered(name))?;
            open.push(self.answer(&challenge)?);
            challenge.set_ready().await?;
        }
        let status = order.poll_ready(&PATIENCE).await;
        if !matches!(status, Ok(OrderStatus::Ready)) {
            let reason = self.reason(&mut order).await;
            return Err(match (reason, status) {
                (Some(reason), _) => Failed::NotProven(reason),
                (None, Err(error)) => error.into(),
                (None, Ok(status)) => Failed::NotProven(format!("the order is {status:?}")),
            });
        }
        drop(open);
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&PATIENCE).await?;
        Ok(Issued { chain, key })
    }

    /// Has the question answered as long as what this gives lives.
    fn answer(&self, challenge: &ChallengeHandle<'_>) -> Result<Answer<'_>, Failed> {
        let proof = challenge.key_authorization();
        let answer = Answer { challenges: self.challenges, host: self.host, token: challenge.token.clone() };
        match self.challenge {
            AcmeChallenge::Http01 => self.challenges.answer_requests(&answer.token, proof.as_str()),
            AcmeChallenge::TlsAlpn01 => {
                let (certificate, key) = proving(self.host, proof.digest().as_ref())?;
                self.challenges.answer_handshakes(self.host, certificate, key)?;
            }
        }
        Ok(answer)
    }

    /// What the authority says of the question that failed.
    async fn reason(&self, order: &mut instant_acme::Order) -> Option<String> {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            // What it was asked first is known from before: its errors are new.
            let state = authorization.refresh().await.ok()?;
            if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return Some(describe(problem));
            }
        }
        None
    }
}

/// A question that is answered as long as this lives.
struct Answer<'a> {
    challenges: &'a Challenges,
    host: &'a str,
    token: String,
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.challenges.forget(self.host, &self.token);
    }
}

/// The certificate that answers in a handshake (RFC 8737 section 3).
fn proving(host: &str, digest: &[u8]) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Failed> {
    let failed = |error: rcgen::Error| Failed::Other(format!("no certificate for the challenge: {error}"));
    let mut params = CertificateParams::new([host.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&key).map_err(failed)?;
    Ok((made.der().clone(), key.into()))
}
