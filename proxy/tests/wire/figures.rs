//! What the versions of a route did for its requests, as releases are told of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fairway_config::names::RouteId;
use fairway_proxy::metrics::VersionFigures;
use fairway_release::latency::{Latencies, bucket_of};

use crate::kit::*;

const SHOP: &str = "shop.test/";

fn versions(old: SocketAddr, new: SocketAddr) -> Plane {
    Plane::with(Options::default(), |cluster| {
        cluster.add(old, "shop.test", &[("fairway.version", "v1"), ("fairway.retries", "3")]);
        cluster.add(new, "shop.test", &[("fairway.version", "v2"), ("fairway.match", "header:new=1")]);
    })
}

fn figures(plane: &Plane, version: &str) -> VersionFigures {
    let route: RouteId = SHOP.parse().expect("a route");
    let all = plane.handle.figures(&route);
    all.into_iter().find(|one| one.backend.version.as_str() == version).expect("the version is there")
}

/// Waits until a version has so many requests and failures: they are counted when the answer has gone.
async fn counted(plane: &Plane, version: &str, requests: u64, failures: u64) -> Latencies {
    within(&format!("{requests} requests, {failures} failures at {version}"), async {
        loop {
            let figures = figures(plane, version);
            assert!(figures.requests <= requests && figures.failures <= failures, "{figures:?}");
            if (figures.requests, figures.failures) == (requests, failures) {
                return figures.latencies;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

const TO_NEW: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\nNew: 1\r\n\r\n";

#[tokio::test]
async fn each_version_has_its_own_requests_failures_and_latencies() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = versions(old.address, new.address);
    let mut client = plane.connect().await;
    client.send(TO_NEW).await;
    let mut instance = new.accept().await;
    for status in ["200 OK", "404 Not Found", "500 Oh", "503 Oh"] {
        instance.head().await;
        instance.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
        client.head().await;
        client.send(TO_NEW).await;
    }
    let latencies = counted(&plane, "v2", 4, 2).await;
    assert_eq!(latencies.total(), 4, "all were answered");
    assert_eq!(figures(&plane, "v1").requests, 0);
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12").await;
    drop(instance);
    client.read_to_end().await;
    assert_eq!(counted(&plane, "v2", 5, 3).await.total(), 5, "a cut answer is one, and a failure");
    assert!(plane.handle.figures(&"other.test/".parse().expect("a route")).is_empty());
}

#[tokio::test]
async fn a_version_whose_requests_another_one_saves_has_failed_them() {
    let old = Origin::new().await;
    let plane = versions(old.address, refusing().await);
    old.serve("old");
    let mut client = plane.connect().await;
    for _ in 0..3 {
        client.send(TO_NEW).await;
        assert!(client.read_until("\r\n\r\nold").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(counted(&plane, "v2", 3, 3).await, Latencies::default(), "none was answered");
    counted(&plane, "v1", 3, 0).await;
}

#[tokio::test]
async fn an_instance_that_stops_may_pass_its_requests_on() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let mut plane = versions(old.address, new.address);
    old.serve("old");
    for stops in [true, false] {
        let mut client = plane.connect().await;
        client.send(TO_NEW).await;
        let mut instance = new.accept().await;
        instance.head().await;
        if stops {
            let id = plane.cluster.ids()[1].clone();
            plane.change(|cluster| cluster.stop(&id));
        }
        drop(instance);
        assert!(client.read_until("\r\n\r\nold").await.starts_with("HTTP/1.1 200 "));
        if stops {
            counted(&plane, "v1", 1, 0).await;
            assert_eq!(figures(&plane, "v2").requests, 0);
            plane.change(|cluster| cluster.goes_on());
        }
    }
    counted(&plane, "v1", 2, 0).await;
    counted(&plane, "v2", 1, 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_says_nothing_of_a_version() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = versions(old.address, new.address);
    let mut client = plane.connect().await;
    client.send(TO_NEW).await;
    let mut instance = new.accept().await;
    instance.head().await;
    client.reset();
    assert!(instance.ends().await);
    // What is told later is counted later.
    let mut client = plane.connect().await;
    client.send(TO_NEW).await;
    let mut instance = new.accept().await;
    instance.head().await;
    instance.send(ok("x")).await;
    client.read_until("x").await;
    counted(&plane, "v2", 1, 0).await;
}

#[tokio::test]
async fn an_upgrade_counts_as_soon_as_it_is_granted() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = versions(old.address, new.address);
    let mut client = plane.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: shop.test\r\nNew: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut instance = new.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    client.head().await;
    assert_eq!(counted(&plane, "v2", 1, 0).await.total(), 1);
    instance.reset();
    client.read_to_end().await;
    // The next request is counted after the tunnel's end was told, by the same worker.
    let mut client = plane.connect().await;
    client.send(TO_NEW).await;
    let mut instance = new.accept().await;
    instance.head().await;
    instance.send(ok("x")).await;
    client.read_until("x").await;
    counted(&plane, "v2", 2, 0).await;
}

#[tokio::test]
async fn a_call_of_grpc_fails_by_its_own_status() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = versions(old.address, new.address);
    let mut client = plane.connect().await;
    let call = "POST /s/m HTTP/1.1\r\nHost: shop.test\r\nNew: 1\r\nContent-Type: application/grpc\r\n\
        Content-Length: 0\r\n\r\n";
    client.send(call).await;
    let mut instance = new.accept().await;
    for status in [0, 13, 5, 14] {
        instance.head().await;
        instance
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: {status}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        client.head().await;
        client.send(call).await;
    }
    counted(&plane, "v2", 4, 2).await;
}

#[tokio::test]
async fn a_slow_client_does_not_make_a_version_slow() {
    const SLOW: Duration = Duration::from_millis(300);
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = versions(old.address, new.address);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nNew: 1\r\nContent-Length: 4\r\n\r\n12").await;
    let mut instance = new.accept().await;
    instance.head().await;
    tokio::time::sleep(SLOW).await; // the client's slowness
    let rest = Instant::now();
    client.send("34").await;
    instance.read_exactly(4).await;
    instance.send(ok("x")).await;
    client.read_until("x").await;
    let since_the_rest = bucket_of(rest.elapsed());
    let fast = counted(&plane, "v2", 1, 0).await;
    assert_eq!(fast.from(since_the_rest + 1), 0, "{fast:?}");

    client.send(TO_NEW).await;
    instance.head().await;
    tokio::time::sleep(SLOW).await; // the version's slowness
    instance.send(ok("x")).await;
    client.read_until("x").await;
    let both = counted(&plane, "v2", 2, 0).await;
    assert_eq!(both.since(&fast).from(bucket_of(SLOW)), 1, "{both:?}");
}
