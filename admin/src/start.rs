//! Starts the admin listener with everything behind it, and ends it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairway_config::file::{Admin, AdminListen};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::adopt::{Adopted, ListeningSocket};
use crate::api;
use crate::feed::Feed;
use crate::guard::{Guard, Token, TokenError};
use crate::serve::{self, Listener, SocketFile};
use crate::state::{AdminState, App, stopped};
use crate::types;

/// Why the admin API does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("admin {at}: another process listens there; end it or choose another `admin.listen` (`--admin`)")]
    InUse {
        /// The address, or `unix:/path`.
        at: String,
    },
    /// Not for this user.
    #[error(
        "admin {at}: permission denied; choose another `admin.listen` (`--admin`) or run as a user that may"
    )]
    Denied {
        /// The address, or `unix:/path`.
        at: String,
    },
    /// The system refuses otherwise.
    #[error("admin {at} cannot be bound; check `admin.listen` (`--admin`)")]
    Other {
        /// The address, or `unix:/path`.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// Other machines could give orders.
    #[error(
        "admin {at} is not a loopback address, so that orders could come from anywhere: set `admin.token_file`, or listen on 127.0.0.1 or unix:/path"
    )]
    TokenRequired {
        /// The address.
        at: SocketAddr,
    },
    /// The token is needed and cannot be had.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The running admin API. Dropped: everything ends at once.
#[derive(Debug)]
pub struct Running {
    listening: types::Listener,
    configured: AdminListen,
    /// `None` when the system gave no second descriptor.
    duplicate: Option<ListeningSocket>,
    /// The name of a Unix socket.
    file: Option<Arc<SocketFile>>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Binds the listener and serves the API; follows the catalogs for the event feed and stores that.
///
/// `adopted` is the socket of a process that is taken over from.
///
/// # Errors
/// When the address cannot be bound, or when it is not loopback and there is no token.
pub async fn start(config: Admin, state: AdminState, adopted: Adopted) -> Result<Running, BindError> {
    let token = config.token_file.as_deref().map(Token::read).transpose()?;
    let Adopted { socket, open } = adopted;
    let (listener, listening, is_tcp) = bind(&config.listen, token.is_some(), socket).await?;
    let (duplicate, file) = (listener.duplicate(), listener.file());
    let hosts = is_tcp.then(|| config.hosts.iter().cloned().chain(host_name()).collect());

    let (stop, ended) = watch::channel(false);
    let revision = state.catalogs.borrow().revision;
    let feed = Feed::load(state.store.as_deref(), revision);
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(feed.clone(), state.catalogs.clone(), ended.clone()));
    if let Some(store) = state.store.clone() {
        let control = state.control.clone();
        let keep = feed.clone().keep(store, ended.clone(), move |written| control.report(written));
        tasks.spawn(keep);
    }
    let app = App { state, feed, listening: listening.clone(), stop: ended.clone() };
    let router = api::router(Arc::new(app), Arc::new(Guard { hosts, token }));
    tasks.spawn(serve::serve(listener, router, open, ended));
    Ok(Running { listening, configured: config.listen, duplicate, file, stop, tasks })
}

impl Running {
    /// Where it listens: the address as bound, or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.listening.address
    }

    /// The listening socket once more, and what was configured for it: what another process adopts.
    pub fn listening_socket(&self) -> io::Result<Option<(AdminListen, ListeningSocket)>> {
        let Some(socket) = &self.duplicate else { return Ok(None) };
        Ok(Some((self.configured.clone(), socket.duplicate()?)))
    }

    /// Ends it as [`Running::stop`] does, but leaves the name of a Unix socket: it is that of the process that has adopted it.
    pub async fn hand_over(self) {
        if let Some(file) = &self.file {
            file.leave();
        }
        self.stop().await;
    }

    /// Ends it: long waits are answered, requests in progress end within 5 s, the last events are stored.
    pub async fn stop(mut self) {
        // Or it would still listen when its task has closed the other one.
        self.duplicate = None;
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn follow(
    feed: Feed,
    catalogs: watch::Receiver<Arc<fairway_catalog::Catalog>>,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        () = feed.follow(catalogs) => {}
        () = stopped(&mut stop) => {}
    }
}

async fn bind(
    listen: &AdminListen,
    has_token: bool,
    adopted: Option<(AdminListen, ListeningSocket)>,
) -> Result<(Listener, types::Listener, bool), BindError> {
    let describe = |address| types::Listener { kind: "admin".to_owned(), address, error: None };
    let adopted = adopted.filter(|(configured, _)| configured == listen).map(|(_, socket)| socket);
    match listen {
        AdminListen::Tcp(at) if !at.ip().to_canonical().is_loopback() && !has_token => {
            Err(BindError::TokenRequired { at: *at })
        }
        AdminListen::Tcp(at) => {
            let failed = |error| refused(at.to_string(), error);
            let bound = match adopted {
                Some(ListeningSocket::Tcp(socket)) => TcpListener::from_std(socket).map_err(failed)?,
                _ => TcpListener::bind(at).await.map_err(failed)?,
            };
            let address = bound.local_addr().map_err(|error| refused(at.to_string(), error))?;
            Ok((Listener::Tcp(bound), describe(address.to_string()), true))
        }
        AdminListen::Unix(path) => {
            let at = unix_url(path);
            let bound = match adopted {
                Some(ListeningSocket::Unix(socket)) => Listener::adopt_unix(path, socket),
                _ => Listener::bind_unix(path),
            };
            let bound = bound.map_err(|error| refused(at.clone(), error))?;
            Ok((bound, describe(at), false))
        }
    }
}

fn unix_url(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn refused(at: String, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { at },
        io::ErrorKind::PermissionDenied => BindError::Denied { at },
        _ => BindError::Other { at, source },
    }
}

/// The name of this machine, as clients may write it in a URL.
fn host_name() -> Option<Arc<str>> {
    let name = std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).ok()?;
    let name = name.trim().to_ascii_lowercase();
    (!name.is_empty()).then(|| name.into())
}
