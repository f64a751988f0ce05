//! The answer to each path.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::body::{self, Body};
use super::connection::Connection;
use super::{Shared, call, finishing, query};
use crate::ws;

/// One request, and who has to answer it.
struct Call {
    request: Request<Incoming>,
    /// The how manieth on its connection.
    nth: u64,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
}

/// Answers one request; fails when no answer is what was asked for.
pub(super) async fn answer(
    request: Request<Incoming>,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
) -> io::Result<Response<Body>> {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let nth = connection.requests.fetch_add(1, Ordering::Relaxed) + 1;
    let identity = shared.identity.clone();
    if let Some(end) = asked_for_no_answer(&request, &connection) {
        return Err(end);
    }
    let mut response = Call { request, nth, connection, shared }.answer().await;
    for (name, value) in identity.fields() {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

impl Call {
    async fn answer(mut self) -> Response<Body> {
        let path = self.request.uri().path().to_owned();
        let path = path.as_str();
        let query = self.request.uri().query().unwrap_or_default().to_owned();
        let pause = Duration::from_millis(query::number(&query, "ms").unwrap_or(0));
        let count = query::number(&query, "n");
        match path {
            "/health" => self.health(),
            "/_health/fail" | "/_health/ok" => self.set_health(path.ends_with("ok")),
            "/slow" => {
                sleep(pause).await;
                self.describe().await
            }
            "/bytes" => sized(count.unwrap_or(0), body::filler(count.unwrap_or(0))),
            "/chunked" => Response::new(body::paced(count.unwrap_or(3), pause, |at| format!("chunk {at}\n"))),
            "/sse" => {
                let events = |at| format!("data: {at}\n\n");
                let end = finishing(self.shared.phase.clone());
                event_stream(body::paced_until(
                    end,
                    count.unwrap_or(u64::MAX),
                    pause,
                    events,
                    "event: end\n\n",
                ))
            }
            "/echo" => self.echo(),
            "/early" => with_status(413, json!({ "early": true })),
            "/fields" => with_fields(self.describe().await, &query),
            "/ws" => self.web_socket(),
            "/trailers" => self.trailers().await,
            "/close" => with_fields(self.describe().await, "connection=close"),
            "/reset" | "/cut" => {
                self.connection.reset.store(path == "/reset", Ordering::Relaxed);
                broken(query::number(&query, "after").unwrap_or(0))
            }
            "/count" => with_status(200, json!({ "requests": self.shared.requests.load(Ordering::Relaxed) })),
            "/call" => self.call_on(&query).await,
            _ => match path.strip_prefix("/status/").and_then(|code| code.parse().ok()) {
                Some(code) => self.status(code).await,
                None => self.describe().await,
            },
        }
    }

    fn health(&self) -> Response<Body> {
        let healthy = self.shared.healthy.load(Ordering::Relaxed);
        with_status(if healthy { 200 } else { 503 }, json!({ "healthy": healthy }))
    }

    fn set_health(&self, healthy: bool) -> Response<Body> {
        if self.request.method() != Method::POST {
            return with_status(405, json!({ "error": "POST changes the health" }));
        }
        self.shared.healthy.store(healthy, Ordering::Relaxed);
        self.health()
    }

    /// The request as it came, and who says so.
    async fn describe(&mut self) -> Response<Body> {
        let body = self.read_body().await;
        let identity = &self.shared.identity;
        let uri = self.request.uri();
        let headers = self.request.headers().iter();
        let headers =
            headers.map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]));
        let mut answer = with_status(
            200,
            json!({
                "instance": identity.instance,
                "version": identity.version,
                "service": identity.service,
                "method": self.request.method().as_str(),
                "path": uri.path(),
                "query": uri.query().unwrap_or_default(),
                "target": uri.to_string(),
                "http": format!("{:?}", self.request.version()),
                "headers": headers.collect::<Vec<Value>>(),
                "body_len": body.as_ref().map(Bytes::len),
                "peer": self.connection.peer.to_string(),
                "connection": self.connection.number,
                "nth": self.nth,
            }),
        );
        if let Some(body) = body {
            answer.headers_mut().insert("x-taken", body.len().into());
            if self.request.method() == Method::POST {
                self.shared.note(self.request.headers().get("x-request-id"));
            }
        }
        answer
    }

    /// `None` for a body that broke off.
    async fn read_body(&mut self) -> Option<Bytes> {
        self.request.body_mut().collect().await.ok().map(http_body_util::Collected::to_bytes)
    }

    fn echo(self) -> Response<Body> {
        let kind = self.request.headers().get("content-type").cloned();
        let length = self.request.headers().get("content-length").cloned();
        let body = self.request.into_body().map_err(std::io::Error::other).boxed_unsync();
        let mut response = Response::new(body);
        for (name, value) in [("content-type", kind), ("content-length", length)] {
            if let Some(value) = value {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }

    async fn status(&mut self, code: u16) -> Response<Body> {
        let mut response = self.describe().await;
        match hyper::StatusCode::from_u16(code) {
            Ok(status) if matches!(code, 204 | 304) => {
                let mut bare = Response::new(body::empty());
                *bare.status_mut() = status;
                return bare;
            }
            // hyper refuses to send an interim status as the last one.
            Ok(status) if code >= 200 => *response.status_mut() = status,
            _ => return with_status(400, json!({ "error": format!("{code} is no status") })),
        }
        response
    }

    async fn trailers(mut self) -> Response<Body> {
        let octets = self.read_body().await.unwrap_or_default();
        let octets = if octets.is_empty() { Bytes::from_static(b"with trailers\n") } else { octets };
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-octets"), octets.len().into())]);
        let mut response = Response::new(body::with_trailers(octets, trailers));
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-octets"));
        response
    }

    fn web_socket(self) -> Response<Body> {
        let key = self.request.headers().get("sec-websocket-key").and_then(|key| key.to_str().ok());
        let Some(accept) = key.map(ws::accept_for) else {
            return with_fields(with_status(426, json!({ "error": "no handshake" })), "upgrade=websocket");
        };
        let open = OpenSocket::of(&self.shared);
        tokio::spawn(async move {
            // An upgrade that fails ends the connection, which is what the client then sees.
            if let Ok(upgraded) = hyper::upgrade::on(self.request).await {
                let end = finishing(open.0.phase.clone());
                ws::echo_until(ws::Ws::server(TokioIo::new(upgraded)), end).await;
            }
        });
        let mut response = Response::new(body::empty());
        *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
        let fields = format!("connection=upgrade&upgrade=websocket&sec-websocket-accept={}", encode(&accept));
        with_fields(response, &fields)
    }

    async fn call_on(&self, query: &str) -> Response<Body> {
        let Some(url) = query::text(query, "url") else {
            return with_status(400, json!({ "error": "no url" }));
        };
        match call::get(&url).await {
            Ok(answer) => with_status(
                200,
                json!({
                    "status": answer.status,
                    "body": serde_json::from_slice(&answer.body).unwrap_or_else(|_| Value::from(answer.text())),
                }),
            ),
            Err(why) => with_status(502, json!({ "error": why })),
        }
    }
}

/// Counts a WebSocket for as long as it is open.
struct OpenSocket(Arc<Shared>);

impl OpenSocket {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.sockets.send_modify(|open| *open += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets.send_modify(|open| *open -= 1);
    }
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn with_status(code: u16, told: Value) -> Response<Body> {
    let mut text = told.to_string();
    text.push('\n');
    let mut response = Response::new(body::whole(text));
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// Appends the pairs of `query` that can be fields.
fn with_fields(mut response: Response<Body>, query: &str) -> Response<Body> {
    for (name, value) in query::pairs(query) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn sized(octets: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-length", octets.into());
    response
}

fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-cache"));
    response
}

/// Breaks off after this many octets of a body that promised more.
fn broken(after: u64) -> Response<Body> {
    sized(2 * after.max(1), body::broken(after))
}

/// `/reset` and `/cut` without a number of octets.
fn asked_for_no_answer(request: &Request<Incoming>, connection: &Connection) -> Option<io::Error> {
    let reset = match request.uri().path() {
        "/reset" => true,
        "/cut" => false,
        _ => return None,
    };
    if request.uri().query().is_some_and(|query| query::text(query, "after").is_some()) {
        return None;
    }
    connection.reset.store(reset, Ordering::Relaxed);
    Some(io::Error::other("no answer, as asked"))
}
