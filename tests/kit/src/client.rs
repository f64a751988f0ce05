//! One HTTP/1.1 request on a connection of its own, well-formed, its whole answer read.
//!
//! Not here: malformed requests (see [`crate::raw`]), many requests (see [`crate::load`]).

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Longest wait for a whole answer.
const LONGEST: Duration = Duration::from_secs(60);

/// A request; `Request::get(host, path)` and struct update make most of them.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The Host field.
    pub host: String,
    /// The target as it is sent: path and query.
    pub target: String,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// The body; sent with a Content-Length.
    pub body: Bytes,
    /// The local address to connect from.
    pub from: Option<std::net::IpAddr>,
}

impl Request {
    /// A GET without body.
    pub fn get(host: &str, target: &str) -> Self {
        Self::new("GET", host, target)
    }

    /// A request without body.
    pub fn new(method: &str, host: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            from: None,
        }
    }

    /// The same with one more field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with this JSON as its body.
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into();
        self.header("content-type", "application/json")
    }

    /// The same, sent from the local address `from`.
    pub fn from(mut self, from: impl Into<std::net::IpAddr>) -> Self {
        self.from = Some(from.into());
        self
    }

    /// Sends it to `address`; `Err` says what cut it short.
    pub async fn try_send(&self, address: SocketAddr) -> Result<Answer, String> {
        let answer = async {
            let stream = self.connect(address).await.map_err(|error| format!("connect: {error}"))?;
            self.exchange(stream).await
        };
        tokio::time::timeout(LONGEST, answer).await.map_err(|_| format!("no answer in {LONGEST:?}"))?
    }

    /// Sends it to `address`.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn send(&self, address: SocketAddr) -> Answer {
        match self.try_send(address).await {
            Ok(answer) => answer,
            Err(why) => panic!("{} {}{} at {address}: {why}", self.method, self.host, self.target),
        }
    }

    /// Sends it to the socket `path`.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn send_to_socket(&self, path: &Path) -> Answer {
        match self.try_send_to_socket(path).await {
            Ok(answer) => answer,
            Err(why) => panic!("{} {} at {}: {why}", self.method, self.target, path.display()),
        }
    }

    /// Sends it to the socket `path`; `Err` says what cut it short.
    pub async fn try_send_to_socket(&self, path: &Path) -> Result<Answer, String> {
        let answer = async {
            let stream = UnixStream::connect(path).await.map_err(|error| format!("connect: {error}"))?;
            self.exchange(stream).await
        };
        tokio::time::timeout(LONGEST, answer).await.map_err(|_| format!("no answer in {LONGEST:?}"))?
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let Some(from) = self.from else { return TcpStream::connect(address).await };
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(from, 0))?;
        socket.connect(address).await
    }

    pub(crate) async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Answer, String> {
        let response = self.open(stream).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("body: {error:?}"))?;
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned().unwrap_or_default(),
            body: body.to_bytes(),
        })
    }

    /// Sends it and gives the answer as soon as its head is there, the body still to be read.
    pub(crate) async fn open(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<hyper::Response<hyper::body::Incoming>, String> {
        let mut request = hyper::Request::builder().method(self.method.as_str()).uri(&self.target);
        request = request.header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(self.body.clone())).map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends with the connection: when the answer has been read or given up.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(|error| format!("{error:?}"))
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The trailer fields.
    pub trailers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error} in the body of a {}: {}", self.status, self.text()),
        }
    }

    /// The field `name`; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The same answer, when its status is one of success.
    ///
    /// # Panics
    /// When it is not.
    pub fn ok(self, what: &str) -> Self {
        assert!((200..300).contains(&self.status), "{what}: {} {}", self.status, self.text());
        self
    }
}

/// GET `target` with the Host `host` from the server at `address`.
///
/// # Panics
/// When no whole answer comes.
pub async fn get(address: SocketAddr, host: &str, target: &str) -> Answer {
    Request::get(host, target).send(address).await
}
