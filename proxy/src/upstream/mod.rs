//! The way to an instance: connections kept from request to request, and new ones.
//!
//! A new one may have to start with a PROXY header, which says whose it is: then it is kept for that client alone (see
//! [`kept`]).
//!
//! Not here: which instance (see `pick`), what is sent (see `relay`).

pub(crate) mod channel;
pub(crate) mod channels;
pub(crate) mod kept;
pub(crate) mod link;
pub(crate) mod newcomers;
pub(crate) mod pool;
mod tls;

use std::io;
use std::time::Duration;

use arc_swap::ArcSwap;
use fairway_config::labels::Protocol;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::{Endpoint, UpstreamSettings};
use crate::reason::Reason;
use crate::stream::Duplex;
use crate::tls::Trust;
use crate::worker::Worker;
use link::Link;

/// A connection to an instance that speaks HTTP/1.1.
pub(crate) type Upstream = Duplex<Link>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Refused, unreachable, reset.
    #[error("connecting failed")]
    Failed(#[source] io::Error),
    /// The process has no descriptor for it, or the machine none.
    #[error("no file descriptor is left")]
    OutOfFiles,
    /// Not in time.
    #[error("connecting took too long")]
    TimedOut,
    /// TLS cannot be agreed upon; why, in one sentence.
    #[error("{0}")]
    Tls(&'static str),
    /// It does not speak HTTP/2; how that was seen, in one sentence.
    #[error("{0}")]
    NotHttp2(&'static str),
    /// It accepted the connection and did not say in time that it speaks HTTP/2.
    #[error("the instance kept silent")]
    Silent,
}

impl ConnectError {
    /// The word for it.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Failed(_) => Reason::ConnectFailed,
            Self::OutOfFiles => Reason::OutOfFiles,
            Self::TimedOut | Self::Silent => Reason::ConnectTimeout,
            Self::Tls(_) => Reason::UpstreamTlsFailed,
            Self::NotHttp2(_) => Reason::UpstreamInvalid,
        }
    }

    /// One sentence for people; addresses of instances are not told to clients.
    pub(crate) fn detail(&self) -> &'static str {
        match self {
            Self::Failed(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "the instance refused the connection",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    "the instance is unreachable"
                }
                _ => "the connection to the instance failed",
            },
            Self::OutOfFiles => "no file descriptor is left for a connection to the instance",
            Self::TimedOut => "the instance did not accept the connection in time",
            Self::Tls(text) | Self::NotHttp2(text) => text,
            Self::Silent => {
                "the instance accepted the connection but said nothing in HTTP/2: does it speak it?"
            }
        }
    }
}

/// Opens a connection, TLS included where the instance speaks it, within `fairway.timeout.connect`. It starts with `header`,
/// before TLS; mostly there is none.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    worker: &Worker,
    header: &[u8],
) -> Result<Link, ConnectError> {
    let trust = &worker.shared.trust;
    match try_connect(endpoint, trust, header).await {
        // Idle connections to instances are the first to go.
        Err(ConnectError::OutOfFiles) if worker.give_up_idle() => try_connect(endpoint, trust, header).await,
        connected => connected,
    }
}

/// Opens a connection as [`connect`] does, but closes nothing for it: for what is done besides.
pub(crate) async fn connect_if_there_is_room(
    endpoint: &Endpoint,
    worker: &Worker,
    header: &[u8],
) -> Result<Link, ConnectError> {
    try_connect(endpoint, &worker.shared.trust, header).await
}

/// Opens a connection for octets as they are behind `header`, whatever the instance speaks, within
/// `fairway.timeout.connect`.
pub(crate) async fn open_tcp(
    endpoint: &Endpoint,
    worker: &Worker,
    header: &[u8],
) -> Result<TcpStream, ConnectError> {
    match timeout(endpoint.settings.connect_timeout, tcp(endpoint, header)).await {
        // Idle connections to instances are the first to go.
        Ok(Err(ConnectError::OutOfFiles)) if worker.give_up_idle() => tcp(endpoint, header).await,
        Ok(connected) => connected,
        Err(_) => Err(ConnectError::TimedOut),
    }
}

async fn tcp(endpoint: &Endpoint, header: &[u8]) -> Result<TcpStream, ConnectError> {
    let connected = TcpStream::connect(endpoint.address).await;
    if connected.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        endpoint.state.refused();
    }
    let mut tcp = connected.map_err(failed)?;
    endpoint.state.standing.accepted();
    // Without it small writes wait for acknowledgements; if it cannot be set the connection is merely slower.
    let _ = tcp.set_nodelay(true);
    if !header.is_empty() {
        tcp.write_all(header).await.map_err(failed)?;
    }
    Ok(tcp)
}

async fn try_connect(
    endpoint: &Endpoint,
    trust: &ArcSwap<Trust>,
    header: &[u8],
) -> Result<Link, ConnectError> {
    let connected = timeout(endpoint.settings.connect_timeout, async {
        let tcp = tcp(endpoint, header).await?;
        match endpoint.settings.protocol {
            Protocol::Http1 | Protocol::H2c => Ok(Link::Plain(tcp)),
            Protocol::Https | Protocol::H2 => {
                let trust = trust.load_full();
                // Boxed, so that every connection of a client does not carry room for it.
                let shaken = Box::pin(tls::handshake(tcp, endpoint, &trust)).await;
                shaken.map(|tls| Link::Tls(Box::new(tls)))
            }
        }
    });
    connected.await.map_err(|_| ConnectError::TimedOut)?
}

fn failed(error: io::Error) -> ConnectError {
    if is_out_of_files(&error) { ConnectError::OutOfFiles } else { ConnectError::Failed(error) }
}

/// Whether the error says that there is no descriptor left.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// How long an idle connection may be kept: less than the instance says it keeps it, as far as it says.
pub(crate) fn keep_for(settings: &UpstreamSettings, said: Option<Duration>) -> Duration {
    let margin = Duration::from_secs(1);
    said.map_or(settings.idle_timeout, |said| said.saturating_sub(margin).min(settings.idle_timeout))
}
