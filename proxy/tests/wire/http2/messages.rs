//! Requests and answers over HTTP/2: what reaches the instance, and what comes back.

use http::Request;

use super::kit::*;
use crate::kit::{Options, Origin, Plane, field, get as http1_get, ok};

#[tokio::test]
async fn a_request_goes_to_the_instance_as_http1_and_its_answer_comes_back() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = client(&plane).await;
    let asking = tokio::spawn(async move {
        let request = Request::get("http://Shop.test/a%2fb?c=d")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("accept", "text/html");
        send(&client, request.body(()).expect("a request"), None).await.expect("an answer")
    });
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert!(head.starts_with("GET /a%2fb?c=d HTTP/1.1\r\nHost: Shop.test\r\n"), "{head}");
    assert_eq!(field(&head, "Cookie"), Some("a=1; b=2"), "{head}");
    assert_eq!((field(&head, "Via"), field(&head, "X-Forwarded-Proto")), (Some("2.0 edge"), Some("http")));
    assert_eq!((field(&head, "Content-Length"), field(&head, "Transfer-Encoding")), (None, None), "{head}");
    instance
        .send(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-Thing: Y\r\n\
            Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: z\r\n\r\nhello",
        )
        .await;
    let answer = within_spawned(asking).await;
    let names: Vec<_> = answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(names, ["set-cookie", "x-thing", "content-length"], "{:?}", answer.headers());
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(read(answer.into_body()).await.expect("a body").0, b"hello");
}

async fn within_spawned<T>(task: tokio::task::JoinHandle<T>) -> T {
    crate::kit::within("the client", task).await.expect("it does not fail")
}

/// What the instance gets for the same request over both protocols, `Via` and the request's id left out.
async fn both(fields: &[(&str, &str)], method: &str, body: Option<&str>) -> (Vec<String>, Vec<String>) {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut seen = Vec::new();

    let mut text = format!("{method} /p?q HTTP/1.1\r\nHost: shop.test\r\n");
    let mut request = Request::builder().method(method).uri("http://shop.test/p?q");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
        request = request.header(*name, *value);
    }
    let sized = fields.iter().any(|(name, _)| *name == "content-length");
    match body {
        Some(body) if sized => text.push_str(&format!("\r\n{body}")),
        Some(body) => {
            let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            text.push_str(&format!("transfer-encoding: chunked\r\n\r\n{chunks}"));
        }
        None => text.push_str("\r\n"),
    }
    let mut old = plane.connect().await;
    old.send(&text).await;
    let mut instance = origin.accept().await;
    let expected = body.map_or(0, |body| if sized { body.len() } else { body.len() + 10 });
    let head = instance.head().await;
    seen.push((head, instance.read_exactly(expected).await));
    instance.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;

    let new = client(&plane).await;
    let request = request.body(()).expect("a request");
    let body = body.map(|body| body.as_bytes().to_vec());
    let asking = tokio::spawn(async move { send(&new, request, body.as_deref()).await.map(|_| ()) });
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    seen.push((head, instance.read_exactly(expected).await));
    instance.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    within_spawned(asking).await.expect("an answer");

    let lines = |(head, body): &(String, Vec<u8>)| {
        let names = ["Via", "X-Request-Id"];
        let differs = |line: &&str| !names.iter().any(|name| line.starts_with(&format!("{name}: ")));
        let mut lines: Vec<String> = head.split("\r\n").filter(differs).map(str::to_owned).collect();
        lines.push(String::from_utf8_lossy(body).into_owned());
        lines
    };
    (lines(&seen[0]), lines(&seen[1]))
}

