//! A second request for one that takes long.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::kit::*;
use crate::limits::metric;

/// `shop.test` with these instances of one version, hedged after this time.
fn plane(origins: &[&Origin], hedge: &str) -> Plane {
    Plane::with(Options::default(), |cluster| {
        for origin in origins {
            cluster.add(origin.address, "shop.test", &[("fairway.hedge", hedge), ("fairway.retries", "0")]);
        }
    })
}

/// The instance that gets the next request, and the request.
async fn next(one: &Origin, other: &Origin) -> (bool, Wire, String) {
    let (is_one, mut wire) = tokio::select! {
        wire = one.accept_when_there_is_one() => (true, wire),
        wire = other.accept_when_there_is_one() => (false, wire),
    };
    let head = wire.head().await;
    (is_one, wire, head)
}

async fn hedged(plane: &Plane, result: &str) {
    within("the count", async {
        while metric(plane, "fairway_hedges_total", &[("result", result)]) != 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_takes_long_is_asked_at_a_second_instance_and_the_first_answer_serves() {
    for second_answers in [true, false] {
        let (one, other) = (Origin::new().await, Origin::new().await);
        let plane = plane(&[&one, &other], "50ms");
        let mut client = plane.connect().await;
        client.send(get("/slow?x=1")).await;
        let (first, mut slow, head) = within("a request", next(&one, &other)).await;
        let (second, mut quick, again) = within("a second one", next(&one, &other)).await;
        assert_ne!(first, second, "never the same instance");
        assert!(head.starts_with("GET /slow?x=1 ") && head == again, "{again}");
        let (serves, loses, result) =
            if second_answers { (&mut quick, &mut slow, "won") } else { (&mut slow, &mut quick, "lost") };
        serves.send(ok("answer")).await;
        let answer = client.read_until("answer").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(loses.ends().await, "the other connection is closed");
        hedged(&plane, result).await;
        // The connection of the instance that served goes on.
        client.send(get("/next")).await;
        let kept = async {
            loop {
                tokio::select! {
                    head = serves.head() => { serves.send(ok("more")).await; return head; }
                    (_, mut wire, _) = next(&one, &other) => wire.send(ok("more")).await,
                }
            }
        };
        tokio::select! {
            _ = kept => assert!(client.read_until("more").await.contains("200")),
            answer = client.read_until("more") => assert!(answer.contains("200")),
        }
    }
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_asked_once() {
    let (one, other) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[&one, &other], "1ms");
    let upgrade = "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for request in [
        "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nab",
        upgrade,
    ] {
        let mut client = plane.connect().await;
        client.send(request).await;
        let (_, mut instance, _) = within("a request", next(&one, &other)).await;
        let second = tokio::time::timeout(Duration::from_millis(100), next(&one, &other)).await;
        assert!(second.is_err(), "{request}");
        instance.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone").await;
        client.read_until("done").await;
    }
}

#[tokio::test]
async fn with_one_instance_or_a_quick_answer_nothing_is_sent_twice() {
    let one = Origin::new().await;
    let plane = plane(&[&one], "1ms");
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = one.accept().await;
    instance.head().await;
    let second = tokio::time::timeout(Duration::from_millis(100), one.accept_when_there_is_one()).await;
    assert!(second.is_err());
    instance.send(ok("done")).await;
    assert!(client.read_until("done").await.starts_with("HTTP/1.1 200"));
    assert_eq!(metric(&plane, "fairway_hedges_total", &[]), 0.0);
}

#[tokio::test]
async fn a_second_instance_that_fails_leaves_the_request_to_the_first() {
    let (one, other) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[&one, &other], "20ms");
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let (first, mut slow, _) = within("a request", next(&one, &other)).await;
    // The other one refuses connections from now on.
    let kept = if first {
        drop(other);
        one
    } else {
        drop(one);
        other
    };
    tokio::time::sleep(Duration::from_millis(60)).await;
    slow.send(ok("late")).await;
    assert!(client.read_until("late").await.starts_with("HTTP/1.1 200"));
    drop(kept);
}

#[tokio::test]
async fn a_second_instance_that_answers_with_a_failure_or_closes_leaves_the_request_to_the_first() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    for answer in [
        busy,
        "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "",
        "HTTP/",
    ] {
        let (one, other) = (Origin::new().await, Origin::new().await);
        let plane = plane(&[&one, &other], "20ms");
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let (_, mut slow, _) = within("a request", next(&one, &other)).await;
        let (_, mut failing, _) = within("a second one", next(&one, &other)).await;
        failing.send(answer).await;
        failing.stream.shutdown().await.expect("it is open");
        assert!(failing.ends().await, "nobody wants it any more");
        slow.send(ok("late")).await;
        let got = client.read_until("late").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{answer:?}: {got}");
        hedged(&plane, "lost").await;
    }
}

#[tokio::test]
async fn a_first_instance_that_fails_meanwhile_leaves_the_request_to_the_second() {
    for resets in [false, true] {
        let (one, other) = (Origin::new().await, Origin::new().await);
        let plane = plane(&[&one, &other], "20ms");
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let (_, slow, _) = within("a request", next(&one, &other)).await;
        let (_, mut second, _) = within("a second one", next(&one, &other)).await;
        if resets {
            slow.reset();
        } else {
            drop(slow);
        }
        // Long enough for the end of the first to be seen before the answer of the second.
        tokio::time::sleep(Duration::from_millis(50)).await;
        second.send(ok("late")).await;
        let got = client.read_until("late").await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        hedged(&plane, "won").await;
    }
}

#[tokio::test]
async fn a_second_answer_that_is_no_http_leaves_the_request_to_the_first() {
    let (one, other) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[&one, &other], "20ms");
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let (_, mut slow, _) = within("a request", next(&one, &other)).await;
    let (_, mut second, _) = within("a second one", next(&one, &other)).await;
    second.send("SSH-2.0-OpenSSH_9.2\r\n").await;
    assert!(second.ends().await);
    slow.send(ok("late")).await;
    assert!(client.read_until("late").await.starts_with("HTTP/1.1 200"));
    hedged(&plane, "lost").await;
}

#[tokio::test]
async fn a_second_answer_that_comes_in_crumbs_serves() {
    let (one, other) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[&one, &other], "20ms");
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let (_, slow, _) = within("a request", next(&one, &other)).await;
    let (_, mut quick, _) = within("a second one", next(&one, &other)).await;
    for octet in ok("answer").as_bytes() {
        quick.send([*octet]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(client.read_until("answer").await.starts_with("HTTP/1.1 200"));
    hedged(&plane, "won").await;
    drop(slow);
}

#[tokio::test]
async fn a_client_that_leaves_ends_both() {
    let (one, other) = (Origin::new().await, Origin::new().await);
    let plane = plane(&[&one, &other], "20ms");
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let (_, mut first, _) = within("a request", next(&one, &other)).await;
    let (_, mut second, _) = within("a second one", next(&one, &other)).await;
    client.reset();
    assert!(first.ends().await && second.ends().await);
}
