//! Many connections at once that want little, slowly or nothing: others are served meanwhile, and memory stays flat.
//!
//! In network namespaces of their own: see [`Netns`].
//!
//! Not here: what becomes of one of them (see [`crate::leaving`]), how long each is borne (`proxy/tests/wire`).

use std::net::SocketAddr;

use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::process::{raise_file_limit, resident_kib};
use fairway_testkit::raw::Raw;
use fairway_testkit::{Fairway, client};
use futures_util::StreamExt;
use futures_util::stream::iter;

use crate::leaving::{in_flight, nothing_in_flight};
use crate::table::start;

/// Connections that are opened at the same time.
const AT_ONCE: usize = 100;

/// Bounds what the kernel keeps for each connection of this namespace: by default it is some megabytes, and hundreds of
/// connections that nobody reads would need all the memory that a machine has for TCP. Fairway's own part is what is measured.
fn small_socket_buffers() {
    for (name, values) in [("tcp_wmem", "4096 16384 131072"), ("tcp_rmem", "4096 65536 131072")] {
        let written = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), values);
        written.expect("root may change its own namespace");
    }
}

/// So many connections on each of which `text` was sent.
async fn crowd(address: SocketAddr, count: usize, text: &str) -> Vec<Raw> {
    let opening = (0..count).map(|_| async move {
        let mut raw = Raw::connect(address).await;
        assert!(raw.send(text).await, "it takes {text:?}");
        raw
    });
    iter(opening).buffer_unordered(AT_ONCE).collect().await
}

async fn requests_are_served(fairway: &Fairway) {
    for _ in 0..50 {
        client::get(fairway.http(), "a.test", "/").await.ok("/");
    }
}

async fn at_instances(fairway: &Fairway, count: u64) {
    let there = async || (in_flight(fairway).await == count).then_some(());
    fairway_testkit::until(format!("{count} requests at instances"), fairway_testkit::wait::PATIENCE, there)
        .await;
}

#[tokio::test]
async fn a_crowd_of_slow_clients_keeps_nobody_from_being_served() {
    let _quiet = Netns::enter();
    small_socket_buffers();
    raise_file_limit();
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], "outlier = false\n", "").await;
    requests_are_served(&fairway).await;
    let before = resident_kib(fairway.process().pid());
    let address = fairway.http();
    let mut slow = crowd(address, 1000, "").await;
    slow.extend(crowd(address, 1000, "GET / HTTP/1.1\r\nHost: a.test\r\nX: ").await);
    slow.extend(
        crowd(address, 250, "POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nhello").await,
    );
    slow.extend(
        crowd(
            address,
            250,
            "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        )
        .await,
    );
    at_instances(&fairway, 500).await;
    slow.extend(crowd(address, 50, "GET /bytes?n=10000000 HTTP/1.1\r\nHost: a.test\r\n\r\n").await);
    at_instances(&fairway, 550).await;
    // Each of the slow ones goes on by an octet, and others are served between.
    for _ in 0..3 {
        for raw in &mut slow {
            raw.send("x").await;
        }
        requests_are_served(&fairway).await;
    }
    let grown = resident_kib(fairway.process().pid()).saturating_sub(before);
    assert!(grown < 128 * 1024, "2,550 slow clients cost {grown} KiB");
    drop(slow);
    nothing_in_flight(&fairway).await;
    requests_are_served(&fairway).await;
}

#[tokio::test]
async fn clients_that_never_read_a_large_answer_cost_no_memory() {
    let _quiet = Netns::enter();
    small_socket_buffers();
    raise_file_limit();
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], "outlier = false\n", "").await;
    requests_are_served(&fairway).await;
    let before = resident_kib(fairway.process().pid());
    let request = "GET /bytes?n=10000000 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut deaf = crowd(fairway.http(), 200, request).await;
    at_instances(&fairway, 200).await;
    requests_are_served(&fairway).await;
    let grown = resident_kib(fairway.process().pid()).saturating_sub(before);
    // 2 GB are waiting to be taken.
    assert!(grown < 64 * 1024, "200 answers that nobody takes cost {grown} KiB");
    // One that reads after all gets all of it.
    let mut one = deaf.pop().expect("there are 200");
    one.head().await;
    assert_eq!(one.read_exactly(10_000_000).await.len(), 10_000_000);
    drop((one, deaf));
    nothing_in_flight(&fairway).await;
}

#[tokio::test]
async fn thousands_of_idle_connections_cost_little_and_are_served_when_they_ask() {
    let _quiet = Netns::enter();
    let count =
        usize::try_from(raise_file_limit().saturating_sub(1000)).expect("a number of files").min(20_000);
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], "outlier = false\n", "").await;
    requests_are_served(&fairway).await;
    let before = resident_kib(fairway.process().pid());
    let request = "GET /bytes?n=5 HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let ask = |mut raw: Raw| async move {
        assert!(raw.send(request).await);
        assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
        raw.read_exactly(5).await;
        raw
    };
    let address = fairway.http();
    let opening = (0..count).map(|_| async move { ask(Raw::connect(address).await).await });
    let idle: Vec<Raw> = iter(opening).buffer_unordered(AT_ONCE).collect().await;
    let grown = resident_kib(fairway.process().pid()).saturating_sub(before);
    println!("{count} idle connections: {grown} KiB, {:.1} KiB each", grown as f64 / count as f64);
    assert!(grown < count as u64 * 12, "{count} idle connections cost {grown} KiB");
    requests_are_served(&fairway).await;
    let again: Vec<Raw> = iter(idle.into_iter().map(ask)).buffer_unordered(AT_ONCE).collect().await;
    assert_eq!(again.len(), count);
}
