//! Connections that stop being HTTP.

use crate::kit::*;

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn after_a_101_octets_flow_both_ways_until_both_sides_end() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send(ASK).await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!(
        (field(&head, "Connection"), field(&head, "Upgrade")),
        (Some("Upgrade"), Some("websocket")),
        "{head}"
    );
    assert_eq!(field(&head, "Sec-WebSocket-Version"), Some("13"));
    instance.send([SWITCH, "first frame"].concat()).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!((field(&head, "Connection"), field(&head, "Upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(client.read_exactly(11).await, b"first frame");
    client.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(instance.read_exactly(18).await, b"GET / HTTP/1.1\r\n\r\n", "no longer read as HTTP");
    client.finish().await;
    assert!(instance.ends().await, "the end is passed on");
    instance.send("last words").await;
    assert_eq!(client.read_exactly(10).await, b"last words");
    instance.finish().await;
    assert!(client.ends().await);
}

#[tokio::test]
async fn octets_sent_before_the_101_wait_for_it() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = plane.connect().await;
    client.send([ASK, "early frame\r\n\r\n"].concat()).await;
    let mut instance = origin.accept().await;
    assert!(instance.head().await.ends_with("\r\n\r\n"));
    instance.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    // Not upgraded: what follows is a request again, and this is none.
    client.read_until("\r\n\r\nno").await;
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 400 "));

    let mut client = plane.connect().await;
    client.send([ASK, "early frame"].concat()).await;
    instance.head().await;
    instance.send(SWITCH).await;
    assert_eq!(instance.read_exactly(11).await, b"early frame");
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_answer() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    for ask in [
        get("/"),
        ASK.replace("Upgrade: websocket", "Upgrade: h2c"),
        ASK.replace("keep-alive, Upgrade", "keep-alive"),
        ASK.replace("HTTP/1.1\r\n", "HTTP/1.0\r\n"),
    ] {
        let mut client = plane.connect().await;
        client.send(&ask).await;
        let mut instance = origin.accept().await;
        let head = instance.head().await;
        assert_eq!((field(&head, "Connection"), field(&head, "Upgrade")), (None, None), "{ask}: {head}");
        instance.send(SWITCH).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{ask}: {answer}");
        assert!(instance.ends().await);
    }
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_refused() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let answer = plane.exchange(ASK.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nGET")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("upgrade-refused"), "{answer}");
}
