//! The limits of time and number on connections and streams of HTTP/2.

use std::time::Duration;

use fairway_config::file::Limits;
use tokio::time::Instant;

use super::kit::*;
use crate::kit::{Options, Origin, Plane, ok, within};
use crate::logged::{lines, logged};

const SHORT: Duration = Duration::from_millis(300);

/// One instance, limits of its own, and the lines of its log.
fn plane(origin: &Origin, change: impl FnOnce(&mut Limits)) -> (Plane, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (mut options, receiver) = logged();
    change(&mut options.limits);
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    (plane, receiver)
}

#[tokio::test]
async fn a_connection_without_streams_is_told_goodbye_and_closed_though_it_does_not_answer() {
    let origin = Origin::new().await;
    let (plane, _) = plane(&origin, |limits| limits.idle_time = SHORT);
    origin.serve("a");
    let mut client = Frames::connect(&plane).await;
    client.send(request(1, &[])).await;
    client.next_of(DATA).await;
    let began = Instant::now();
    assert_eq!(client.next_of(GOAWAY).await.code(), 0);
    assert!(began.elapsed() >= SHORT / 2, "{:?}", began.elapsed());
    while client.next().await.is_some() {}
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn streams_that_stand_still_end_alone_and_free_their_instances() {
    let origin = Origin::new().await;
    let (plane, receiver) = plane(&origin, |limits| limits.idle_time = SHORT);
    // No window for bodies.
    let mut client = Frames::with_settings(&plane, &[(4, 0)]).await;
    client.send(request(1, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(100_000))).await;
    let reset = client.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    while instance.read_more().await {}

    // A body that does not come.
    let fields = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "10")];
    client.send(frame(HEADERS, END_HEADERS, 3, &block(&fields))).await;
    client.send(frame(WINDOW_UPDATE, 0, 3, &1000u32.to_be_bytes())).await;
    client.send(frame(DATA, 0, 3, b"half")).await;
    let mut instance = origin.accept().await;
    instance.read_until("half").await;
    let refusal = client.next_of(DATA).await;
    let text = String::from_utf8_lossy(&refusal.payload).into_owned();
    assert!(refusal.stream == 3 && text.contains("client-timeout"), "{text}");
    assert!(instance.ends().await);
    drop(client);
    let lines = lines(plane, receiver).await;
    let told: Vec<_> = lines.iter().map(|line| (line["status"].as_u64(), line["reason"].as_str())).collect();
    assert_eq!(told, [(Some(499), Some("client-timeout")), (Some(408), Some("client-timeout"))], "{lines:?}");
}

#[tokio::test]
async fn a_body_that_stops_once_its_answer_has_begun_ends_its_stream_alone() {
    let origin = Origin::new().await;
    let (plane, receiver) = plane(&origin, |limits| (limits.body_rate, limits.body_grace) = (1000, SHORT));
    let mut client = Frames::connect(&plane).await;
    let fields = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "10")];
    client.send(frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    client.send(frame(DATA, 0, 1, b"half")).await;
    let mut instance = origin.accept().await;
    instance.read_until("half").await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart").await;
    assert_eq!(client.next_of(HEADERS).await.stream, 1);
    let reset = client.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, CANCEL));
    assert_eq!(instance.read_to_end().await, "", "the instance sees that the body is cut");
    client.send(request(3, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("other")).await;
    assert_eq!(client.next_of(DATA).await.payload, b"other");
    drop(client);
    let lines = lines(plane, receiver).await;
    let told: Vec<_> = lines.iter().map(|line| (line["status"].as_u64(), line["reason"].as_str())).collect();
    assert_eq!(told, [(Some(499), Some("body-too-slow")), (Some(200), Some("ok"))], "{lines:?}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let origin = Origin::new().await;
    let (plane, _) = plane(&origin, |limits| limits.idle_time = SHORT);
    let large = 0x7fff_ffffu32;
    let mut client = Frames::with_settings(&plane, &[(4, large)]).await;
    client.send(frame(WINDOW_UPDATE, 0, 0, &(large - 65_535).to_be_bytes())).await;
    client.send(request(1, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let block = vec![b'x'; 1_000_000];
    let given_up = async {
        use tokio::io::AsyncWriteExt as _;
        let mut sent = 0;
        while instance.stream.write_all(&block).await.is_ok() {
            sent += block.len();
        }
        sent
    };
    let sent = within("the end", given_up).await;
    assert!(sent < 100_000_000, "somebody takes {sent} octets");
}

#[tokio::test]
async fn after_the_last_request_of_a_connection_it_is_told_goodbye() {
    let origin = Origin::new().await;
    let (plane, _) = plane(&origin, |limits| limits.requests_per_connection = Some(3));
    origin.serve("a");
    let mut client = Frames::connect(&plane).await;
    client.send([request(1, &[]), request(3, &[]), request(5, &[])].concat()).await;
    let (mut answered, mut goodbyes) = (0, Vec::new());
    while let Some(came) = client.next().await {
        match came.kind {
            DATA => answered += 1,
            PING => client.send(frame(PING, ACK, 0, &came.payload)).await,
            GOAWAY => goodbyes.push(came),
            _ => {}
        }
    }
    assert_eq!((answered, goodbyes.len()), (3, 2), "{goodbyes:?}");
    assert_eq!((goodbyes[1].code(), &goodbyes[1].payload[..4]), (0, &[0, 0, 0, 5][..]));
}

#[tokio::test]
async fn a_listener_with_fewer_streams_refuses_the_next_one() {
    let origin = Origin::new().await;
    let options = Options::default();
    let limits = {
        let mut limits = options.limits;
        limits.h2_streams = 2;
        limits
    };
    let plane = Plane::with(Options { limits, ..options }, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    let mut client = Frames::connect(&plane).await;
    client.send([request(1, &[]), request(3, &[]), request(5, &[])].concat()).await;
    assert_eq!(client.next_of(RST_STREAM).await.stream, 5);
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("one")).await;
    assert_eq!(client.next_of(DATA).await.payload, b"one");
}
