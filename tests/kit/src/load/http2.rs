//! Requests and calls of gRPC over HTTP/2, as streams of one shared connection or on a connection each.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use hyper::{HeaderMap, Request, Version};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::LoadOptions;
use super::wire::{Failure, Reply, TAIL};
use crate::grpc::{self, Messages};
use crate::tls::Client;

/// Octets of one answer that may be on their way, and of all of one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What requests are sent over.
#[derive(Debug, Clone, Default)]
pub enum Over {
    /// HTTP/1.1 without TLS.
    #[default]
    Http1,
    /// HTTP/2 without TLS.
    H2c,
    /// HTTP/2 over TLS, by this client.
    Tls(Client),
}

/// A call of gRPC, to the origin's methods.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// A message that comes back.
    Unary,
    /// One message, and so many that come, so far apart.
    Down(u64, Duration),
    /// So many messages that come back one by one, so far apart.
    Both(u64, Duration),
}

impl Call {
    fn path(self) -> &'static str {
        match self {
            Self::Unary => "/kit.Calls/Unary",
            Self::Down(..) => "/kit.Calls/Down",
            Self::Both(..) => "/kit.Calls/Both",
        }
    }
}

/// The connection that the streams of a load share.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Option<SendRequest<Bytes>>>);

impl Shared {
    /// One request. `opened` counts connections.
    pub(super) async fn exchange(&self, options: &LoadOptions, opened: &mut u64) -> Result<Reply, Failure> {
        let mut sender = if options.keep_alive {
            self.sender(options, opened).await?
        } else {
            *opened += 1;
            connect(options).await?
        };
        let ends = options.call.is_none() && options.body.is_empty();
        let (answer, body) = sender.send_request(request(options)?, ends).map_err(why)?;
        // A connection of its own ends with its last handle.
        drop(sender);
        let sent = Sent { answer, body };
        match options.call {
            Some(call) => sent.call(call).await,
            None if ends => sent.answer().await,
            None => sent.request(&options.body).await,
        }
    }

    async fn sender(&self, options: &LoadOptions, opened: &mut u64) -> Result<SendRequest<Bytes>, Failure> {
        let mut open = self.0.lock().await;
        if let Some(sender) = &*open
            && let Ok(ready) = sender.clone().ready().await
        {
            return Ok(ready);
        }
        *opened += 1;
        let sender = connect(options).await?;
        *open = Some(sender.clone());
        Ok(sender)
    }
}

async fn connect(options: &LoadOptions) -> Result<SendRequest<Bytes>, Failure> {
    match &options.over {
        Over::Tls(client) => {
            let stream = client.connect(options.address, &options.host).await;
            greet(stream.map_err(|_| Failure::Unreachable)?).await
        }
        Over::H2c | Over::Http1 => greet(plain(options.address).await?).await,
    }
}

async fn plain(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(address).await.map_err(|error| Failure::of_connect(&error))?;
    stream.set_nodelay(true).map_err(|_| Failure::Unreachable)?;
    Ok(stream)
}

async fn greet<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<SendRequest<Bytes>, Failure> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(stream).await.map_err(why)?;
    // It ends with its last stream and handle; whatever ends it before is told to its streams.
    tokio::spawn(connection);
    sender.ready().await.map_err(why)
}

fn request(options: &LoadOptions) -> Result<Request<()>, Failure> {
    let scheme = if matches!(options.over, Over::Tls(_)) { "https" } else { "http" };
    let target = options.call.map_or(options.target.as_str(), |call| call.path());
    let method = if options.call.is_some() { "POST" } else { &options.method };
    let mut request = Request::builder()
        .version(Version::HTTP_2)
        .method(method)
        .uri(format!("{scheme}://{}{target}", options.host));
    for (name, value) in &options.headers {
        request = request.header(name, value);
    }
    if let Some(call) = options.call {
        request = request.header("content-type", grpc::CONTENT_TYPE).header("te", "trailers");
        if let Call::Down(count, pause) = call {
            request = request.header("x-n", count).header("x-ms", pause.as_millis().to_string());
        }
    } else if !options.body.is_empty() {
        request = request.header("content-length", options.body.len());
    }
    request.body(()).map_err(|_| Failure::Malformed)
}

