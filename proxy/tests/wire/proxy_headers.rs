//! `fairway.proxy_protocol`: connections to instances that say whose they are.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;

use crate::fronts;
use crate::http2::kit::{
    ACK, END_HEADERS, END_STREAM, Frames, HEADERS, PREFACE, SETTINGS, ask, client, frame, send,
};
use crate::http2_origins::kit::{H2C, request_on};
use crate::kit::*;
use crate::tls;

const V1: (&str, &str) = ("fairway.proxy_protocol", "v1");
const V2: (&str, &str) = ("fairway.proxy_protocol", "v2");

/// `shop.test` at these instances, with these labels.
fn plane(instances: &[SocketAddr], labels: &[(&str, &str)]) -> Plane {
    Plane::with(Options::default(), |cluster| {
        for address in instances {
            cluster.add(*address, "shop.test", labels);
        }
    })
}

/// The line that names this client of this plane.
fn line(client: &Wire, plane: &Plane) -> String {
    let port = client.stream.local_addr().expect("an address").port();
    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", plane.address.port())
}

/// The header of version 2 that says so, with these fields.
fn binary(client: SocketAddr, to: SocketAddr, fields: &[u8]) -> Vec<u8> {
    let length = 12 + u8::try_from(fields.len()).expect("few");
    let ports = [client.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let addresses = [127, 0, 0, 1, 127, 0, 0, 1];
    let fixed = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", &[length][..]].concat();
    [&fixed[..], &addresses, &ports, fields].concat()
}

#[tokio::test]
async fn a_connection_carries_the_requests_of_the_client_that_its_header_names_and_of_no_other() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[V1]);
    let mut alice = plane.connect().await;
    alice.send(get("/1")).await;
    let mut for_alice = origin.accept().await;
    let head = for_alice.head().await;
    assert!(head.starts_with(&format!("{}GET /1 HTTP/1.1\r\n", line(&alice, &plane))), "{head}");
    for_alice.send(ok("one")).await;
    alice.read_until("one").await;

    // Alice's connection waits for its next request: it is not lent to Bob.
    let mut bob = plane.connect().await;
    bob.send(get("/2")).await;
    let mut for_bob = origin.accept().await;
    let head = for_bob.head().await;
    assert!(head.starts_with(&format!("{}GET /2 HTTP/1.1\r\n", line(&bob, &plane))), "{head}");
    for_bob.send(ok("two")).await;
    bob.read_until("two").await;

    // Her next request is on it, and no second header.
    alice.send(get("/3")).await;
    assert!(for_alice.head().await.starts_with("GET /3 "));
    for_alice.send(ok("three")).await;
    alice.read_until("three").await;

    // It goes when she goes, and Bob's stays.
    drop(alice);
    assert!(for_alice.ends().await);
    bob.send(get("/4")).await;
    assert!(for_bob.head().await.starts_with("GET /4 "));
}

#[tokio::test]
async fn without_the_label_there_is_no_header_and_clients_share_connections() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[]);
    let mut alice = plane.connect().await;
    alice.send(get("/1")).await;
    let mut shared = origin.accept().await;
    assert!(shared.head().await.starts_with("GET /1 "));
    shared.send(ok("one")).await;
    alice.read_until("one").await;
    let mut bob = plane.connect().await;
    bob.send(get("/2")).await;
    assert!(shared.head().await.starts_with("GET /2 "));
}

#[tokio::test]
async fn the_streams_of_one_client_share_its_connections_with_one_another_alone() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[V2]);
    let (alice, bob) = (client(&plane).await, client(&plane).await);
    let (mut headers, mut kept) = (Vec::new(), Vec::new());
    let ask = |client: &SendRequest<Bytes>, path: &str| {
        let (client, request) = (client.clone(), ask(path));
        tokio::spawn(async move { send(&client, request, None).await.expect("an answer").status() })
    };
    for (client, path) in [(&alice, "/1"), (&bob, "/2")] {
        let asked = ask(client, path);
        let mut instance = origin.accept().await;
        headers.push(instance.read_exactly(28).await);
        assert!(instance.head().await.starts_with(&format!("GET {path} ")));
        instance.send(ok("")).await;
        asked.await.expect("it does not fail");
        let again = ask(client, "/again");
        assert!(instance.head().await.starts_with("GET /again "), "the same connection");
        instance.send(ok("")).await;
        again.await.expect("it does not fail");
        // Open, so that the other one could be lent it.
        kept.push(instance);
    }
    assert_ne!(headers[0], headers[1], "the ports differ");
}

