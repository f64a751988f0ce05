//! What a client may not flood us with: each flood ends its connection, and costs nobody else anything.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kit::*;
use crate::kit::{Options, Origin, Plane, ok, within};
use crate::limits::metric;

/// A plane without any route: what is asked is refused at once.
fn empty() -> Plane {
    Plane::with(Options::default(), |_| {})
}

/// Sends `octets` so many times, or until the connection ends, and gives the code of the GOAWAY that it ends with.
async fn flooded(client: Frames, octets: &[u8], times: usize) -> u32 {
    let (mut reading, mut writing) = client.0.stream.into_split();
    let flood = octets.to_vec();
    let writer = tokio::spawn(async move {
        for _ in 0..times {
            // An error is the end that is waited for.
            if writing.write_all(&flood).await.is_err() {
                break;
            }
        }
        writing
    });
    let mut said = Vec::new();
    let reader = reading.read_to_end(&mut said);
    // A reset instead of an end is fine, too: all that was said has been read by then.
    let _ = within("the end of a flood", reader).await;
    drop(within("the writer", writer).await.expect("it does not fail"));
    frames(&said).iter().rev().find(|frame| frame.kind == GOAWAY).expect("a GOAWAY").code()
}

/// Whether the plane still answers others.
async fn answers(plane: &Plane) -> bool {
    let mut client = Frames::connect(plane).await;
    client.send(request(1, &[])).await;
    client.next_of(HEADERS).await.stream == 1
}

#[tokio::test]
async fn floods_of_frames_that_ask_for_nothing_end_the_connection() {
    let plane = empty();
    let increment = 1u32.to_be_bytes();
    for (name, flood) in [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("PING answers", frame(PING, ACK, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS that change", frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 16, 0])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &increment)),
        ("unknown frames", frame(200, 0, 0, &[])),
    ] {
        let client = Frames::connect(&plane).await;
        assert_eq!(flooded(client, &flood.repeat(100), 1000).await, CALM, "{name}");
    }
    let counted = metric(&plane, "fairway_connections_refused_total", &[("reason", "http2-flood")]);
    assert_eq!(counted, 7.0, "each is counted");
    assert!(answers(&plane).await);
}

#[tokio::test]
async fn empty_data_ends_the_connection_and_so_does_data_in_crumbs() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let fields = [(":method", "POST"), GET[1], GET[2], GET[3]];
    let start = frame(HEADERS, END_HEADERS, 1, &block(&fields));
    for crumb in [&b""[..], b"x"] {
        let mut client = Frames::connect(&plane).await;
        client.send(&start).await;
        // The instance takes nothing, so what comes has to be kept.
        let _instance = origin.accept().await;
        let flood = frame(DATA, 0, 1, crumb).repeat(100);
        let code = flooded(client, &flood, 10_000).await;
        assert_eq!(code, CALM, "{} octets", crumb.len());
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_reach_few_instances() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    origin.serve("a");
    let mut flood = Vec::new();
    for number in 0..2000 {
        flood.extend(request(number * 2 + 1, &[]));
        flood.extend(frame(RST_STREAM, 0, number * 2 + 1, &CANCEL.to_be_bytes()));
    }
    // Sent once: stream numbers do not come again.
    let client = Frames::connect(&plane).await;
    assert_eq!(flooded(client, &flood, 1).await, CALM);
    assert!(answers(&plane).await);
}

#[tokio::test]
async fn slow_resets_one_by_one_run_out_too() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::connect(&plane).await;
    let mut cut = None;
    for number in 0..400u32 {
        let stream = number * 2 + 1;
        client.send(request(stream, &[])).await;
        // Each gets as far as its instance before it is taken back.
        let accepted = tokio::select! {
            mut instance = origin.accept() => {
                instance.head().await;
                true
            }
            code = client.goaway() => {
                cut = Some((number, code));
                false
            }
        };
        if !accepted {
            break;
        }
        client.send(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())).await;
    }
    let (number, code) = cut.expect("it was told to go away");
    assert!(number >= 200 && code == CALM, "{number} {code}");
}

