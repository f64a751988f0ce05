//! Every limit of a listener: what is answered beyond it, and that a reload changes it.

use std::time::Duration;

use fairway_config::file::{HttpListener, Limits, Tls};
use fairway_proxy::metrics::TableCollector;
use prometheus::core::Collector as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep};

use crate::kit::*;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// One route, `shop.test`, with one instance and further labels.
fn plane(origin: &Origin, labels: &[(&str, &str)], change: impl FnOnce(&mut Limits)) -> Plane {
    Plane::with(Options { limits: limits(change), ..Options::default() }, |cluster| {
        cluster.add(origin.address, "shop.test", labels);
    })
}

/// The sum of a metric's samples that have all these labels.
pub(crate) fn metric(plane: &Plane, name: &str, labels: &[(&str, &str)]) -> f64 {
    let families = TableCollector::new(plane.handle.clone()).expect("a collector").collect();
    let samples =
        families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
    let has = |metric: &&prometheus::proto::Metric| {
        labels.iter().all(|(name, value)| {
            metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
        })
    };
    samples.filter(has).map(|metric| metric.get_counter().get_value()).sum()
}

fn requests(plane: &Plane, reason: &str) -> f64 {
    metric(plane, "fairway_requests_total", &[("reason", reason)])
}

#[tokio::test]
async fn a_header_beyond_the_limits_of_the_listener_is_refused() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| {
        (limits.header_bytes, limits.header_fields, limits.target_bytes) = (1024, 10, 200);
    });
    origin.serve("a");
    let many = "x: y\r\n".repeat(10);
    let long = format!("x: {}\r\n", "y".repeat(1024));
    let target = "y".repeat(200);
    for (request, status, reason) in [
        (format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{many}\r\n"), "431", "header-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{long}\r\n"), "431", "header-too-large"),
        (format!("GET /{target} HTTP/1.1\r\nHost: shop.test\r\n\r\n"), "414", "target-too-long"),
        (format!("GET /{}", target.repeat(3)), "414", "target-too-long"),
    ] {
        let answer = plane.exchange(&request).await;
        assert!(answer.contains(status) && answer.contains(reason), "{request}: {answer}");
    }
    assert_eq!((requests(&plane, "header-too-large"), requests(&plane, "target-too-long")), (2.0, 2.0));
    let answer = plane.exchange("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_header_that_takes_too_long_as_a_whole_is_refused_however_often_an_octet_comes() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| limits.header_time = Duration::from_millis(300));
    let mut client = plane.connect().await;
    let (mut reader, mut writer) = client.stream.split();
    let start = Instant::now();
    let dripping = async {
        writer.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nx: ").await.expect("it is open");
        while writer.write_all(b"y").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer);
    tokio::select! {
        () = dripping => {}
        _ = within("the refusal", reading) => {}
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("408") && answer.contains("client-timeout"), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_body_announced_as_too_large_is_refused_before_it_is_sent() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| limits.body_max = Some(1000));
    let request =
        "POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
    let answer = plane.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    assert_eq!(field(&answer, "Connection"), Some("close"));
    assert_eq!(requests(&plane, "body-too-large"), 1.0);

    let mut client = plane.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000\r\n\r\n{}",
            "x".repeat(1000)
        ))
        .await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.read_exactly(1000).await;
    instance.send(ok("taken")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_chunked_body_is_refused_when_it_has_become_too_large() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| limits.body_max = Some(1000));
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(format!("258\r\n{}\r\n", "x".repeat(600))).await;
    let mut instance = origin.accept().await;
    instance.read_until(&"x".repeat(600)).await;
    client.send(format!("258\r\n{}\r\n0\r\n\r\n", "x".repeat(600))).await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    let rest = instance.read_to_end().await;
    assert!(!rest.contains("0\r\n\r\n"), "the instance sees that the body is cut: {rest:?}");

    // The same when all of it comes with the header.
    let whole = format!(
        "POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        "x".repeat(1001)
    );
    assert!(plane.exchange(whole).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_route_may_take_larger_bodies_than_its_listener_or_smaller_ones() {
    let [large, any, small] = [Origin::new().await, Origin::new().await, Origin::new().await];
    let options = Options { limits: limits(|limits| limits.body_max = Some(1000)), ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(large.address, "large.test", &[("fairway.body_max", "2k")]);
        cluster.add(any.address, "any.test", &[("fairway.body_max", "none")]);
        cluster.add(small.address, "small.test", &[("fairway.body_max", "10")]);
    });
    let post = |host: &str, octets: usize| {
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {octets}\r\n\r\n")
    };
    for (host, octets) in [("large.test", 2049), ("small.test", 11)] {
        let answer = plane.exchange(post(host, octets)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{host}: {answer}");
    }
    for (host, octets, origin) in
        [("large.test", 2048, &large), ("any.test", 100_000_000, &any), ("small.test", 10, &small)]
    {
        let mut client = plane.connect().await;
        client.send(post(host, octets)).await;
        let mut instance = origin.accept().await;
        assert!(instance.head().await.contains(&octets.to_string()), "{host}");
    }
}

fn slow(limits: &mut Limits) {
    (limits.body_rate, limits.body_grace) = (1000, Duration::from_millis(300));
}

#[tokio::test]
async fn a_body_that_arrives_too_slowly_is_refused_however_often_an_octet_comes() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], slow);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100000\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let start = Instant::now();
    let (mut reader, mut writer) = client.stream.split();
    let dripping = async {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer);
    tokio::select! {
        () = dripping => {}
        _ = within("the refusal", reading) => {}
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("408") && answer.contains("body-too-slow"), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(requests(&plane, "body-too-slow"), 1.0);
}

