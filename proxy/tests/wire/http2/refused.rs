//! What is refused before it is a request: each has its line in the log and its count, as all refusals have.

use serde_json::Value;

use super::kit::*;
use crate::kit::{Origin, Plane};
use crate::limits::metric;
use crate::logged::{lines, logged};

/// A plane with one instance, whose log is read.
fn plane(origin: &Origin) -> (Plane, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (mut options, receiver) = logged();
    options.limits.h2_streams = 2;
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", &[]);
    });
    (plane, receiver)
}

fn told(lines: &[Value]) -> Vec<(u64, &str)> {
    lines
        .iter()
        .map(|line| (line["status"].as_u64().expect("a status"), line["reason"].as_str().expect("a reason")))
        .collect()
}

/// How many requests are counted with this reason.
fn counted(plane: &Plane, reason: &str) -> f64 {
    metric(plane, "fairway_requests_total", &[("reason", reason)])
}

/// The HEADERS frame of a request with these fields.
fn headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

#[tokio::test]
async fn a_malformed_request_is_told_by_a_reset_and_in_the_log_and_others_go_on() {
    let origin = Origin::new().await;
    let (plane, receiver) = plane(&origin);
    origin.serve("hello");
    let mut client = Frames::connect(&plane).await;
    let [method, scheme, authority, path] = GET;
    let cases: [&[(&str, &str)]; 9] = [
        &[scheme, authority, path],
        &[method, authority, path],
        &[method, scheme, authority, (":path", "")],
        &[method, scheme, authority, (":path", "/a b")],
        &[method, scheme, (":authority", "a b"), path],
        &[method, scheme, authority, path, ("connection", "close")],
        &[method, scheme, authority, path, ("content-length", "5")],
        &[method, scheme, authority, path, (":status", "200")],
        &[method, scheme, authority, path, ("Upper", "case")],
    ];
    for (number, fields) in cases.iter().enumerate() {
        let stream = 4 * number as u32 + 1;
        client.send([headers(stream, fields), request(stream + 2, &[])].concat()).await;
        let (mut reset, mut answered) = (false, false);
        while !(reset && answered) {
            let came = client.next().await.unwrap_or_else(|| panic!("{fields:?} ends the connection"));
            assert!(came.kind != GOAWAY, "{fields:?} ends the connection with {}", came.code());
            match came.kind {
                RST_STREAM => {
                    assert_eq!((came.stream, came.code()), (stream, PROTOCOL_ERROR), "{fields:?}");
                    reset = true;
                }
                DATA => answered = came.stream == stream + 2 && came.payload == b"hello",
                _ => {}
            }
        }
    }
    assert_eq!(counted(&plane, "request-invalid"), cases.len() as f64);
    assert_eq!(counted(&plane, "ok"), cases.len() as f64);
    drop(client);
    let lines = lines(plane, receiver).await;
    let refused: Vec<_> = told(&lines).into_iter().filter(|told| *told != (200, "ok")).collect();
    assert_eq!(refused, vec![(400, "request-invalid"); cases.len()]);
    assert!(lines.iter().all(|line| line["client"] == "127.0.0.1"), "{lines:?}");
}

#[tokio::test]
async fn a_header_far_too_large_and_a_stream_too_many_are_told() {
    let origin = Origin::new().await;
    let (plane, receiver) = plane(&origin);
    let mut client = Frames::connect(&plane).await;
    // 100 KB, more than we say that we take.
    let long = "v".repeat(10_000);
    let block = block(&[&GET[..], &[("x", &*long); 10]].concat());
    let mut parts = block.chunks(16_000).enumerate().peekable();
    while let Some((number, part)) = parts.next() {
        let (kind, ends) = if number == 0 { (HEADERS, END_STREAM) } else { (CONTINUATION, 0) };
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        client.send(frame(kind, ends | last, 1, part)).await;
    }
    let answer = client.next_of(DATA).await;
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(answer.stream == 1 && text.contains("header-too-large"), "{text}");

    client.send([request(3, &[]), request(5, &[]), request(7, &[])].concat()).await;
    let reset = client.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (7, 7), "REFUSED_STREAM");
    assert_eq!((counted(&plane, "header-too-large"), counted(&plane, "streams-full")), (1.0, 1.0));
    drop(client);
    let lines = lines(plane, receiver).await;
    assert_eq!(told(&lines)[..2], [(431, "header-too-large"), (503, "streams-full")], "{lines:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_the_rules_is_told_once() {
    let (options, receiver) = logged();
    let plane = Plane::with(options, |_| {});
    let data_without_a_stream = frame(DATA, 0, 1, b"x");
    let continuation_of_nothing = frame(CONTINUATION, END_HEADERS, 1, &[]);
    let hpack_nonsense = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let settings_on_a_stream = frame(SETTINGS, 0, 1, &[]);
    let too_long = frame(DATA, 0, 1, &[0; 16_385]);
    let cases =
        [data_without_a_stream, continuation_of_nothing, hpack_nonsense, settings_on_a_stream, too_long];
    for octets in &cases {
        let mut client = Frames::connect(&plane).await;
        client.send(octets).await;
        assert_ne!(client.goaway().await, 0);
    }
    // Not even the preface: there is nobody to say GOAWAY to.
    let mut client = plane.connect().await;
    client.send([&PREFACE[..20], b"nonsense".as_slice()].concat()).await;
    client.read_to_end().await;
    let all = cases.len() + 1;
    assert_eq!(counted(&plane, "http2-invalid"), all as f64);
    let refused = metric(&plane, "fairway_connections_refused_total", &[("reason", "http2-invalid")]);
    assert_eq!(refused, all as f64);
    assert_eq!(told(&lines(plane, receiver).await), vec![(400, "http2-invalid"); all]);
}

