//! Connections of the admin listener: accepted, bounded in number and in time, ended at a stop.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::adopt::ListeningSocket;
use crate::extract::Peer;
use crate::state::stopped;

/// Most connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// Longest wait for a whole request head, and longest life of an idle connection.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Most header fields.
const FIELDS_MAX: usize = 100;
/// Most octets of a head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// At a stop, a connection without any request so far is given this long for one.
const FIRST_WITHIN: Duration = Duration::from_millis(500);
/// At a stop, requests in progress are given this long.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// After a failed accept, such as with no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, file: Arc<SocketFile> },
}

/// The name of a Unix socket; removed with the listener, if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
    /// It is another process's now.
    left: AtomicBool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Arc<Self>> {
        let inode = std::fs::metadata(path)?.ino();
        Ok(Arc::new(Self { path: path.to_owned(), inode, left: AtomicBool::new(false) }))
    }

    /// Leaves it to another process.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Listener {
    /// Binds a Unix socket for its owner and group. A file left by a process that is gone is replaced.
    pub(crate) fn bind_unix(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        }?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(Self::Unix { listener, file: SocketFile::of(path)? })
    }

    /// The Unix socket of another process, with its name.
    pub(crate) fn adopt_unix(path: &Path, socket: std::os::unix::net::UnixListener) -> io::Result<Self> {
        Ok(Self::Unix { listener: UnixListener::from_std(socket)?, file: SocketFile::of(path)? })
    }

    /// The socket once more.
    pub(crate) fn duplicate(&self) -> Option<ListeningSocket> {
        let duplicate = match self {
            Self::Tcp(listener) => {
                listener.as_fd().try_clone_to_owned().map(|socket| ListeningSocket::Tcp(socket.into()))
            }
            Self::Unix { listener, .. } => {
                listener.as_fd().try_clone_to_owned().map(|socket| ListeningSocket::Unix(socket.into()))
            }
        };
        duplicate.inspect_err(|error| tracing::warn!(%error, "the admin listener cannot be handed over")).ok()
    }

    /// The name of a Unix socket.
    pub(crate) fn file(&self) -> Option<Arc<SocketFile>> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix { file, .. } => Some(file.clone()),
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Small answers must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Peer::Tcp(peer)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((Box::new(stream), Peer::Unix(user)))
            }
        }
    }
}

/// A socket that nobody listens on.
fn is_abandoned(path: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    std::os::unix::net::UnixStream::connect(path).err().is_some_and(refused)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if *self.left.get_mut() {
            return;
        }
        let ours = std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Serves from when `open` is true until `stop` is; then requests in progress end, within 5 s.
pub(crate) async fn serve(
    listener: Listener,
    router: Router,
    mut open: watch::Receiver<bool>,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        // A sender that is gone opens nothing any more: a stop is to come.
        Ok(_) = open.wait_for(|open| *open) => {}
        () = stopped(&mut stop) => {}
    }
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stopped(&mut stop) => break,
            // Those that have ended are forgotten as they end, not when all are over.
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer, router, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = timeout(STOP_WITHIN, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!("admin requests are cut off at the stop");
    }
}

async fn serve_connection(
    stream: Box<dyn Stream>,
    peer: Peer,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let (asks, mut asked) = watch::channel(false);
    let service = service_fn(move |mut request: Request<Incoming>| {
        asks.send_replace(true);
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        router.call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(FIELDS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            // What comes on a connection just made is answered: it would be closed without having been read.
            let first = timeout(FIRST_WITHIN, asked.wait_for(|asked| *asked));
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = first => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        // A client that hangs up or sends no HTTP is its own affair.
        tracing::debug!(%error, "an admin connection ended");
    }
}
