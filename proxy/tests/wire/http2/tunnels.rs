//! WebSocket over HTTP/2: extended CONNECT (RFC 8441).

use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;

use super::kit::*;
use crate::kit::{Options, Origin, Plane, field, ok, within};

/// The key of RFC 6455 section 1.3, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

fn connect(protocol: &'static str) -> Request<()> {
    Request::connect("http://shop.test/ws")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-key", KEY)
        .body(())
        .expect("a request")
}

#[tokio::test]
async fn an_extended_connect_becomes_an_upgrade_and_octets_flow_both_ways() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = client(&plane).await;
    within("the settings", async {
        while !client.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut sender = client.clone().ready().await.expect("it is open");
    let (response, mut up) = sender.send_request(connect("websocket"), false).expect("sent");
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    assert_eq!((field(&head, "Connection"), field(&head, "Upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(field(&head, "Sec-WebSocket-Key"), Some(KEY), "{head}");
    assert_eq!(field(&head, "Sec-WebSocket-Version"), Some("13"), "{head}");
    assert_eq!(field(&head, "Sec-WebSocket-Protocol"), Some("chat"), "{head}");
    instance.send([SWITCH, "first"].concat()).await;
    let answer = within("the answer", response).await.expect("an answer");
    let names: Vec<_> = answer.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!((answer.status().as_u16(), names), (200, vec!["sec-websocket-protocol"]));
    let mut down = answer.into_body();
    assert_eq!(within("data", down.data()).await.expect("data").expect("data"), "first");
    up.send_data(Bytes::from_static(b"upwards"), false).expect("sent");
    assert_eq!(instance.read_exactly(7).await, b"upwards");
    up.send_data(Bytes::new(), true).expect("sent");
    assert!(instance.ends().await, "the end is passed on");
    instance.send("last words").await;
    instance.finish().await;
    assert_eq!(read(down).await.expect("a clean end").0, b"last words");
}

#[tokio::test]
async fn an_answer_that_does_not_switch_never_looks_like_one_that_does() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = client(&plane).await;
    let no_key = SWITCH.replace("s3pP", "xxxx");
    let unproven = SWITCH.split("Sec-WebSocket-Accept").next().expect("a start").to_owned() + "\r\n";
    let cases = [
        (no_key, 502),
        (unproven, 502),
        (ok("no tunnel"), 502),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".into(), 403),
    ];
    for (answer, status) in cases {
        let client = client.clone();
        let asking = tokio::spawn(async move {
            let mut sender = client.ready().await.expect("it is open");
            let (response, _up) = sender.send_request(connect("websocket"), false).expect("sent");
            within("the answer", response).await.expect("an answer").status().as_u16()
        });
        let mut instance = origin.accept().await;
        instance.head().await;
        if answer.starts_with("HTTP/1.1 101") {
            instance.send(answer).await;
        } else {
            instance.send(answer.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        }
        assert_eq!(within("the client", asking).await.expect("it does not fail"), status);
    }
}

#[tokio::test]
async fn other_protocols_and_plain_connect_are_refused() {
    let plane = Plane::with(Options::default(), |_| {});
    let client = client(&plane).await;
    let (status, body) = get(&client, connect("connect-udp")).await;
    assert!(status == 400 && body.contains("upgrade-refused"), "{status} {body}");
    let plain = Request::connect("shop.test:80").body(()).expect("a request");
    let (status, body) = get(&client, plain).await;
    assert!(status == 501 && body.contains("method-refused"), "{status} {body}");
}

#[tokio::test]
async fn a_listener_without_upgrades_offers_none() {
    let plane = Plane::with(Options { upgrades: Vec::new(), ..Options::default() }, |_| {});
    let mut client = Frames::connect(&plane).await;
    let settings = client.next_of(SETTINGS).await;
    assert!(settings.payload.chunks(6).all(|setting| setting[..2] != [0, 8]), "{settings:?}");
    let fields = [(":method", "CONNECT"), GET[1], GET[2], GET[3], (":protocol", "websocket")];
    client.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    assert_eq!(client.next_of(RST_STREAM).await.code(), PROTOCOL_ERROR);
}
