//! Instances that fail: what goes to another one, what is held, and what must never be sent twice.

use std::time::{Duration, Instant};

use fairway_catalog::facts::UnitKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::kit::*;
use crate::limits::metric;

/// A plane with one backend of these addresses, which the same version serves in turn.
fn plane(addresses: &[std::net::SocketAddr]) -> Plane {
    Plane::with(Options::default(), |cluster| {
        for address in addresses {
            cluster.add(*address, "shop.test", &[("fairway.balance", "round-robin")]);
        }
    })
}

#[tokio::test]
async fn a_refused_connection_costs_no_request() {
    let (dead, live) = (refusing().await, Origin::new().await);
    let plane = plane(&[dead, live.address]);
    live.serve("live");
    for method in ["GET", "POST"] {
        let mut client = plane.connect().await;
        for _ in 0..6 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n")).await;
            assert!(client.read_until("\r\n\r\nlive").await.starts_with("HTTP/1.1 200 "));
        }
    }
}

#[tokio::test]
async fn a_request_that_may_be_repeated_goes_on_when_an_instance_closes_without_an_answer() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[first.address, second.address]);
    for body in ["", "abc"] {
        let mut client = plane.connect().await;
        let length = body.len();
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\n\r\n{body}"))
            .await;
        let (mut failing, other) = tokio::select! {
            failing = first.accept() => (failing, &second),
            failing = second.accept() => (failing, &first),
        };
        failing.head().await;
        drop(failing);
        let mut healthy = other.accept().await;
        healthy.head().await;
        assert_eq!(healthy.read_exactly(length).await, body.as_bytes(), "the body is sent again");
        healthy.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn an_unsafe_request_is_never_sent_twice() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[first.address, second.address]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n").await;
    let mut failing = tokio::select! {
        failing = first.accept() => failing,
        failing = second.accept() => failing,
    };
    failing.head().await;
    drop(failing);
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn nothing_is_repeated_once_an_answer_has_begun() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[first.address, second.address]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut failing = tokio::select! {
        failing = first.accept() => failing,
        failing = second.accept() => failing,
    };
    failing.head().await;
    failing.send("HTTP/1.1 200 OK\r\nContent-").await;
    drop(failing);
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn answers_that_are_not_http_get_502_and_their_connection_is_not_used_again() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
    ] {
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send(answer).await;
        let got = client.head().await;
        assert!(got.starts_with("HTTP/1.1 502 "), "{answer:?}: {got}");
        assert_eq!(field(&got, "Connection"), None, "the client's connection is fine");
        assert!(instance.ends().await, "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_the_instance_closed_while_it_was_idle_is_not_used() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/1")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("1")).await;
    client.read_until("\r\n\r\n1").await;
    drop(instance);
    // Not even a request that must not be repeated is lost.
    client.send("POST /2 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n").await;
    let mut instance = origin.accept().await;
    assert!(instance.head().await.starts_with("POST /2 "));
    instance.send(ok("2")).await;
    client.read_until("\r\n\r\n2").await;
}

#[tokio::test]
async fn a_connection_that_the_instance_closes_as_the_request_arrives_costs_no_request() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/1")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("1")).await;
    client.read_until("\r\n\r\n1").await;
    client.send(get("/2")).await;
    assert!(instance.head().await.starts_with("GET /2 "), "it was sent on the old connection");
    drop(instance);
    let mut again = origin.accept().await;
    assert!(again.head().await.starts_with("GET /2 "), "once more on a new one, of the only instance");
    again.send(ok("2")).await;
    client.read_until("\r\n\r\n2").await;
}

#[tokio::test]
async fn a_request_that_more_instances_refuse_than_it_has_retries_goes_on_once_they_are_known_to_stop() {
    let (one, other) = (refusing().await, refusing().await);
    let mut plane = plane(&[one, other]);
    let ids = plane.cluster.ids();
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n").await;
    let origin = Origin::new().await;
    plane.change(|cluster| {
        ids.iter().for_each(|id| cluster.stop(id));
        drop(cluster.add(origin.address, "shop.test", &[]));
    });
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("third")).await;
    client.read_until("\r\n\r\nthird").await;
}

/// A POST to one of two instances, which has taken none of it from its system when its connection is reset; what the other
/// gets of it, and the answer.
async fn post_that_nobody_read(stops: bool) -> (Option<String>, String) {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let mut plane = Plane::shop(&[&first, &second]);
    let ids = plane.cluster.ids();
    let mut client = plane.connect().await;
    client.send("POST /once HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4\r\n\r\nbody").await;
    let (at, other, chosen) = tokio::select! {
        at = first.accept() => (at, second, 0),
        at = second.accept() => (at, first, 1),
    };
    at.stream.peek(&mut [0]).await.expect("the request came");
    if stops {
        plane.change(|cluster| cluster.stop(&ids[chosen]));
    }
    drop(at);
    if !stops {
        return (None, client.head().await);
    }
    let mut instance = other.accept().await;
    let got = instance.read_until("body").await;
    instance.send(ok("once")).await;
    (Some(got), client.read_until("\r\n\r\nonce").await)
}