#[tokio::test]
async fn the_same_request_reaches_the_instance_as_the_same_octets_over_both_protocols() {
    let long = "v".repeat(9000);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (fields, method, body) in [
        (&[][..], "GET", None),
        (&[("accept", "*/*"), ("user-agent", "x y"), ("x-long", &long)][..], "GET", None),
        (&[("te", "trailers")][..], "GET", None),
        (&[("content-length", "0")][..], "POST", None),
        (&[("content-length", "5"), ("content-type", "text/plain")][..], "POST", Some("hello")),
        (&[("trailer", "x")][..], "PUT", Some("chunked body")),
        (&[("traceparent", trace), ("x-forwarded-for", "6.6.6.6"), ("proxy", "x")][..], "GET", None),
        (&[("x_forwarded_for", "6.6.6.6"), ("via", "1.1 other"), ("empty", "")][..], "GET", None),
        (&[("cookie", "a=1; b=2"), ("b", "2"), ("b", "3")][..], "PROPFIND", None),
    ] {
        let te_needs_connection = fields.iter().any(|(name, _)| *name == "te");
        let (old, new) = both(fields, method, body).await;
        if te_needs_connection {
            assert_eq!(old.len(), new.len());
        }
        assert_eq!(old, new, "{fields:?}");
    }
}

#[tokio::test]
async fn what_http1_refuses_is_refused_with_the_same_reason() {
    let plane = Plane::with(Options::default(), |_| {});
    let client = client(&plane).await;
    let many = "x".repeat(70_000);
    let with = |uri: &str| Request::get(format!("http://shop.test{uri}"));
    for (request, status, reason) in [
        (with("/"), 404, "no-route"),
        (with("/../a"), 400, "path-invalid"),
        (with("/%00"), 400, "path-invalid"),
        (with("/").header("host", "other.test"), 400, "host-differs"),
        (with("/").header("expect", "x"), 417, "expectation-refused"),
        (with("/").method("TRACE"), 501, "method-refused"),
        (with("/").header("x", &many), 431, "header-too-large"),
        (with(&format!("/{}", "a".repeat(9000))), 414, "target-too-long"),
    ] {
        let (got, body) = get(&client, request.body(()).expect("a request")).await;
        assert!(body.contains(&format!("\"type\":\"{reason}\"")), "{body}");
        assert_eq!(got, status, "{reason}");
    }
}

#[tokio::test]
async fn malformed_requests_end_their_stream_and_no_other() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    origin.serve("fine");
    let mut client = Frames::connect(&plane).await;
    let mut stream = 1;
    let base = |at: usize, value: &'static str| {
        let mut fields = GET.to_vec();
        fields[at].1 = value;
        fields
    };
    let mut cases = vec![
        [&GET[..], &[("connection", "close")]].concat(),
        [&GET[..], &[("transfer-encoding", "chunked")]].concat(),
        [&GET[..], &[("upgrade", "h2c")]].concat(),
        [&GET[..], &[("keep-alive", "timeout=5")]].concat(),
        [&GET[..], &[("proxy-connection", "close")]].concat(),
        [&GET[..], &[("te", "gzip")]].concat(),
        [&GET[..], &[("content-length", "5")]].concat(),
        [&GET[..], &[("content-length", "x")]].concat(),
        [&GET[..], &[("content-length", "0"), ("content-length", "1")]].concat(),
        [&GET[..], &[(":path", "/2")]].concat(),
        [&[("a", "b")][..], &GET].concat(),
        [&GET[..], &[(":status", "200")]].concat(),
        GET[1..].to_vec(),
        base(3, ""),
    ];
    cases.push(GET.iter().copied().filter(|(name, _)| *name != ":path").collect());
    for fields in cases {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))).await;
        let reset = client.next_of(RST_STREAM).await;
        assert_eq!((reset.stream, reset.code()), (stream, PROTOCOL_ERROR), "{fields:?}");
        stream += 2;
    }
    client.send(request(stream, &[])).await;
    assert_eq!(client.next_of(DATA).await.payload, b"fine");
}

#[tokio::test]
async fn octets_that_no_field_may_hold_end_the_connection_or_the_stream_and_reach_nobody() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for (name, value) in [
        ("x", "a\r\nInjected: 1"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("X-Upper", "a"),
        ("x y", "a"),
        ("x:y", "a"),
        ("", "a"),
        (":other", "a"),
    ] {
        let mut client = Frames::connect(&plane).await;
        client.send(request(1, &[(name, value)])).await;
        loop {
            let frame = client.next().await.expect("an end that is told");
            if frame.kind == RST_STREAM || frame.kind == GOAWAY {
                assert_eq!(frame.code(), PROTOCOL_ERROR, "{name:?}: {value:?}");
                break;
            }
            assert!(frame.kind != HEADERS, "{name:?}: {value:?} was answered");
        }
    }
    // The first thing that reaches the instance is this.
    let mut client = plane.connect().await;
    client.send(http1_get("/sane")).await;
    assert!(origin.accept().await.head().await.starts_with("GET /sane "));
}

