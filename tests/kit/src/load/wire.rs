//! One connection of a load: the request written, the answer read and thrown away but for what is counted.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use hyper::HeaderMap;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most header fields of an answer.
const FIELDS: usize = 100;

/// Why a request has failed, but for the status of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Unreachable,
    Reset,
    /// Closed before the answer was whole.
    Cut,
    /// Reset after the head of the answer had come.
    ResetBody,
    /// Closed after the head of the answer had come.
    CutBody,
    Timeout,
    /// No HTTP.
    Malformed,
    /// Octets that nobody had asked for.
    Stray,
}

impl Failure {
    /// Why there is no connection.
    pub(super) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset => Self::Reset,
            _ => Self::Unreachable,
        }
    }

    /// As reports write it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Reset | Self::ResetBody => "reset",
            Self::Cut | Self::CutBody => "cut",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Stray => "stray",
        }
    }

    /// The same, and whether the answer had begun.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::ResetBody => "reset in the body",
            Self::CutBody => "cut in the body",
            other => other.word(),
        }
    }

    pub(super) fn in_body(self) -> Self {
        match self {
            Self::Reset => Self::ResetBody,
            Self::Cut => Self::CutBody,
            other => other,
        }
    }
}

/// What an answer said.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) instance: Option<String>,
    pub(super) version: Option<String>,
    pub(super) service: Option<String>,
    /// The `type` of a refusal (RFC 9457).
    pub(super) problem: Option<String>,
    /// How many octets of the request's body the origin says it has got.
    pub(super) taken: Option<u64>,
    /// The last octets of the body.
    pub(super) tail: Vec<u8>,
    pub(super) keep_alive: bool,
    /// What is wrong with a call of gRPC.
    pub(super) fault: Option<String>,
}

impl Reply {
    /// What these fields say.
    pub(super) fn of_fields(status: u16, fields: &HeaderMap) -> Self {
        let mut reply = Self { status, ..Self::default() };
        for (name, value) in fields {
            reply.take(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
        }
        reply
    }

    /// Takes what this field says.
    fn take(&mut self, name: &str, value: &str) {
        match name {
            "x-instance" => self.instance = Some(value.to_owned()),
            "x-version" => self.version = Some(value.to_owned()),
            "x-taken" => self.taken = value.parse().ok(),
            "x-service" => self.service = Some(value.to_owned()),
            "content-type" if value == "application/problem+json" => self.problem = Some(String::new()),
            _ => {}
        }
    }
}

/// How many octets at the end of a body are kept.
pub(super) const TAIL: usize = 64;

/// Longest refusal that is read, in octets.
const PROBLEM_MAX: u64 = 4096;

/// How the end of a body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
    /// The last octets of the answer's body.
    tail: Vec<u8>,
}

