//! `fairway.compress`: what goes over the wire, and when.

use std::io::Read;

use super::*;

const COMPRESS: [(&str, &str); 1] = [("fairway.compress", "zstd, br, gzip")];

/// What chunks hold, up to the last one.
async fn chunks(client: &mut Wire) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let size = client.read_until("\r\n").await;
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let chunk = client.read_exactly(size + 2).await;
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn decoded(coding: &str, octets: &[u8]) -> Vec<u8> {
    let mut reader: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(octets)),
        "br" => Box::new(brotli::Decompressor::new(octets, 4096)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(octets).expect("a decoder")),
        other => panic!("{other}"),
    };
    let mut out = Vec::new();
    reader.read_to_end(&mut out).expect("it is whole");
    out
}

fn text(octets: usize) -> Vec<u8> {
    (0..octets).map(|at| b"the quick brown fox \n"[at % 21]).collect()
}

#[tokio::test]
async fn each_coding_comes_out_as_the_body_that_went_in() {
    let (plane, origin) = shop(&COMPRESS).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", "Accept-Encoding: gzip\r\n")).await;
    let mut instance = origin.accept().await;
    let body = text(300_000);
    for (at, coding) in ["gzip", "br", "zstd"].into_iter().enumerate() {
        if at > 0 {
            client.send(get_with("/", &format!("Accept-Encoding: {coding}, identity;q=0.1\r\n"))).await;
        }
        instance.head().await;
        let fields = "Content-Type: text/html\r\nETag: \"x\"\r\nAccept-Ranges: bytes\r\nVary: Cookie";
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {}\r\n\r\n", body.len());
        instance.send([head.as_bytes(), &body].concat()).await;
        let head = client.head().await;
        assert_eq!(field(&head, "Content-Encoding"), Some(coding), "{head}");
        assert_eq!((field(&head, "ETag"), field(&head, "Accept-Ranges")), (Some("W/\"x\""), None), "{head}");
        assert!(head.contains("Vary: Cookie\r\n") && head.contains("Vary: Accept-Encoding\r\n"), "{head}");
        assert_eq!(field(&head, "Content-Length"), None, "{head}");
        assert_eq!(field(&head, "Transfer-Encoding"), Some("chunked"), "{head}");
        let sent = chunks(&mut client).await;
        assert!(sent.len() < 20_000, "{coding}: {} octets", sent.len());
        assert_eq!(decoded(coding, &sent), body, "{coding}");
    }
}

#[tokio::test]
async fn events_are_readable_when_they_come() {
    let (plane, origin) = shop(&[("fairway.compress", "gzip")]).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", "Accept-Encoding: gzip\r\n")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(
        field(&head, "Content-Encoding"),
        Some("gzip"),
        "the head goes before the first event: {head}"
    );
    let mut sent = Vec::new();
    for number in 1..=3 {
        let event = format!("data: {number}\n\n");
        instance.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        // The instance says nothing more: what is there must do.
        let mut read = Vec::new();
        while !read.ends_with(event.as_bytes()) {
            let size = client.read_until("\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).expect("a size");
            sent.extend_from_slice(&client.read_exactly(size + 2).await[..size]);
            read.clear();
            let mut buffer = [0; 512];
            let mut decoder = flate2::read::GzDecoder::new(&sent[..]);
            while let Ok(count @ 1..) = decoder.read(&mut buffer) {
                read.extend_from_slice(&buffer[..count]);
            }
        }
    }
    instance.send("0\r\n\r\n").await;
    let rest = chunks(&mut client).await;
    sent.extend(rest);
    assert_eq!(decoded("gzip", &sent), b"data: 1\n\ndata: 2\n\ndata: 3\n\n");
}

