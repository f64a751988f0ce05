//! Connections that come through a load balancer which says whose they are.

use crate::kit::*;

fn behind_balancer(trusted: &'static str, origin: &Origin) -> Plane {
    let options = Options { trusted: vec![trusted], proxy_protocol: true, ..Options::default() };
    Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test;hidden.local;https://secure.test", &[]);
    })
}

#[tokio::test]
async fn the_client_is_the_one_that_the_header_names() {
    let origin = Origin::new().await;
    let plane = behind_balancer("127.0.0.0/8", &origin);
    let mut client = plane.connect().await;
    // In pieces, and the request right behind it.
    for piece in ["PROXY TCP4 192.0", ".2.1 198.51.100.1 ", "56324 8443\r\nGET / HT"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    client.send("TP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n").await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!(field(&head, "X-Forwarded-For"), Some("192.0.2.1"), "{head}");
    assert_eq!(field(&head, "X-Forwarded-Port"), Some("8443"), "{head}");
}

#[tokio::test]
async fn a_client_is_as_internal_and_as_secure_as_the_header_says() {
    let origin = Origin::new().await;
    let plane = behind_balancer("127.0.0.0/8", &origin);
    let ask = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let hidden =
        plane.exchange(format!("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n{}", ask("hidden.local"))).await;
    assert!(hidden.starts_with("HTTP/1.1 404 "), "{hidden}");
    let own = plane.exchange(format!("PROXY UNKNOWN\r\n{}", ask("hidden.local"))).await;
    assert!(own.starts_with("HTTP/1.1 404 "), "a trusted proxy is not internal by its own address: {own}");

    let tls =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\xc0\0\x02\x01\x7f\0\0\x01\0\x01\0\x02\x20\0\x05\x01\0\0\0\0";
    let mut client = plane.connect().await;
    client.send([&tls[..], ask("secure.test").as_bytes()].concat()).await;
    let mut instance = origin.accept().await;
    assert_eq!(field(&instance.head().await, "X-Forwarded-Proto"), Some("https"));
}

#[tokio::test]
async fn without_a_header_or_from_a_stranger_the_connection_is_closed() {
    let origin = Origin::new().await;
    let plane = behind_balancer("127.0.0.0/8", &origin);
    for input in [get("/"), "PROXY TCP4 nonsense\r\n".into(), "\r\n\r\n\0\r\nQUIT\n\u{ff}\u{ff}".into()] {
        assert_eq!(plane.exchange(&input).await, "", "{input:?}");
    }
    let plane = behind_balancer("10.0.0.0/8", &origin);
    let answer = plane.exchange(format!("PROXY TCP4 10.0.0.1 127.0.0.1 1 2\r\n{}", get("/"))).await;
    assert_eq!(answer, "");
}
