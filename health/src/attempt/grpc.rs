//! `grpc.health.v1.Health/Check` over HTTP/2 without TLS, on a connection of its own: `SERVING` is success.
//!
//! The two messages have one field each, so they are written and read here rather than by a protobuf library
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{self, SendRequest};
use http::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use http::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::{Grade, Limit, Outcome, Target, connect};

/// Largest header of an answer.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Most octets of an answer: the message has two.
const BODY_BYTES_MAX: usize = 4 * 1024;
/// Octets in front of a message: not compressed, and its length.
const PREFIX: usize = 5;

/// One check of the server, or of one of its services.
pub(super) async fn check(target: Target, service: &str, limit: Limit) -> Outcome {
    let what = match service {
        "" => "grpc health check".to_owned(),
        service => format!("grpc health check of {}", service.escape_debug()),
    };
    let stream = match connect(target, limit).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    match timeout_at(limit.end, exchange(stream, target.address, service)).await {
        Err(_) => Outcome::timed_out(&what, limit.timeout),
        Ok(Err(error)) => Outcome::new(Grade::Failure, format!("{what}: {}", explain(&error))),
        Ok(Ok(Answer::Health(Some(1)))) => Outcome::new(Grade::Success, format!("{what} answered SERVING")),
        Ok(Ok(answer)) => Outcome::new(Grade::Failure, format!("{what}: {}", answer.text())),
    }
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A message with this status; `None` if it is none.
    Health(Option<u64>),
    /// `grpc-status` other than 0.
    Failed(u32),
    /// An answer that is not gRPC.
    Http(u16),
}

impl Answer {
    fn text(&self) -> String {
        match self {
            Self::Health(Some(2)) => "it answered NOT_SERVING".into(),
            Self::Health(Some(3)) | Self::Failed(5) => "the server does not know this service".into(),
            Self::Health(Some(other)) => format!("it answered status {other}, which is not SERVING"),
            Self::Health(None) => "the answer is no HealthCheckResponse".into(),
            Self::Failed(12) => "the server does not offer grpc.health.v1".into(),
            Self::Failed(status) => format!("it failed with grpc-status {status}"),
            Self::Http(status) => format!("the answer is not gRPC: HTTP status {status}"),
        }
    }
}

async fn exchange(stream: TcpStream, address: SocketAddr, service: &str) -> Result<Answer, h2::Error> {
    let (sender, connection) = client::Builder::new()
        .enable_push(false)
        .max_header_list_size(HEAD_BYTES_MAX)
        .handshake::<_, Bytes>(stream)
        .await?;
    let answered = ask(sender, address, service);
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection may end first; whatever ended it has been handed to the request by then.
        _ = connection => answered.await,
    }
}

async fn ask(sender: SendRequest<Bytes>, address: SocketAddr, service: &str) -> Result<Answer, h2::Error> {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, concat!("fairway-probe/", env!("CARGO_PKG_VERSION")))
        .body(())
        .expect("an address makes a URI");
    let (answer, mut body) = sender.ready().await?.send_request(request, false)?;
    body.send_data(message(service), true)?;
    let (head, mut answer) = answer.await?.into_parts();
    if head.status != StatusCode::OK {
        return Ok(Answer::Http(head.status.as_u16()));
    }
    // An answer without a message has its status in the header.
    if let Some(status @ 1..) = grpc_status(&head.headers) {
        return Ok(Answer::Failed(status));
    }
    let message = read(&mut answer).await?;
    let trailers = answer.trailers().await?.unwrap_or_default();
    Ok(match grpc_status(&trailers) {
        Some(status @ 1..) => Answer::Failed(status),
        _ => Answer::Health(status(&message)),
    })
}

async fn read(answer: &mut RecvStream) -> Result<BytesMut, h2::Error> {
    let mut message = BytesMut::new();
    while let Some(data) = answer.data().await {
        let data = data?;
        answer.flow_control().release_capacity(data.len())?;
        if message.len() + data.len() <= BODY_BYTES_MAX {
            message.extend_from_slice(&data);
        }
    }
    Ok(message)
}

fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// `HealthCheckRequest { string service = 1; }` behind its prefix.
fn message(service: &str) -> Bytes {
    let mut message = BytesMut::with_capacity(PREFIX + 6 + service.len());
    message.put_bytes(0, PREFIX);
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length > 0x7f {
            message.put_u8(length as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let length = (message.len() - PREFIX) as u32;
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message.freeze()
}

/// The status in `HealthCheckResponse { ServingStatus status = 1; }` behind its prefix: 1 is `SERVING`, 0 is not written.
fn status(message: &[u8]) -> Option<u64> {
    let (&[compressed, a, b, c, d], body) = message.split_first_chunk::<PREFIX>()?;
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != body.len() {
        return None;
    }
    let (mut rest, mut status) = (body, 0);
    while !rest.is_empty() {
        match varint(&mut rest)? {
            0x08 => status = varint(&mut rest)?,
            // Fields of later versions.
            key => skip(&mut rest, key & 7)?,
        }
    }
    Some(status)
}

fn skip(rest: &mut &[u8], wire_type: u64) -> Option<()> {
    let octets = match wire_type {
        0 => return varint(rest).map(drop),
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    *rest = rest.get(octets..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&octet, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn explain(error: &h2::Error) -> String {
    if let Some(source) = error.get_io() {
        return match source.kind() {
            std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::UnexpectedEof => {
                "the connection was closed before an answer".into()
            }
            _ => super::plain(source),
        };
    }
    match error.reason() {
        Some(reason) if error.is_remote() => {
            format!("the server ended the request: {}", reason.description())
        }
        _ => "the answer is not HTTP/2".into(),
    }
}

#[cfg(test)]
mod tests;
