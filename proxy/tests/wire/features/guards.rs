//! `fairway.allow`, `fairway.auth.*` and `fairway.redirect`: what is answered before any instance is asked.

use std::time::Duration;

use super::*;

/// `alice` with the password `U*U`: a vector of bcrypt's first implementation.
const ALICE: &str = "alice:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
/// `alice:U*U`
const GOOD: &str = "Authorization: Basic YWxpY2U6VSpV\r\n";
/// `alice:U*V`
const BAD: &str = "Authorization: Basic YWxpY2U6VSpW\r\n";

#[tokio::test]
async fn clients_that_are_not_in_the_list_are_refused_by_their_effective_address() {
    let options = || Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let (plane, origin) = shop_with(options(), &[("fairway.allow", "10.0.0.0/8, 2001:db8::7")]).await;
    origin.serve("a");
    let mut client = plane.connect().await;
    for (fields, want) in [
        ("X-Forwarded-For: 10.1.2.3\r\n", "200"),
        ("X-Forwarded-For: 11.1.2.3\r\n", "403"),
        ("X-Forwarded-For: 2001:db8::7\r\n", "200"),
        ("X-Forwarded-For: 10.1.2.3, 11.1.2.3\r\n", "403"),
        ("", "403"),
    ] {
        client.send(get_with("/", fields)).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {want} ")), "{fields}: {head}");
        let length = field(&head, "Content-Length").and_then(|length| length.parse().ok()).expect("a length");
        let body = String::from_utf8(client.read_exactly(length).await).expect("text");
        assert_eq!(body.contains("\"type\":\"client-refused\""), want == "403", "{body}");
    }
    // Nobody is trusted here: the field is the client's own invention.
    let (plane, origin) = shop(&[("fairway.allow", "10.0.0.0/8")]).await;
    origin.serve("a");
    let told = plane.exchange(get_with("/", "X-Forwarded-For: 10.1.2.3\r\nConnection: close\r\n")).await;
    assert!(told.starts_with("HTTP/1.1 403 "), "{told}");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_lets_nobody_in() {
    let (plane, _origin) = shop(&[("fairway.allow", "everybody")]).await;
    let told = plane.exchange(get_with("/", "Connection: close\r\n")).await;
    assert!(told.starts_with("HTTP/1.1 403 "), "{told}");
}

#[tokio::test]
async fn a_password_is_asked_for_and_the_instance_does_not_see_it() {
    let (plane, origin) = shop(&[("fairway.auth.basic", ALICE), ("fairway.auth.realm", "Staff")]).await;
    let mut client = plane.connect().await;
    for fields in ["", BAD, "Authorization: Bearer x\r\n", &format!("{GOOD}{GOOD}")] {
        client.send(get_with("/", fields)).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{fields}: {head}");
        assert_eq!(
            field(&head, "WWW-Authenticate"),
            Some("Basic realm=\"Staff\", charset=\"UTF-8\""),
            "{head}"
        );
        assert_eq!(field(&head, "Connection"), None, "the client may ask again on the same connection");
        let length = field(&head, "Content-Length").and_then(|length| length.parse().ok()).expect("a length");
        let body = String::from_utf8(client.read_exactly(length).await).expect("text");
        assert!(body.contains("\"type\":\"unauthorized\""), "{body}");
    }
    client.send(get_with("/in", GOOD)).await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    assert!(head.starts_with("GET /in ") && field(&head, "Authorization").is_none(), "{head}");
    instance.send(ok("x")).await;
    client.read_until("\r\n\r\nx").await;
}

#[tokio::test]
async fn credentials_are_passed_on_if_the_label_says_so() {
    let labels = [("fairway.auth.basic", ALICE), ("fairway.auth.forward", "true")];
    let (plane, origin) = shop(&labels).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", GOOD)).await;
    let mut instance = origin.accept().await;
    assert_eq!(field(&instance.head().await, "Authorization"), Some("Basic YWxpY2U6VSpV"));
}

#[tokio::test]
async fn a_password_is_checked_while_others_are_served() {
    // One worker. A check at this cost takes far longer than a request of the other route.
    let slow = format!("alice:{}", bcrypt::hash("x", 12).expect("a hash"));
    let (guarded, open) = (Origin::new().await, Origin::new().await);
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(guarded.address, "shop.test", &[("fairway.auth.basic", &slow)]);
        cluster.add(open.serve("open"), "open.test", &[]);
    });
    let mut checked = plane.connect().await;
    checked.send(get_with("/", BAD)).await;
    let mut other = plane.connect().await;
    let mut served = 0;
    let answer = async { checked.head().await };
    let requests = async {
        loop {
            other.send("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n").await;
            other.read_until("open").await;
            served += 1;
        }
    };
    let head = tokio::select! {
        biased;
        head = answer => head,
        () = requests => unreachable!("it goes on for ever"),
    };
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert!(served > 3, "{served} requests were served meanwhile");
}

