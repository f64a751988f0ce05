//! Requests and answers on their way: keep-alive, pipelining, interim answers, old clients, who the client is.

use std::time::Duration;

use crate::kit::*;

#[tokio::test]
async fn a_request_goes_to_the_instance_and_its_answer_comes_back() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/a%2fb?c=d")).await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert!(head.starts_with("GET /a%2fb?c=d HTTP/1.1\r\nHost: shop.test\r\n"), "{head}");
    assert_eq!(field(&head, "X-Forwarded-For"), Some("127.0.0.1"), "{head}");
    assert_eq!(field(&head, "Via"), Some("1.1 edge"), "{head}");
    instance.send(ok("hello")).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(field(&answer, "Connection"), None);
    assert_eq!(client.read_exactly(5).await, b"hello");
}

#[tokio::test]
async fn both_connections_carry_one_request_after_the_other() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/1")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("1")).await;
    client.read_until("\r\n\r\n1").await;
    for path in ["/2", "/3"] {
        client.send(get(path)).await;
        assert!(instance.head().await.starts_with(&format!("GET {path} ")), "the same connection");
        instance.send(ok("x")).await;
        client.read_until("\r\n\r\nx").await;
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    let post = "POST /2 HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nabc\r\n";
    client.send([get("/1").as_str(), post, &get("/3")].concat()).await;
    let mut instance = origin.accept().await;
    for (path, body) in [("/1", ""), ("/2", "abc"), ("/3", "")] {
        let head = instance.head().await;
        assert!(head.contains(&format!(" {path} HTTP/1.1\r\n")), "{head}");
        assert_eq!(instance.read_exactly(body.len()).await, body.as_bytes());
        instance.send(ok(path)).await;
    }
    for path in ["/1", "/2", "/3"] {
        assert_eq!(field(&client.head().await, "Content-Length"), Some("2"));
        assert_eq!(client.read_exactly(2).await, path.as_bytes());
    }
}

#[tokio::test]
async fn a_request_that_arrives_octet_by_octet_is_one_request() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut client = plane.connect().await;
    for octet in get("/").as_bytes() {
        client.send([*octet]).await;
        tokio::task::yield_now().await;
    }
    assert!(client.head().await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn interim_answers_are_passed_on_and_100_only_if_it_was_expected() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let mut instance = origin.accept().await;
    assert_eq!(field(&instance.head().await, "Expect"), Some("100-continue"));
    instance.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 Continue\r\n"));
    client.send("body").await;
    assert_eq!(instance.read_exactly(4).await, b"body");
    instance.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    assert_eq!(field(&client.head().await, "Link"), Some("</a>"));
    instance.send(ok("done")).await;
    client.read_until("\r\n\r\ndone").await;

    client.send(get("/")).await;
    instance.head().await;
    instance.send(["HTTP/1.1 100 Continue\r\n\r\n", &ok("unasked")].concat()).await;
    assert!(client.read_until("unasked").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_old_client_gets_an_answer_that_it_can_read() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    instance.send(["HTTP/1.1 103 Early Hints\r\n\r\n", chunked].concat()).await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nabcde"), "{answer}");
    assert_eq!((field(&answer, "Transfer-Encoding"), field(&answer, "Connection")), (None, Some("close")));
}

#[tokio::test]
async fn an_old_client_may_keep_its_connection() {
    let plane = {
        let origin = Origin::new().await;
        let plane = Plane::shop(&[&origin]);
        origin.serve("a");
        plane
    };
    let mut client = plane.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(field(&head, "Connection"), Some("keep-alive"), "{head}");
        assert_eq!(client.read_exactly(1).await, b"a");
    }
}