#[tokio::test]
async fn calls_of_grpc_and_streams_of_connect_may_be_slow() {
    for kind in ["application/grpc+proto", "application/connect+proto"] {
        let origin = Origin::new().await;
        let plane = plane(&origin, &[], slow);
        let mut client = plane.connect().await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Type: {kind}\r\nContent-Length: 30\r\n\r\n"
            ))
            .await;
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
        client.head().await;
        for _ in 0..30 {
            client.send("x").await;
            sleep(Duration::from_millis(20)).await;
        }
        instance.read_exactly(30).await;
        instance.send("done").await;
        client.read_until("done").await;
    }
}

/// A client in the middle of its body, and the instance that has begun to answer nevertheless.
async fn answered_early(origin: &Origin, plane: &Plane) -> (Wire, Wire) {
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100000\r\n\r\nhello").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.read_exactly(5).await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await;
    client.head().await;
    (client, instance)
}

#[tokio::test]
async fn a_body_that_stops_or_drips_once_the_answer_has_begun_ends_the_connection() {
    for (change, drips, reason) in [
        (slow as fn(&mut Limits), true, "body-too-slow"),
        (slow, false, "body-too-slow"),
        (|limits: &mut Limits| limits.idle_time = Duration::from_millis(300), false, "client-timeout"),
    ] {
        let origin = Origin::new().await;
        let plane = plane(&origin, &[], change);
        let (mut client, mut instance) = answered_early(&origin, &plane).await;
        let start = Instant::now();
        if drips {
            within("the end", async {
                while client.stream.write_all(b"x").await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        assert!(client.ends().await, "{reason}");
        assert!(start.elapsed() >= Duration::from_millis(250), "{reason}");
        let upload = instance.read_to_end().await;
        assert!(upload.len() < 1000, "the instance sees that the body is cut: {reason}");
        assert_eq!(requests(&plane, reason), 1.0, "{reason}");
    }
}

#[tokio::test]
async fn what_a_client_takes_of_an_answer_counts_as_if_it_had_sent_it() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| {
        (limits.body_rate, limits.body_grace) = (1000, Duration::from_secs(1));
    });
    let (mut client, mut instance) = answered_early(&origin, &plane).await;
    // More than twice as long as its body alone may be silent.
    for _ in 0..12 {
        instance.send("x".repeat(1000)).await;
        client.read_exactly(1000).await;
        sleep(Duration::from_millis(200)).await;
    }
    client.send("x".repeat(100_000 - 5)).await;
    instance.read_exactly(100_000 - 5).await;
    instance.send("x".repeat(1_000_000 - 12_000)).await;
    client.read_exactly(1_000_000 - 12_000).await;
    assert_eq!(requests(&plane, "body-too-slow"), 0.0);
}

#[tokio::test]
async fn an_instance_that_takes_a_body_slowly_costs_the_client_nothing() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], slow);
    let mut client = plane.connect().await;
    let octets = 16 * 1024 * 1024;
    client.send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {octets}\r\n\r\n")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let (mut reader, mut writer) = client.stream.into_split();
    let body = vec![b'x'; octets];
    let sending = tokio::spawn(async move { writer.write_all(&body).await.map(|()| writer) });
    sleep(Duration::from_millis(900)).await;
    instance.read_exactly(octets).await;
    instance.send(ok("taken")).await;
    let mut answer = [0; 12];
    within("the answer", tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answer))
        .await
        .expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    sending.await.expect("no panic").expect("the body was taken");
}

#[tokio::test]
async fn a_connection_that_idles_too_long_is_closed() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| limits.idle_time = Duration::from_millis(200));
    origin.serve("a");
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    client.head().await;
    client.read_exactly(1).await;
    assert!(client.ends().await);
}

