//! What is long, goes on for long, or comes piece by piece: WebSockets, events, large bodies, interim answers, trailers,
//! requests one behind the other.

use std::time::Duration;

use fairway_testkit::origin::{Identity, Origin};
use fairway_testkit::process::resident_kib;
use fairway_testkit::raw::{End, Raw};
use fairway_testkit::ws::{self, Opcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::answers::Rig;
use crate::leaving::{in_flight, nothing_in_flight};
use crate::table::{field, start};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const ASK: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[tokio::test]
async fn a_websocket_carries_messages_of_every_size_and_ends_in_order() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], "", "").await;
    let mut socket = ws::connect(fairway.http(), "a.test", "/ws").await.expect("101");
    assert_eq!(in_flight(&fairway).await, 1);
    for length in [0, 1, 125, 126, 65_535, 65_536, 1_000_000] {
        let message: Vec<u8> =
            (0..length).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        socket.send(Opcode::Binary, &message).await.expect("it is taken");
        assert!(socket.receive().await == Some((Opcode::Binary, message)), "a message of {length} octets");
    }
    socket.send(Opcode::Ping, b"there?").await.expect("it is taken");
    assert_eq!(socket.receive().await, Some((Opcode::Pong, b"there?".to_vec())));
    socket.send(Opcode::Close, &[]).await.expect("it is taken");
    assert_eq!(socket.receive().await, Some((Opcode::Close, vec![])));
    assert_eq!(socket.receive().await, None);
    drop(socket);
    nothing_in_flight(&fairway).await;
}

#[tokio::test]
async fn a_tunnel_passes_on_each_sides_end_and_each_sides_loss() {
    let mut rig = Rig::start().await;
    // One side ends, the other still speaks.
    for client_first in [true, false] {
        let (mut client, mut instance) = rig.ask(ASK).await;
        instance.send(SWITCH).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        let (first, second) =
            if client_first { (&mut client, &mut instance) } else { (&mut instance, &mut client) };
        first.send("last words").await;
        first.finish().await;
        assert_eq!(second.read_to_end().await, (b"last words".to_vec(), End::Closed));
        second.send("an answer to them").await;
        second.finish().await;
        assert_eq!(first.read_to_end().await, (b"an answer to them".to_vec(), End::Closed));
        rig.tells(101, "ok");
    }
    // One side is lost: the other sees the end of it, and nothing stays open.
    for client_lost in [true, false] {
        let (mut client, mut instance) = rig.ask(ASK).await;
        instance.send(SWITCH).await;
        client.head().await;
        client.send("hello").await;
        instance.read_until("hello").await;
        instance.send("hello").await;
        client.read_until("hello").await;
        let (lost, mut left) = if client_lost { (client, instance) } else { (instance, client) };
        lost.reset();
        assert_eq!(left.read_to_end().await.0, b"");
        rig.tells(101, "ok");
    }
    // What was sent before the answer waits for it, and goes to nobody when the answer is another.
    let (mut client, mut instance) = rig.ask(&format!("{ASK}early")).await;
    instance.send([SWITCH, "at once"].concat()).await;
    assert_eq!(instance.read_exactly(5).await, b"early");
    client.head().await;
    assert_eq!(client.read_exactly(7).await, b"at once");
    drop((client, instance));
    rig.tells(101, "ok");
    let (mut client, mut instance) = rig.ask(&format!("{ASK}\x01early")).await;
    instance.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    client.read_until("no").await;
    rig.tells(403, "ok");
    let (answer, _) = client.read_to_end().await;
    crate::table::check_refusal("what was no request", &answer, 400, "request-invalid");
    rig.tells(400, "request-invalid");
    nothing_in_flight(&rig.fairway).await;
    rig.finish().await;
}

#[tokio::test]
async fn each_event_passes_before_the_next_is_sent() {
    let rig = Rig::start().await;
    for framing in ["Transfer-Encoding: chunked\r\n", "", "Content-Length: 1000000\r\n"] {
        let (mut client, mut instance) = rig.ask(GET).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n");
        instance.send(head).await;
        client.head().await;
        for number in 0..100 {
            let event = format!("data: {number}\n\n");
            let framed = framing.starts_with("Transfer");
            let sent = if framed { format!("{:x}\r\n{event}\r\n", event.len()) } else { event.clone() };
            instance.send(sent).await;
            assert!(client.read_until(&event).await.ends_with(event.as_bytes()), "event {number}, {framing}");
        }
    }
    // The same the other way.
    let (mut client, mut instance) =
        rig.ask("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for number in 0..100 {
        let event = format!("event {number}\n");
        client.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert!(instance.read_until(&event).await.ends_with(event.as_bytes()), "event {number}");
        // The answer may begin meanwhile, and go on beside it.
        if number == 50 {
            instance.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            client.head().await;
        }
        if number >= 50 {
            instance.send("1\r\nx\r\n").await;
            client.read_until("x\r\n").await;
        }
    }
}

