//! Instances that come and go under load: no request fails, whatever both sides speak.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use http::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::kit::*;
use crate::http2::kit as client;
use crate::kit::*;

/// An instance that stops as servers do: it says goodbye, finishes what it has, and closes.
struct Stopping {
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Stopping {
    async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let mut stops = stopped.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = stops.wait_for(|stop| *stop) => return, // the listener closes
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        tokio::spawn(serve(stream, stopped.clone()));
                    }
                }
            }
        });
        Self { address, stop }
    }
}

async fn serve(stream: tokio::net::TcpStream, mut stopped: watch::Receiver<bool>) {
    let Ok(mut connection) = server::handshake(stream).await else { return };
    let mut stops = false;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop), if !stops => {
                stops = true;
                connection.graceful_shutdown();
            }
            accepted = connection.accept() => {
                let Some(Ok((request, mut respond))) = accepted else { return };
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(data)) = body.data().await {
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
                        let _ = stream.send_data(Bytes::from_static(b"done"), true);
                    }
                });
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacements_under_load_fail_no_request() {
    let first = Stopping::new().await;
    let mut plane = plane(&[first.address], &[]);
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut load = JoinSet::new();
    for number in 0..8 {
        let (over, asked) = (over.clone(), asked.clone());
        if number % 2 == 0 {
            let mut wire = plane.connect().await;
            load.spawn(async move {
                while !over.load(Relaxed) {
                    wire.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello").await;
                    let head = wire.head().await;
                    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                    wire.read_until("4\r\ndone\r\n0\r\n\r\n").await;
                    asked.fetch_add(1, Relaxed);
                }
            });
        } else {
            let client = client::client(&plane).await;
            load.spawn(async move {
                while !over.load(Relaxed) {
                    let request = http::Request::post("http://shop.test/").body(()).expect("a request");
                    let response = client::send(&client, request, Some(b"hello")).await.expect("an answer");
                    assert_eq!(response.status(), 200);
                    let (body, _) = client::read(response.into_body()).await.expect("a whole answer");
                    assert_eq!(body, b"done");
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
    }
    let mut old = first;
    for _ in 0..15 {
        let new = Stopping::new().await;
        let ids = plane.cluster.ids();
        let before = asked.load(Relaxed);
        plane.change(|cluster| drop(cluster.add(new.address, "shop.test", &[H2C])));
        plane.change(|cluster| cluster.stop(&ids[0]));
        old.stop.send_replace(true);
        within("some requests", async {
            while asked.load(Relaxed) < before + 40 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        plane.change(|cluster| cluster.remove(&ids[0]));
        old = new;
    }
    over.store(true, Relaxed);
    while let Some(ended) = within("the load", load.join_next()).await {
        ended.expect("no request failed");
    }
    assert!(asked.load(Relaxed) >= 600);
}
