//! `fairway.strip_prefix`, `.add_prefix` and `.headers.*`: what the instance and the client get to see.

use super::*;

#[tokio::test]
async fn the_instance_sees_another_path_and_is_told_the_prefix() {
    let origin = Origin::new().await;
    let labels = [("fairway.strip_prefix", "true"), ("fairway.add_prefix", "/v2")];
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address, "shop.test/api", &labels);
    });
    let mut client = plane.connect().await;
    client.send(get("/api/a%2fb?c")).await;
    let mut instance = origin.accept().await;
    let mut first = true;
    for (path, want) in
        [("/api/a%2fb?c", "/v2/a%2fb?c"), ("/api", "/v2/"), ("/api?x", "/v2/?x"), ("/api//y", "/v2//y")]
    {
        if !first {
            client.send(get(path)).await;
        }
        first = false;
        let head = instance.head().await;
        assert!(head.starts_with(&format!("GET {want} HTTP/1.1\r\n")), "{path}: {head}");
        assert_eq!(field(&head, "X-Forwarded-Prefix"), Some("/api"), "{head}");
        instance.send(ok("x")).await;
        client.read_until("\r\n\r\nx").await;
    }
}

#[tokio::test]
async fn a_prefix_that_a_client_claims_is_believed_of_trusted_proxies_alone() {
    let claimed = "X-Forwarded-Prefix: /outer\r\nX_Forwarded_Prefix: /evil\r\n";
    for (trusted, labels, want) in [
        (vec![], vec![], None),
        (vec!["127.0.0.0/8"], vec![], Some("/outer")),
        (vec!["127.0.0.0/8"], vec![("fairway.strip_prefix", "/api")], Some("/outer/api")),
        (vec![], vec![("fairway.strip_prefix", "/api")], Some("/api")),
    ] {
        let (plane, origin) = shop_with(Options { trusted, ..Options::default() }, &labels).await;
        let mut client = plane.connect().await;
        client.send(get_with("/api/x", claimed)).await;
        let head = origin.accept().await.head().await;
        assert_eq!(field(&head, "X-Forwarded-Prefix"), want, "{head}");
        assert!(!head.contains("/evil"), "{head}");
    }
}

#[tokio::test]
async fn fields_of_requests_are_edited() {
    let edits = "set X-Tenant: a; add X-Seen: {client_ip} {host} {scheme} {request_id}; remove Cookie; \
                 set Accept-Language: \"de; q=1\"";
    let (plane, origin) = shop(&[("fairway.headers.request", edits)]).await;
    let mut client = plane.connect().await;
    let sent = "X-Tenant: evil\r\nx-tenant: evil2\r\nX-Seen: before\r\nCookie: a=b\r\nAccept-Language: en\r\nX-Stays: 1\r\n";
    client.send(get_with("/", sent)).await;
    let head = origin.accept().await.head().await;
    let id = field(&head, "X-Request-Id").expect("an id").to_owned();
    let of = |name: &str| -> Vec<String> {
        let lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    assert_eq!(of("X-Tenant"), ["a"], "{head}");
    assert_eq!(of("X-Seen"), ["before".to_owned(), format!("127.0.0.1 shop.test http {id}")], "{head}");
    assert!(of("Cookie").is_empty(), "{head}");
    assert_eq!(of("Accept-Language"), ["de; q=1"], "{head}");
    assert_eq!(of("X-Stays"), ["1"]);
}

#[tokio::test]
async fn a_field_that_is_set_cannot_be_taken_away_by_the_client() {
    let (plane, origin) = shop(&[("fairway.headers.request", "set X-Tenant: a")]).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", "Connection: close, X-Tenant\r\nX-Tenant: evil\r\n")).await;
    let head = origin.accept().await.head().await;
    assert_eq!(field(&head, "X-Tenant"), Some("a"), "{head}");
    assert_eq!(head.matches("X-Tenant").count(), 1, "{head}");
}

#[tokio::test]
async fn fields_of_answers_are_edited_and_framing_is_not() {
    let edits = "set X-Frame-Options: DENY; remove Server; add Set-Cookie: seen=1; set Content-Security-Policy: \
                 \"default-src 'self'; img-src *\"";
    let (plane, origin) = shop(&[("fairway.headers.response", edits)]).await;
    let mut client = plane.connect().await;
    client.send(get("/")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    let answer = "HTTP/1.1 200 OK\r\nServer: old\r\nX-Frame-Options: ALLOWALL\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi";
    instance.send(answer).await;
    let head = client.head().await;
    assert_eq!(field(&head, "X-Frame-Options"), Some("DENY"), "{head}");
    assert_eq!(field(&head, "Server"), None, "{head}");
    assert_eq!(field(&head, "Content-Security-Policy"), Some("default-src 'self'; img-src *"));
    assert_eq!(head.matches("Set-Cookie: ").count(), 2, "{head}");
    assert_eq!(field(&head, "Content-Length"), Some("2"));
    assert_eq!(client.read_exactly(2).await, b"hi");
    // Interim answers are the instance's own.
    client
        .send("POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        .await;
    instance.head().await;
    instance.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
}