#[tokio::test]
async fn an_instance_that_speaks_http2_gets_a_connection_for_each_connection_of_a_client() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[V2, H2C]);
    let accept = async |header: &[u8]| {
        let mut wire = origin.accept().await;
        assert_eq!(wire.read_exactly(header.len()).await, header);
        assert_eq!(wire.read_exactly(PREFACE.len()).await, PREFACE);
        let mut frames = Frames(wire);
        frames.send([frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()).await;
        frames
    };
    let answer = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]);
    let end = |wire: &Wire| wire.stream.local_addr().expect("an address");

    let mut alice = plane.connect().await;
    alice.send(get("/1")).await;
    let mut for_alice = accept(&binary(end(&alice), plane.address, &[])).await;
    let asked = request_on(&mut for_alice).await;
    for_alice.send(answer(asked.stream)).await;
    alice.head().await;

    let mut bob = plane.connect().await;
    bob.send(get("/2")).await;
    let mut for_bob = accept(&binary(end(&bob), plane.address, &[])).await;
    let asked = request_on(&mut for_bob).await;
    for_bob.send(answer(asked.stream)).await;
    bob.head().await;

    alice.send(get("/3")).await;
    let asked = request_on(&mut for_alice).await;
    assert_eq!(asked.stream, 3, "the second one on her connection");
    for_alice.send(answer(asked.stream)).await;
    alice.head().await;
    drop(alice);
    within("the end of her connection", async { while for_alice.0.read_more().await {} }).await;
}

#[tokio::test]
async fn a_request_that_goes_to_another_instance_takes_its_header_along() {
    let origin = Origin::new().await;
    let plane = plane(&[refusing().await, origin.address], &[V1]);
    for _ in 0..4 {
        let mut client = plane.connect().await;
        client.send(get("/")).await;
        let head = origin.accept().await.head().await;
        assert!(head.starts_with(&line(&client, &plane)), "{head}");
    }
}

#[tokio::test]
async fn a_connection_that_the_instance_closed_meanwhile_is_replaced_by_one_with_the_same_header() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[V1]);
    let mut client = plane.connect().await;
    for path in ["/1", "/2"] {
        client.send(get(path)).await;
        let mut instance = origin.accept().await;
        let head = instance.head().await;
        assert!(head.starts_with(&format!("{}GET {path} ", line(&client, &plane))), "{head}");
        instance.send(ok("done")).await;
        client.read_until("done").await;
    }
}

#[tokio::test]
async fn the_client_of_a_balancer_in_front_is_named_whatever_its_requests_say() {
    let origin = Origin::new().await;
    let options = Options { trusted: vec!["127.0.0.0/8"], proxy_protocol: true, ..Options::default() };
    let plane = Plane::with(options, |cluster| drop(cluster.add(origin.address, "shop.test", &[V1])));
    for (sent, want) in [
        ("TCP4 192.0.2.1 198.51.100.1 56324 8443", "TCP4 192.0.2.1 198.51.100.1 56324 8443"),
        ("TCP6 2001:db8::1 2001:db8::2 1 443", "TCP6 2001:db8::1 2001:db8::2 1 443"),
        // One family for both in the header, whatever the addresses are in truth.
        ("TCP6 ::ffff:192.0.2.1 2001:db8::2 1 443", "TCP6 ::ffff:c000:201 2001:db8::2 1 443"),
        ("TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 443", "TCP4 192.0.2.1 192.0.2.2 1 443"),
    ] {
        let mut client = plane.connect().await;
        let request = get("/").replace("\r\n\r\n", "\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n");
        client.send(format!("PROXY {sent}\r\n{request}")).await;
        let head = origin.accept().await.head().await;
        assert!(head.starts_with(&format!("PROXY {want}\r\nGET / ")), "{head}");
    }
    // The balancer's own connection is between it and us.
    let mut client = plane.connect().await;
    client.send(format!("PROXY UNKNOWN\r\n{}", get("/"))).await;
    let head = origin.accept().await.head().await;
    assert!(head.starts_with(&line(&client, &plane)), "{head}");
}

#[tokio::test]
async fn the_header_comes_before_tls_with_the_instance() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[V1, ("fairway.protocol", "https")]);
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    let want = line(&client, &plane);
    assert_eq!(instance.read_exactly(want.len()).await, want.as_bytes());
    assert_eq!(instance.read_exactly(2).await, [0x16, 3], "a TLS handshake");
}

