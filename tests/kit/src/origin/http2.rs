//! An origin that speaks HTTP/2 without TLS and nothing else: gRPC calls, and any other request described.
//!
//! The end of the program is said with GOAWAY, and what has been accepted is finished, as servers of gRPC do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{LAST_CHANCE, Shared, finishing};
use crate::grpc::{self, Messages};

/// Octets of one request that may be on their way, and of all of one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A `HealthCheckResponse` of `grpc.health.v1` that says `SERVING`, and one that says `NOT_SERVING`.
const SERVING: &[u8] = &[8, 1];
const NOT_SERVING: &[u8] = &[8, 2];

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut builder = Builder::new();
    builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let never_greeted = async {
        finishing(shared.phase.clone()).await;
        sleep(LAST_CHANCE).await;
    };
    let mut http = tokio::select! {
        shaken = builder.handshake::<_, Bytes>(stream) => match shaken {
            Ok(http) => http,
            Err(_) => return, // for the client's side of a test to judge
        },
        () = never_greeted => return,
    };
    let (mut answers, mut ends) = (JoinSet::new(), false);
    let mut end = std::pin::pin!(finishing(shared.phase.clone()));
    loop {
        tokio::select! {
            asked = http.accept() => {
                let Some(Ok((request, respond))) = asked else { return };
                answers.spawn(answer(request, respond, Arc::clone(&shared)));
            }
            () = &mut end, if !ends => {
                ends = true;
                http.graceful_shutdown();
            }
            Some(_) = answers.join_next() => {}
        }
    }
}

/// Answers one request. What breaks it off is for the client's side of a test to judge.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, shared: Arc<Shared>) {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let (head, body) = request.into_parts();
    let id = head.headers.get("x-request-id").cloned();
    let mut response = Response::new(());
    response.headers_mut().extend(shared.identity.fields());
    let is_call = head.headers.get("content-type").is_some_and(|kind| kind == grpc::CONTENT_TYPE);
    let kind = if is_call { grpc::CONTENT_TYPE } else { "application/json" };
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    let asked = Asked { body, messages: Messages::default() };
    let number = |name| head.headers.get(name).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // What fails here failed because the client has gone, or the connection has.
    let _: Result<(), h2::Error> = async {
        match head.uri.path() {
            "/grpc.health.v1.Health/Check" => health(asked, &mut respond, response, &shared).await,
            "/kit.Calls/Unary" => {
                let taken = unary(asked, &mut respond, response).await?;
                if taken {
                    shared.note(id.as_ref());
                }
                Ok(())
            }
            "/kit.Calls/Down" => {
                let pause = Duration::from_millis(number("x-ms").unwrap_or(0));
                down(asked, &mut respond, response, number("x-n").unwrap_or(3), pause).await
            }
            "/kit.Calls/Both" => both(asked, &mut respond, response).await,
            _ if is_call => {
                response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
                respond.send_response(response, true).map(drop)
            }
            _ => {
                let octets = asked.read().await?;
                if head.method == hyper::Method::POST {
                    shared.note(id.as_ref());
                }
                let identity = &shared.identity;
                let mut told = json!({
                    "instance": identity.instance,
                    "version": identity.version,
                    "service": identity.service,
                    "method": head.method.as_str(),
                    "path": head.uri.path(),
                    "http": format!("{:?}", head.version),
                    "body_len": octets.len(),
                })
                .to_string();
                told.push('\n');
                response.headers_mut().insert("x-taken", octets.len().into());
                respond.send_response(response, false)?.send_data(told.into(), true)
            }
        }
    }
    .await;
}

/// The body of a request.
struct Asked {
    body: RecvStream,
    messages: Messages,
}

impl Asked {
    async fn more(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let Some(octets) = self.body.data().await.transpose()? else { return Ok(None) };
        self.body.flow_control().release_capacity(octets.len())?;
        Ok(Some(octets))
    }

    /// The whole body.
    async fn read(mut self) -> Result<Vec<u8>, h2::Error> {
        let mut whole = Vec::new();
        while let Some(octets) = self.more().await? {
            whole.extend_from_slice(&octets);
        }
        Ok(whole)
    }

    /// The next message of a call; `None` after the last one.
    async fn message(&mut self) -> Result<Option<Bytes>, h2::Error> {
        loop {
            if let Some(message) = self.messages.pop() {
                return Ok(Some(message));
            }
            match self.more().await? {
                Some(octets) => self.messages.push(&octets),
                None => return Ok(None),
            }
        }
    }
}

async fn health(
    mut asked: Asked,
    respond: &mut SendResponse<Bytes>,
    response: Response<()>,
    shared: &Shared,
) -> Result<(), h2::Error> {
    while asked.message().await?.is_some() {}
    let healthy = shared.healthy.load(Ordering::Relaxed);
    let mut answer = respond.send_response(response, false)?;
    answer.send_data(grpc::message(if healthy { SERVING } else { NOT_SERVING }), false)?;
    ended_well(&mut answer)
}

/// One message that comes back. Whether there was one.
async fn unary(
    mut asked: Asked,
    respond: &mut SendResponse<Bytes>,
    response: Response<()>,
) -> Result<bool, h2::Error> {
    let first = asked.message().await?;
    while asked.message().await?.is_some() {}
    let mut answer = respond.send_response(response, false)?;
    if let Some(message) = &first {
        answer.send_data(grpc::message(message), false)?;
    }
    ended_well(&mut answer)?;
    Ok(first.is_some())
}

/// So many messages, so far apart.
async fn down(
    asked: Asked,
    respond: &mut SendResponse<Bytes>,
    response: Response<()>,
    count: u64,
    pause: Duration,
) -> Result<(), h2::Error> {
    asked.read().await?;
    let mut answer = respond.send_response(response, false)?;
    for at in 0..count {
        if at > 0 {
            sleep(pause).await;
        }
        answer.send_data(grpc::message(format!("message {at}").as_bytes()), false)?;
    }
    ended_well(&mut answer)
}

/// Every message comes back, until the client has sent its last one.
async fn both(
    mut asked: Asked,
    respond: &mut SendResponse<Bytes>,
    response: Response<()>,
) -> Result<(), h2::Error> {
    let mut answer = respond.send_response(response, false)?;
    while let Some(message) = asked.message().await? {
        answer.send_data(grpc::message(&message), false)?;
    }
    ended_well(&mut answer)
}

/// The trailers of a call that ended as it should.
fn ended_well(answer: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers)
}
