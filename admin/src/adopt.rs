//! The admin listener of a process that this one takes over from, and a duplicate of ours for the next one.
//!
//! Not here: how it comes from one process to the other (the program's business).

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use fairway_config::file::AdminListen;
use tokio::sync::watch;

/// A listening socket on its way from one process to another.
#[derive(Debug)]
pub enum ListeningSocket {
    /// On an address.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

impl ListeningSocket {
    /// The same socket once more.
    pub(crate) fn duplicate(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }
}

/// What the admin API begins with.
#[derive(Debug)]
pub struct Adopted {
    /// The socket of another process, and what was configured for it.
    pub socket: Option<(AdminListen, ListeningSocket)>,
    /// Nothing is accepted before this is true.
    pub open: watch::Receiver<bool>,
}

impl Default for Adopted {
    /// Nothing, and at once.
    fn default() -> Self {
        Self { socket: None, open: watch::channel(true).1 }
    }
}
