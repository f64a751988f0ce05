//! What must hold of any octets whatever: one function per fuzz target, each panics when something does not.
//!
//! The fuzz targets feed them octets of libFuzzer's choice; `proxy/tests/corpus.rs` feeds them the kept corpus in every run
//! of the tests.
#![allow(unreachable_pub, reason = "a library here, a private module in the test")]

pub mod chunked;
pub mod client_hello;
pub mod http2;
pub mod proxy_header;
pub mod request;
pub mod response;

use fairway_proxy::h1::chunked::{ChunkError, Extensions};
use fairway_proxy::h1::{BodyLength, BodyReader, HeadScanner, Scan, Step, Trailers, scan::ScanError};

/// A header field as name and value.
type NameValue<'a> = (&'a [u8], &'a [u8]);

/// Where a head ends; must be the same octet by octet.
fn scanned(input: &[u8]) -> Result<Scan, ScanError> {
    let whole = HeadScanner::default().scan(input);
    let mut scanner = HeadScanner::default();
    let mut last = Ok(Scan::Partial);
    for end in 1..=input.len() {
        last = scanner.scan(&input[..end]);
        if last != Ok(Scan::Partial) {
            break;
        }
    }
    assert_eq!(last, whole, "a head ends at the same octet, however it arrives");
    whole
}

/// Lines end with CRLF and hold neither CR nor LF nor NUL.
fn lines_are_plain(head: &[u8]) {
    let lines = head.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let text = lines.split(|octet| *octet == b'\n');
    let count = text.clone().count();
    for (number, line) in text.enumerate() {
        let line =
            if number + 1 < count { line.strip_suffix(b"\r").expect("a line ends with CRLF") } else { line };
        assert!(!line.iter().any(|octet| matches!(octet, b'\r' | b'\0')), "a line holds neither CR nor NUL");
    }
}

/// A body as far as its octets are there.
#[derive(Debug, PartialEq, Eq)]
struct Followed {
    data: Vec<u8>,
    /// Octets of the body, framing included.
    used: usize,
    /// Trailers when the body has ended; `Ok(None)` when more octets are needed.
    end: Result<Option<Option<Trailers>>, ChunkError>,
}

/// Follows a body that arrives in these pieces, as a connection does.
fn follow<'a>(
    length: BodyLength,
    extensions: Extensions,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Followed {
    let mut reader = BodyReader::new(length, extensions);
    let (mut pending, mut data, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            let count = match reader.step(&pending) {
                Err(error) => return Followed { data, used, end: Err(error) },
                Ok(Step::More) => break,
                Ok(Step::End) => return Followed { data, used, end: Ok(Some(reader.take_trailers())) },
                Ok(Step::Skip(count)) => count,
                Ok(Step::Data(count)) => {
                    data.extend_from_slice(&pending[..count]);
                    count
                }
            };
            assert!(count > 0, "every step goes on");
            pending.drain(..count);
            used += count;
        }
    }
    match reader.is_done() {
        true => Followed { data, used, end: Ok(Some(reader.take_trailers())) },
        false => Followed { data, used, end: Ok(None) },
    }
}