#[tokio::test]
async fn a_request_that_a_stopping_instance_never_read_goes_to_another_whatever_its_method() {
    let (got, answer) = post_that_nobody_read(true).await;
    assert!(got.is_some_and(|got| got.starts_with("POST /once ")));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_request_that_an_instance_resets_which_stays_is_not_repeated() {
    let (_, answer) = post_that_nobody_read(false).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_cannot_be_kept_goes_over_a_new_connection_which_is_kept_in_place_of_the_idle_one() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/1")).await;
    let mut first = origin.accept().await;
    first.head().await;
    first.send(ok("1")).await;
    client.read_until("\r\n\r\n1").await;
    let body = "x".repeat(70_000);
    client.send(format!("POST /2 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 70000\r\n\r\n{body}")).await;
    let mut second = origin.accept().await;
    assert!(second.head().await.starts_with("POST /2 "));
    assert!(first.ends().await, "the idle one made room");
    second.read_exactly(70_000).await;
    second.send(ok("2")).await;
    client.read_until("\r\n\r\n2").await;
    client.send(get("/3")).await;
    assert!(second.head().await.starts_with("GET /3 "), "the new one is used again");
}

#[tokio::test]
async fn the_body_of_a_request_on_a_connection_that_the_instance_closes_is_sent_again_up_to_64_kib() {
    const KEPT: usize = 64 * 1024;
    for (octets, again) in [(KEPT, true), (KEPT + 1, false)] {
        let origin = Origin::new().await;
        let plane = Plane::shop(&[&origin]);
        let mut client = plane.connect().await;
        client.send(get("/1")).await;
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send(ok("1")).await;
        client.read_until("\r\n\r\n1").await;
        client.send(format!("PUT /2 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {octets}\r\n\r\n")).await;
        // A larger one goes where a reset says enough.
        let mut instance = if again { instance } else { origin.accept().await };
        assert!(instance.head().await.starts_with("PUT /2 "));
        // Piece by piece, so that it is known to be on its way when the connection ends.
        client.send(vec![b'x'; octets]).await;
        instance.read_exactly(octets).await;
        drop(instance);
        if !again {
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
            continue;
        }
        let mut again = origin.accept().await;
        assert!(again.head().await.starts_with("PUT /2 "));
        assert_eq!(again.read_exactly(octets).await, vec![b'x'; octets]);
        again.send(ok("2")).await;
        client.read_until("\r\n\r\n2").await;
    }
}

#[tokio::test]
async fn retries_are_bounded_by_what_the_route_has_earned() {
    const REQUESTS: u32 = 1000;
    let (failing, live) = (Origin::new().await, Origin::new().await);
    let plane = Plane::with(Options::default(), |cluster| {
        for address in [failing.address, live.address] {
            cluster.add(
                address,
                "shop.test",
                &[("fairway.balance", "round-robin"), ("fairway.outlier", "false")],
            );
        }
    });
    live.serve("live");
    tokio::spawn(async move {
        loop {
            failing.accept_when_there_is_one().await.try_read_until("\r\n\r\n").await;
        }
    });
    let begun = Instant::now();
    let (mut client, mut failed) = (plane.connect().await, 0);
    for _ in 0..REQUESTS {
        client.send(get("/")).await;
        let head = client.head().await;
        let length = field(&head, "Content-Length").and_then(|length| length.parse().ok());
        client.read_exactly(length.expect("a length")).await;
        failed += u32::from(head.starts_with("HTTP/1.1 502 "));
    }
    let retried = metric(&plane, "fairway_retries_total", &[]);
    // Ten seconds' worth at first, then a fifth of the requests and ten a second.
    let earned = 100.0 + 0.2 * f64::from(REQUESTS) + 10.0 * begun.elapsed().as_secs_f64();
    assert!(retried >= 100.0 && retried <= earned + 1.0, "{retried} of {earned}");
    assert!(failed > 0, "the others were told");
}

#[tokio::test]
async fn a_request_waits_for_an_instance_that_becomes_ready() {
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(([127, 0, 0, 1], 1).into(), "shop.test", &[("fairway.version", "v1")]);
    });
    let old = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.stop(&old));
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    // The stopping one refuses; then there is a new one.
    let origin = Origin::new().await;
    sleep(Duration::from_millis(200)).await;
    let address = origin.address;
    plane.change(|cluster| drop(cluster.add(address, "shop.test", &[])));
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("new")).await;
    client.read_until("\r\n\r\nnew").await;
}

