//! Origins below HTTP: one whose every octet a test writes by hand, and one that keeps what a proxy sent.
//!
//! Not here: an origin that behaves (see [`crate::origin`]), the connections themselves (see [`crate::raw`]).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::raw::Raw;
use crate::wait::{PATIENCE, within};

/// A listener whose connections a test accepts and answers itself.
#[derive(Debug)]
pub struct RawOrigin {
    listener: TcpListener,
    address: SocketAddr,
}

impl RawOrigin {
    /// On a port of 127.0.0.1 that the system chooses.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        Self { listener, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    ///
    /// # Panics
    /// When none comes within 30 s.
    pub async fn accept(&self) -> Raw {
        let accepted = within("a connection to an origin", PATIENCE, self.listener.accept()).await;
        Raw::new(accepted.expect("a connection is accepted").0)
    }
}

/// A request as it arrived: one message, read as plainly as RFC 9112 allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// The request line.
    pub line: String,
    /// Names and values in the order sent, white space around values removed.
    pub fields: Vec<(String, String)>,
    /// The body without framing.
    pub body: Vec<u8>,
    /// The fields behind a chunked body.
    pub trailers: Vec<(String, String)>,
    /// False: the connection ended before the request did.
    pub whole: bool,
}

impl Received {
    /// The values of a field.
    pub fn get(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// An origin that keeps each request and answers each whole one with 200 and the body `ok`. Dropped: it is gone.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    kept: Arc<Kept>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Kept {
    requests: Mutex<Vec<Received>>,
    /// How many heads have come, of requests that are not whole yet too.
    heads: watch::Sender<u64>,
    /// How many requests are kept.
    count: watch::Sender<u64>,
}

impl Recorder {
    /// On a port of 127.0.0.1 that the system chooses.
    ///
    /// # Panics
    /// When there is none.
    pub async fn start() -> Self {
        let RawOrigin { listener, address } = RawOrigin::start().await;
        let kept = Arc::new(Kept {
            requests: Mutex::default(),
            heads: watch::Sender::new(0),
            count: watch::Sender::new(0),
        });
        let mut accepting = JoinSet::new();
        let keeper = Arc::clone(&kept);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(record(stream, Arc::clone(&keeper)));
            }
        });
        Self { address, kept, _accepting: accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came since the last call, whole requests and those that broke off.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.kept.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many heads have come up to now.
    pub fn heads(&self) -> u64 {
        *self.kept.heads.borrow()
    }

    /// Waits until the head of a further request is there than the `before` ones.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn another_head(&self, before: u64) {
        let mut heads = self.kept.heads.subscribe();
        let more = within("the head of a request", PATIENCE, heads.wait_for(|heads| *heads > before)).await;
        more.expect("`self` holds the sender");
    }

    /// Waits for the next request, whole or broken off, unless one is there.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn next(&self) -> Vec<Received> {
        let mut count = self.kept.count.subscribe();
        loop {
            count.mark_unchanged();
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            let more = within("a request at the recorder", PATIENCE, count.changed()).await;
            more.expect("`self` holds the sender");
        }
    }
}

impl Kept {
    fn keep(&self, request: Received) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        self.count.send_modify(|count| *count += 1);
    }
}

/// Keeps the requests of one connection.
async fn record(stream: TcpStream, kept: Arc<Kept>) {
    let mut reader = Reader { stream, unread: Vec::new() };
    loop {
        let mut request = Received::default();
        let whole = reader.request(&mut request, &kept).await.is_some();
        if whole {
            request.whole = true;
            kept.keep(request);
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if reader.stream.write_all(answer.as_bytes()).await.is_ok() {
                continue;
            }
        } else if !request.line.is_empty() || !reader.unread.is_empty() {
            request.line += &text(&reader.unread);
            kept.keep(request);
        }
        return;
    }
}

struct Reader {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Reader {
    /// Reads one request into `request`; `None` at an early end, with what came before it there.
    async fn request(&mut self, request: &mut Received, kept: &Kept) -> Option<()> {
        let head = text(&self.until("\r\n\r\n").await?);
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        request.line = lines.next().unwrap_or_default().to_owned();
        request.fields = lines.map(field).collect();
        kept.heads.send_modify(|heads| *heads += 1);
        let chunked = request.get("transfer-encoding").first() == Some(&"chunked");
        let length = request.get("content-length").first().and_then(|length| length.parse().ok());
        if chunked {
            self.chunks(request).await
        } else {
            self.octets(length.unwrap_or(0), &mut request.body).await
        }
    }

    async fn chunks(&mut self, request: &mut Received) -> Option<()> {
        loop {
            let size = text(&self.until("\r\n").await?);
            let size = usize::from_str_radix(size.trim_end(), 16).ok()?;
            if size == 0 {
                break;
            }
            self.octets(size, &mut request.body).await?;
            self.octets(2, &mut Vec::new()).await?;
        }
        loop {
            let line = text(&self.until("\r\n").await?);
            match line.trim_end_matches("\r\n") {
                "" => return Some(()),
                line => request.trailers.push(field(line)),
            }
        }
    }

    async fn until(&mut self, mark: &str) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                return Some(self.unread.drain(..at + mark.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn octets(&mut self, count: usize, to: &mut Vec<u8>) -> Option<()> {
        let mut left = count;
        loop {
            let here = left.min(self.unread.len());
            to.extend(self.unread.drain(..here));
            left -= here;
            if left == 0 {
                return Some(());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.unread).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

/// Each octet as the character of its number, so that nothing is lost.
fn text(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}