#[tokio::test]
async fn a_client_that_leaves_during_the_check_is_noticed() {
    let slow = format!("alice:{}", bcrypt::hash("x", 10).expect("a hash"));
    let (plane, _origin) = shop(&[("fairway.auth.basic", &slow)]).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", BAD)).await;
    client.reset();
    let drained = plane.drain(Duration::from_secs(10)).await;
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn clients_are_sent_elsewhere_and_the_connection_stays() {
    let (plane, _origin) = shop(&[("fairway.redirect", "https://new.example.com{path} 308")]).await;
    let mut client = plane.connect().await;
    for (path, want) in
        [("/", "https://new.example.com/"), ("/a%2fb//c?d=e", "https://new.example.com/a%2fb//c?d=e")]
    {
        client.send(get(path)).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{head}");
        assert_eq!((field(&head, "Location"), field(&head, "Connection")), (Some(want), None), "{head}");
        let length = field(&head, "Content-Length").and_then(|length| length.parse().ok()).expect("a length");
        client.read_exactly(length).await;
    }
}

#[tokio::test]
async fn one_of_several_names_is_the_right_one() {
    let origin = Origin::new().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address, "shop.test;www.shop.test", &[("fairway.redirect", "www 301")]);
    });
    origin.serve("served");
    let apex = plane.exchange(get_with("/x?y", "Connection: close\r\n")).await;
    assert!(apex.starts_with("HTTP/1.1 301 Moved Permanently\r\n"), "{apex}");
    assert_eq!(field(&apex, "Location"), Some("http://www.shop.test/x?y"));
    let www = plane.exchange("GET / HTTP/1.1\r\nHost: www.shop.test\r\nConnection: close\r\n\r\n").await;
    assert!(www.starts_with("HTTP/1.1 200 ") && www.ends_with("served"), "{www}");
}

#[tokio::test]
async fn the_list_is_asked_before_the_password_and_that_before_the_redirect() {
    let all = [
        ("fairway.allow", "10.0.0.0/8"),
        ("fairway.auth.basic", ALICE),
        ("fairway.redirect", "/new{path} 302"),
    ];
    let options = || Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let (plane, _origin) = shop_with(options(), &all).await;
    let inside = "X-Forwarded-For: 10.0.0.1\r\n";
    for (fields, want) in
        [(GOOD.to_owned(), "403"), (inside.to_owned(), "401"), (format!("{inside}{GOOD}"), "302")]
    {
        let told = plane.exchange(get_with("/", &format!("{fields}Connection: close\r\n"))).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {want} ")), "{want}: {told}");
    }
}

#[tokio::test]
async fn a_guard_holds_for_every_version_of_the_route_and_survives_a_change_of_the_table() {
    let (first, second) = (Origin::new().await, Origin::new().await);
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(
            first.serve("v1"),
            "shop.test",
            &[("fairway.auth.basic", ALICE), ("fairway.version", "v1")],
        );
    });
    let second = second.serve("v2");
    plane.change(|cluster| drop(cluster.add(second, "shop.test", &[("fairway.version", "v2")])));
    for _ in 0..8 {
        let told = plane.exchange(get_with("/", "Connection: close\r\n")).await;
        assert!(told.starts_with("HTTP/1.1 401 "), "{told}");
    }
    let told = plane.exchange(get_with("/", &format!("{GOOD}Connection: close\r\n"))).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
}

#[tokio::test]
async fn a_path_in_disguise_does_not_lead_past_the_guard_of_another_route() {
    let (guarded, open) = (Origin::new().await, Origin::new().await);
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(guarded.address, "shop.test/admin", &[("fairway.auth.basic", ALICE)]);
        cluster.add(open.serve("open"), "shop.test", &[("fairway.version", "v2")]);
    });
    for (path, want) in [
        ("/", "200"),
        ("/admin", "401"),
        ("/%61dmin", "400"),
        ("/admin%2fx", "400"),
        ("//admin", "400"),
        ("/caf%C3%A9", "200"),
    ] {
        let told = plane.exchange(get_with(path, "Connection: close\r\n")).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {want} ")), "{path}: {told}");
        assert_eq!(told.contains("\"type\":\"path-invalid\""), want == "400", "{path}: {told}");
    }
}
