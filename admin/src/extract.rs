//! What handlers take from a request, each with a refusal that says what is wrong and where.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::control::Who;
use crate::problem::Refusal;

/// Largest body.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for a body.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Most characters of a client's name.
const NAME_CHARS_MAX: usize = 64;

/// The one name in the path, percent-decoded.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Self(name))
            .map_err(|error| Refusal::bad_request("bad-path", "No such path", error.body_text()))
    }
}

/// The query, each parameter as often as it stands there.
pub(crate) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query.map(|Query(pairs)| Self(pairs)).map_err(|error| bad_query(error.body_text()))
    }
}

impl Parameters {
    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The last value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Every value of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A query that cannot be understood.
pub(crate) fn bad_query(detail: impl Into<String>) -> Refusal {
    Refusal::bad_request("bad-query", "Bad query", detail)
}

/// A JSON body of at most 64 KiB.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        check_media_type(parts.headers.get(CONTENT_TYPE))?;
        if told_length(&parts.headers).is_some_and(|length| length > BODY_BYTES_MAX as u64) {
            return Err(too_large());
        }
        let whole = timeout(BODY_WITHIN, Limited::new(body, BODY_BYTES_MAX).collect()).await;
        let bytes = match whole {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(error)) => {
                return Err(Refusal::bad_request("bad-body", "The body is cut short", error.to_string()));
            }
            Err(_) => {
                let detail = format!("the body did not come within {} s", BODY_WITHIN.as_secs());
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "body-timeout",
                    "The body is late",
                    detail,
                ));
            }
        };
        serde_json::from_slice(&bytes).map(Self).map_err(|error| bad_json(&error))
    }
}

/// The same, or nothing at all.
pub(crate) struct MaybeBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for MaybeBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if HttpBody::is_end_stream(request.body()) {
            return Ok(Self(T::default()));
        }
        Body::from_request(request, state).await.map(|Body(value)| Self(value))
    }
}

fn told_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `application/json` or `application/...+json`; and, as what is read is JSON either way, none and what `curl -d` and
/// Python's urllib say when nobody tells them. Not what a form on another site could wrap JSON in (`text/plain`): a form
/// that is `x-www-form-urlencoded` cannot carry a brace. Scripts on other sites are refused by `guard`.
fn check_media_type(field: Option<&HeaderValue>) -> Result<(), Refusal> {
    let told = field.and_then(|field| field.to_str().ok()).unwrap_or_default();
    let media = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let may_be_json = matches!(&*media, "" | "application/json" | "application/x-www-form-urlencoded")
        || (media.starts_with("application/") && media.ends_with("+json"));
    if may_be_json {
        return Ok(());
    }
    let detail = format!("the body is `{told}`; send `application/json`");
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "The body is not JSON", detail))
}

fn too_large() -> Refusal {
    let detail = format!("a body has at most {BODY_BYTES_MAX} octets");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
}

/// What is no JSON is 400; JSON that says something else than what was asked for is 422.
fn bad_json(error: &serde_json::Error) -> Refusal {
    // serde_json ends its text with the place, which has members of its own.
    let refusal = match error.classify() {
        Category::Data => Refusal::unprocessable("bad-order", "No such order", error.to_string()),
        _ => Refusal::bad_request("bad-json", "The body is not JSON", error.to_string()),
    };
    refusal.with("line", error.line()).with("column", error.column())
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    /// The user at the other end, when the system tells.
    Unix(Option<u32>),
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let from = match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(Peer::Tcp(address))) => address.to_string(),
            Some(ConnectInfo(Peer::Unix(Some(user)))) => format!("unix user {user}"),
            Some(ConnectInfo(Peer::Unix(None))) | None => "unix".to_owned(),
        };
        let agent =
            parts.headers.get(USER_AGENT).map(|agent| agent.to_str().map_or("?".into(), Cow::Borrowed));
        let name: String = agent.unwrap_or("api".into()).chars().take(NAME_CHARS_MAX).collect();
        Ok(Self { name, from })
    }
}

/// A field that may stand several times as one list.
pub(crate) struct IfMatch(pub(crate) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        joined(&parts.headers, IF_MATCH).map(Self)
    }
}

fn joined(headers: &HeaderMap, name: HeaderName) -> Result<Option<String>, Refusal> {
    let texts: Result<Vec<&str>, _> = headers.get_all(&name).iter().map(HeaderValue::to_str).collect();
    let texts = texts
        .map_err(|_| Refusal::bad_request("bad-header", "Bad header field", format!("{name} is no text")))?;
    Ok((!texts.is_empty()).then(|| texts.join(",")))
}
