//! Features of routes for clients that speak HTTP/2.

use std::io::Read;

use http::Request;

use super::kit::{client, get, read, send};
use crate::kit::*;

#[tokio::test]
async fn answers_are_compressed_and_edited_and_refusals_have_their_fields() {
    let origin = Origin::new().await;
    let mut plane = Plane::with(Options::default(), |cluster| {
        let labels =
            [("fairway.compress", "gzip"), ("fairway.headers.response", "set X-A: b; remove Server")];
        cluster.add(origin.address, "shop.test", &labels);
    });
    let asked =
        Request::get("http://shop.test/").header("accept-encoding", "gzip").body(()).expect("a request");
    let client = client(&plane).await;
    let mut sender = within("a place", client.clone().ready()).await.expect("it is ready");
    let (answer, _) = sender.send_request(asked, true).expect("it is sent");
    let mut instance = origin.accept().await;
    instance.head().await;
    let body = "all work and no play ".repeat(1000);
    let fields = format!("Content-Type: text/plain\r\nServer: s\r\nContent-Length: {}\r\n", body.len());
    instance.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")).await;
    let answer = within("the answer", answer).await.expect("an answer");
    let of = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!((of("content-encoding"), of("vary")), (Some("gzip".into()), Some("Accept-Encoding".into())));
    assert_eq!((of("x-a"), of("server"), of("content-length")), (Some("b".into()), None, None));
    let (octets, _) = within("the body", read(answer.into_body())).await.expect("a body");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&octets[..]).read_to_string(&mut text).expect("it is whole");
    assert_eq!(text, body);

    let (closed, old) = (Origin::new().await, Origin::new().await);
    plane.change(|cluster| {
        cluster.add(closed.address, "closed.test", &[("fairway.auth.basic", "nobody")]);
        cluster.add(old.address, "old.test", &[("fairway.redirect", "https://new.test{path} 308")]);
    });
    let closed = Request::get("http://closed.test/").body(()).expect("a request");
    let (status, told) = get(&client, closed).await;
    assert!(status == 401 && told.contains("unauthorized"), "{status} {told}");
    let old = Request::get("http://old.test/a?b").body(()).expect("a request");
    let answer = send(&client, old, None).await.expect("an answer");
    assert_eq!(answer.headers()["location"], "https://new.test/a?b");
}