#[tokio::test]
async fn a_preface_may_come_octet_by_octet_and_only_first() {
    let plane = Plane::with(Options::default(), |_| {});
    let mut client = plane.connect().await;
    for octet in [PREFACE, &frame(SETTINGS, 0, 0, &[]), &request(1, &[])].concat() {
        client.send([octet]).await;
        tokio::task::yield_now().await;
    }
    let mut client = Frames(client);
    assert_eq!(client.next_of(HEADERS).await.stream, 1);

    let mut client = plane.connect().await;
    client.send([http1_get("/").as_bytes(), PREFACE].concat()).await;
    let text = client.read_to_end().await;
    assert!(text.starts_with("HTTP/1.1 404 ") && text.contains("HTTP/1.1 505 "), "{text}");
}

#[tokio::test]
async fn interim_answers_are_passed_on_and_a_body_may_wait_for_them() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::connect(&plane).await;
    let fields =
        [(":method", "PUT"), GET[1], GET[2], GET[3], ("expect", "100-continue"), ("content-length", "4")];
    client.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    let mut instance = origin.accept().await;
    assert_eq!(field(&instance.head().await, "Expect"), Some("100-continue"));
    instance.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    let interim = client.next_of(HEADERS).await;
    assert_eq!((interim.stream, interim.flags), (1, END_HEADERS));
    client.send(frame(DATA, END_STREAM, 1, b"body")).await;
    assert_eq!(instance.read_exactly(4).await, b"body");
    instance.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    assert_eq!(client.next_of(HEADERS).await.flags, END_HEADERS);
    instance.send(ok("done")).await;
    assert_eq!(client.next_of(HEADERS).await.flags, END_HEADERS);
    let data = client.next_of(DATA).await;
    assert_eq!((data.flags, &data.payload[..]), (END_STREAM, &b"done"[..]));
}

#[tokio::test]
async fn an_answer_without_a_body_ends_with_its_head() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::connect(&plane).await;
    for (stream, answer) in [
        (1, "204 No Content\r\n\r\n"),
        (3, "304 Not Modified\r\nETag: x\r\n\r\n"),
        (5, "200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        client.send(request(stream, &[])).await;
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send(format!("HTTP/1.1 {answer}").replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        let head = client.next_of(HEADERS).await;
        assert_eq!((head.stream, head.flags), (stream, END_HEADERS | END_STREAM), "{answer}");
    }
}

#[tokio::test]
async fn trailers_go_both_ways_as_grpc_needs_them() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = client(&plane).await;
    let request = Request::post("http://shop.test/s/M")
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    let mut sender = client.clone().ready().await.expect("it is open");
    let (response, mut body) =
        sender.send_request(request.body(()).expect("a request"), false).expect("sent");
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!(
        (field(&head, "TE"), field(&head, "Transfer-Encoding")),
        (Some("trailers"), Some("chunked")),
        "{head}"
    );
    body.send_data("ping".into(), false).expect("sent");
    instance.read_until("4\r\nping\r\n").await;
    // The answer starts before the request has ended, as streams do.
    instance
        .send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTrailer: grpc-status\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n")
        .await;
    let answer = crate::kit::within("the answer", response).await.expect("an answer");
    assert_eq!(answer.headers()["trailer"], "grpc-status");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "1".parse().expect("a value"));
    body.send_trailers(trailers).expect("sent");
    instance.read_until("0\r\nx-sum: 1\r\n\r\n").await;
    instance.send("0\r\nGrpc-Status: 0\r\nGrpc-Message: fine\r\n\r\n").await;
    let (octets, trailers) = read(answer.into_body()).await.expect("a body");
    let trailers = trailers.expect("trailers");
    assert_eq!(
        (&octets[..], &trailers["grpc-status"], &trailers["grpc-message"]),
        (&b"pong"[..], &"0".parse().expect("v"), &"fine".parse().expect("v"))
    );
}
