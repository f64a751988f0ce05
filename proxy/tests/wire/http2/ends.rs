//! How connections and streams end: by a stop, by clients that leave.

use std::time::{Duration, Instant};

use fairway_proxy::metrics::TableCollector;
use prometheus::core::Collector;
use prometheus::proto::Metric;

use super::kit::*;
use crate::kit::{Options, Origin, Plane, get as http1_get, ok, within};
use crate::logged::{lines, logged};

#[tokio::test]
async fn a_stop_says_goodbye_and_finishes_what_is_in_flight() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let (mut idle, mut busy) = (Frames::connect(&plane).await, Frames::connect(&plane).await);
    idle.send(request(1, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("1")).await;
    idle.next_of(DATA).await;
    busy.send(request(1, &[])).await;
    instance.head().await;
    let draining = tokio::spawn(plane.drain(Duration::from_secs(15)));
    for client in [&mut idle, &mut busy] {
        let goodbye = client.next_of(GOAWAY).await;
        assert_eq!(
            (goodbye.code(), &goodbye.payload[..4]),
            (0, &[0x7f, 0xff, 0xff, 0xff][..]),
            "the first step"
        );
        let ping = client.next_of(PING).await;
        assert_eq!(ping.flags, 0);
        // Sent before the client knew: answered nevertheless.
        client.send(request(3, &[])).await;
        client.send(frame(PING, ACK, 0, &ping.payload)).await;
    }
    let mut answered = Vec::new();
    for _ in 0..2 {
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send(ok("3")).await;
        answered.push(instance);
    }
    assert_eq!(
        idle.next_of(GOAWAY).await.payload[..4],
        [0, 0, 0, 3],
        "the second step names the last stream"
    );
    assert_eq!(idle.next_of(DATA).await.payload, b"3");
    within("the end", async { while idle.next().await.is_some() {} }).await;
    assert!(!draining.is_finished(), "a stream is in flight");
    instance.send(ok("finished")).await;
    let mut data = Vec::new();
    while let Some(frame) = busy.next().await {
        if frame.kind == DATA {
            data.push(frame.payload);
        }
    }
    data.sort();
    assert_eq!(data, [b"3".to_vec(), b"finished".to_vec()]);
    assert_eq!(draining.await.expect("the drain ends").cut, 0);
}

#[tokio::test]
async fn a_client_that_takes_a_request_back_frees_its_instance_and_is_told_as_499() {
    let origin = Origin::new().await;
    let (options, receiver) = logged();
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    let mut client = Frames::connect(&plane).await;
    // Before the answer, in the middle of it, and in the middle of the request.
    client.send(request(1, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    client.send(frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())).await;
    assert!(instance.ends().await);

    client.send(request(3, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n").await;
    assert_eq!(client.next_of(DATA).await.payload, b"event");
    client.send(frame(RST_STREAM, 0, 3, &CANCEL.to_be_bytes())).await;
    assert!(instance.ends().await, "nothing more has to come for it");

    let fields = [(":method", "POST"), GET[1], GET[2], GET[3]];
    client.send(frame(HEADERS, END_HEADERS, 5, &block(&fields))).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    client.send(frame(RST_STREAM, 0, 5, &CANCEL.to_be_bytes())).await;
    assert!(instance.ends().await);

    // The whole connection.
    client.send(request(7, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    drop(client);
    assert!(instance.ends().await);
    let lines = lines(plane, receiver).await;
    let told: Vec<_> = lines.iter().map(|line| (line["status"].as_u64(), line["reason"].as_str())).collect();
    assert_eq!(told, [(Some(499), Some("client-left")); 4], "{lines:?}");
}

#[tokio::test]
async fn connections_are_counted_by_their_protocol() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut old = plane.connect().await;
    old.send(http1_get("/")).await;
    old.head().await;
    let mut new = Frames::connect(&plane).await;
    new.send(request(1, &[])).await;
    new.next_of(HEADERS).await;
    let families = TableCollector::new(plane.handle.clone()).expect("valid names").collect();
    let family = families.iter().find(|family| family.name() == "fairway_connections").expect("a family");
    for protocol in ["http1", "h2"] {
        let of = |metric: &&Metric| metric.get_label().iter().any(|label| label.value() == protocol);
        let metric = family.get_metric().iter().find(of).unwrap_or_else(|| panic!("{protocol}: {family:?}"));
        assert_eq!(metric.get_gauge().get_value(), 1.0, "{protocol}");
    }
}

#[tokio::test]
async fn a_preface_or_a_header_that_does_not_end_is_waited_for_ten_seconds() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut half = plane.connect().await;
    half.send(&PREFACE[..20]).await;
    let (mut silent, mut trickling) = (Frames::connect(&plane).await, Frames::connect(&plane).await);
    let start = frame(HEADERS, END_STREAM, 1, &block(&GET));
    silent.send(&start).await;
    trickling.send(&start[..start.len() - 1]).await;
    let began = Instant::now();
    let ends = async {
        half.read_to_end().await;
        while silent.next().await.is_some() {}
        while trickling.next().await.is_some() {}
    };
    within("the ends", ends).await;
    let took = began.elapsed().as_secs();
    assert!((9..15).contains(&took), "{took} s");
}
