//! Requests over TCP (RFC 7766): each behind its length, several at once, forwarded ones answered when they are ready.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::shared::{Handled, Shared};
use super::under_way::UnderWay;
use crate::answer::Transport;

/// Longest silence between two requests.
const IDLE: Duration = Duration::from_secs(10);
/// Longest time for the rest of a request whose first octet has come, and for a reply to be taken.
const STALLED: Duration = Duration::from_secs(5);
/// Connections of a listener at once.
const CONNECTIONS_MAX: usize = 512;
/// Connections of one peer at once.
const CONNECTIONS_OF_PEER_MAX: usize = 64;
/// Requests of one connection being forwarded at once, and replies waiting to be written.
const IN_FLIGHT_MAX: usize = 32;
/// Pause after an accept that failed for want of descriptors or memory.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Accepts until it is aborted. Connections end with it as soon as what was asked on them is answered, each with a copy of
/// `under_way`.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, under_way: UnderWay) {
    let peers = Peers::default();
    let (_serving, serves) = watch::channel(());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Some(place) = peers.admit(peer.ip()) {
                    let (shared, serves, under_way) = (shared.clone(), serves.clone(), under_way.clone());
                    tokio::spawn(async move {
                        let _kept = (place, under_way);
                        if let Err(error) = converse(stream, peer, shared, serves).await {
                            tracing::debug!(%error, %peer, "a DNS connection ended early");
                        }
                    });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a DNS connection cannot be accepted");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// One connection, until the peer ends it, is silent, or breaks the rules, or the listener ends.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut serves: watch::Receiver<()>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let arrived_on = stream.local_addr().ok().map(|local| local.ip().to_canonical());
    let (mut reader, writer) = stream.into_split();
    let (replies, waiting) = mpsc::channel(IN_FLIGHT_MAX);
    let mut tasks = JoinSet::new();
    let writing = tokio::spawn(write_all(writer, waiting));
    let mut rng = Rng::new();
    while let Some(request) = read(&mut reader, &mut serves).await? {
        match shared.handle(peer, arrived_on, Transport::Tcp, &request, &mut rng) {
            Handled::Send(bytes) => {
                if replies.send(bytes).await.is_err() {
                    break;
                }
            }
            Handled::Forward(forward, start) => {
                if tasks.len() >= IN_FLIGHT_MAX {
                    tasks.join_next().await;
                }
                let (shared, replies) = (shared.clone(), replies.clone());
                tasks.spawn(async move {
                    let bytes = shared.forward(&forward, start).await;
                    // The writer has ended only when the peer takes no more.
                    let _ = replies.send(bytes).await;
                });
            }
            Handled::Nothing => break,
        }
        while tasks.try_join_next().is_some() {}
    }
    // What was asked before the peer closed its side is still answered.
    drop(replies);
    while tasks.join_next().await.is_some() {}
    writing.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The next request; `None` when the peer ended the connection between two, or was silent, or the listener has ended.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    serves: &mut watch::Receiver<()>,
) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    let first = tokio::select! {
        biased; // what was asked before the end is answered
        first = timeout(IDLE, reader.read(&mut length[..1])) => first,
        _ = serves.changed() => return Ok(None),
    };
    match first {
        Err(_) => return Ok(None),
        Ok(read) => {
            if read? == 0 {
                return Ok(None);
            }
        }
    }
    let rest = async {
        reader.read_exact(&mut length[1..]).await?;
        let mut request = vec![0; u16::from_be_bytes(length).into()];
        reader.read_exact(&mut request).await?;
        Ok(Some(request))
    };
    timeout(STALLED, rest).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn write_all(mut writer: OwnedWriteHalf, mut replies: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(reply) = replies.recv().await {
        let Ok(length) = u16::try_from(reply.len()) else { continue };
        let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
        timeout(STALLED, writer.write_all(&framed))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    }
    writer.shutdown().await
}

/// How many connections each peer has.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Peers {
    /// A place for one connection, given back when it is dropped; `None` when there is none left.
    fn admit(&self, peer: IpAddr) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.get(&peer).copied().unwrap_or(0);
        if all >= CONNECTIONS_MAX || own >= CONNECTIONS_OF_PEER_MAX {
            return None;
        }
        counts.insert(peer, own + 1);
        Some(Place { peers: self.clone(), peer })
    }
}

struct Place {
    peers: Peers,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_an_octet_now_and_then_is_cut_off() {
        let (mut client, mut server) = duplex(64);
        let dripping = tokio::spawn(async move {
            for octet in [0, 100, 1, 1, 1, 1, 1, 1, 1, 1] {
                if client.write_all(&[octet]).await.is_err() {
                    return;
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
        let start = Instant::now();
        let (_serving, mut serves) = watch::channel(());
        let error = read(&mut server, &mut serves).await.expect_err("stalled");
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, STALLED));
        dripping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_requests_ends_the_connection_in_peace() {
        let (mut client, mut server) = duplex(64);
        client.write_all(&[0, 2, 7, 8]).await.expect("written");
        let (serving, mut serves) = watch::channel(());
        assert_eq!(read(&mut server, &mut serves).await.expect("read"), Some(vec![7, 8]));
        let start = Instant::now();
        assert_eq!(read(&mut server, &mut serves).await.expect("no error"), None);
        assert_eq!(start.elapsed(), IDLE);
        // So does the end of the listener, but what has come before it is read.
        drop(serving);
        client.write_all(&[0, 1, 9]).await.expect("written");
        let start = Instant::now();
        assert_eq!(read(&mut server, &mut serves).await.expect("read"), Some(vec![9]));
        assert_eq!(read(&mut server, &mut serves).await.expect("no error"), None);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
