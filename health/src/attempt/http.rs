//! GET over a connection of its own: 2xx and 3xx are success, no redirect is followed, the body is not looked at.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Grade, Limit, Outcome, Target, connect};

/// Largest header of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The body is read for politeness, so that the instance does not log a broken connection: this much of it, and
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// this long, so that an endless stream does not hold up the verdict.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(100);

/// One GET. The answer's head decides.
pub(super) async fn get(target: Target, path: &str, limit: Limit) -> Outcome {
    let what = format!("GET {}", shown(path));
    let request = match request(target.address, path) {
        Ok(request) => request,
        Err(error) => return Outcome::new(Grade::Failure, format!("{what}: it cannot be sent: {error}")),
    };
    let stream = match connect(target, limit).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    match timeout_at(limit.end, exchange(stream, request, limit.end)).await {
        Err(_) => Outcome::timed_out(&what, limit.timeout),
        Ok(Err(error)) => Outcome::new(Grade::Failure, format!("{what}: {}", explain(&error))),
        Ok(Ok(code)) => {
            let grade = if (200..400).contains(&code) { Grade::Success } else { Grade::Failure };
            Outcome::new(grade, format!("{what} answered {code}"))
        }
    }
}

/// The Host is the address that is asked, as for any client that was given this address: the literal `container` of the
/// label names no host that an application could know.
fn request(address: SocketAddr, path: &str) -> http::Result<Request<Empty<Bytes>>> {
    let host = if address.port() == 80 { host_alone(address) } else { address.to_string() };
    Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("fairway-probe/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::new())
}

fn host_alone(address: SocketAddr) -> String {
    if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() }
}

/// Sends the request and gives the answer's status.
async fn exchange(
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
    end: Instant,
) -> Result<u16, hyper::Error> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let code = response.status().as_u16();
        let drain_end = end.min(Instant::now() + DRAIN_TIME_MAX);
        // Neither the end of that time nor a body that breaks changes what the head said.
        let _ = timeout_at(drain_end, drain(response)).await;
        Ok(code)
    };
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The connection may end first; whatever ended it has been handed to the request by then.
        _ = connection => answered.await,
    }
}

async fn drain(mut response: Response<Incoming>) {
    let mut seen = 0;
    while let Some(Ok(frame)) = response.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > DRAIN_BYTES_MAX {
            return;
        }
    }
}

/// Without the query, which may hold a key, and with nothing that could break a line.
fn shown(path: &str) -> String {
    path.split('?').next().unwrap_or_default().escape_debug().to_string()
}

fn explain(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return "the header of the answer is too large".into();
    }
    if error.is_parse() {
        return "the answer is not HTTP".into();
    }
    if error.is_incomplete_message() {
        return "the connection was closed before an answer".into();
    }
    match error.source().and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(source) => super::plain(source),
        None => error.to_string(),
    }
}
