//! WebSocket to instances that speak HTTP/2: extended CONNECT (RFC 8441), whatever the client speaks.

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::Builder;
use http::{Request, Response};

use super::kit::*;
use crate::http2::kit as client;
use crate::kit::{Plane, field, within};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

async fn instance() -> (H2Origin, Plane) {
    let mut builder = Builder::new();
    builder.enable_connect_protocol();
    let origin = H2Origin::with(&builder).await;
    let plane = plane(&[origin.address], &[]);
    (origin, plane)
}

#[tokio::test]
async fn an_upgrade_becomes_an_extended_connect_and_octets_flow_both_ways() {
    let (mut origin, plane) = instance().await;
    let mut client = plane.connect().await;
    client.send([UPGRADE, "early"].concat()).await;
    let mut asked = origin.asked().await;
    assert_eq!((asked.head.method().as_str(), asked.head.uri().path()), ("CONNECT", "/ws"));
    let protocol = asked.head.extensions().get::<Protocol>().map(Protocol::as_str);
    assert_eq!(protocol, Some("websocket"));
    let fields = asked.head.headers();
    assert_eq!(
        (&fields["sec-websocket-version"], &fields["sec-websocket-protocol"]),
        (&"13".parse().expect("a value"), &"chat".parse().expect("a value"))
    );
    assert!(!fields.contains_key("sec-websocket-key") && !fields.contains_key("upgrade"), "{fields:?}");
    let granted = Response::builder().header("sec-websocket-protocol", "chat").body(()).expect("a head");
    let mut down = asked.head_of(granted);
    down.send_data("hello".into(), false).expect("it is open");
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert_eq!(
        (field(&head, "upgrade"), field(&head, "sec-websocket-protocol")),
        (Some("websocket"), Some("chat"))
    );
    assert_eq!(client.read_exactly(5).await, b"hello");
    assert_eq!(within("data", asked.body.data()).await.expect("data").expect("data"), "early");
    asked.body.flow_control().release_capacity(5).expect("it is open");
    client.send("more").await;
    assert_eq!(within("data", asked.body.data()).await.expect("data").expect("data"), "more");
    client.finish().await;
    assert!(asked.read().await.expect("a good end").is_empty());
    down.send_data("bye".into(), true).expect("it is open");
    assert_eq!(client.read_to_end().await, "bye");
}

#[tokio::test]
async fn an_extended_connect_of_a_client_goes_on_as_one() {
    let (mut origin, plane) = instance().await;
    let client = client::client(&plane).await;
    within("the settings", async {
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut sender = client.clone().ready().await.expect("it is open");
    let request = Request::connect("http://shop.test/ws")
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    let (response, mut up) = sender.send_request(request.body(()).expect("a request"), false).expect("sent");
    let mut asked = origin.asked().await;
    assert_eq!(asked.head.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
    let mut down = asked.head_of(Response::new(()));
    let answer = within("the answer", response).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().is_empty()), (200, true), "{answer:?}");
    let mut heard = answer.into_body();
    up.send_data(Bytes::from_static(b"ping"), false).expect("it is open");
    assert_eq!(within("data", asked.body.data()).await.expect("data").expect("data"), "ping");
    down.send_data("pong".into(), true).expect("it is open");
    assert_eq!(within("data", heard.data()).await.expect("data").expect("data"), "pong");
}

#[tokio::test]
async fn a_refusal_of_the_instance_is_passed_on_and_nothing_is_switched() {
    let (mut origin, plane) = instance().await;
    let mut client = plane.connect().await;
    client.send(UPGRADE).await;
    let mut asked = origin.asked().await;
    let refused = Response::builder().status(403).header("content-length", "2").body(()).expect("a head");
    let mut body = asked.head_of(refused);
    body.send_data("no".into(), true).expect("it is open");
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 403 ") && field(&head, "upgrade").is_none(), "{head}");
    assert_eq!(client.read_exactly(2).await, b"no");
}

#[tokio::test]
async fn an_instance_without_extended_connect_cannot_be_asked() {
    let origin = H2Origin::new().await;
    let plane = plane(&[origin.address], &[("fairway.retries", "0")]);
    let mut client = plane.connect().await;
    client.send(UPGRADE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    let body = client.read_until("}\n").await;
    assert!(body.contains("upstream-no-upgrade") && body.contains("RFC 8441"), "{body}");
}
