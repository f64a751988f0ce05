//! Many streams on one connection, and bodies of any size on them.

use bytes::Bytes;
use http::Request;
use tokio::task::JoinSet;

use super::kit::*;
use crate::kit::{Origin, Plane, Wire, ok, within};

#[tokio::test]
async fn a_hundred_streams_at_once_are_all_answered_whatever_their_order() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = client(&plane).await;
    let mut asking = JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        asking.spawn(async move { (number, get(&client, ask(&format!("/{number}"))).await) });
    }
    let mut instances = Vec::new();
    for _ in 0..100 {
        let mut instance = origin.accept().await;
        let head = instance.head().await;
        let path = head.split(' ').nth(1).expect("a path").to_owned();
        instances.push((instance, path));
    }
    for (instance, path) in instances.iter_mut().rev() {
        instance.send(ok(&format!("{path} {}", "x".repeat(20_000)))).await;
    }
    let mut answered = 0;
    while let Some(done) = within("the answers", asking.join_next()).await {
        let (number, (status, body)) = done.expect("it does not fail");
        assert!(status == 200 && body.starts_with(&format!("/{number} xxx")) && body.len() > 20_000);
        answered += 1;
    }
    assert_eq!(answered, 100);
}

#[tokio::test]
async fn a_stream_beyond_the_hundredth_is_refused_alone() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::connect(&plane).await;
    let all: Vec<u8> = (0..101).flat_map(|number| request(number * 2 + 1, &[])).collect();
    client.send(all).await;
    let refused = client.next_of(RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (201, 7), "REFUSED_STREAM: it may be asked again");
    let mut instances = Vec::new();
    for _ in 0..100 {
        let mut instance = origin.accept().await;
        instance.head().await;
        instances.push(instance);
    }
    instances[0].send(ok("one")).await;
    assert_eq!(client.next_of(DATA).await.payload, b"one");
}

/// Reads a chunked body and gives how many octets it had, and whether each was `want`.
async fn count_chunked(instance: &mut Wire, want: u8) -> (usize, bool) {
    let (mut octets, mut same) = (0, true);
    loop {
        let size = instance.read_until("\r\n").await;
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        let data = instance.read_exactly(size + 2).await;
        if size == 0 {
            return (octets, same);
        }
        octets += size;
        same &= data[..size].iter().all(|octet| *octet == want);
    }
}

#[tokio::test]
async fn large_bodies_go_both_ways_through_small_windows() {
    const SIZE: usize = 3_000_000;
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(20_000).initial_connection_window_size(70_000);
    let client = client_with(&plane, &builder).await;
    let mut uploads = JoinSet::new();
    for octet in [b'a', b'b'] {
        let client = client.clone();
        uploads.spawn(async move {
            let mut client = client.ready().await.expect("it is open");
            let request = Request::post(format!("http://shop.test/{octet}")).body(()).expect("a request");
            let (response, mut stream) = client.send_request(request, false).expect("sent");
            let mut left = SIZE;
            while left > 0 {
                stream.reserve_capacity(left.min(50_000));
                let room = within("room", std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
                let room = room.expect("open").expect("room").min(left);
                stream.send_data(vec![octet; room].into(), left == room).expect("sent");
                left -= room;
            }
            let answer = within("the answer", response).await.expect("an answer");
            let (body, _) = read(answer.into_body()).await.expect("a body");
            (octet, body)
        });
    }
    for _ in 0..2 {
        let mut instance = origin.accept().await;
        tokio::spawn(async move {
            let head = instance.head().await;
            let octet = if head.starts_with("POST /97 ") { b'a' } else { b'b' };
            assert_eq!(count_chunked(&mut instance, octet).await, (SIZE, true));
            instance.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
            instance.send(vec![octet; SIZE]).await;
        });
    }
    while let Some(done) = within("both", uploads.join_next()).await {
        let (octet, body) = done.expect("it does not fail");
        assert!(body.len() == SIZE && body.iter().all(|got| *got == octet));
    }
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_up_its_instance_and_no_other_stream() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut builder = h2::client::Builder::new();
    let client = client_with(&plane, builder.initial_connection_window_size(1_000_000)).await;
    let asking = {
        let client = client.clone();
        tokio::spawn(async move { send(&client, ask("/large"), None).await.expect("an answer") })
    };
    let mut large = origin.accept().await;
    large.head().await;
    large.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
    let unread = within("the head", asking).await.expect("it does not fail");
    // As much as fits between us and the client's window, and then nothing more.
    let mut sent = 0usize;
    let block = vec![b'x'; 64 * 1024];
    while let Ok(written) =
        tokio::time::timeout(std::time::Duration::from_millis(500), large.stream.writable()).await
    {
        written.expect("open");
        match large.stream.try_write(&block) {
            Ok(octets) => sent += octets,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(sent < 50_000_000, "somebody keeps {sent} octets");
    }
    let asking = {
        let client = client.clone();
        tokio::spawn(async move { get(&client, ask("/small")).await })
    };
    let mut small = origin.accept().await;
    small.head().await;
    small.send(ok("small")).await;
    assert_eq!(within("the other stream", asking).await.expect("it does not fail"), (200, "small".into()));
    drop(unread);
    // The work is dropped with the stream that wanted it.
    assert!(within("the end", large.stream.readable()).await.is_ok());
    assert!(large.ends().await);
}

#[tokio::test]
async fn a_cut_answer_ends_with_an_error_and_never_like_a_whole_one() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let mut client = Frames::connect(&plane).await;
    for (stream, head, rest) in [
        (1, "Content-Length: 10\r\n\r\nhalf", ""),
        (3, "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", ""),
        (5, "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "nonsense\r\n"),
    ] {
        client.send(request(stream, &[])).await;
        let mut instance = origin.accept().await;
        instance.head().await;
        instance.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        let data = client.next_of(DATA).await;
        assert_eq!((data.flags, &data.payload[..]), (0, &b"half"[..]), "{head}");
        instance.send(rest).await;
        drop(instance);
        let end = client.next().await.expect("an end");
        assert_eq!((end.kind, end.stream, end.code()), (RST_STREAM, stream, INTERNAL_ERROR), "{head}{rest}");
    }
}

#[tokio::test]
async fn an_early_answer_ends_the_request_without_an_error() {
    let origin = Origin::new().await;
    let plane = Plane::shop(&[&origin]);
    let client = client(&plane).await;
    let mut sender = client.clone().ready().await.expect("it is open");
    let request = Request::post("http://shop.test/").body(()).expect("a request");
    let (response, mut body) = sender.send_request(request, false).expect("sent");
    body.send_data(Bytes::from_static(b"some"), false).expect("sent");
    let mut instance = origin.accept().await;
    instance.read_until("some\r\n").await;
    instance.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
    let answer = within("the answer", response).await.expect("an answer");
    assert_eq!(answer.status(), 413);
    assert_eq!(read(answer.into_body()).await.expect("a whole body").0, b"no");
    let reason = within("the reset", std::future::poll_fn(|cx| body.poll_reset(cx))).await;
    assert_eq!(reason.expect("a reset"), h2::Reason::NO_ERROR, "RFC 9113 section 8.1");
}
