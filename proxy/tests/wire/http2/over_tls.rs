//! HTTP/2 as browsers speak it: over TLS, agreed upon by ALPN.

use http::Request;

use super::kit::*;
use crate::kit::{Origin, field, get as http1_get, ok, within};
use crate::tls::{plane, session};

#[tokio::test]
async fn clients_that_offer_both_get_http2_and_their_requests_are_secure() {
    let origin = Origin::new().await;
    let (plane, client) = plane(|_| {}, origin.address);
    let wire = client.speaking(&["http/1.1", "h2"]).connect(&plane, "shop.test").await;
    assert_eq!(session(&wire).alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = h2::client::handshake(wire.stream).await.expect("HTTP/2");
    let serving = tokio::spawn(connection);
    let asking = {
        let client = client.clone();
        tokio::spawn(async move {
            get(&client, Request::get("https://shop.test/a").body(()).expect("a request")).await
        })
    };
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert_eq!((field(&head, "Via"), field(&head, "X-Forwarded-Proto")), (Some("2.0 edge"), Some("https")));
    instance.send(ok(&"x".repeat(100_000))).await;
    let (status, body) = within("the answer", asking).await.expect("it does not fail");
    assert_eq!((status, body.len()), (200, 100_000));

    // The certificate names it, and another listener may serve it in another way.
    let elsewhere = Request::get("https://other.shop.test/").body(()).expect("a request");
    let (status, body) = get(&client, elsewhere).await;
    assert!(status == 421 && body.contains("\"type\":\"misdirected\""), "{status} {body}");

    let draining = tokio::spawn(plane.drain(std::time::Duration::from_secs(15)));
    within("a goodbye", serving).await.expect("it does not fail").expect("a clean end");
    assert_eq!(draining.await.expect("the drain ends").cut, 0);
}

#[tokio::test]
async fn clients_that_offer_http1_alone_get_it() {
    let origin = Origin::new().await;
    let (plane, client) = plane(|_| {}, origin.address);
    origin.serve("old");
    for offer in [&["http/1.1"][..], &[]] {
        let mut wire = client.speaking(offer).connect(&plane, "shop.test").await;
        wire.send(http1_get("/")).await;
        wire.read_until("old").await;
    }
}

#[tokio::test]
async fn http2_that_nobody_agreed_upon_is_bound_to_its_host_too() {
    let origin = Origin::new().await;
    let (plane, client) = plane(|_| {}, origin.address);
    origin.serve("here");
    for offer in [&["http/1.1"][..], &[]] {
        let wire = client.speaking(offer).connect(&plane, "shop.test").await;
        let (client, connection) = h2::client::handshake(wire.stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let of = |url: &str| Request::get(url).body(()).expect("a request");
        assert_eq!(get(&client, of("https://shop.test/")).await.0, 200, "{offer:?}");
        let (status, body) = get(&client, of("https://other.shop.test/")).await;
        assert!(status == 421 && body.contains("\"type\":\"misdirected\""), "{offer:?}: {status} {body}");
    }
}
