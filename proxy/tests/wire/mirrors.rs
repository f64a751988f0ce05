//! Copies of requests for another version: what it gets, and that nobody else notices, whatever it does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fairway_catalog::State;
use fairway_catalog::inputs::{StateRecord, StateSubject};
use jiff::Timestamp;

use crate::http2_origins::kit::{H2C, H2Origin};
use crate::kit::*;
use crate::limits::metric;

/// A plane whose first version gets all requests, and whose second one copies of all of them.
fn plane(old: SocketAddr, new: SocketAddr, labels: &[(&str, &str)]) -> Plane {
    Plane::with(Options::default(), |cluster| {
        cluster.add(old, "shop.test", &[("fairway.version", "v1")]);
        let of_new = [("fairway.version", "v2"), ("fairway.weight", "0"), ("fairway.match", "header:new=1")];
        cluster.add(new, "shop.test", &[&of_new, labels].concat());
        cluster.mirror("shop.test/", "shop@v2", 100.0);
    })
}

/// Waits until so many copies have ended like this, and sees that none ended otherwise.
async fn copies(plane: &Plane, result: &str, want: f64) {
    let of_version = ("backend", "shop@v2");
    let count = |labels: &[(&str, &str)]| {
        metric(plane, "fairway_mirrored_requests_total", &[&[of_version], labels].concat())
    };
    within(&format!("{want} copies that are {result}"), async {
        while count(&[("result", result)]) < want {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(count(&[]), want, "all are {result}");
}

/// Answers the next request that comes on this connection.
async fn answer(instance: &mut Wire, body: &str) -> String {
    let head = instance.head().await;
    instance.send(ok(body)).await;
    head
}

/// One whole request and its answer.
async fn ask(client: &mut Wire, request: impl AsRef<[u8]>, body: &str) {
    client.send(request).await;
    assert!(client.read_until(&format!("\r\n\r\n{body}")).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_copy_is_the_request_that_the_first_instance_got_and_a_mark() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    let mut client = plane.connect().await;
    let head = "PUT /a%2Fb?c=d HTTP/1.1\r\nHost: shop.test\r\nAuthorization: Bearer x\r\nCookie: a=b\r\n\
        Content-Length: 9\r\n\r\n";
    let body = b"\0\r\nabc\xffd\n";
    client.send(head).await;
    let mut instance = old.accept().await;
    let original = instance.head().await;
    // The body comes in crumbs.
    for octet in body {
        client.send([*octet]).await;
        assert_eq!(instance.read_exactly(1).await, [*octet]);
    }
    instance.send(ok("done")).await;
    client.read_until("\r\n\r\ndone").await;
    let mut copy = new.accept().await;
    let head = copy.head().await;
    assert_eq!(field(&head, "X-Fairway-Mirror"), Some("1"));
    assert_eq!(head.replace("X-Fairway-Mirror: 1\r\n", ""), original);
    assert_eq!(copy.read_exactly(9).await, body);
    copy.send(ok("other")).await;
    copies(&plane, "ok", 1.0).await;
    assert_eq!(metric(&plane, "fairway_requests_total", &[]), 1.0, "a copy is no request");
    let figures = plane.handle.figures(&"shop.test/".parse().expect("a route"));
    assert_eq!(figures.iter().map(|one| one.requests).collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test]
async fn a_chunked_body_is_copied_with_its_trailers() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    let mut instance = old.accept().await;
    instance.read_until("abc").await;
    client.send("2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n").await;
    instance.read_until("x-sum: 7\r\n\r\n".replace("x-s", "X-S").as_str()).await;
    instance.send(ok("done")).await;
    client.read_until("done").await;
    let mut copy = new.accept().await;
    let head = copy.head().await;
    assert_eq!(field(&head, "Transfer-Encoding"), Some("chunked"));
    assert_eq!(copy.read_until("X-Sum: 7\r\n\r\n").await, "5\r\nabcde\r\n0\r\nX-Sum: 7\r\n\r\n");
    copy.send(ok("")).await;
    copies(&plane, "ok", 1.0).await;
}

#[tokio::test]
async fn a_version_that_keeps_silent_delays_nothing_and_too_many_copies_are_let_go() {
    const ON_THEIR_WAY: usize = 256;
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    old.serve("old");
    let mut client = plane.connect().await;
    let mut held = Vec::new();
    for _ in 0..ON_THEIR_WAY {
        ask(&mut client, get("/"), "old").await;
        let mut copy = new.accept().await;
        copy.head().await;
        held.push(copy);
    }
    for more in 1..4 {
        ask(&mut client, get("/"), "old").await;
        copies(&plane, "dropped", f64::from(more)).await;
    }
    // As soon as there is room, copies go again.
    held[0].send(ok("")).await;
    within("the first copy's end", async {
        while metric(&plane, "fairway_mirrored_requests_total", &[("result", "ok")]) < 1.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ask(&mut client, get("/"), "old").await;
    held[0].head().await;
}

#[tokio::test]
async fn whatever_a_version_does_with_its_copies_is_counted_and_clients_get_their_answers() {
    for (answers, result) in [
        ("", "broken"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "broken"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "broken"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", "broken"),
        ("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "broken"),
        ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "failed"),
        ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "ok"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", "ok"),
    ] {
        let (old, new) = (Origin::new().await, Origin::new().await);
        let plane = plane(old.address, new.address, &[]);
        old.serve("old");
        let mut client = plane.connect().await;
        ask(&mut client, get("/"), "old").await;
        let mut copy = new.accept().await;
        copy.head().await;
        copy.send(answers).await;
        drop(copy);
        copies(&plane, result, 1.0).await;
        ask(&mut client, get("/"), "old").await;
    }
    let (old, dead) = (Origin::new().await, refusing().await);
    let plane = plane(old.address, dead, &[]);
    old.serve("old");
    let mut client = plane.connect().await;
    for copied in 1..4 {
        ask(&mut client, get("/"), "old").await;
        copies(&plane, "unreachable", f64::from(copied)).await;
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_left_where_it_is() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    old.serve("old");
    let mut client = plane.connect().await;
    ask(&mut client, get("/"), "old").await;
    let mut copy = new.accept().await;
    copy.head().await;
    copy.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let piece = [b"10000\r\n".to_vec(), vec![b'x'; 65536], b"\r\n".to_vec()].concat();
    within("the end of the connection", async {
        use tokio::io::AsyncWriteExt as _;
        while copy.stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    copies(&plane, "ok", 1.0).await;
}

#[tokio::test]
async fn bodies_that_are_too_large_are_not_copied_and_come_through_whole() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    let body = vec![b'b'; 64 * 1024 + 1];
    let mut client = plane.connect().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n", body.len()))
        .await;
    client.send(&body).await;
    let mut instance = old.accept().await;
    instance.head().await;
    assert_eq!(instance.read_exactly(body.len()).await, body);
    instance.send(ok("1")).await;
    client.read_until("\r\n\r\n1").await;
    copies(&plane, "skipped", 1.0).await;
    // Without a length nobody knows it before.
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(format!("{:x}\r\n", body.len())).await;
    client.send(&body).await;
    client.send("\r\n0\r\n\r\n").await;
    // A body that is not kept takes a new connection.
    let mut instance = old.accept().await;
    instance.head().await;
    instance.read_until("\r\n0\r\n\r\n").await;
    instance.send(ok("2")).await;
    client.read_until("\r\n\r\n2").await;
    copies(&plane, "skipped", 2.0).await;
    // One octet less is copied.
    client
        .send(format!("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\n\r\n", body.len() - 1))
        .await;
    client.send(&body[1..]).await;
    let mut copy = new.accept().await;
    copy.head().await;
    assert_eq!(copy.read_exactly(body.len() - 1).await, &body[1..]);
}

#[tokio::test]
async fn a_body_that_never_comes_whole_is_not_copied() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 9\r\n\r\n1234").await;
    let mut instance = old.accept().await;
    instance.head().await;
    client.reset();
    instance.read_to_end().await;
    copies(&plane, "skipped", 1.0).await;
}

#[tokio::test]
async fn copies_have_connections_of_their_own() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    old.serve("old");
    let mut client = plane.connect().await;
    ask(&mut client, get("/"), "old").await;
    let mut of_copies = new.accept().await;
    answer(&mut of_copies, "").await;
    copies(&plane, "ok", 1.0).await;
    // A request to the same instance opens another one.
    client.send("GET /own HTTP/1.1\r\nHost: shop.test\r\nNew: 1\r\n\r\n").await;
    let mut of_requests = new.accept().await;
    let head = answer(&mut of_requests, "new").await;
    assert!(head.starts_with("GET /own ") && field(&head, "X-Fairway-Mirror").is_none(), "{head}");
    client.read_until("\r\n\r\nnew").await;
    // The next copy takes the connection of the first.
    ask(&mut client, get("/2"), "old").await;
    assert!(answer(&mut of_copies, "").await.starts_with("GET /2 "));
    copies(&plane, "ok", 2.0).await;
}

#[tokio::test]
async fn nobody_else_can_mark_a_request_and_a_marked_one_is_not_copied() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let options = Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let plane = Plane::with(options, |cluster| {
        cluster.add(old.address, "shop.test", &[("fairway.version", "v1")]);
        cluster.add(new.address, "shop.test", &[("fairway.version", "v2"), ("fairway.weight", "0")]);
        cluster.mirror("shop.test/", "shop@v2", 100.0);
    });
    let mut client = plane.connect().await;
    let marked = "GET /1 HTTP/1.1\r\nHost: shop.test\r\nX-Fairway-Mirror: 1\r\nx_fairway_mirror: 1\r\n\r\n";
    client.send(marked).await;
    let mut instance = old.accept().await;
    let head = answer(&mut instance, "1").await.to_ascii_lowercase();
    assert!(!head.contains("mirror"), "{head}");
    client.read_until("\r\n\r\n1").await;
    client.send(get("/2")).await;
    answer(&mut instance, "2").await;
    assert!(new.accept().await.head().await.starts_with("GET /2 "), "the marked one was not copied");
}

#[tokio::test]
async fn upgrades_and_requests_of_the_version_itself_are_not_copied() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    let mut client = plane.connect().await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut instance = old.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    client.head().await;
    let mut client = plane.connect().await;
    client.send("GET /own HTTP/1.1\r\nHost: shop.test\r\nNew: 1\r\n\r\n").await;
    let mut instance = new.accept().await;
    assert!(answer(&mut instance, "new").await.starts_with("GET /own "));
    client.read_until("\r\n\r\nnew").await;
    old.serve("old");
    ask(&mut client, get("/copied"), "old").await;
    assert!(new.accept().await.head().await.starts_with("GET /copied "), "the only copy");
}

#[tokio::test]
async fn a_request_that_waits_until_its_instance_listens_is_copied_once() {
    let (address, new) = (refusing().await, Origin::new().await);
    let mut plane = plane(address, new.address, &[]);
    let id = plane.cluster.ids()[0].clone();
    plane.change(|cluster| cluster.edit(&id, |unit| unit.started = Timestamp::now()));
    new.answer(Arc::new(Mutex::new(ok(""))));
    let mut client = plane.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi").await;
    // The instance is asked again and again meanwhile.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    Origin::at(address).await.serve("late");
    client.read_until("\r\n\r\nlate").await;
    copies(&plane, "ok", 1.0).await;
}

#[tokio::test]
async fn a_version_that_people_took_out_gets_no_copies() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let mut plane = plane(old.address, new.address, &[]);
    old.serve("old");
    plane.change(|cluster| {
        let backend = StateSubject::Backend("shop@v2".parse().expect("a backend"));
        let record = StateRecord {
            state: State::Disabled,
            author: "".into(),
            at: Timestamp::UNIX_EPOCH,
            reason: "".into(),
        };
        cluster.decisions.states.insert(backend, record);
    });
    let mut client = plane.connect().await;
    ask(&mut client, get("/1"), "old").await;
    copies(&plane, "no-instance", 1.0).await;
    plane.change(|cluster| cluster.decisions.states.clear());
    ask(&mut client, get("/2"), "old").await;
    assert!(new.accept().await.head().await.starts_with("GET /2 "));
    // Nor does one that was ordered to get no more.
    plane.change(|cluster| cluster.decisions.mirrors.clear());
    ask(&mut client, get("/3"), "old").await;
    plane.change(|cluster| cluster.mirror("shop.test/", "shop@v2", 100.0));
    ask(&mut client, get("/4"), "old").await;
    assert!(new.accept().await.head().await.starts_with("GET /4 "));
}

#[tokio::test]
async fn a_version_that_speaks_http2_gets_its_copies_on_streams() {
    let old = Origin::new().await;
    let mut new = H2Origin::new().await;
    let plane = plane(old.address, new.address, &[H2C]);
    old.serve("old");
    let mut client = plane.connect().await;
    for copied in 1..4 {
        let request = format!("POST /{copied} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\n\r\nabc");
        ask(&mut client, request, "old").await;
        let mut asked = new.asked().await;
        assert_eq!(asked.head.uri().path(), format!("/{copied}"));
        assert_eq!(asked.head.headers()["x-fairway-mirror"], "1");
        assert_eq!((asked.read().await.expect("a body"), asked.connection), (b"abc".to_vec(), 0));
        asked.answer("thrown away");
        copies(&plane, "ok", f64::from(copied)).await;
    }
}

#[tokio::test]
async fn calls_of_grpc_are_copied_and_their_status_is_read() {
    let (old, new) = (Origin::new().await, Origin::new().await);
    let plane = plane(old.address, new.address, &[]);
    let call = "POST /s/m HTTP/1.1\r\nHost: shop.test\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    old.serve("old");
    let mut client = plane.connect().await;
    ask(&mut client, call, "old").await;
    let mut copy = new.accept().await;
    copy.head().await;
    copy.send(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 13\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    copies(&plane, "failed", 1.0).await;
}
