//! Clients that are bound by a cookie, through the running data plane.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fairway_catalog::State;
use fairway_proxy::sticky::Keys;

use crate::http2::kit as h2;
use crate::kit::*;
use crate::logged::{lines, logged};
use crate::tls;

const STICKY: (&str, &str) = ("aliyun.routing.session_sticky", "true");

/// Every instance gets its part, also one that was slow once: of 64 requests to three, each misses all with 5e-12.
const RANDOM: (&str, &str) = ("fairway.balance", "random");

/// Two instances of v1 and one of v2, each of which answers with its name.
async fn shop(options: Options) -> (Plane, [Arc<str>; 3]) {
    let origins = [Origin::new().await, Origin::new().await, Origin::new().await];
    let addresses = [0, 1, 2].map(|i: usize| origins[i].address);
    let mut ids = Vec::new();
    let plane = Plane::with(options, |cluster| {
        for (address, version) in addresses.into_iter().zip(["v1", "v1", "v2"]) {
            let labels = [STICKY, RANDOM, ("fairway.version", version)];
            ids.push(cluster.add(address, "shop.test", &labels));
        }
    });
    for (origin, name) in origins.into_iter().zip(["v1-a", "v1-b", "v2-a"]) {
        origin.serve(name);
    }
    (plane, ids.try_into().expect("three"))
}

/// The name of the instance that answered, and the cookie that came with the answer.
async fn ask(plane: &Plane, fields: &str) -> (String, Option<String>) {
    let request = format!("GET /x HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{fields}\r\n");
    let answer = plane.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (body.to_owned(), cookie(head))
}

/// `FAIRWAY=value` of an answer's head.
fn cookie(head: &str) -> Option<String> {
    let mut ours = head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: FAIRWAY="));
    let value = ours.next()?.split(';').next()?;
    assert!(ours.next().is_none(), "one cookie is enough: {head}");
    Some(format!("FAIRWAY={value}"))
}

/// A client that has been bound, and to which instance.
async fn bind(plane: &Plane, to: &str) -> String {
    loop {
        let (name, cookie) = ask(plane, "").await;
        let cookie = cookie.expect("the first answer binds");
        if name == to {
            return format!("Cookie: {cookie}\r\n");
        }
    }
}

#[tokio::test]
async fn a_client_is_bound_at_its_first_answer_and_stays_while_weights_move() {
    let (options, receiver) = logged();
    let (mut plane, _) = shop(options).await;
    let client = bind(&plane, "v1-b").await;
    for weights in [&[("shop@v1", 1), ("shop@v2", 99)][..], &[("shop@v1", 0), ("shop@v2", 100)]] {
        plane.change(|cluster| cluster.split("shop.test", weights));
        for _ in 0..20 {
            assert_eq!(ask(&plane, &client).await, ("v1-b".into(), None), "{weights:?}");
        }
    }
    for _ in 0..20 {
        assert_eq!(ask(&plane, "").await.0, "v2-a", "a written zero gets no new client");
    }
    let lines = lines(plane, receiver).await;
    assert_eq!(lines.iter().filter(|line| line["why"] == "sticky").count(), 40);
}

#[tokio::test]
async fn draining_keeps_bound_clients_and_disabled_does_not() {
    let (mut plane, ids) = shop(Options::default()).await;
    let client = bind(&plane, "v1-a").await;
    plane.change(|cluster| cluster.state(&ids[0], State::Draining));
    for _ in 0..20 {
        assert_eq!(ask(&plane, &client).await.0, "v1-a");
        assert_ne!(ask(&plane, "").await.0, "v1-a", "it gets no new client");
    }
    plane.change(|cluster| cluster.state(&ids[0], State::Disabled));
    let (name, moved) = ask(&plane, &client).await;
    assert_eq!(name, "v1-b", "another instance of its version");
    let moved = format!("Cookie: {}\r\n", moved.expect("it is bound to that one now"));
    plane.change(|cluster| cluster.backend_state("shop@v1", State::Disabled));
    assert_eq!(ask(&plane, &moved).await.0, "v2-a");
    plane.change(|cluster| cluster.backend_state("shop@v1", State::Draining));
    plane.change(|cluster| cluster.state(&ids[0], State::Active));
    assert_eq!(ask(&plane, &moved).await.0, "v1-b", "what drains keeps those who are bound");
}

#[tokio::test]
async fn an_instance_that_is_gone_leaves_its_clients_to_its_version_and_then_to_any() {
    let (mut plane, ids) = shop(Options::default()).await;
    let client = bind(&plane, "v1-a").await;
    plane.change(|cluster| cluster.stop(&ids[0]));
    assert_eq!(ask(&plane, &client).await.0, "v1-b", "one that stops keeps nobody");
    plane.change(|cluster| cluster.remove(&ids[0]));
    assert_eq!(ask(&plane, &client).await.0, "v1-b");
    plane.change(|cluster| cluster.remove(&ids[1]));
    let (name, moved) = ask(&plane, &client).await;
    assert_eq!(name, "v2-a");
    assert!(moved.is_some_and(|moved| !client.contains(&moved)));
}