#[tokio::test]
async fn a_client_that_makes_us_reset_its_streams_is_sent_away() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    // CVE-2025-8671: each stream is asked for, then broken by its own window, so that the reset is ours.
    let mut flood = Vec::new();
    for number in 0..2000u32 {
        flood.extend(request(number * 2 + 1, &[]));
        flood.extend(frame(WINDOW_UPDATE, 0, number * 2 + 1, &0x7fff_ffffu32.to_be_bytes()));
    }
    let client = Frames::connect(&plane).await;
    assert_eq!(flooded(client, &flood, 1).await, CALM);
    drop(origin);
    assert!(answers(&plane).await);
}

#[tokio::test]
async fn headers_without_end_are_cut_by_size_and_by_count() {
    let plane = empty();
    let large = block(&[("x", &"v".repeat(16_000))]);
    let start = frame(HEADERS, END_STREAM, 1, &block(&GET));
    // Octets without end, continuations with nothing in them, and a table entry that is named again and again.
    let mut bomb = block(&GET);
    bomb.extend_from_slice(&[0x40, 1, b'b', 0x7f, 0x81, 0x1e]);
    bomb.extend(vec![b'v'; 4000]);
    bomb.extend(vec![0xbe; 12_000]);
    for (name, first, flood) in [
        ("octets", start.clone(), frame(CONTINUATION, 0, 1, &large)),
        ("nothing", start.clone(), frame(CONTINUATION, 0, 1, &[])),
        ("a bomb", Vec::new(), frame(HEADERS, END_STREAM, 1, &bomb)),
    ] {
        let mut client = Frames::connect(&plane).await;
        client.send(&first).await;
        let code = flooded(client, &flood, 1000).await;
        assert!([CALM, PROTOCOL_ERROR, 9].contains(&code), "{name}: {code}");
    }
    assert!(answers(&plane).await);
}

#[tokio::test]
async fn too_many_fields_and_too_large_a_header_are_refused_on_their_stream_alone() {
    let plane = empty();
    let mut client = Frames::connect(&plane).await;
    let many = vec![("x", "y"); 120];
    let long = "v".repeat(10_000);
    let seven = vec![("x", &*long); 7];
    for (stream, fields) in [(1, &many), (3, &seven)] {
        let block = block(&[&GET[..], fields].concat());
        let mut parts = block.chunks(16_000).enumerate().peekable();
        while let Some((number, part)) = parts.next() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let end = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let ends = if number == 0 { END_STREAM } else { 0 };
            client.send(frame(kind, end | ends, stream, part)).await;
        }
        let answer = client.next_of(DATA).await;
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        assert!(answer.stream == stream && text.contains("header-too-large"), "{text}");
    }
    client.send(request(5, &[])).await;
    assert!(client.next_of(DATA).await.stream == 5);
}

#[tokio::test]
async fn windows_that_cannot_be_end_the_stream_or_the_connection() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::connect(&plane).await;
    client.send(request(1, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    client.send(frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes())).await;
    let reset = client.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.code()), (1, 3), "FLOW_CONTROL_ERROR");
    assert!(instance.ends().await, "the work is dropped");
    client.send(frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())).await;
    assert_eq!(client.goaway().await, 3);
}

#[tokio::test]
async fn a_window_of_nothing_is_waited_for_and_then_used() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::with_settings(&plane, &[(4, 0)]).await;
    client.send(request(1, &[])).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send(ok("hello")).await;
    assert_eq!(client.next_of(HEADERS).await.flags, END_HEADERS);
    for (increment, want, flags) in [(1u32, &b"h"[..], 0), (3, b"ell", 0), (9, b"o", END_STREAM)] {
        client.send(frame(WINDOW_UPDATE, 0, 1, &increment.to_be_bytes())).await;
        let data = client.next_of(DATA).await;
        assert_eq!((&data.payload[..], data.flags), (want, flags));
    }
}