#[tokio::test]
async fn a_client_that_has_ended_its_sending_still_gets_its_answer() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    client.finish().await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("still here")).await;
    assert!(client.read_to_end().await.ends_with("still here"));
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_the_connection_goes_on() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").await;
    assert_eq!(field(&client.head().await, "Content-Length"), Some("500"));
    for (status, more) in [("204 No Content", ""), ("304 Not Modified", "Content-Length: 9\r\n")] {
        client.send(get("/")).await;
        instance.head().await;
        instance.send(format!("HTTP/1.1 {status}\r\n{more}\r\n")).await;
        assert!(client.head().await.starts_with(&format!("HTTP/1.1 {status}\r\n")));
    }
}

#[tokio::test]
async fn a_close_is_honoured_on_both_sides() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    let mut instance = origin.accept().await;
    assert_eq!(field(&instance.head().await, "Connection"), None, "the instance's connection is another one");
    instance.send(ok("x")).await;
    let answer = client.read_to_end().await;
    assert_eq!(field(&answer, "Connection"), Some("close"), "{answer}");

    let mut client = plane.connect().await;
    client.send(get("/")).await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!(field(&client.read_until("\r\n\r\nx").await, "Connection"), None);
    assert!(instance.ends().await, "it was not kept");
    client.send(get("/")).await;
    origin.accept().await.head().await;
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() {
    let origin = Origin::new().await;
    let trusted = Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let mut plane = Plane::with(trusted, |cluster| {
        cluster.add(origin.address, "shop.test;hidden.local;https://secure.test", &[]);
    });
    let ask =
        |host: &str, more: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
    // The peer is loopback, which would be internal, but it is a trusted proxy.
    let local = plane.exchange(ask("hidden.local", "")).await;
    assert!(local.starts_with("HTTP/1.1 404 "), "{local}");
    let plain = plane.exchange(ask("secure.test", "X-Forwarded-For: 192.0.2.1\r\n")).await;
    assert!(plain.starts_with("HTTP/1.1 308 "), "{plain}");
    assert_eq!(field(&plain, "Location"), Some("https://secure.test/"));

    let said = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc-1\r\n";
    let mut client = plane.connect().await;
    client.send(ask("secure.test", said)).await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!(field(&head, "X-Forwarded-For"), Some("192.0.2.1, 127.0.0.1"), "{head}");
    assert_eq!(field(&head, "X-Real-Ip"), Some("192.0.2.1"));
    assert_eq!(field(&head, "X-Request-Id"), Some("abc-1"));
    instance.send(ok("x")).await;
    client.read_to_end().await;

    // A reload takes the trust away: the peer is internal by its own address again, and believed no more.
    plane.running.set_trusted_proxies(Vec::new());
    let mut client = plane.connect().await;
    client.send(ask("hidden.local", said)).await;
    let head = instance.head().await;
    assert_eq!(field(&head, "X-Forwarded-For"), Some("127.0.0.1"), "{head}");
    assert_ne!(field(&head, "X-Request-Id"), Some("abc-1"));
    instance.send(ok("x")).await;
    client.read_to_end().await;
    plane.change(|_| {});
}

#[tokio::test]
async fn an_instance_that_serves_one_connection_at_a_time_serves_all_workers() {
    let origin = Origin::new().await;
    let plane = Plane::with(Options { threads: 2, ..Options::default() }, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    tokio::spawn(async move {
        loop {
            let mut only = origin.accept_when_there_is_one().await;
            while only.try_read_until("\r\n\r\n").await.is_some() {
                only.send(ok("one")).await;
            }
        }
    });
    // Whichever worker each belongs to: the one before keeps its connection to the instance.
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(plane.connect().await);
    }
    for client in &mut clients {
        client.send(get("/")).await;
        client.read_until("\r\n\r\none").await;
    }
}

#[tokio::test]
async fn several_workers_share_one_address() {
    let origin = Origin::new().await;
    let options = Options { threads: 3, ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    origin.serve("a");
    for _ in 0..30 {
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        client.read_until("\r\n\r\na").await;
    }
    assert_eq!(plane.drain(Duration::from_secs(5)).await.cut, 0);
}