#[tokio::test]
async fn a_cookie_names_a_container_and_never_an_address() {
    let (mut plane, ids) = shop(Options::default()).await;
    let client = bind(&plane, "v1-a").await;
    // Another container gets the address that this one has left.
    let address = plane.cluster.address(&ids[0]);
    plane.change(|cluster| {
        cluster.remove(&ids[0]);
        cluster.add(address, "shop.test", &[STICKY, ("fairway.version", "v3")]);
    });
    for _ in 0..20 {
        assert_eq!(ask(&plane, &client).await.0, "v1-b", "the other one of its version");
    }
}

#[tokio::test]
async fn every_node_with_the_secret_reads_the_cookie_and_others_ignore_it() {
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NEXT: &[u8] = b"the secret after that, long enough";
    let (one, _) = shop(Options::default()).await;
    // The same containers, seen by another node.
    let mut another = Plane::with(Options::default(), |cluster| cluster.copy_of(&one.cluster));
    one.handle.set_sticky_keys(Keys::new([SECRET]).expect("good"));
    let client = bind(&one, "v1-b").await;
    let strays = |plane: &Plane| {
        let client = client.clone();
        let address = plane.address;
        async move {
            let mut names = BTreeSet::new();
            for _ in 0..64 {
                let mut wire = Wire::new(tokio::net::TcpStream::connect(address).await.expect("it accepts"));
                wire.send(format!("GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{client}\r\n"))
                    .await;
                names.insert(wire.read_to_end().await.split("\r\n\r\n").nth(1).expect("a body").to_owned());
            }
            names
        }
    };
    assert_eq!(strays(&another).await.len(), 3, "it has another secret");
    another.handle.set_sticky_keys(Keys::new([SECRET]).expect("good"));
    assert_eq!(strays(&another).await, ["v1-b".to_owned()].into());
    another.change(|_| {});
    another.handle.set_sticky_keys(Keys::new([NEXT, SECRET]).expect("good"));
    assert_eq!(strays(&another).await, ["v1-b".to_owned()].into(), "the secret before still opens");
    another.handle.set_sticky_keys(Keys::new([NEXT]).expect("good"));
    assert_eq!(strays(&another).await.len(), 3);
}

#[tokio::test]
async fn a_cookie_that_was_tampered_with_is_ignored_and_replaced() {
    let (plane, _) = shop(Options::default()).await;
    let client = bind(&plane, "v1-a").await;
    let value = client.trim().strip_prefix("Cookie: FAIRWAY=").expect("a value");
    let middle = value.len() / 2;
    let other = if value.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let tampered = format!("{}{other}{}", &value[..middle], &value[middle + 1..]);
    for value in [tampered.as_str(), "", "v1-a", "\"\"", &"A".repeat(3000), &value[1..]] {
        let (_, cookie) = ask(&plane, &format!("Cookie: FAIRWAY={value}\r\n")).await;
        assert!(cookie.is_some(), "{value} binds nobody");
    }
    // Among others, whatever comes first.
    let many = format!("Cookie: a=b; FAIRWAY={tampered}\r\ncookie: FAIRWAY={value}; c=d\r\n");
    assert_eq!(ask(&plane, &many).await, ("v1-a".into(), None));
}

#[tokio::test]
async fn the_instance_gets_every_cookie_but_ours_and_its_own_come_down() {
    let (origin, other) = (Origin::new().await, Origin::new().await);
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address, "shop.test/api;plain.test", &[STICKY]);
        cluster.add(other.address, "none.test", &[]);
    });
    let mut client = plane.connect().await;
    client.send("GET /api/x HTTP/1.1\r\nHost: shop.test\r\nCookie: a=1; FAIRWAY=x; b=\"2\"\r\nCookie: FAIRWAY=y\r\n\r\n").await;
    let mut instance = origin.accept().await;
    let head = instance.head().await;
    let cookies: Vec<_> =
        head.lines().filter(|line| line.to_ascii_lowercase().starts_with("cookie")).collect();
    assert_eq!(cookies, ["Cookie: a=1; b=\"2\""], "{head}");
    instance.send("HTTP/1.1 200 OK\r\nSet-Cookie: session=1\r\nSet-Cookie: FAIRWAY=own; Path=/y\r\nContent-Length: 0\r\n\r\n").await;
    let head = client.head().await;
    let set: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: ")).collect();
    assert_eq!(&set[..2], ["session=1", "FAIRWAY=own; Path=/y"], "{head}");
    assert!(
        set.len() == 3 && set[2].ends_with("; Path=/api; Max-Age=1800; HttpOnly; SameSite=Lax"),
        "{head}"
    );

    // Not by answers that are shared or that say "not me", nor on a route that binds nobody.
    for (host, status, more, binds) in [
        ("plain.test", "404 Not Found", "Cache-Control: private, max-age=60\r\n", true),
        ("plain.test", "200 OK", "Cache-Control: max-age=60, Public\r\n", false),
        ("plain.test", "200 OK", "Cache-Control: s-maxage=60\r\n", false),
        ("plain.test", "503 Service Unavailable", "", false),
        ("plain.test", "500 Internal Server Error", "", true),
        ("none.test", "200 OK", "", false),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: FAIRWAY=x\r\n\r\n")).await;
        if host == "none.test" {
            instance = other.accept().await;
        }
        let asked = instance.head().await;
        assert_eq!(field(&asked, "cookie").is_some(), host == "none.test", "{asked}");
        instance.send(format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n")).await;
        let head = client.head().await;
        assert_eq!(cookie(&head).is_some(), binds, "{status} {more} {head}");
    }
}

