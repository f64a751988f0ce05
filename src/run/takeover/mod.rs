//! `fairway run --replace`: a new process takes the listening sockets of the running one, which then drains.
//!
//! The running process listens on a Unix socket in its state folder ([`giver`]); the new one asks there ([`taker`]):
//!
//!     new                              old
//!     hello            ->              gives up the store, goes on serving
//!                      <-              all its listening sockets, in batches
//!     (starts, lists its sources)
//!     ready            ->
//!                      <-              yours
//!     (accepts)
//!     open             ->              closes its descriptors, drains, ends
//!
//! Up to `open` the old process serves as before, and when the new one fails or dies it goes on and takes the store back.
//! Nobody calls shutdown(2) on a socket: connections wait in the queues that both processes have.
//!
//! Not here: what the parts do with sockets of another process (see `Adopted` in each), when a process is ready (`parts`).

mod channel;
pub(crate) mod giver;
pub(crate) mod taker;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The name of the socket in the state folder.
const FILE_NAME: &str = "takeover.sock";

/// What is spoken; another version is refused.
const VERSION: u32 = 1;

/// Longest wait for a word that needs no work.
const WORD: Duration = Duration::from_secs(10);

/// Longest time from the sockets to `ready`.
const READY: Duration = Duration::from_secs(60);

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The data plane, plain or with TLS.
    Http,
    /// A front port for connections.
    FrontTcp,
    /// A front port for datagrams.
    FrontUdp,
    /// Requests for names.
    DnsUdp,
    /// The same over TCP, always behind its UDP socket.
    DnsTcp,
    /// The admin API.
    Admin,
}

/// A listening socket on its way.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) kind: Kind,
    /// Its address as configured: port 0 finds what the system chose.
    pub(crate) configured: String,
    pub(crate) descriptor: OwnedFd,
}

/// One message; the descriptors of `Sockets` come with it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    Hello { version: u32, pid: u32 },
    Sockets { sockets: Vec<(Kind, String)>, more: bool },
    Refused { why: String },
    Ready,
    Yours,
    Open,
}

fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE_NAME)
}
