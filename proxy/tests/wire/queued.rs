//! Requests whose instances are full wait for a place, over connections and workers.

use std::time::Duration;

use fairway_config::file::Limits;
use fairway_proxy::metrics::TableCollector;
use prometheus::core::Collector as _;

use crate::kit::*;
use crate::limits::metric;
use crate::logged::{lines, logged};

/// `shop.test` with one instance that takes one request at a time.
fn plane(options: Options, origin: &Origin, change: impl FnOnce(&mut Limits)) -> Plane {
    let mut limits = Limits::default();
    limits.queue_time = LONGEST;
    change(&mut limits);
    Plane::with(Options { limits, ..options }, |cluster| {
        cluster.add(origin.address, "shop.test", &[("fairway.in_flight_max", "1")]);
    })
}

/// A client whose request runs at the instance.
async fn running(plane: &Plane, origin: &Origin) -> (Wire, Wire) {
    let mut client = plane.connect().await;
    client.send(get("/first")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    (client, instance)
}

async fn waiting(plane: &Plane, path: &str, before: u32) -> Wire {
    let mut client = plane.connect().await;
    client.send(get(path)).await;
    queued(plane, before + 1).await;
    client
}

/// Waits until so many requests wait.
async fn queued(plane: &Plane, count: u32) {
    within("the queue", async {
        while plane.handle.queued(&"shop.test/".parse().expect("a route")) != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_until_a_place_is_free_and_is_told_of_with_its_wait() {
    let origin = Origin::new().await;
    let (options, receiver) = logged();
    let plane = plane(Options { threads: 2, ..options }, &origin, |_| {});
    let (mut first, mut instance) = running(&plane, &origin).await;
    let mut second = waiting(&plane, "/second", 0).await;
    let mut third = waiting(&plane, "/third", 1).await;
    instance.send(ok("one")).await;
    assert!(first.read_until("one").await.starts_with("HTTP/1.1 200"));
    for (client, path) in [(&mut second, "/second"), (&mut third, "/third")] {
        // On the same connection or, from the other worker, on another one.
        let mut on = tokio::select! {
            head = instance.head() => { assert!(head.contains(path), "{head}"); None }
            mut other = origin.accept() => {
                let head = other.head().await;
                assert!(head.contains(path), "{head}");
                Some(other)
            }
        };
        on.as_mut().unwrap_or(&mut instance).send(ok("more")).await;
        assert!(client.read_until("more").await.starts_with("HTTP/1.1 200"));
        instance = on.unwrap_or(instance);
    }
    queued(&plane, 0).await;
    let waits = TableCollector::new(plane.handle.clone()).expect("a collector").collect();
    let waits =
        waits.iter().find(|family| family.name() == "fairway_queue_wait_seconds").expect("it is there");
    assert_eq!(waits.get_metric()[0].get_histogram().get_sample_count(), 2);
    let lines = lines(plane, receiver).await;
    let of = |path: &str| lines.iter().find(|line| line["path"] == path).expect("a line").clone();
    assert!(of("/first")["queued_ms"].is_null() && of("/second")["queued_ms"].is_number());
}

#[tokio::test]
async fn a_wait_has_an_end_and_a_queue_too() {
    let origin = Origin::new().await;
    let short = Duration::from_millis(50);
    let plane = plane(Options::default(), &origin, |limits| {
        (limits.queue_time, limits.queued_per_route) = (short, 1);
    });
    let (_first, _instance) = running(&plane, &origin).await;
    let mut second = plane.connect().await;
    second.send(get("/")).await;
    let answer = second.read_until("}\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"instances-full\""), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once() {
    let origin = Origin::new().await;
    let plane = plane(Options::default(), &origin, |limits| limits.queued_per_route = 1);
    let (_first, _instance) = running(&plane, &origin).await;
    let _second = waiting(&plane, "/", 0).await;
    let mut third = plane.connect().await;
    third.send(get("/")).await;
    let answer = third.read_until("}\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"queue-full\""), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    // Counted as soon as the answer is on its way.
    within("the count", async {
        while metric(&plane, "fairway_requests_total", &[("reason", "queue-full")]) != 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_queue_a_full_instance_refuses_at_once() {
    let origin = Origin::new().await;
    let plane = plane(Options::default(), &origin, |limits| limits.queued_per_route = 0);
    let (_first, _instance) = running(&plane, &origin).await;
    assert!(plane.explain("shop.test").contains("it has 1 requests in flight, the limit"));
    let answer = plane.exchange("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"instances-full\""), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_frees_its_place_in_the_queue() {
    let origin = Origin::new().await;
    let plane = plane(Options::default(), &origin, |limits| limits.queued_per_route = 1);
    let (mut first, mut instance) = running(&plane, &origin).await;
    waiting(&plane, "/", 0).await.reset();
    queued(&plane, 0).await;
    drop(waiting(&plane, "/", 0).await); // which is all that most clients do when they give up
    queued(&plane, 0).await;
    let mut third = waiting(&plane, "/third", 0).await;
    instance.send(ok("one")).await;
    first.read_until("one").await;
    assert!(instance.head().await.contains("/third"));
    instance.send(ok("three")).await;
    assert!(third.read_until("three").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_that_were_reset_leave_their_places_before_there_is_news_of_the_instance() {
    let origin = Origin::new().await;
    let plane = plane(Options::default(), &origin, |_| {});
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = plane.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n").await;
        clients.push(client);
    }
    let start = std::time::Instant::now();
    for _ in 0..20 {
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.reset();
    }
    // Each of them waits for a second, but not one after the other.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_new_instance_takes_those_who_wait() {
    let (origin, other) = (Origin::new().await, Origin::new().await);
    let mut plane = plane(Options::default(), &origin, |_| {});
    let (_first, _instance) = running(&plane, &origin).await;
    let mut second = waiting(&plane, "/second", 0).await;
    plane.change(|cluster| {
        cluster.add(other.address, "shop.test", &[]);
    });
    other.serve("other");
    assert!(second.read_until("other").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_deadline_of_the_client_that_is_near_goes_first() {
    let origin = Origin::new().await;
    let plane = plane(Options::default(), &origin, |_| {});
    let (mut first, mut instance) = running(&plane, &origin).await;
    let _late = waiting(&plane, "/late", 0).await;
    let mut soon = plane.connect().await;
    let call = "POST /soon HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/grpc\r\ngrpc-timeout: 10S\r\nContent-Length: 0\r\n\r\n";
    soon.send(call).await;
    queued(&plane, 2).await;
    instance.send(ok("one")).await;
    first.read_until("one").await;
    let head = instance.head().await;
    assert!(head.contains("/soon"), "{head}");
}