impl Wire {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|error| Failure::of_connect(&error))?;
        // Without it a body that leaves in a second segment waits for the first one's acknowledgement.
        stream.set_nodelay(true).map_err(|_| Failure::Unreachable)?;
        Ok(Self { stream, unread: Vec::new(), tail: Vec::new() })
    }

    /// Whether the next request can go here: false after a clean close.
    ///
    /// The kernel is asked, since the runtime may not have noticed yet.
    pub(super) fn is_open(&self) -> Result<bool, Failure> {
        if !self.unread.is_empty() {
            return Err(Failure::Stray);
        }
        match SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit(); 1]) {
            Ok(0) => Ok(false),
            Ok(_) => Err(Failure::Stray),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(_) => Err(Failure::Reset),
        }
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8], head_only: bool) -> Result<Reply, Failure> {
        self.stream.write_all(request).await.map_err(|_| Failure::Reset)?;
        let (mut reply, framing) = self.read_head(head_only).await?;
        self.tail.clear();
        self.finish(&mut reply, framing).await.map_err(Failure::in_body)?;
        reply.tail.clone_from(&self.tail);
        Ok(reply)
    }

    async fn finish(&mut self, reply: &mut Reply, framing: Framing) -> Result<(), Failure> {
        match framing {
            Framing::Length(octets @ ..=PROBLEM_MAX) if reply.problem.is_some() => {
                reply.problem = Some(self.read_problem(octets).await?);
                Ok(())
            }
            Framing::Length(octets) => self.skip(octets).await,
            Framing::Chunked => self.skip_chunks().await,
            Framing::Close => {
                reply.keep_alive = false;
                while self.read_more().await? {
                    self.drop_body(self.unread.len());
                }
                Ok(())
            }
        }
    }

    /// The `type` of the problem that a body of this length tells.
    async fn read_problem(&mut self, octets: u64) -> Result<String, Failure> {
        let length = usize::try_from(octets).map_err(|_| Failure::Malformed)?;
        while self.unread.len() < length {
            if !self.read_more().await? {
                return Err(Failure::Cut);
            }
        }
        let body: Vec<u8> = self.unread.drain(..length).collect();
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(told["type"].as_str().unwrap_or_default().to_owned())
    }

    async fn read_head(&mut self, head_only: bool) -> Result<(Reply, Framing), Failure> {
        loop {
            if let Some((length, reply, framing)) = parse_head(&self.unread, head_only)? {
                self.unread.drain(..length);
                if reply.status >= 200 {
                    return Ok((reply, framing));
                }
            } else if !self.read_more().await? {
                return Err(Failure::Cut);
            }
        }
    }

    async fn skip(&mut self, mut octets: u64) -> Result<(), Failure> {
        loop {
            let here = self.unread.len().min(usize::try_from(octets).unwrap_or(usize::MAX));
            self.drop_body(here);
            octets -= here as u64;
            if octets == 0 {
                return Ok(());
            }
            if !self.read_more().await? {
                return Err(Failure::Cut);
            }
        }
    }

    /// Drops so many octets of the body, but for the last ones.
    fn drop_body(&mut self, octets: usize) {
        let from = octets.saturating_sub(TAIL);
        self.tail.extend_from_slice(&self.unread[from..octets]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        self.unread.drain(..octets);
    }

    async fn skip_chunks(&mut self) -> Result<(), Failure> {
        loop {
            let line = self.read_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            match u64::from_str_radix(size, 16).map_err(|_| Failure::Malformed)? {
                0 => break,
                size => self.skip(size).await?,
            }
            if !self.read_line().await?.is_empty() {
                return Err(Failure::Malformed);
            }
        }
        while !self.read_line().await?.is_empty() {} // trailers
        Ok(())
    }

    async fn read_line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.read_more().await? {
                return Err(Failure::Cut);
            }
        }
    }

    /// False at the end of the stream.
    async fn read_more(&mut self) -> Result<bool, Failure> {
        let read = self.stream.read_buf(&mut self.unread).await;
        read.map(|count| count > 0).map_err(|_| Failure::Reset)
    }
}

/// The head at the start of `octets` and its length; `None` while it is not whole.
fn parse_head(octets: &[u8], head_only: bool) -> Result<Option<(usize, Reply, Framing)>, Failure> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(octets) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::Malformed),
    };
    let status = response.code.unwrap_or_default();
    let mut reply = Reply { status, keep_alive: response.version == Some(1), ..Reply::default() };
    let mut framing = Framing::Close;
    for field in response.headers.iter() {
        let value = String::from_utf8_lossy(field.value);
        match field.name.to_ascii_lowercase().as_str() {
            "connection" if value.eq_ignore_ascii_case("close") => reply.keep_alive = false,
            "content-length" => framing = Framing::Length(value.parse().map_err(|_| Failure::Malformed)?),
            "transfer-encoding" => framing = Framing::Chunked,
            other => reply.take(other, &value),
        }
    }
    if head_only || status < 200 || matches!(status, 204 | 304) {
        framing = Framing::Length(0);
    }
    Ok(Some((length, reply, framing)))
}
