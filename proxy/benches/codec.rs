//! HTTP/1.1 heads: finding their end, reading them, writing them anew for the other side.

use std::hint::black_box;
use std::net::IpAddr;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fairway_proxy::h1::{BodyLength, HeadScanner, RequestHead, ResponseHead};
use fairway_proxy::workbench::{Hop, write_response};

/// What a load generator sends.
const SMALL: &str = "GET /1k HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// What a browser sends: 13 fields, 614 octets.
const BROWSER: &str = "GET /products/42?ref=home&page=3 HTTP/1.1\r\nHost: shop.company.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes; visitor=42\r\n\
    Referer: https://shop.company.com/products?page=3\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n";

/// What an ordinary service answers.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\nCache-Control: max-age=60\r\nETag: \"0123456789\"\r\n\
    Vary: Accept-Encoding\r\nContent-Length: 1024\r\n\r\n";

/// Sixty fields that mean nothing to a proxy.
fn many_fields() -> String {
    let fields: String =
        (0..60).map(|n| format!("X-Field-{n}: value-{n}-{}\r\n", "v".repeat(n % 30))).collect();
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

fn requests() -> [(&'static str, Bytes); 3] {
    let many = Bytes::from(many_fields());
    [
        ("small", Bytes::from_static(SMALL.as_bytes())),
        ("browser", Bytes::from_static(BROWSER.as_bytes())),
        ("60-fields", many),
    ]
}

/// Scan and read, as a connection does with octets that have all arrived.
fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, head) in requests() {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let end = HeadScanner::default().scan(black_box(&head));
                (end, RequestHead::read(head.clone()).expect("a request"))
            });
        });
    }
    let answer = Bytes::from_static(ANSWER.as_bytes());
    group.throughput(Throughput::Bytes(answer.len() as u64));
    group.bench_function("answer", |b| {
        b.iter(|| {
            let end = HeadScanner::default().scan(black_box(&answer));
            (end, ResponseHead::read(answer.clone(), false).expect("an answer"))
        });
    });
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    let mut out = Vec::with_capacity(16 * 1024);
    let stranger = IpAddr::from([192, 0, 2, 1]);
    for (name, head) in requests() {
        let head = RequestHead::read(head).expect("a request");
        let hop = Hop::new(&head, stranger, &[]);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                hop.write_request(&mut out, black_box(&head), None);
                out.len()
            });
        });
    }
    let answer = ResponseHead::read(Bytes::from_static(ANSWER.as_bytes()), false).expect("an answer");
    group.bench_function("answer", |b| {
        b.iter(|| {
            out.clear();
            write_response(&mut out, black_box(&answer), BodyLength::Exactly(1024), false);
            out.len()
        });
    });
}

criterion_group!(benches, parse, write);
criterion_main!(benches);
