//! Asks the admin API: one request, one connection, bounded in time and size.
//!
//! Not here: where the API is (see `address`), how a refusal reads (see `failure`).

mod connection;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::address::{self, AdminAddress, Place};
use super::args::ApiArgs;
use super::failure::{Failure, Refusal};

/// Longest wait for an answer that is not asked to wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer: ten thousand instances are a tenth of it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What stands for itself within a component of a URL (RFC 3986 section 2.3).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A component of a path or query, percent-encoded.
pub(crate) fn component(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

/// Asks one admin API.
#[derive(Debug)]
pub(crate) struct Client {
    address: AdminAddress,
    /// `Bearer ...`
    authorization: Option<HeaderValue>,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
}

impl Client {
    /// From flags, else environment, else the default. Reads the token file.
    pub(crate) fn new(args: &ApiArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let set = |name| env(name).filter(|value| !value.trim().is_empty());
        let url = args.admin.clone().or_else(|| set("FAIRWAY_ADMIN_URL"));
        let url = url.as_deref().unwrap_or(address::DEFAULT);
        let address =
            url.parse().map_err(|error: address::NotAnAddress| Failure::Usage(error.to_string()))?;
        let token_file = args.token_file.clone().or_else(|| set("FAIRWAY_TOKEN_FILE").map(Into::into));
        let authorization = token_file.as_deref().map(authorization).transpose()?;
        Ok(Self { address, authorization })
    }

    /// GET, the answer read as `T`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let answer = self.send(Method::GET, path, None, Duration::ZERO).await?;
        self.read(&answer)
    }

    /// The answer as `T`.
    pub(crate) fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Failure> {
        serde_json::from_slice(&answer.body).map_err(|error| self.not_ours(error.to_string()))
    }

    /// Sends one request; `extra` is how much longer than usual the answer may take. Fails on any status but 2xx.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        extra: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(method, path, body)?;
        let patience = PATIENCE + extra;
        let (status, body) = match timeout(patience, self.exchange(request)).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(self.unreachable(format!("no answer within {} s", patience.as_secs()), HANGS));
            }
        };
        if status.is_success() {
            return Ok(Answer { body });
        }
        match Refusal::read(status, &body) {
            Some(refusal) => Err(Failure::Refused(refusal)),
            None => Err(self.not_ours(format!("it answered {status} to {path}"))),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let (base, host) = match &self.address.place {
            Place::Tcp { base, authority, .. } => (base.as_str(), authority.as_str()),
            Place::Unix(_) => ("", "localhost"),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(HOST, host)
            .header(USER_AGENT, concat!("fairway/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, application/problem+json")
            .header(CONNECTION, "close");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        request
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("{path} cannot be asked for: {error}")))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Failure> {
        let stream = connection::open(&self.address.place)
            .await
            .map_err(|error| self.unreachable(error.why, error.remedy))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
            .await
            .map_err(|error| self.unreachable(error.to_string(), HANGS))?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| self.not_ours(connection::innermost(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.not_ours(connection::innermost(&*error)))?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection may end first; whatever ended it has been handed to the request by then.
            _ = connection => answer.await,
        }
    }

    fn unreachable(&self, why: impl Into<String>, remedy: &'static str) -> Failure {
        Failure::Unreachable { url: self.address.to_string(), why: why.into(), remedy }
    }

    fn not_ours(&self, why: impl Into<String>) -> Failure {
        Failure::NotOurs { url: self.address.to_string(), why: why.into() }
    }
}

/// What to do about a server that accepts and says nothing.
const HANGS: &str = "check that it is the admin listener of a running `fairway run`";

/// The header field that carries the token of a file; white space around the token is dropped.
fn authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("the token file {}: {why}", file.display()));
    let token = std::fs::read_to_string(file).map_err(|error| wrong(&error.to_string()))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(wrong("it is empty"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| wrong("write one line of visible characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
