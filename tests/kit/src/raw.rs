//! Octets sent as they are, and what comes back: for requests that no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::within;

/// Longest wait for the octets asked for.
const LONGEST: Duration = Duration::from_secs(20);

/// A connection that carries what a test writes, and keeps what was read and not yet taken.
#[derive(Debug)]
pub struct Raw {
    /// The connection, for what has no helper here.
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// How the other side ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a FIN: nothing more will come.
    Closed,
    /// With a RST: something may have been lost.
    Reset,
}

impl Raw {
    /// One end of a connection that is open.
    pub fn new(stream: TcpStream) -> Self {
        // Without it, small writes wait for each other; one that cannot be set makes a test slower, no more.
        let _ = stream.set_nodelay(true);
        Self { stream, unread: Vec::new() }
    }

    /// # Panics
    /// When the connection is refused.
    pub async fn connect(address: SocketAddr) -> Self {
        match TcpStream::connect(address).await {
            Ok(stream) => Self::new(stream),
            Err(error) => panic!("connect to {address}: {error}"),
        }
    }

    /// Writes all of `octets`. False when the other side no longer takes them.
    pub async fn send(&mut self, octets: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(octets.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Ends our direction and leaves the other one open.
    pub async fn finish(&mut self) {
        // Already gone is finished as well.
        let _ = self.stream.shutdown().await;
    }

    /// Closes with a RST.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
    }

    /// Reads a head: up to and with its empty line.
    ///
    /// # Panics
    /// As [`Raw::read_until`].
    pub async fn head(&mut self) -> String {
        show(&self.read_until("\r\n\r\n").await)
    }

    /// Reads up to and with the first `mark`; what follows it stays for the next call.
    ///
    /// # Panics
    /// When the connection ends before, or nothing comes for 20 s.
    pub async fn read_until(&mut self, mark: impl AsRef<[u8]>) -> Vec<u8> {
        let mark = mark.as_ref();
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark) {
                return self.unread.drain(..at + mark.len()).collect();
            }
            if let Some(end) = self.read_more().await {
                panic!("{end:?} before {:?}, after {:?}", show(mark), show(&self.unread));
            }
        }
    }

    /// Reads exactly `count` octets.
    ///
    /// # Panics
    /// When the connection ends before, or nothing comes for 20 s.
    pub async fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            if let Some(end) = self.read_more().await {
                panic!("{end:?} before {count} octets, after {:?}", show(&self.unread));
            }
        }
        self.unread.drain(..count).collect()
    }

    /// Reads everything that still comes, and how it ended.
    ///
    /// # Panics
    /// When the connection stays open and silent for 20 s.
    pub async fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Some(end) = self.read_more().await {
                return (std::mem::take(&mut self.unread), end);
            }
        }
    }

    /// Whether the connection is still open after `silence` without an octet.
    pub async fn stays_open(&mut self, silence: Duration) -> bool {
        let mut octet = [0];
        let read = tokio::time::timeout(silence, self.stream.read(&mut octet)).await;
        match read {
            Err(_) => true,
            Ok(Ok(1)) => {
                self.unread.push(octet[0]);
                true
            }
            Ok(_) => false,
        }
    }

    async fn read_more(&mut self) -> Option<End> {
        let what = format!("octets after {:?}", show(&self.unread));
        match within(what, LONGEST, self.stream.read_buf(&mut self.unread)).await {
            Ok(0) => Some(End::Closed),
            Ok(_) => None,
            Err(_) => Some(End::Reset),
        }
    }
}

/// Sends `octets` to `address` and reads until the other side ends the connection.
///
/// # Panics
/// When the connection is refused, or stays open and silent for 20 s.
pub async fn exchange(address: SocketAddr, octets: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    // The other side may refuse before it has read everything: what it says then is what matters.
    raw.send(octets).await;
    show(&raw.read_to_end().await.0)
}

fn show(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
