//! One DNS question, over UDP or TCP, from an address of choice.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};

use crate::wait::within;

/// Longest wait for an answer; longer than that of a resolver's first try.
const LONGEST: Duration = Duration::from_secs(10);

/// A question; `Question::new(name, kind)` and struct update make most of them.
#[derive(Debug, Clone)]
pub struct Question {
    /// The name, with or without the trailing dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, `ANY`.
    pub kind: String,
    /// The local address to ask from.
    pub from: Option<IpAddr>,
    /// Over TCP.
    pub tcp: bool,
    /// The UDP payload announced by EDNS0; `None`: no EDNS0.
    pub payload: Option<u16>,
}

impl Question {
    /// Over UDP, from whatever address, without EDNS0.
    pub fn new(name: &str, kind: &str) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned(), from: None, tcp: false, payload: None }
    }

    /// The same over TCP.
    pub fn tcp(self) -> Self {
        Self { tcp: true, ..self }
    }

    /// The same from the local address `from`.
    pub fn from(self, from: impl Into<IpAddr>) -> Self {
        Self { from: Some(from.into()), ..self }
    }

    /// The same with EDNS0 and this payload.
    pub fn payload(self, octets: u16) -> Self {
        Self { payload: Some(octets), ..self }
    }

    /// Asks the server.
    ///
    /// # Panics
    /// When no answer to it comes in 10 s.
    pub async fn ask(&self, server: SocketAddr) -> DnsAnswer {
        let query = self.message();
        let octets = query.to_vec().expect("a question of one name can be written");
        let exchange = exchange(&octets, server, self.from, self.tcp);
        let answered = within(format_args!("an answer to {self:?} from {server}"), LONGEST, exchange).await;
        let answered = answered.unwrap_or_else(|error| panic!("{self:?} at {server}: {error}"));
        let message = Message::from_vec(&answered);
        let message = message.unwrap_or_else(|error| panic!("{self:?} at {server}: {error} in {answered:?}"));
        assert_eq!(message.id, query.id, "the answer to another question came: {message}");
        DnsAnswer { message, octets: answered.len() }
    }

    fn message(&self) -> Message {
        let kind = RecordType::from_str(&self.kind);
        let kind = kind.unwrap_or_else(|_| panic!("`{}` is not a record type", self.kind));
        let mut name = Name::from_ascii(&self.name).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        name.set_fqdn(true);
        let mut query = Query::query(name, kind);
        query.set_query_class(DNSClass::IN);
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(query);
        if let Some(payload) = self.payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.edns = Some(edns);
        }
        message
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct DnsAnswer {
    /// All of it.
    pub message: Message,
    /// Its length on the wire.
    pub octets: usize,
}

impl DnsAnswer {
    /// The response code.
    pub fn rcode(&self) -> ResponseCode {
        self.message.metadata.response_code
    }

    /// The answers as `NAME TTL IN TYPE data`, sorted.
    pub fn answers(&self) -> Vec<String> {
        lines(&self.message.answers)
    }

    /// The data of the answers alone, sorted.
    pub fn data(&self) -> Vec<String> {
        let mut data: Vec<String> =
            self.message.answers.iter().map(|record| record.data.to_string()).collect();
        data.sort();
        data
    }

    /// The addresses among the answers, sorted.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut found: Vec<IpAddr> = self.data().iter().filter_map(|data| data.parse().ok()).collect();
        found.sort();
        found
    }

    /// The authority section, as [`DnsAnswer::answers`].
    pub fn authority(&self) -> Vec<String> {
        lines(&self.message.authorities)
    }

    /// Whether it was cut short.
    pub fn truncated(&self) -> bool {
        self.message.metadata.truncation
    }
}

impl fmt::Display for DnsAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}

fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

/// Sends `octets` as one message and gives what comes back, neither read nor checked: for malformed questions.
pub async fn exchange(
    octets: &[u8],
    server: SocketAddr,
    from: Option<IpAddr>,
    tcp: bool,
) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let local = SocketAddr::new(from.unwrap_or(any), 0);
    if tcp { exchange_tcp(octets, server, local).await } else { exchange_udp(octets, server, local).await }
}

async fn exchange_udp(octets: &[u8], server: SocketAddr, local: SocketAddr) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(local).await?;
    // Connected: an answer from another address than the one asked is not seen, as with a real resolver.
    socket.connect(server).await?;
    socket.send(octets).await?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn exchange_tcp(octets: &[u8], server: SocketAddr, local: SocketAddr) -> std::io::Result<Vec<u8>> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(local)?;
    let mut stream = socket.connect(server).await?;
    let length = u16::try_from(octets.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), octets].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Asks `server` for `name` over UDP.
///
/// # Panics
/// When no answer comes in 10 s.
pub async fn ask(server: SocketAddr, name: &str, kind: &str) -> DnsAnswer {
    Question::new(name, kind).ask(server).await
}
