//! The account of a request that its client asks for, and who gets one.

use crate::http2::kit as h2;
use crate::kit::*;

/// The account in an answer.
fn account(head: &str) -> Option<&str> {
    field(head, "X-Fairway-Explain")
}

const LABELS: [(&str, &str); 2] = [("aliyun.routing.session_sticky", "true"), ("fairway.balance", "random")];

fn asked(fields: &str) -> String {
    format!("GET /x?secret=1 HTTP/1.1\r\nHost: shop.test\r\nX-Fairway-Explain: 1\r\n{fields}\r\n")
}

#[tokio::test]
async fn an_internal_client_is_told_where_its_request_went() {
    let (gone, origin) = (refusing().await, Origin::new().await);
    let address = origin.address;
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(gone, "shop.test", &LABELS);
    });
    origin.serve("hello");
    let refused = plane.exchange(asked("Connection: close\r\n")).await;
    let told = account(&refused).expect("a refusal is told, too");
    assert!(told.starts_with("route=shop.test/; refused=connect-failed; cookie=none; attempts="), "{told}");
    plane.change(|cluster| {
        cluster.add(address, "shop.test", &LABELS);
    });
    let ids = plane.cluster.ids();
    let [dead, alive] = [(0, gone), (1, address)].map(|(i, at)| format!("{}:{}", &ids[i][..12], at.port()));
    let mut client = plane.connect().await;
    let mut retried = false;
    while !retried {
        client.send(asked("Cookie: FAIRWAY=secret\r\n")).await;
        let head = client.head().await;
        client.read_until("hello").await;
        let told = account(&head).expect("an account");
        let way = format!(
            "route=shop.test/; why=equal; cookie=foreign; backend=shop@v1; instance={alive}; in-flight=1; attempts="
        );
        let attempts = told.strip_prefix(&way).unwrap_or_else(|| panic!("{told}"));
        retried = attempts == format!("2; failed={dead} connect-failed");
        assert!((retried || attempts == "1") && !told.contains("secret"), "{told}");
    }
    let nowhere = plane.exchange(asked("Connection: close\r\n").replace("shop.test", "no.test")).await;
    assert_eq!(account(&nowhere), Some("route=none; refused=no-route; attempts=0"));

    let h2 = h2::client(&plane).await;
    let mut request = h2::ask("/x");
    request.headers_mut().append("x-fairway-explain", "1".parse().expect("a value"));
    let answer = h2::send(&h2, request, None).await.expect("an answer");
    assert!(answer.headers().contains_key("x-fairway-explain"));
}

#[tokio::test]
async fn nobody_else_is_told_and_no_instance_sees_who_asked() {
    let origin = Origin::new().await;
    let options = Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    let mut client = plane.connect().await;
    let mut instance = None;
    for (fields, told) in [
        // A trusted proxy is no client: what it passes on is believed of its client alone.
        ("X-Forwarded-For: 198.51.100.7\r\n", false),
        ("", false),
        ("X-Forwarded-For: 198.51.100.7, 127.0.0.2\r\n", false),
        ("Forwarded: for=127.0.0.1\r\nX-Forwarded-For: 198.51.100.7\r\n", false),
        ("Connection: x-fairway-explain\r\nX-Forwarded-For: 198.51.100.7\r\n", false),
    ] {
        client.send(asked(fields)).await;
        if instance.is_none() {
            instance = Some(origin.accept().await);
        }
        let up = instance.as_mut().expect("a connection");
        let head = up.head().await;
        assert_eq!(account(&head), None, "{head}");
        up.send("HTTP/1.1 200 OK\r\nX-Fairway-Explain: of the instance\r\nContent-Length: 0\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(account(&head).is_some(), told, "{fields}: {head}");
    }
}

#[tokio::test]
async fn whoever_does_not_ask_is_told_nothing() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    origin.serve("hello");
    for ask in ["", "X-Fairway-Explain: 0\r\n", "X-Fairway-Explain: 11\r\n", "X-Fairway-Explain:\r\n"] {
        let answer = plane
            .exchange(format!("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{ask}\r\n"))
            .await;
        assert!(answer.ends_with("hello") && account(&answer).is_none(), "{answer}");
    }
}