/// What became of a request or call that broke off.
fn why(error: h2::Error) -> Failure {
    if error.is_reset() || error.is_io() {
        Failure::Reset
    } else if error.is_go_away() {
        Failure::Cut
    } else {
        Failure::Malformed
    }
}

/// A stream that has been opened.
struct Sent {
    answer: h2::client::ResponseFuture,
    body: SendStream<Bytes>,
}

impl Sent {
    async fn request(mut self, body: &[u8]) -> Result<Reply, Failure> {
        self.body.send_data(Bytes::copy_from_slice(body), true).map_err(why)?;
        self.answer().await
    }

    /// The answer to what has been sent whole.
    async fn answer(self) -> Result<Reply, Failure> {
        let (head, mut body) = self.answer.await.map_err(why)?.into_parts();
        let mut reply = Reply::of_fields(head.status.as_u16(), &head.headers);
        let mut whole = Vec::new();
        while let Some(octets) = data(&mut body).await? {
            whole.extend_from_slice(&octets);
        }
        if reply.problem.is_some() {
            let told: Value = serde_json::from_slice(&whole).unwrap_or_default();
            reply.problem = Some(told["type"].as_str().unwrap_or_default().to_owned());
        }
        reply.tail = whole.split_off(whole.len().saturating_sub(TAIL));
        Ok(reply)
    }

    async fn call(mut self, call: Call) -> Result<Reply, Failure> {
        let count = match call {
            Call::Unary => 1,
            Call::Down(count, _) | Call::Both(count, _) => count,
        };
        self.body.send_data(grpc::message(b"message 0"), !matches!(call, Call::Both(..))).map_err(why)?;
        let (head, body) = self.answer.await.map_err(why)?.into_parts();
        let mut reply = Reply::of_fields(head.status.as_u16(), &head.headers);
        if grpc::status(&head.headers).is_some() || reply.status != 200 {
            reply.fault = fault(&head.headers);
            return Ok(reply);
        }
        let mut answer = Messages::default();
        let mut body = body;
        for at in 0..count {
            if let Call::Both(_, pause) = call
                && at > 0
            {
                sleep(pause).await;
                let next = grpc::message(format!("message {at}").as_bytes());
                // The origin may have ended the call: what it said is still to be read.
                let _ = self.body.send_data(next, false);
            }
            match message(&mut answer, &mut body).await? {
                Some(said) if said == format!("message {at}") => {}
                Some(_) => reply.fault = Some("another message".to_owned()),
                None => reply.fault = Some("ended early".to_owned()),
            }
            if reply.fault.is_some() {
                return Ok(reply);
            }
        }
        if matches!(call, Call::Both(..)) {
            let _ = self.body.send_data(Bytes::new(), true);
        }
        if message(&mut answer, &mut body).await?.is_some() {
            reply.fault = Some("another message".to_owned());
            return Ok(reply);
        }
        let trailers = body.trailers().await.map_err(|error| why(error).in_body())?;
        reply.fault = fault(&trailers.unwrap_or_default());
        Ok(reply)
    }
}

/// What is wrong with the end of a call, if something is.
fn fault(fields: &HeaderMap) -> Option<String> {
    match grpc::status(fields) {
        Some(0) => None,
        Some(other) => {
            let said = fields.get("grpc-message").and_then(|said| said.to_str().ok()).unwrap_or_default();
            Some(format!("grpc-status {other} {said}").trim_end().to_owned())
        }
        None => Some("no grpc-status".to_owned()),
    }
}

async fn message(messages: &mut Messages, body: &mut RecvStream) -> Result<Option<Bytes>, Failure> {
    loop {
        if let Some(message) = messages.pop() {
            return Ok(Some(message));
        }
        match data(body).await? {
            Some(octets) => messages.push(&octets),
            None => return Ok(None),
        }
    }
}

/// The next octets of an answer's body.
async fn data(body: &mut RecvStream) -> Result<Option<Bytes>, Failure> {
    let broken = |error| why(error).in_body();
    let Some(octets) = body.data().await.transpose().map_err(broken)? else { return Ok(None) };
    body.flow_control().release_capacity(octets.len()).map_err(broken)?;
    Ok(Some(octets))
}
