//! Answers.

use bytes::Bytes;
use fairway_proxy::h1::{BodyLength, FIELDS_MAX, Known, ResponseHead, Scan, Version};
use fairway_proxy::workbench::{write_interim, write_response};

use super::{NameValue, lines_are_plain, scanned};

/// What is accepted means the same to httparse, and the answer that goes on reads back as the one that came, in the framing
/// that was chosen for it.
pub fn check(input: &[u8]) {
    for to_head in [false, true] {
        let _ = ResponseHead::read(Bytes::copy_from_slice(input), to_head);
        let Ok(Scan::Complete(end)) = scanned(input) else { return };
        let Ok(head) = ResponseHead::read(Bytes::copy_from_slice(&input[..end]), to_head) else { return };
        lines_are_plain(&input[..end]);
        agrees_with_httparse(&head, input, end);
        is_kept_only_if_framed_once(&head);
        if head.is_interim() {
            interim_goes_on(&head);
        } else if head.status != 101 {
            for (length, close) in framings(head.framing.length) {
                goes_on(&head, to_head, length, close);
            }
        }
    }
}

/// Where another reader may see another end, the connection carries no second answer.
fn is_kept_only_if_framed_once(head: &ResponseHead) {
    let lengths = head.values(Known::ContentLength).count();
    let encodings = head.values(Known::TransferEncoding).count();
    assert!(encodings <= 1, "one coding at most");
    if lengths > 0 && encodings > 0 {
        assert!(!head.keep_alive && head.framing.doubtful, "two framings");
    }
}

fn agrees_with_httparse(head: &ResponseHead, input: &[u8], end: usize) {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut theirs = httparse::Response::new(&mut fields);
    assert_eq!(theirs.parse(input), Ok(httparse::Status::Complete(end)));
    assert_eq!(theirs.code, Some(head.status));
    assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
    let theirs: Vec<NameValue<'_>> = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    assert_eq!(fields_of(head), theirs);
}

/// How a body of this length may be framed towards a client, and whether its connection is closed then.
fn framings(length: BodyLength) -> Vec<(BodyLength, bool)> {
    match length {
        BodyLength::Chunked | BodyLength::UntilClose => {
            vec![(BodyLength::Chunked, false), (BodyLength::Chunked, true), (BodyLength::UntilClose, true)]
        }
        length => vec![(length, false), (length, true)],
    }
}

fn goes_on(head: &ResponseHead, to_head: bool, length: BodyLength, close: bool) {
    let mut out = Vec::new();
    write_response(&mut out, head, length, close);
    let again = read_back(out, to_head);
    assert_eq!((again.status, again.reason()), (head.status, head.reason()));
    assert_eq!((again.framing.length, again.framing.doubtful), (length, false));
    if length == BodyLength::Empty {
        assert_eq!(again.framing.announced, head.framing.announced);
    }
    assert_eq!(again.keep_alive, !close);
    assert_eq!(others(&again), others(head), "the other fields are neither lost nor invented");
}

fn interim_goes_on(head: &ResponseHead) {
    let mut out = Vec::new();
    write_interim(&mut out, head);
    let again = read_back(out, false);
    assert_eq!((again.status, again.reason()), (head.status, head.reason()));
    assert_eq!(again.framing.length, BodyLength::Empty);
    assert_eq!(others(&again), others(head), "the other fields are neither lost nor invented");
}

fn read_back(out: Vec<u8>, to_head: bool) -> ResponseHead {
    let end = out.windows(4).position(|octets| octets == b"\r\n\r\n").map(|at| at + 4);
    assert_eq!(end, Some(out.len()), "one head and nothing else is written");
    ResponseHead::read(Bytes::from(out), to_head).expect("what is written can be read")
}

fn fields_of(head: &ResponseHead) -> Vec<NameValue<'_>> {
    head.fields.iter().map(|field| (field.name(head.raw()), field.value(head.raw()))).collect()
}

/// The fields that mean nothing to us and were not meant for this hop alone.
fn others(head: &ResponseHead) -> Vec<NameValue<'_>> {
    let fields = head.fields.iter().filter(|field| field.known == Known::Other);
    let fields = fields.map(|field| (field.name(head.raw()), field.value(head.raw())));
    fields.filter(|(name, _)| !head.is_nominated(name)).collect()
}
