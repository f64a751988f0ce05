//! Deliveries to one webhook, one after the other: each is tried until it is taken, for an hour at most.
//!
//! Signed as Standard Webhooks has it (<https://www.standardwebhooks.com>): `webhook-signature` is `v1,` and the base64 of
//! HMAC-SHA256 over `webhook-id.webhook-timestamp.body`.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fairway_admin::types::EventItem;
use fairway_catalog::event::Event;
use fairway_config::file::Webhook;
use http_body_util::Full;
use hyper::Request;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::Told;
use crate::run::certificates::read_file;
use crate::run::client::{self, Cause, Client};

/// Longest time for one attempt.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a failed attempt: doubled with each, from the one to the other.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How long an event is tried.
const TRIED_FOR: Duration = Duration::from_secs(3600);

/// What is sent: the event as the API has it, and whose it is.
#[derive(Serialize)]
struct Message<'a> {
    node: &'a str,
    #[serde(flatten)]
    event: EventItem,
}

/// Sends what comes until nothing can come any more.
pub(super) async fn deliver(webhook: Webhook, mut events: mpsc::Receiver<Event>, told: Told) {
    // Several events may share a revision.
    let (mut revision, mut number) = (0, 0u32);
    while let Some(event) = events.recv().await {
        number = if event.revision == revision { number + 1 } else { 0 };
        revision = event.revision;
        let id = format!("{}-{revision}-{number}", told.node);
        let message = Message { node: &told.node, event: EventItem::from(&event) };
        let body: Bytes = serde_json::to_vec(&message).expect("texts and numbers fail on nothing").into();
        until_taken(&webhook, &id, &body, &told).await;
    }
}

async fn until_taken(webhook: &Webhook, id: &str, body: &Bytes, told: &Told) {
    let (give_up, mut pause) = (Instant::now() + TRIED_FOR, PAUSES.0);
    loop {
        let error = match timeout(PATIENCE, attempt(webhook, id, body)).await {
            Ok(Ok(())) => {
                told.count(webhook, "delivered");
                told.failing(webhook, None);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let url = super::place(&webhook.url);
        tracing::warn!(webhook = url, error, "an event could not be delivered");
        told.failing(webhook, Some(&error));
        if Instant::now() + pause >= give_up {
            return told.count(webhook, "given-up");
        }
        told.count(webhook, "failed");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn attempt(webhook: &Webhook, id: &str, body: &Bytes) -> Result<(), Cause> {
    let at = Timestamp::now().as_second().to_string();
    let mut request = Request::post(&*webhook.url)
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .header("user-agent", concat!("fairway/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", &at);
    if let Some(file) = &webhook.secret_file {
        let secret = secret(file).map_err(|why| format!("{}: {why}", file.display()))?;
        request = request.header("webhook-signature", sign(&secret, id, &at, body));
    }
    let request = request.body(Full::new(body.clone()))?;
    let answer = match webhook.url.starts_with("https:") {
        // Authorities may change: read for each attempt, of which there are few.
        true => {
            let ca = webhook.ca.clone();
            spawn_blocking(move || Client::new(ca.as_deref())).await??.send(request).await?
        }
        false => client::send_plainly(request).await?,
    };
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answered {status}").into()),
    }
}

/// The secret in this file.
pub(crate) fn secret(file: &Path) -> Result<Vec<u8>, SecretError> {
    let contents = read_file(file)?;
    let secret = contents.trim_ascii();
    let secret = match secret.strip_prefix(b"whsec_") {
        Some(text) => STANDARD.decode(text)?,
        None => secret.to_vec(),
    };
    if secret.is_empty() { Err(SecretError::Empty) } else { Ok(secret) }
}

/// Why a file holds no secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("the file cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("what follows `whsec_` is not base64: {0}")]
    NotBase64(#[from] base64::DecodeError),
}

/// The value of `webhook-signature`.
pub(super) fn sign(secret: &[u8], id: &str, at: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_signed_as_standard_webhooks_has_it() {
        // The example of the libraries that verify it.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let (id, at) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let signature = sign(&secret, id, at, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