#[tokio::test]
async fn large_bodies_pass_both_ways_with_flat_memory() {
    const MEGABYTES: usize = 300;
    let block: std::sync::Arc<[u8]> = vec![b'x'; 1_000_000].into();
    let rig = Rig::start().await;
    let before = resident_kib(rig.fairway.process().pid());
    let length = MEGABYTES * block.len();
    for chunked in [false, true] {
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {length}")
        };
        let (client, instance) =
            rig.ask(&format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n")).await;
        // The client sends and the instance sends back what comes, octet for octet, its own framing in front.
        let (mut from_instance, mut to_instance) = instance.stream.into_split();
        let (mut from_client, mut to_client) = client.stream.into_split();
        let echo = tokio::spawn(async move {
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{framing}\r\n\r\n");
            to_instance.write_all(head.as_bytes()).await.expect("it is taken");
            tokio::io::copy(&mut from_instance, &mut to_instance).await
        });
        let block = block.clone();
        let send = tokio::spawn(async move {
            for _ in 0..MEGABYTES {
                if chunked {
                    to_client
                        .write_all(format!("{:x}\r\n", block.len()).as_bytes())
                        .await
                        .expect("it is taken");
                }
                to_client.write_all(&block).await.expect("it is taken");
                if chunked {
                    to_client.write_all(b"\r\n").await.expect("it is taken");
                }
            }
            if chunked {
                to_client.write_all(b"0\r\n\r\n").await.expect("it is taken");
            }
            to_client
        });
        let (mut data, mut rest, mut piece) = (0, Vec::new(), vec![0; 256 * 1024]);
        while data < length || (chunked && !rest.ends_with(b"\r\n0\r\n\r\n")) {
            let read = from_client.read(&mut piece).await.expect("the answer comes");
            assert!(read > 0, "the answer ended after {data} of {length} octets");
            data += piece[..read].iter().filter(|octet| **octet == b'x').count();
            rest.extend(piece[..read].iter().filter(|octet| **octet != b'x'));
            rest.drain(..rest.len().saturating_sub(1000));
        }
        assert_eq!(data, length);
        let grown = resident_kib(rig.fairway.process().pid()).saturating_sub(before);
        assert!(grown < 16 * 1024, "{MEGABYTES} MB up and down cost {grown} KiB");
        send.await.expect("all was sent");
        echo.abort();
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_from_the_instance_and_only_then_sends() {
    let mut rig = Rig::start().await;
    let ask = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let mut client = Raw::connect(rig.http()).await;
    client.send(ask).await;
    let mut instance = rig.origin.accept().await;
    let head = instance.head().await;
    assert_eq!(field(&head, "expect"), Some("100-continue"), "{head}");
    assert!(client.stays_open(Duration::from_millis(50)).await, "nobody said 100 for the instance");
    instance.send("HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n").await;
    let interim = client.head().await;
    assert!(interim.starts_with("HTTP/1.1 100 ") && field(&interim, "x-a") == Some("b"), "{interim}");
    client.send("hello").await;
    instance.read_until("hello").await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.read_until("ok").await;
    rig.tells(200, "ok");
    // An instance that says no: the client's body never comes, and nothing it sends is taken for a request.
    client.send(ask).await;
    instance.head().await;
    instance.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 417 ") && field(&head, "connection") == Some("close"), "{head}");
    client.read_until("no").await;
    rig.tells(417, "ok");
    assert_eq!(client.read_to_end().await, (vec![], End::Closed));
    assert_eq!(instance.read_to_end().await.0, b"", "half a request is on it");
    rig.finish().await;
}

#[tokio::test]
async fn trailers_pass_both_ways_and_an_answer_to_head_has_none() {
    let mut rig = Rig::start().await;
    let ask = "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut client, mut instance) = rig.ask(ask).await;
    client.send("5\r\nhello\r\n0\r\nX-Up: 1\r\nX-Up: 2\r\n\r\n").await;
    assert_eq!(instance.read_exactly(10).await, b"5\r\nhello\r\n");
    assert_eq!(instance.read_exactly(23).await, b"0\r\nX-Up: 1\r\nX-Up: 2\r\n\r\n");
    instance.send("HTTP/1.1 200 OK\r\nTrailer: X-Down\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(field(&head, "trailer"), Some("X-Down"), "{head}");
    instance.send("0\r\nX-Down: 3\r\nContent-Length: 9\r\nConnection: close\r\n\r\n").await;
    assert_eq!(client.read_until("\r\n\r\n").await, b"0\r\nX-Down: 3\r\n\r\n");
    rig.tells(200, "ok");
    client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-A: b\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((field(&head, "content-length"), field(&head, "x-a")), (Some("1000"), Some("b")), "{head}");
    rig.tells(200, "ok");
    client.send(GET).await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    client.head().await;
    assert_eq!(client.read_exactly(5).await, b"hello", "the answer to HEAD had no body");
    rig.tells(200, "ok");
    rig.finish().await;
}

#[tokio::test]
async fn fifty_requests_in_one_write_are_answered_in_order() {
    let origin = Origin::start(Identity::new("one", "v1")).await;
    let fairway = start(&[origin.address()], "", "").await;
    let mut client = Raw::connect(fairway.http()).await;
    let mut requests = String::new();
    for number in 0..50 {
        requests += &match number % 4 {
            0 => format!("GET /bytes?n={number} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            1 => format!("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{number:02}"),
            2 => format!(
                "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{number:02}\r\n0\r\n\r\n"
            ),
            _ => format!("HEAD /bytes?n={number} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        };
    }
    client.send(requests).await;
    for number in 0..50 {
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{number}: {head}");
        let length: Option<usize> = field(&head, "content-length").and_then(|length| length.parse().ok());
        match number % 4 {
            0 => assert_eq!(client.read_exactly(number).await, vec![b'x'; number]),
            3 => assert_eq!(length, Some(number)),
            _ if length.is_some() => {
                assert_eq!(client.read_exactly(2).await, format!("{number:02}").into_bytes())
            }
            _ => assert_eq!(
                client.read_until("0\r\n\r\n").await,
                format!("2\r\n{number:02}\r\n0\r\n\r\n").into_bytes()
            ),
        }
    }
}
