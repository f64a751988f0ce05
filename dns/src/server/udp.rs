//! Requests over UDP: a batch in, a batch out; a forwarded one is answered when its upstream has.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use fairway_datagrams::{Inbox, Outgoing, send};
use fastrand::Rng;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::shared::{Handled, Shared};
use super::under_way::UnderWay;
use crate::answer::Transport;

/// Pause after an error of the socket itself, so that a broken one does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Octets of a request that are read. A question with options is far smaller; a longer datagram is none of ours.
const REQUEST_MAX: usize = 2048;

/// Answers until it is aborted. Requests being forwarded go on, each with a copy of `under_way`.
pub(crate) async fn serve(socket: UdpSocket, shared: Arc<Shared>, under_way: UnderWay) {
    let socket = Arc::new(socket);
    // A socket bound to one address tells it once; one bound to all tells it with each request.
    let bound = socket.local_addr().ok().map(|local| local.ip()).filter(|ip| !ip.is_unspecified());
    let mut listener = Listener { socket, bound, shared, under_way, rng: Rng::new() };
    let mut inbox = Inbox::new(REQUEST_MAX);
    loop {
        if let Err(error) = listener.turn(&mut inbox).await {
            tracing::debug!(%error, "a DNS socket failed for a moment");
            sleep(AFTER_ERROR).await;
        }
    }
}

struct Listener {
    socket: Arc<UdpSocket>,
    bound: Option<IpAddr>,
    shared: Arc<Shared>,
    under_way: UnderWay,
    rng: Rng,
}

impl Listener {
    async fn turn(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        self.socket.readable().await?;
        let received = self.socket.try_io(Interest::READABLE, || inbox.receive(self.socket.as_fd()));
        match received {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut replies = Vec::new();
        for request in inbox.datagrams() {
            let arrived_on = self.bound.or(request.sent_to).map(|ip| ip.to_canonical());
            let handled =
                self.shared.handle(request.source, arrived_on, Transport::Udp, request.bytes, &mut self.rng);
            match handled {
                Handled::Send(bytes) => {
                    replies.push(Outgoing { bytes, to: request.source, from: request.sent_to });
                }
                Handled::Forward(forward, start) => {
                    let (socket, shared) = (self.socket.clone(), self.shared.clone());
                    let (to, from, under_way) = (request.source, request.sent_to, self.under_way.clone());
                    // As many at once as the forwarder takes, and each ends within its time.
                    tokio::spawn(async move {
                        let bytes = shared.forward(&forward, start).await;
                        send_all(&socket, vec![Outgoing { bytes, to, from }]).await;
                        drop(under_way);
                    });
                }
                Handled::Nothing => {}
            }
        }
        send_all(&self.socket, replies).await;
        Ok(())
    }
}

/// Sends them all; one that cannot be sent is left out, as any datagram may be lost.
async fn send_all(socket: &UdpSocket, replies: Vec<Outgoing>) {
    let mut rest = replies.as_slice();
    while !rest.is_empty() {
        match socket.try_io(Interest::WRITABLE, || send(socket.as_fd(), rest)) {
            Ok(count) => rest = &rest[count.clamp(1, rest.len())..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if socket.writable().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, to = %rest[0].to, "a DNS reply cannot be sent");
                rest = &rest[1..];
            }
        }
    }
}