#[tokio::test]
async fn refusals_set_no_cookie_and_a_failed_instance_loses_its_clients_to_the_next() {
    let (gone, origin) = (refusing().await, Origin::new().await);
    let address = origin.address;
    let mut plane = Plane::with(Options::default(), |cluster| {
        cluster.add(gone, "shop.test", &[STICKY]);
    });
    let refused = plane.exchange("GET /x HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 502 ") && cookie(&refused).is_none(), "{refused}");
    plane.change(|cluster| {
        cluster.add(address, "shop.test", &[STICKY]);
    });
    origin.serve("alive");
    for _ in 0..10 {
        let (name, cookie) = ask(&plane, "").await;
        assert!(name == "alive" && cookie.is_some());
        // Whoever was retried is bound to the instance that answered.
        let client = format!("Cookie: {}\r\n", cookie.expect("a cookie"));
        assert_eq!(ask(&plane, &client).await, ("alive".into(), None));
    }
}

#[tokio::test]
async fn a_web_socket_is_bound_by_its_101() {
    let origin = Origin::new().await;
    let plane = Plane::with(Options::default(), |cluster| {
        cluster.add(origin.address, "shop.test", &[STICKY]);
    });
    let mut client = plane.connect().await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        .await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    instance
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        )
        .await;
    let hints = client.head().await;
    assert!(hints.starts_with("HTTP/1.1 103 ") && cookie(&hints).is_none(), "{hints}");
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && cookie(&head).is_some(), "{head}");
    assert_eq!(client.read_exactly(5).await, b"hello");
}

#[tokio::test]
async fn over_http2_the_cookie_is_found_among_crumbs() {
    let (plane, _) = shop(Options::default()).await;
    let bound = bind(&plane, "v1-b").await;
    let ours = bound.trim().strip_prefix("Cookie: ").expect("a cookie").to_owned();
    let client = h2::client(&plane).await;
    for _ in 0..10 {
        let mut request = h2::ask("/x");
        for crumb in ["a=1", &ours, "b=2"] {
            request.headers_mut().append("cookie", crumb.parse().expect("a value"));
        }
        assert_eq!(h2::get(&client, request).await, (200, "v1-b".to_owned()));
    }
    let answer = h2::send(&client, h2::ask("/x"), None).await.expect("an answer");
    let set = answer.headers().get("set-cookie").expect("it binds").to_str().expect("text");
    assert!(set.starts_with("FAIRWAY=") && !set.contains("Secure"), "{set}");
}

#[tokio::test]
async fn over_tls_the_cookie_is_for_tls_alone() {
    let origin = Origin::new().await;
    let (plane, client) = tls::plane_with(|_| {}, origin.address, &[STICKY]);
    origin.serve("hello");
    let mut wire = client.connect(&plane, "shop.test").await;
    wire.send(get("/")).await;
    let head = wire.head().await;
    let set = field(&head, "Set-Cookie").expect("a cookie");
    assert!(set.ends_with("; HttpOnly; SameSite=Lax; Secure"), "{set}");
    let _ = within("the end", plane.drain(Duration::ZERO)).await;
}

#[tokio::test]
async fn an_ejected_instance_loses_its_clients_to_the_others() {
    let answer = Arc::new(Mutex::new(ok("one")));
    let one = Origin::new().await.answer(answer.clone());
    let two = Origin::new().await.serve("two");
    let plane = Plane::with(Options::default(), |cluster| {
        for address in [one, two] {
            cluster.add(address, "shop.test", &[STICKY, RANDOM]);
        }
    });
    let client = bind(&plane, "one").await;
    *answer.lock().expect("nobody panicked") =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned();
    let request = format!("GET /x HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n{client}\r\n");
    for _ in 0..5 {
        let failed = plane.exchange(&request).await;
        assert!(failed.starts_with("HTTP/1.1 503 ") && cookie(&failed).is_none(), "{failed}");
    }
    let (name, moved) = ask(&plane, &client).await;
    assert!(name == "two" && moved.is_some(), "after five failures in a row it is out");
    let told = plane.explain("shop.test");
    assert!(told.contains("=> ") && told.contains("ejected"), "{told}");
}