#[tokio::test]
async fn a_flood_is_told_once_whoever_notices_it() {
    let (options, receiver) = logged();
    let plane = Plane::with(options, |_| {});
    let bomb = {
        let mut bomb = block(&GET);
        bomb.extend_from_slice(&[0x40, 1, b'b', 0x7f, 0x81, 0x1e]);
        bomb.extend(vec![b'v'; 4000]);
        bomb.extend(vec![0xbe; 12_000]);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)
    };
    for flood in [frame(PING, 0, 0, &[7; 8]).repeat(2000), bomb] {
        let mut client = Frames::connect(&plane).await;
        client.send(&flood).await;
        assert_eq!(client.goaway().await, CALM);
    }
    assert_eq!(counted(&plane, "http2-flood"), 2.0);
    assert_eq!(told(&lines(plane, receiver).await), vec![(429, "http2-flood"); 2]);
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_behind_its_head_is_told_as_that() {
    let origin = Origin::new().await;
    let (plane, receiver) = plane(&origin);
    let mut client = Frames::connect(&plane).await;
    let post = [(":method", "POST"), GET[1], GET[2], GET[3], ("content-length", "3")];
    // While the instance works on it: more octets than were announced.
    client.send(frame(HEADERS, END_HEADERS, 1, &block(&post))).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    client.send(frame(DATA, END_STREAM, 1, b"more")).await;
    assert_eq!(client.next_of(RST_STREAM).await.code(), PROTOCOL_ERROR);
    assert!(instance.ends().await);

    // In one breath with its head: no instance hears of it.
    let head = frame(HEADERS, END_HEADERS, 3, &block(&post));
    client.send([head, frame(DATA, END_STREAM, 3, b"more")].concat()).await;
    assert_eq!(client.next_of(RST_STREAM).await.stream, 3);
    let overflow = frame(WINDOW_UPDATE, 0, 5, &0x7fff_ffffu32.to_be_bytes());
    client.send([request(5, &[]), overflow].concat()).await;
    assert_eq!(client.next_of(RST_STREAM).await.stream, 5);
    // Taken back by the client itself.
    client.send([request(7, &[]), frame(RST_STREAM, 0, 7, &CANCEL.to_be_bytes())].concat()).await;
    client.send(frame(PING, 0, 0, &[7; 8])).await;
    client.next_of(PING).await;
    drop(client);
    let lines = lines(plane, receiver).await;
    let want = [(400, "body-invalid"), (400, "http2-invalid"), (400, "http2-invalid"), (499, "client-left")];
    assert_eq!(told(&lines), want, "{lines:?}");
    assert_eq!((&lines[1]["method"], &lines[3]["host"]), (&"POST".into(), &"shop.test".into()), "{lines:?}");
}

#[tokio::test]
async fn a_header_or_a_preface_that_does_not_end_is_told_as_late() {
    let (mut options, receiver) = logged();
    options.limits.header_time = std::time::Duration::from_millis(300);
    let plane = Plane::with(options, |_| {});
    let mut half = plane.connect().await;
    half.send(&PREFACE[..20]).await;
    half.read_to_end().await;
    let mut client = Frames::connect(&plane).await;
    client.send(frame(HEADERS, END_STREAM, 1, &block(&GET))).await;
    while client.next().await.is_some() {}
    assert_eq!(told(&lines(plane, receiver).await), vec![(408, "client-timeout"); 2]);
}
