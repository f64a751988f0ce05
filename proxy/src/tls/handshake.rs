//! The handshake of one connection: its time, how many a worker has under way, and what goes wrong in it.
//!
//! Whoever does not speak costs a socket and a task until its time is over, no TLS state. When there are too many, the oldest
//! goes: a flood of connections that never speak cannot keep out those that do.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};
use std::time::{Duration, Instant};

use fairway_config::file::Tls;
use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::choice::Certificates;
use super::hello::{Hello, Look, Reader};
use super::stream::TlsStream;
use crate::stream::Stream;
use crate::table::RouteEntry;

/// How often failed handshakes are told at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What every TLS record of a client's first message starts with.
pub(crate) const HANDSHAKE_RECORD: u8 = 0x16;

/// Octets read at once of a first message: more than most have.
const HELLO: usize = 4096;

/// The handshakes that one worker has under way.
#[derive(Debug)]
pub(crate) struct Handshakes {
    certificates: Arc<Certificates>,
    time: Cell<Duration>,
    max: Cell<usize>,
    /// The oldest first.
    under_way: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
    told: Cell<Option<Instant>>,
    untold: Cell<u64>,
}

/// Why there is no TLS connection.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The client speaks HTTP without TLS: it may be told so.
    PlainHttp(TcpStream),
    /// It took too long.
    Timeout,
    /// It was the oldest of too many.
    CrowdedOut,
    /// The client left.
    Left,
    /// There is no certificate to show.
    NoCertificate,
    /// What the client sent cannot be agreed to, or it did not like what it got.
    Refused(io::Error),
}

impl Failed {
    /// Its word in metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::PlainHttp(_) => "plain-http",
            Self::Timeout => "timeout",
            Self::CrowdedOut => "crowded-out",
            Self::Left => "client-left",
            Self::NoCertificate => "no-certificate",
            Self::Refused(_) => "refused",
        }
    }
}

/// The word in metrics for one that is an instance's affair.
pub(crate) const PASSED: &str = "passed-on";

/// What a client gets.
pub(crate) enum Accepted {
    /// TLS with us.
    Tls(TlsStream<ServerConnection>),
    /// TLS with an instance of this route, as it is.
    Passed(TcpStream, Hello, Arc<RouteEntry>),
}

/// The route that takes the TLS of a host as it is.
pub(crate) type FindRoute<'a> = dyn Fn(&str) -> Option<Arc<RouteEntry>> + 'a;

/// The word in metrics for a handshake that was done.
pub(crate) fn done(tls: &ServerConnection) -> &'static str {
    match tls.handshake_kind() {
        Some(HandshakeKind::Resumed) => "resumed",
        _ => "full",
    }
}

impl Handshakes {
    pub(crate) fn new(limits: &Tls, certificates: Arc<Certificates>) -> Self {
        Self {
            certificates,
            time: Cell::new(limits.handshake_timeout),
            max: Cell::new(limits.handshakes_max),
            under_way: RefCell::default(),
            next: Cell::new(0),
            told: Cell::new(None),
            untold: Cell::new(0),
        }
    }

    /// Replaces the limits; handshakes that are under way keep theirs.
    pub(crate) fn set_limits(&self, limits: &Tls) {
        self.time.set(limits.handshake_timeout);
        self.max.set(limits.handshakes_max);
    }