#[tokio::test]
async fn after_the_last_request_of_a_connection_the_answer_says_so() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |limits| limits.requests_per_connection = Some(3));
    origin.serve("a");
    let mut client = plane.connect().await;
    for number in 1..=3 {
        client.send(get("/")).await;
        let head = client.head().await;
        assert_eq!(field(&head, "Connection"), (number == 3).then_some("close"), "{number}: {head}");
        client.read_exactly(1).await;
    }
    assert!(client.ends().await);
    // A refusal counts as well.
    let mut client = plane.connect().await;
    for number in 1..=3 {
        client.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(field(&head, "Connection"), (number == 3).then_some("close"), "{number}: {head}");
        client.read_until("}\n").await;
    }
}

/// Whether a connection is served rather than closed at once.
async fn is_served(mut wire: Wire) -> Option<Wire> {
    wire.send(get("/")).await;
    wire.try_read_until("\r\n\r\n").await.map(|_| wire)
}

#[tokio::test]
async fn a_listener_has_as_many_connections_as_it_may_and_the_others_are_closed_and_counted() {
    let origin = Origin::new().await;
    let options =
        Options { limits: limits(|limits| limits.connections = Some(4)), threads: 2, ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    origin.serve("a");
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(is_served(plane.connect().await).await.expect("there is room"));
    }
    for _ in 0..3 {
        assert!(is_served(plane.connect().await).await.is_none());
    }
    let refused = [("listener", "127.0.0.1:0"), ("reason", "listener-full")];
    assert_eq!(metric(&plane, "fairway_connections_refused_total", &refused), 3.0);
    open.pop();
    within("a place is free", async { while is_served(plane.connect().await).await.is_none() {} }).await;
}

async fn from(source: [u8; 4], plane: &Plane) -> Wire {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((source, 0).into()).expect("all of 127.0.0.0/8 is here");
    Wire::new(socket.connect(plane.address).await.expect("it is accepted"))
}

#[tokio::test]
async fn a_client_has_as_many_connections_as_it_may_and_others_have_theirs() {
    let origin = Origin::new().await;
    let options = Options {
        limits: limits(|limits| limits.connections_per_client = Some(2)),
        trusted: vec!["127.0.0.9/32"],
        ..Options::default()
    };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    origin.serve("a");
    let mut open = Vec::new();
    for source in [[127, 0, 0, 1], [127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 2]] {
        open.push(is_served(from(source, &plane).await).await.expect("there is room"));
    }
    assert!(is_served(from([127, 0, 0, 1], &plane).await).await.is_none());
    assert!(is_served(from([127, 0, 0, 2], &plane).await).await.is_none());
    assert_eq!(metric(&plane, "fairway_connections_refused_total", &[("reason", "client-full")]), 2.0);
    for _ in 0..5 {
        let balancer = is_served(from([127, 0, 0, 9], &plane).await).await;
        open.push(balancer.expect("a trusted proxy speaks for many clients"));
    }
}

#[tokio::test]
async fn behind_a_balancer_the_client_that_it_names_is_counted() {
    let origin = Origin::new().await;
    let options = Options {
        limits: limits(|limits| limits.connections_per_client = Some(1)),
        trusted: vec!["127.0.0.0/8"],
        proxy_protocol: true,
        ..Options::default()
    };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    origin.serve("a");
    let named = async |client: &str| {
        let mut wire = plane.connect().await;
        wire.send(format!("PROXY TCP4 {client} 192.0.2.9 1000 80\r\n")).await;
        is_served(wire).await
    };
    let _first = named("192.0.2.1").await.expect("there is room");
    assert!(named("192.0.2.1").await.is_none());
    assert!(named("192.0.2.2").await.is_some());
}

#[tokio::test]
async fn a_reload_changes_the_limits_of_connections_that_are_open() {
    let origin = Origin::new().await;
    let plane = plane(&origin, &[], |_| {});
    let mut client = plane.connect().await;
    let post = "POST / HTTP/1.1\r\nHost: other.test\r\nContent-Length: 5\r\n\r\nhello";
    client.send(post).await;
    assert!(client.read_until("}\n").await.starts_with("HTTP/1.1 404"));
    let listener = |limits: Limits| HttpListener {
        addr: ([127, 0, 0, 1], 0).into(),
        proxy_protocol: false,
        upgrades: Vec::new(),
        redirect_to_https: false,
        tls: None,
        limits,
    };
    let general = limits(|limits| limits.requests_per_instance = 7);
    let listeners = [listener(limits(|limits| limits.target_bytes = 128))];
    let checked = plane.running.check(&listeners, &Tls::default()).expect("they can be served");
    plane.running.set_listeners(&general, checked);
    let long = format!("GET /{} HTTP/1.1\r\nHost: other.test\r\n\r\n", "x".repeat(128));
    // Each worker takes them over in a moment.
    within("the new limit", async {
        loop {
            let mut client = TcpStream::connect(plane.address).await.map(Wire::new).expect("it is accepted");
            client.send(&long).await;
            if client.head().await.starts_with("HTTP/1.1 414") {
                return;
            }
        }
    })
    .await;
    client.send(&long).await;
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 414"));
}