#[tokio::test]
async fn what_gains_nothing_goes_as_it_is() {
    let (plane, origin) = shop(&COMPRESS).await;
    let mut client = plane.connect().await;
    let accept = "Accept-Encoding: gzip, br, zstd\r\n";
    client.send(get_with("/", accept)).await;
    let mut instance = origin.accept().await;
    let large = String::from_utf8(text(2000)).expect("text");
    let plain = [
        ("200 OK", "Content-Type: image/png\r\n", large.as_str(), false),
        ("200 OK", "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", &large, false),
        ("200 OK", "Content-Type: text/plain\r\nCache-Control: no-transform\r\n", &large, false),
        (
            "206 Partial Content",
            "Content-Type: text/plain\r\nContent-Range: bytes 0-1999/9999\r\n",
            &large,
            false,
        ),
        ("200 OK", "Content-Type: text/plain\r\n", "small", true),
        ("200 OK", "", &large, false),
    ];
    for (at, (status, fields, body, varies)) in plain.into_iter().enumerate() {
        if at > 0 {
            client.send(get_with("/", accept)).await;
        }
        instance.head().await;
        instance
            .send(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
            .await;
        let head = client.head().await;
        assert_eq!(field(&head, "Content-Length"), Some(&*body.len().to_string()), "{fields}: {head}");
        assert_eq!(field(&head, "Vary"), varies.then_some("Accept-Encoding"), "{fields}: {head}");
        assert_eq!(client.read_exactly(body.len()).await, body.as_bytes(), "{fields}");
    }
    for (accepts, what) in
        [("", "a client that does not ask"), ("Accept-Encoding: identity\r\n", "one that wants it plain")]
    {
        client.send(get_with("/", accepts)).await;
        instance.head().await;
        instance
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2000\r\n\r\n{large}"
            ))
            .await;
        let head = client.head().await;
        assert_eq!(field(&head, "Content-Encoding"), None, "{what}: {head}");
        assert_eq!(field(&head, "Vary"), Some("Accept-Encoding"), "{what}: {head}");
        client.read_exactly(2000).await;
    }
}

#[tokio::test]
async fn answers_without_a_body_say_what_the_body_would_be() {
    let (plane, origin) = shop(&COMPRESS).await;
    let mut client = plane.connect().await;
    client.send("HEAD / HTTP/1.1\r\nHost: shop.test\r\nAccept-Encoding: br\r\n\r\n").await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nETag: \"x\"\r\nContent-Length: 5000\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(field(&head, "Content-Encoding"), Some("br"), "{head}");
    assert_eq!((field(&head, "Content-Length"), field(&head, "ETag")), (None, Some("W/\"x\"")), "{head}");
    client.send(get_with("/", "Accept-Encoding: br\r\nIf-None-Match: W/\"x\"\r\n")).await;
    instance.head().await;
    instance.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((field(&head, "Content-Encoding"), field(&head, "ETag")), (None, Some("W/\"x\"")), "{head}");
    client.send(get_with("/", "Accept-Encoding: br\r\n")).await;
    instance.head().await;
    instance.send("HTTP/1.1 204 No Content\r\nContent-Type: text/css\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!((field(&head, "Content-Encoding"), field(&head, "Vary")), (None, None), "{head}");
}

#[tokio::test]
async fn a_compressed_answer_that_breaks_off_is_seen_to() {
    let (plane, origin) = shop(&COMPRESS).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", "Accept-Encoding: gzip\r\n")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\nonly this")
        .await;
    let head = client.head().await;
    assert_eq!(field(&head, "Content-Encoding"), Some("gzip"), "{head}");
    drop(instance);
    let rest = client.read_to_end().await;
    assert!(!rest.ends_with("0\r\n\r\n"), "there is no last chunk: {rest:?}");
}

#[tokio::test]
async fn trailers_come_behind_a_compressed_body_and_old_clients_get_it_plain() {
    let (plane, origin) = shop(&COMPRESS).await;
    let mut client = plane.connect().await;
    client.send(get_with("/", "Accept-Encoding: gzip\r\nTE: trailers\r\n")).await;
    let mut instance = origin.accept().await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n").await;
    client.head().await;
    let rest = client.read_until("X-Sum: 6\r\n\r\n").await;
    assert!(rest.contains("\r\n0\r\nX-Sum: 6\r\n\r\n"), "{rest:?}");
    let mut old = plane.connect().await;
    old.send("GET / HTTP/1.0\r\nHost: shop.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    instance.head().await;
    instance.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    let answer = old.read_to_end().await;
    assert!(answer.ends_with("\r\n\r\nabc") && !answer.contains("Content-Encoding"), "{answer}");
}