    /// Does the handshake with a client, unless its TLS is passed on: `find` says to which route, by the host that it asks
    /// for; without it nobody's is, and nothing is looked at.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
        config: &Arc<ServerConfig>,
        find: Option<&FindRoute<'_>>,
    ) -> Result<Accepted, Failed> {
        let place = self.enter(poll_fn(|cx| Poll::Ready(cx.waker().clone())).await);
        let accepted = async {
            let (tcp, early) = match find {
                None => (tcp, Vec::new()),
                // Boxed, so that every connection over TLS does not carry room for it.
                Some(find) => match Box::pin(look(&place, tcp, find)).await? {
                    (tcp, octets, None) => (tcp, octets),
                    (tcp, octets, Some((host, entry))) => {
                        return Ok(Accepted::Passed(tcp, Hello { host, octets }, entry));
                    }
                },
            };
            self.shake_hands(&place, tcp, early, config).await.map(Accepted::Tls)
        };
        timeout(self.time.get(), accepted).await.unwrap_or(Err(Failed::Timeout))
    }

    async fn shake_hands(
        &self,
        place: &Place<'_>,
        mut tcp: TcpStream,
        early: Vec<u8>,
        config: &Arc<ServerConfig>,
    ) -> Result<TlsStream<ServerConnection>, Failed> {
        if early.is_empty() {
            speaks(place, &mut tcp).await?;
        }
        let tls = ServerConnection::new(config.clone())
            .map_err(|error| Failed::Refused(io::Error::other(error)))?;
        let mut stream = TlsStream::behind(early, tcp, tls);
        let is_first = Cell::new(true);
        let is_http = Cell::new(false);
        let shaken = poll_fn(|cx| {
            if place.is_lost() {
                return Poll::Ready(Err(None));
            }
            let look = |octets: &[u8]| {
                if is_first.replace(false) && octets.first().is_some_and(|first| *first != HANDSHAKE_RECORD) {
                    is_http.set(octets[0].is_ascii_alphabetic());
                    let text = "the first octet is not that of a TLS handshake";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Ok(())
            };
            Poll::Ready(ready!(stream.poll_handshake(cx, look)).map_err(Some))
        })
        .await;
        match shaken {
            Ok(()) => Ok(stream),
            Err(None) => Err(Failed::CrowdedOut),
            Err(Some(_)) if is_http.get() => Err(Failed::PlainHttp(stream.into_tcp())),
            Err(Some(error)) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> Failed {
        match error.kind() {
            io::ErrorKind::InvalidData if self.certificates.is_empty() => Failed::NoCertificate,
            io::ErrorKind::InvalidData => Failed::Refused(error),
            _ => Failed::Left,
        }
    }

    fn enter(&self, waker: Waker) -> Place<'_> {
        let id = self.next.replace(self.next.get() + 1);
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() >= self.max.get()
            && let Some((_, oldest)) = under_way.pop_first()
        {
            oldest.wake();
        }
        under_way.insert(id, waker);
        Place { all: self, id }
    }

    /// Tells that a handshake failed; of many within a short time one, and how many there were.
    pub(crate) fn tell(&self, listener: &str, client: std::net::IpAddr, failed: &Failed) {
        let now = Instant::now();
        if self.told.get().is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        self.told.set(Some(now));
        let (others, reason) = (self.untold.take(), failed.as_str());
        match failed {
            Failed::CrowdedOut | Failed::NoCertificate => {
                tracing::warn!(listener, %client, reason, others, "a TLS handshake failed")
            }
            Failed::Refused(error) => {
                tracing::debug!(listener, %client, reason, %error, others, "a TLS handshake failed")
            }
            _ => tracing::debug!(listener, %client, reason, others, "a TLS handshake failed"),
        }
    }
}

/// Waits until the client says something.
async fn speaks(place: &Place<'_>, tcp: &mut TcpStream) -> Result<(), Failed> {
    poll_fn(|cx| {
        if place.is_lost() {
            return Poll::Ready(Err(Failed::CrowdedOut));
        }
        tcp.poll_readable(cx).map(|readable| readable.map_err(|_| Failed::Left))
    })
    .await
}

/// The connection, the octets that were read of it, and where they lead if not to us.
type Looked = (TcpStream, Vec<u8>, Option<(Box<str>, Arc<RouteEntry>)>);

/// Reads which host the client asks for.
async fn look(place: &Place<'_>, mut tcp: TcpStream, find: &FindRoute<'_>) -> Result<Looked, Failed> {
    speaks(place, &mut tcp).await?;
    let mut reader = Reader::default();
    loop {
        let look = poll_fn(|cx| {
            if place.is_lost() {
                return Poll::Ready(Err(Failed::CrowdedOut));
            }
            let mut memory = [0; HELLO];
            let mut octets = ReadBuf::new(&mut memory);
            let read = ready!(Pin::new(&mut tcp).poll_read(cx, &mut octets));
            if read.is_err() || octets.filled().is_empty() {
                return Poll::Ready(Err(Failed::Left));
            }
            Poll::Ready(Ok(reader.read(octets.filled())))
        });
        match look.await? {
            Look::Partial => {}
            Look::Nobody => return Ok((tcp, reader.into_octets(), None)),
            Look::For(host) => {
                let entry = find(&host);
                return Ok((tcp, reader.into_octets(), entry.map(|entry| (host, entry))));
            }
        }
    }
}

/// One handshake among those under way.
struct Place<'a> {
    all: &'a Handshakes,
    id: u64,
}

impl Place<'_> {
    fn is_lost(&self) -> bool {
        !self.all.under_way.borrow().contains_key(&self.id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.under_way.borrow_mut().remove(&self.id);
    }
}