#[tokio::test]
async fn a_request_that_finds_no_instance_in_time_gets_503_and_when_to_try_again() {
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(([127, 0, 0, 1], 1).into(), "shop.test", &[]);
    });
    let old = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.stop(&old));
    let start = Instant::now();
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(field(&head, "Retry-After").is_some());
    assert!((5..8).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_held_gives_its_place_up() {
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(([127, 0, 0, 1], 1).into(), "shop.test", &[]);
    });
    let old = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.stop(&old));
    for (left, resets) in [(1.0, true), (2.0, false)] {
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        match resets {
            true => client.reset(),
            false => drop(client),
        }
        within("the end of the wait", async {
            while metric(&plane, "fairway_requests_total", &[("reason", "client-left")]) < left {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_only_instance_that_refuses_without_a_word_of_stopping_gives_502() {
    let plane = plane(&[refusing().await]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn of_the_only_instance_of_a_static_entry_no_news_is_waited_for() {
    const MANY: u32 = 20;
    for method in ["GET", "POST"] {
        let (begun, origin) = (Instant::now(), Origin::new().await);
        let mut plane = plane(&[if method == "GET" { refusing().await } else { origin.address }]);
        plane.change(|cluster| {
            for id in cluster.ids() {
                cluster.edit(&id, |unit| unit.kind = UnitKind::Static);
            }
        });
        for _ in 0..MANY {
            let mut client = plane.connect().await;
            client.send(format!("{method} / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n")).await;
            if method == "POST" {
                let instance = origin.accept().await;
                instance.stream.peek(&mut [0]).await.expect("the request came");
                instance.reset();
            }
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        }
        // The news of a container is waited for a second each.
        assert!(begun.elapsed() < Duration::from_secs(MANY.into()) / 2, "{method}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_instance_that_takes_too_long_gives_504() {
    for limit in ["fairway.timeout.first_byte", "fairway.timeout.total"] {
        let origin = Origin::new().await;
        let plane = Plane::with(Options::default(), |cluster| {
            cluster.add(origin.address, "shop.test", &[(limit, "200ms")]);
        });
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let mut instance = origin.accept().await;
        instance.head().await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 504 "), "{limit}: {head}");
        assert!(instance.ends().await);
    }
}

#[tokio::test]
async fn the_longest_time_in_all_holds_for_connections_that_are_being_opened_too() {
    for (protocol, from_client) in [("https", false), ("h2c", false), ("https", true)] {
        let origin = Origin::new().await; // its system accepts, and nobody says a word
        let plane = Plane::with(Options::default(), |cluster| {
            let labels = [("fairway.protocol", protocol), ("fairway.timeout.connect", "60s")];
            let total = ("fairway.timeout.total", if from_client { "none" } else { "200ms" });
            cluster.add(origin.address, "shop.test", &[&labels[..], &[total]].concat());
        });
        let mut client = plane.connect().await;
        let call = "Content-Type: application/grpc\r\nTE: trailers\r\ngrpc-timeout: 200m\r\n";
        let said = if from_client { call } else { "" };
        client.send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\n{said}Content-Length: 0\r\n\r\n")).await;
        let answer = client.read_until("}\n").await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("\"total-timeout\""), "{answer}");
    }
}

#[tokio::test]
async fn the_longest_time_in_all_holds_while_a_request_waits_for_another_instance_too() {
    let dead = refusing().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(dead, "shop.test", &[("fairway.timeout.total", "100ms")]);
    });
    let start = Instant::now();
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_answer_that_stops_is_cut_after_the_idle_time() {
    let origin = Origin::new().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address, "shop.test", &[("fairway.timeout.idle", "200ms")]);
    });
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
    assert!(client.read_to_end().await.ends_with("\r\n\r\nab"));
    assert!(instance.ends().await);
    // A client that only sees the end of the connection gets a reset: it would take a close for the end of the answer.
    let mut client = plane.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\n\r\nab").await;
    client.read_until("\r\n\r\nab").await;
    let end = within("the end", client.stream.read_u8()).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_connection_kept_for_an_instance_never_serves_its_successor_at_the_same_address() {
    let origin = Origin::new().await;
    let mut plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/1")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("1")).await;
    client.read_until("\r\n\r\n1").await;
    let old = plane.cluster.ids()[0].clone();
    plane.change(|cluster| {
        cluster.remove(&old);
        cluster.add(origin.address, "shop.test", &[]);
    });
    client.send(get("/2")).await;
    let mut successor = origin.accept().await;
    assert!(successor.head().await.starts_with("GET /2 "));
    assert!(instance.ends().await, "the old one is closed");
}

#[tokio::test]
async fn a_client_that_resets_its_connection_frees_the_instance() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    client.reset();
    assert!(instance.ends().await, "nobody waits for this answer");
}

#[tokio::test]
async fn a_client_that_resets_while_the_instance_takes_none_of_its_body_frees_the_instance() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for answers in [false, true] {
        let mut client = plane.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1000000000\r\n\r\n").await;
        let mut instance = origin.accept().await;
        instance.head().await;
        if answers {
            instance.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await;
            client.head().await;
        }
        let block = vec![b'x'; 1_000_000];
        while timeout(Duration::from_millis(500), client.stream.write(&block)).await.is_ok() {}
        let start = Instant::now();
        client.reset();
        while instance.read_more().await {
            instance.take_unread();
        }
        assert!(start.elapsed() < Duration::from_secs(10), "not only when it has been silent for too long");
        within("its reason", async {
            let told = || metric(&plane, "fairway_requests_total", &[("reason", "client-left")]);
            while told() < f64::from(u8::from(answers) + 1) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
