//! A listener as every worker opens it, and what a reload may change of it: all but its address.
//!
//! Connections see what held when they were accepted; the limits alone hold for open ones, too. Not here: what is done with
//! a connection (see `downstream`), its sockets (see `listener`).

use std::net::SocketAddr;
use std::sync::Arc;

use fairway_config::file::{HttpListener, ListenerTls, Tls};
use rustls::{RootCertStore, ServerConfig};

use crate::gate::Gate;
use crate::tls::clients::read_authorities;
use crate::tls::{Certificates, TlsError, server_config};

/// A listener as every worker opens it.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// As configured.
    pub(crate) listener: HttpListener,
    /// The address that it has.
    pub(crate) bound: SocketAddr,
    /// How many connections it has, of all workers.
    pub(crate) gate: Arc<Gate>,
    spoken: Option<Spoken>,
}

/// How TLS is spoken.
#[derive(Debug, Clone)]
struct Spoken {
    config: Arc<ServerConfig>,
    /// Of the clients' certificates, as their file had them.
    authorities: Option<Arc<RootCertStore>>,
}

/// What holds for all listeners, and for each of them.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Of the handshakes.
    pub(crate) tls: Tls,
    /// In the order of the listeners.
    pub(crate) openings: Vec<Opening>,
}

/// Listeners of a configuration that was read again, and that can be served as they are: see
/// [`Running::check`](crate::Running::check).
#[derive(Debug)]
pub struct Checked(pub(crate) Arc<Terms>);

impl Opening {
    /// Of a listener that is bound.
    pub(crate) fn new(
        listener: &HttpListener,
        bound: SocketAddr,
        certificates: &Arc<Certificates>,
    ) -> Result<Self, TlsError> {
        let spoken = listener.tls.as_ref().map(|asked| Spoken::new(asked, None, certificates)).transpose()?;
        Ok(Self { listener: listener.clone(), bound, gate: Arc::default(), spoken })
    }

    /// How it speaks TLS; `None`: it does not.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.spoken.as_ref().map(|spoken| spoken.config.clone())
    }

    /// The same listener as `all` have it now; as it was if they have it no longer.
    pub(crate) fn renewed(
        &self,
        all: &[HttpListener],
        certificates: &Arc<Certificates>,
    ) -> Result<Self, TlsError> {
        let is_same = |other: &&HttpListener| {
            other.addr == self.listener.addr && other.tls.is_some() == self.listener.tls.is_some()
        };
        let Some(listener) = all.iter().find(is_same) else { return Ok(self.clone()) };
        let before = self.spoken.as_ref().zip(self.listener.tls.as_ref());
        let spoken =
            listener.tls.as_ref().map(|asked| Spoken::new(asked, before, certificates)).transpose()?;
        Ok(Self { listener: listener.clone(), spoken, ..self.clone() })
    }
}

impl Spoken {
    /// As the listener asks. What was spoken before is kept if nothing has changed, and with it the keys of the tickets.
    fn new(
        asked: &ListenerTls,
        before: Option<(&Self, &ListenerTls)>,
        certificates: &Arc<Certificates>,
    ) -> Result<Self, TlsError> {
        let authorities = asked.clients.as_ref().map(|clients| read_authorities(&clients.ca)).transpose()?;
        if let Some((spoken, asked_before)) = before
            && (asked.min_version, &asked.clients) == (asked_before.min_version, &asked_before.clients)
            && authorities.as_ref().map(|all| &all.roots) == spoken.authorities.as_ref().map(|all| &all.roots)
        {
            return Ok(spoken.clone());
        }
        Ok(Self { config: server_config(asked, authorities.clone(), certificates)?, authorities })
    }
}
