//! The way to an instance: connections kept from request to request, and new ones.
//!
//! Not here: which instance (see `pick`), what is sent (see `relay`).

pub(crate) mod pool;

use std::io;
use std::time::Duration;

use fairway_config::labels::Protocol;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::{Endpoint, UpstreamSettings};
use crate::reason::Reason;
use crate::stream::Duplex;

/// A connection to an instance.
pub(crate) type Upstream = Duplex<TcpStream>;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Refused, unreachable, reset.
    #[error("connecting failed")]
    Failed(#[source] io::Error),
    /// Not in time.
    #[error("connecting took too long")]
    TimedOut,
    /// `fairway.protocol` asks for something that is not spoken.
    #[error("the instance's protocol is not spoken")]
    NotSpoken,
}

impl ConnectError {
    /// The word for it.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Failed(_) | Self::NotSpoken => Reason::ConnectFailed,
            Self::TimedOut => Reason::ConnectTimeout,
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
            Self::TimedOut => "the instance did not accept the connection in time",
            Self::NotSpoken => "the instance's `fairway.protocol` is not spoken yet: http1 is",
        }
    }
}

/// Opens a connection.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Upstream, ConnectError> {
    if endpoint.settings.protocol != Protocol::Http1 {
        return Err(ConnectError::NotSpoken);
    }
    let connecting = timeout(endpoint.settings.connect_timeout, TcpStream::connect(endpoint.address));
    let stream = connecting.await.map_err(|_| ConnectError::TimedOut)?.map_err(ConnectError::Failed)?;
    // Without it small writes wait for acknowledgements; if it cannot be set the connection is merely slower.
    let _ = stream.set_nodelay(true);
    Ok(Duplex::new(stream))
}

/// How long an idle connection may be kept: less than the instance says it keeps it, as far as it says.
pub(crate) fn keep_for(settings: &UpstreamSettings, said: Option<Duration>) -> Duration {
    let margin = Duration::from_secs(1);
    said.map_or(settings.idle_timeout, |said| said.saturating_sub(margin).min(settings.idle_timeout))
}
