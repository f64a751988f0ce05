//! One accepted connection: served by hyper, ended as its requests and the end of the program want it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{LAST_CHANCE, Phase, Shared, answers, finishing};

/// What an answer may know and decide about its connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// Counted from 1 over the life of the origin.
    pub(super) number: u64,
    /// Requests up to now.
    pub(super) requests: AtomicU64,
    /// Whether the end of the connection is a RST.
    pub(super) reset: AtomicBool,
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, number: u64, shared: Arc<Shared>) {
    let (requests, reset) = (AtomicU64::new(0), AtomicBool::new(false));
    let connection = Arc::new(Connection { peer, number, requests, reset });
    let wire = Wire { stream, connection: Arc::clone(&connection) };
    let phase = shared.phase.clone();
    let answer = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| answers::answer(request, Arc::clone(&connection), Arc::clone(&shared)))
    };
    // Half closed is a way to end a request; the answer still has somewhere to go.
    let http = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(wire), answer);
    let mut http = std::pin::pin!(http.with_upgrades());
    tokio::select! {
        // How a connection ends is for the client's side of a test to judge.
        _ = http.as_mut() => return,
        () = finishing(phase) => http.as_mut().graceful_shutdown(),
    }
    // hyper closes an idle connection now, but would wait for the first request of a new one for ever.
    let never_used = async {
        sleep(LAST_CHANCE).await;
        if connection.requests.load(Ordering::Relaxed) > 0 {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = http => {}
        () = never_used => {}
    }
}

/// Sends back every octet until the other side ends, or the program does.
pub(super) async fn echo(mut stream: TcpStream, phase: watch::Receiver<Phase>) {
    let mut octets = [0; 4096];
    let all = async {
        while let Ok(count @ 1..) = stream.read(&mut octets).await {
            if stream.write_all(&octets[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = finishing(phase) => {}
    }
}

/// The stream, whose end can be made a RST.
struct Wire {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Relaxed) {
            // Without it the connection ends with a FIN, and the test that wanted a RST says so.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, octets)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(())); // a FIN now would come before the RST
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
