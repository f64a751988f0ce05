//! Many connections at once that want little, slowly or nothing: others are served meanwhile, and memory stays flat.
//!
//! In network namespaces of their own: see [`Netns`].
//!
//! Not here: what becomes of one of them (see [`crate::leaving`]), how long each is borne (`proxy/tests/wire`).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use fairway_testkit::netns::Netns;
use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::process::{raise_file_limit, resident_kib};
use fairway_testkit::raw::Raw;
use fairway_testkit::wait::{PATIENCE, within};
use fairway_testkit::{Fairway, FairwayOptions, client};
use futures_util::StreamExt;
use futures_util::stream::iter;

use crate::leaving::{in_flight, nothing_in_flight};
use crate::table::{BINARY, config, start};

/// The instance accepts in its own time: what is measured is Fairway.
const SERVICE: &str = "outlier = false\ntimeout = { connect = \"20s\" }\n";

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
    fairway_testkit::until(format!("{count} requests at instances"), PATIENCE, there).await;
}

#[tokio::test]
async fn a_crowd_of_slow_clients_keeps_nobody_from_being_served() {
    let _quiet = Netns::enter();
    small_socket_buffers();
    raise_file_limit();
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], SERVICE, "[proxy]\nthreads = 2\n").await;
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
    let fairway = start(&[origin.address()], SERVICE, "[proxy]\nthreads = 2\n").await;
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
    let count = usize::try_from(raise_file_limit() - 1000).expect("a number of files").min(20_000);
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], SERVICE, "[limits]\nconnections_total = \"none\"\n").await;
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

#[tokio::test]
async fn a_crowd_beyond_the_files_of_the_process_waits_and_open_connections_are_served() {
    let _quiet = Netns::enter();
    let (fairway, mut early, mut crowd, _origin) = with_200_files("").await;
    early.send(FIVE).await;
    assert!(early.head().await.starts_with("HTTP/1.1 200 "), "the one that is open is served");
    early.read_until("xxxxx").await;
    rests(&fairway).await;
    leave_and_are_served(&mut crowd).await;
}

#[tokio::test]
async fn when_files_run_out_that_is_told_nothing_spins_and_it_passes() {
    let _quiet = Netns::enter();
    // Nothing kept for connections to instances: the files do run out.
    let none = "[limits]\nconnections_total = \"none\"\n";
    let (fairway, mut early, mut crowd, _origin) = with_200_files(none).await;
    // A file that something else gives back may serve a request before the next connection takes it.
    let refusal = async {
        loop {
            early.send(FIVE).await;
            let head = early.head().await;
            if !head.starts_with("HTTP/1.1 200 ") {
                return head + &String::from_utf8_lossy(&early.read_until("}\n").await);
            }
            early.read_until("xxxxx").await;
        }
    };
    let answer = within("a request without a file", PATIENCE, refusal).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"out-of-files\""), "{answer}");
    rests(&fairway).await;
    leave_and_are_served(&mut crowd).await;
}

const FIVE: &str = "GET /bytes?n=5 HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// A Fairway that may have 200 files, as by an operator's `LimitNOFILE`, a client that it has served, and 400 more than it
/// can accept.
async fn with_200_files(more: &str) -> (Fairway, Raw, Vec<Raw>, Origin) {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let program = folder.path().join("fairway");
    let script = format!("#!/bin/sh\nulimit -n 200\nexec {BINARY} \"$@\"\n");
    std::fs::write(&program, script).expect("it is written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let config = config(&[origin.address()], SERVICE, more);
    let fairway = FairwayOptions::new(&program).config(config).start().await;
    fairway.ready().await;
    let mut early = Raw::connect(fairway.http()).await;
    early.send(FIVE).await;
    early.read_until("xxxxx").await;
    let crowd = crowd(fairway.http(), 400, "").await;
    let told = |lines: &[String]| {
        lines.iter().any(|line| line.contains("no connection can be accepted")).then_some(())
    };
    fairway.log().find(told).await.expect("it is told");
    (fairway, early, crowd, origin)
}

/// It waits rather than tries again and again.
async fn rests(fairway: &Fairway) {
    let before = cpu_ticks(fairway.process().pid());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ticks = cpu_ticks(fairway.process().pid()) - before;
    assert!(ticks < 50, "{ticks} hundredths of a second of CPU in a second without work");
    let log = fairway.log().text();
    assert!(!log.contains("panicked"), "{log}");
}

/// Those that wait are served as soon as others leave.
async fn leave_and_are_served(crowd: &mut Vec<Raw>) {
    let mut late = crowd.split_off(370);
    crowd.clear();
    for raw in &mut late {
        raw.send(FIVE).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
        raw.read_until("xxxxx").await;
    }
}

#[tokio::test]
async fn a_crowd_in_each_phase_of_a_request_is_ended_by_the_limits_and_nothing_is_left_of_it() {
    let _quiet = Netns::enter();
    small_socket_buffers();
    raise_file_limit();
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let limits =
        "[limits]\nheader_time = \"2s\"\nidle_time = \"2s\"\nbody_grace = \"10m\"\n[proxy]\nthreads = 2\n";
    let fairway = start(&[origin.address()], SERVICE, limits).await;
    let address = fairway.http();
    let mut silent = crowd(address, 500, "").await;
    let mut heads = crowd(address, 500, "GET / HTTP/1.1\r\nHost: a.test\r\nX: ").await;
    // To a path whose answer comes after the body: once an answer has begun, the instance's limit counts.
    let body = "POST /trailers HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nhello";
    let mut bodies = crowd(address, 500, body).await;
    let mut deaf = crowd(address, 50, "GET /bytes?n=10000000 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    requests_are_served(&fairway).await;
    for raw in &mut silent {
        assert_eq!(raw.read_to_end().await.0, b"");
    }
    for raw in &mut heads {
        let answer = raw.read_to_end().await.0;
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    }
    for raw in &mut bodies {
        let answer = raw.read_to_end().await.0;
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    }
    nothing_in_flight(&fairway).await;
    for raw in &mut deaf {
        assert!(raw.read_to_end().await.0.len() < 10_000_000, "it was cut");
    }
    requests_are_served(&fairway).await;
}

/// CPU time of a process, user and system, in the kernel's ticks of 10 ms.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process has a stat");
    let (_, numbers) = stat.rsplit_once(") ").expect("a name in brackets");
    let number =
        |at: usize| numbers.split(' ').nth(at).and_then(|text| text.parse::<u64>().ok()).expect("a number");
    number(11) + number(12)
}