#[tokio::test]
async fn an_instance_is_told_of_a_clients_tls() {
    let origin = Origin::new().await;
    let (plane, client) = tls::plane_with(|_| {}, origin.address, &[V2]);
    let mut client = client.connect(&plane, "shop.test").await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    let fields = b"\x02\0\x09shop.test\x20\0\x0f\x01\0\0\0\x01\x21\0\x07TLSv1.3";
    let end = client.stream.get_ref().0.local_addr().expect("an address");
    let want = binary(end, plane.https.expect("a TLS listener"), fields);
    assert_eq!(instance.read_exactly(want.len()).await, want);
    assert!(instance.head().await.starts_with("GET / "));
}

#[tokio::test]
async fn a_websocket_is_told_whose_it_is() {
    let origin = Origin::new().await;
    let plane = plane(&[origin.address], &[V1]);
    let mut client = plane.connect().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.send(get("/ws").replace("\r\n\r\n", &format!("\r\n{upgrade}"))).await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert!(head.starts_with(&format!("{}GET /ws ", line(&client, &plane))), "{head}");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    instance.send([switch, "frame"].concat()).await;
    client.head().await;
    assert_eq!(client.read_exactly(5).await, b"frame");
}

#[tokio::test]
async fn a_front_port_passes_the_client_on_before_its_octets() {
    for (label, is_binary) in [(V1, false), (V2, true)] {
        let (front, origin) = (free_port(), Origin::new().await);
        let plane = Plane::with(Options::default(), |cluster| {
            fronts::add(cluster, refusing_at_once(), front, &[label]);
            fronts::add(cluster, origin.address, front, &[label]);
        });
        for _ in 0..3 {
            let mut client = fronts::dial(front).await;
            client.send("hello").await;
            let end = client.stream.local_addr().expect("an address");
            let to = SocketAddr::new(plane.address.ip(), front);
            let text = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {front}\r\n", end.port());
            let want = if is_binary { binary(end, to, &[]) } else { text.into_bytes() };
            let mut instance = origin.accept().await;
            assert_eq!(instance.read_exactly(want.len() + 5).await, [&want[..], b"hello"].concat());
            instance.send("back").await;
            assert_eq!(client.read_exactly(4).await, b"back");
        }
    }
}

#[tokio::test]
async fn at_front_ports_behind_a_balancer_the_client_is_the_one_that_its_header_names() {
    for (label, want) in [
        (None, "hello".to_owned()),
        (Some(V1), "PROXY TCP4 192.0.2.1 198.51.100.1 56324 3306\r\nhello".to_owned()),
    ] {
        let (front, origin) = (free_port(), Origin::new().await);
        let options =
            Options { trusted: vec!["127.0.0.0/8"], fronts_proxy_protocol: true, ..Options::default() };
        let plane = Plane::with(options, |cluster| {
            let labels: Vec<_> = label.into_iter().chain([("fairway.allow", "192.0.2.0/24")]).collect();
            fronts::add(cluster, origin.address, front, &labels);
        });
        let mut client = fronts::dial(front).await;
        // In pieces, and the first octets right behind it.
        for piece in ["PROXY TCP4 192.0", ".2.1 198.51.100.1 56324 3306\r\nhe", "llo"] {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let mut instance = origin.accept().await;
        assert_eq!(String::from_utf8_lossy(&instance.read_exactly(want.len()).await), want);
        instance.send("back").await;
        assert_eq!(client.read_exactly(4).await, b"back");

        for refused in
            ["PROXY TCP4 203.0.113.1 198.51.100.1 1 2\r\n", "hello, who is there?", "PROXY TCP4 x\r\n"]
        {
            let mut client = fronts::dial(front).await;
            client.send(refused).await;
            assert!(client.ends().await, "{refused}: not allowed, or no header");
        }
        plane.running.set_fronts_proxy_protocol(false);
        let mut client = fronts::dial(front).await;
        assert!(client.ends().await, "from now on it is the balancer itself, which is not allowed");
    }
}

#[tokio::test]
async fn at_front_ports_behind_a_balancer_strangers_are_closed() {
    let (front, origin) = (free_port(), Origin::new().await);
    let options = Options { trusted: vec!["10.0.0.0/8"], fronts_proxy_protocol: true, ..Options::default() };
    let _plane = Plane::with(options, |cluster| drop(fronts::add(cluster, origin.address, front, &[])));
    let mut client = fronts::dial(front).await;
    client.send("PROXY TCP4 10.0.0.1 198.51.100.1 1 2\r\n").await;
    assert!(client.ends().await);
}

/// An address that refuses connections.
fn refusing_at_once() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
