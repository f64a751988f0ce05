//! What the codec accepts, hyper accepts with the same meaning: method, target, fields and body. Where the codec is stricter,
//! hyper may well accept more.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use fairway_proxy::h1::chunked::Extensions;
use fairway_proxy::h1::{BodyReader, HeadScanner, RequestHead, Scan, Step};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A message as a reader understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// The first message of `input` as this codec reads it; `None` when it is refused or not whole.
fn ours(input: &[u8]) -> Option<Meaning> {
    let Ok(Scan::Complete(end)) = HeadScanner::default().scan(input) else { return None };
    let head = RequestHead::read(Bytes::copy_from_slice(&input[..end])).ok()?;
    let mut body = BodyReader::new(head.body, Extensions::Refused);
    let (mut rest, mut octets) = (BytesMut::from(&input[end..]), Vec::new());
    loop {
        match body.step(&rest).ok()? {
            Step::Skip(count) => drop(rest.split_to(count)),
            Step::Data(count) => octets.extend_from_slice(&rest.split_to(count)),
            Step::More => return None,
            Step::End => break,
        }
    }
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let field = |f: &fairway_proxy::h1::Field| {
        (text(f.name(head.raw())).to_ascii_lowercase(), f.value(head.raw()).to_vec())
    };
    let mut fields: Vec<_> = head.fields.iter().map(field).collect();
    fields.sort();
    Some(Meaning { method: head.method().to_owned(), target: text(head.target()), fields, body: octets })
}

/// The same as hyper's server reads it.
async fn hypers(input: &[u8]) -> Option<Meaning> {
    let seen = Arc::new(Mutex::new(None));
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let store = seen.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let store = store.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes().to_vec());
            let mut fields: Vec<_> =
                parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect();
            fields.sort();
            if let Ok(body) = body {
                let (method, target) = (parts.method.to_string(), parts.uri.to_string());
                let first = Meaning { method, target, fields, body };
                store.lock().expect("no test panics with it").get_or_insert(first);
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let serving = builder.half_close(true).serve_connection(TokioIo::new(server), service);
    let talking = async {
        // hyper may refuse and close before it has read everything.
        let _ = client.write_all(input).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    let _ = tokio::join!(serving, talking);
    seen.lock().expect("no test panics with it").take()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_accepted_means_the_same_to_hyper(input in nearly_a_message()) {
        let Some(ours) = ours(&input) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let theirs = runtime.block_on(hypers(&input));
        prop_assert_eq!(Some(ours), theirs, "{}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn messages_of_every_framing_are_accepted_by_both() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for input in [
        "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nx: y\r\n\r\n",
        "POST http://a/b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ] {
        let ours = ours(input.as_bytes());
        assert!(ours.is_some(), "{input}");
        assert_eq!(ours, runtime.block_on(hypers(input.as_bytes())), "{input}");
    }
}

/// Messages whose pieces are drawn from right and wrong ones.
fn nearly_a_message() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "(GET|POST|PUT) /[a-z/%?=.]{0,6} HTTP/1\\.1\r\n",
        1 => "(GET|POST) http://a/[a-z]{0,2} HTTP/1\\.[01]\r\n",
    ];
    let field = "[A-Za-z-]{1,6}:[ \t]{0,2}[!-~]{0,8}[ \t]{0,2}\r\n";
    let framing = prop_oneof![
        2 => Just(String::new()),
        3 => "Content-Length: [0-9]{1,2}\r\n",
        3 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => "(Content-Length|Transfer-Encoding): (5|chunked|x)\r\n(Content-Length: 5\r\n)?",
    ];
    let chunks = vec(("[0-9a-fA-F]{1,2}", vec(any::<u8>(), 0..20), "(\r\n|\n|)"), 0..3);
    let right = vec(vec(any::<u8>(), 1..20), 0..4);
    let body = prop_oneof![
        vec(any::<u8>(), 0..100),
        chunks.prop_map(|chunks| {
            let piece = |(size, data, end): (String, Vec<u8>, String)| {
                [size.as_bytes(), b"\r\n", &data, end.as_bytes()].concat()
            };
            chunks.into_iter().flat_map(piece).collect::<Vec<u8>>()
        }),
        (right, "(X-A: b\r\n)?").prop_map(|(chunks, trailers)| {
            let piece = |data: Vec<u8>| [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
            let data: Vec<u8> = chunks.into_iter().flat_map(piece).collect();
            [&data[..], b"0\r\n", trailers.as_bytes(), b"\r\n"].concat()
        }),
    ];
    (line, vec(field, 0..3), framing, body).prop_map(|(line, fields, framing, body)| {
        let head = format!("{line}Host: a\r\n{}{framing}\r\n", fields.concat());
        [head.as_bytes(), &body].concat()
    })
}
