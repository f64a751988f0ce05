//! Chunked bodies.

use fairway_proxy::h1::chunked::{ChunkHead, Extensions};
use fairway_proxy::h1::{BodyLength, FIELDS_MAX};

use super::{Followed, follow};

/// Longest input that is split at every octet: the work grows with its square.
const SPLIT_MAX: usize = 600;

/// Most digits of a chunk size that httparse takes; the codec takes one more.
const REFERENCE_DIGITS_MAX: usize = 15;

/// A body gives the same data, end, trailers and error wherever it is split; a plain body is accepted with the data that
/// httparse's sizes give, and nothing else is accepted strictly; what is passes as an answer's body too, and written anew
/// reads the same.
pub fn check(input: &[u8]) {
    let strict = everywhere_the_same(input, Extensions::Refused);
    let lenient = everywhere_the_same(input, Extensions::Dropped);
    if strict.end.is_ok() {
        assert_eq!(lenient, strict, "what is accepted from clients is accepted from instances");
    }
    match reference(input) {
        Reference::Whole { data, used } => {
            assert!(matches!(strict.end, Ok(Some(_))), "a plain body is accepted");
            assert_eq!((strict.data, strict.used), (data, used));
        }
        Reference::NotPlain => assert!(!matches!(strict.end, Ok(Some(_))), "only a plain body is accepted"),
        Reference::Unknown => {}
    }
    if let Ok(Some(_)) = lenient.end {
        reads_back(&lenient);
    }
}

fn everywhere_the_same(input: &[u8], extensions: Extensions) -> Followed {
    let whole = follow(BodyLength::Chunked, extensions, [input]);
    let octets = follow(BodyLength::Chunked, extensions, input.chunks(1));
    same(&octets, &whole);
    if input.len() <= SPLIT_MAX {
        for at in 0..=input.len() {
            let (first, second) = input.split_at(at);
            same(&follow(BodyLength::Chunked, extensions, [first, second]), &whole);
        }
    }
    whole
}

/// Up to an error the octets used may differ: framing is counted once a run of it is good.
fn same(split: &Followed, whole: &Followed) {
    assert_eq!(split.data, whole.data);
    assert_eq!(split.end, whole.end);
    if whole.end.is_ok() {
        assert_eq!(split.used, whole.used);
    }
}

/// What another reader says.
enum Reference {
    Whole {
        data: Vec<u8>,
        used: usize,
    },
    NotPlain,
    /// It follows this body less far than the codec does.
    Unknown,
}

/// A body of plain chunks: hex digits, CRLF, so many octets, CRLF; trailers as httparse reads fields.
fn reference(input: &[u8]) -> Reference {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let rest = &input[at..];
        let digits = rest.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
        if digits > REFERENCE_DIGITS_MAX {
            return Reference::Unknown;
        }
        if digits == 0 {
            return Reference::NotPlain; // a size to httparse: 0
        }
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            return Reference::NotPlain;
        };
        if line != digits + 2 || rest[digits..line] != *b"\r\n" {
            return Reference::NotPlain; // extensions or blanks
        }
        at += line;
        if size == 0 {
            break;
        }
        let end = usize::try_from(size).ok().and_then(|size| at.checked_add(size));
        match end.and_then(|end| Some((input.get(at..end)?, input.get(end..end + 2)?))) {
            Some((octets, b"\r\n")) => data.extend_from_slice(octets),
            _ => return Reference::NotPlain,
        }
        at += size as usize + 2;
    }
    if input[at..].starts_with(b"\r\n") {
        return Reference::Whole { data, used: at + 2 };
    }
    // httparse is more lenient with fields, so that its word counts against ours only one way.
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX + 1];
    match httparse::parse_headers(&input[at..], &mut fields) {
        Ok(httparse::Status::Complete(_)) => Reference::Unknown,
        Ok(httparse::Status::Partial) | Err(_) => Reference::NotPlain,
    }
}

fn reads_back(body: &Followed) {
    let mut written = Vec::new();
    for piece in body.data.chunks(7) {
        written.extend_from_slice(ChunkHead::new(piece.len()).as_bytes());
        written.extend_from_slice(piece);
        written.extend_from_slice(b"\r\n");
    }
    written.extend_from_slice(b"0\r\n");
    if let Ok(Some(Some(trailers))) = &body.end {
        written.extend_from_slice(trailers.lines());
    }
    written.extend_from_slice(b"\r\n");
    let again = follow(BodyLength::Chunked, Extensions::Refused, [&written[..]]);
    assert_eq!((&again.data, &again.end, again.used), (&body.data, &body.end, written.len()));
}
