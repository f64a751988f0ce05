//! What the codec does as a whole: the hardening table at its level, any input split anywhere, and hyper's tokenizer
//! (httparse) as the reference for what is accepted.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::chunked::{ChunkHead, Extensions, LAST_CHUNK};
use super::*;
use crate::reason::Reason;

/// A request read as a connection reads it: scanned to its end, then parsed.
fn read_request(input: &[u8]) -> Result<Option<(RequestHead, usize)>, Refused> {
    match HeadScanner::default().scan(input)? {
        Scan::Partial => Ok(None),
        Scan::Complete(end) => Ok(Some((RequestHead::read(Bytes::copy_from_slice(&input[..end]))?, end))),
    }
}

fn refusal(input: &[u8]) -> Option<Reason> {
    read_request(input).err().map(|refused| refused.reason)
}

fn accepted(input: &str) -> RequestHead {
    match read_request(input.as_bytes()) {
        Ok(Some((head, _))) => head,
        other => panic!("{input:?}: {other:?}"),
    }
}

#[test]
fn requests_that_have_hurt_other_proxies_are_refused() {
    use Reason::*;
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    for (class, request, want) in [
        (
            "CL.TE",
            format!("{post}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
            ConflictingLength,
        ),
        (
            "TE.CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"),
            ConflictingLength,
        ),
        ("TE.TE", format!("{post}Transfer-Encoding: chunked, xchunked\r\n\r\n"), TransferEncoding),
        ("TE, a tab", format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n"), RequestInvalid),
        (
            "TE in two fields",
            format!("{post}Transfer-Encoding: x\r\nTransfer-encoding: chunked\r\n\r\n"),
            TransferEncoding,
        ),
        ("TE, space before the colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n"), RequestInvalid),
        (
            "TE in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            TransferEncoding,
        ),
        ("CL empty", format!("{post}Content-Length: \r\n\r\n"), LengthInvalid),
        ("CL signed", format!("{post}Content-Length: +3\r\n\r\n"), LengthInvalid),
        ("CL twice", format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\n"), ConflictingLength),
        ("empty name", format!("{get}: x\r\n\r\n"), RequestInvalid),
        ("obs-fold", format!("{get}A: b\r\n c\r\n\r\n"), RequestInvalid),
        ("fold before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), RequestInvalid),
        ("bare LF", format!("{get}A: b\nB: c\r\n\r\n"), RequestInvalid),
        ("bare CR", format!("{get}A: b\rB: c\r\n\r\n"), RequestInvalid),
        ("NUL", format!("{get}A: b\0\r\n\r\n"), RequestInvalid),
        ("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(), PathInvalid),
        ("dot segments", "GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n".into(), PathInvalid),
        ("dot segments with parameters", "GET /a/..;/b HTTP/1.1\r\nHost: a\r\n\r\n".into(), PathInvalid),
        ("two Hosts", format!("{get}Host: b\r\n\r\n"), HostInvalid),
        ("the same Host twice", format!("{get}Host: a\r\n\r\n"), HostInvalid),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), HostMissing),
        ("Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), HostInvalid),
        ("Host with an at sign", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".into(), HostInvalid),
        ("Host and target differ", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), HostDiffers),
        ("userinfo", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), HostInvalid),
        ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(), MethodRefused),
        ("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), MethodRefused),
        ("Expect", format!("{post}Content-Length: 1\r\nExpect: 200-maybe\r\n\r\n"), ExpectationRefused),
        ("HTTP/0.9", "GET /\r\n\r\n".into(), RequestInvalid),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n".into(), VersionRefused),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n".into(), VersionRefused),
        ("version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n".into(), RequestInvalid),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestInvalid),
        ("space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestInvalid),
        ("space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(), RequestInvalid),
        ("tab for space", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestInvalid),
        ("method", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), RequestInvalid),
        (
            "long target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(TARGET_BYTES_MAX)),
            TargetTooLong,
        ),
        ("many fields", format!("{get}{}\r\n", "a: b\r\n".repeat(100)), HeaderTooLarge),
        ("large header", format!("{get}a: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX)), HeaderTooLarge),
        ("Connection", format!("{get}Connection: a b\r\n\r\n"), RequestInvalid),
    ] {
        assert_eq!(refusal(request.as_bytes()), Some(want), "{class}");
    }
    let overlong_dots = b"GET /\xc0\xae\xc0\xae/ HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(refusal(overlong_dots), Some(PathInvalid));
    assert_eq!(refusal(b"GET / HTTP/1.1\r\nHost: \xc0\xae\r\n\r\n"), Some(HostInvalid));
}

#[test]
fn a_request_is_read_in_all_its_parts() {
    let head = accepted(
        "POST /a/b?c=d HTTP/1.1\r\nhOST: Shop.Company.COM.:8080\r\nTransfer-Encoding: chunked\r\n\
         Connection: Upgrade, X-Own\r\nUpgrade: websocket\r\nTE: trailers;q=1\r\nExpect: 100-Continue\r\n\r\n",
    );
    assert_eq!((head.method(), head.target()), ("POST", &b"/a/b?c=d"[..]));
    assert_eq!((head.host(), head.port), ("shop.company.com", Some(8080)));
    assert_eq!(head.authority(), b"Shop.Company.COM.:8080");
    assert_eq!((head.path(), head.query()), ("/a/b", Some("c=d")));
    assert_eq!((head.body, head.version), (BodyLength::Chunked, Version::Http11));
    assert!(head.keep_alive && head.upgrades && head.takes_trailers && head.expects_continue);
    assert!(head.is_nominated(b"x-own") && !head.is_nominated(b"te"));
}

#[test]
fn connections_stay_open_as_version_and_options_say() {
    for (version, option, want) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let head = accepted(&format!("GET / HTTP/{version}\r\nHost: a\r\n{option}\r\n"));
        assert_eq!(head.keep_alive, want, "{version} {option:?}");
    }
}

#[test]
fn a_target_goes_on_with_the_octets_sent() {
    for (line, want) in [
        ("GET /a%2fb//c?d HTTP/1.1", "/a%2fb//c?d"),
        ("GET http://a/b?c HTTP/1.1", "/b?c"),
        ("GET http://a HTTP/1.1", "/"),
        ("GET http://a?b HTTP/1.1", "/?b"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("OPTIONS http://a HTTP/1.1", "*"),
    ] {
        let head = accepted(&format!("{line}\r\nHost: a\r\n\r\n"));
        let (front, rest) = head.forwarded_target();
        assert_eq!([front.as_bytes(), rest].concat(), want.as_bytes(), "{line}");
        assert!(head.path().starts_with('/'), "{line}");
    }
}

#[test]
fn http_1_0_may_name_its_host_in_the_target_alone() {
    assert_eq!(accepted("GET http://a:81/ HTTP/1.0\r\n\r\n").authority(), b"a:81");
    assert_eq!(refusal(b"GET / HTTP/1.0\r\n\r\n"), Some(Reason::HostMissing));
}

/// Follows a body to its end, given in pieces, as a connection does. `None` while it has no end.
type Followed = Option<(Vec<u8>, Option<Trailers>, usize)>;

fn follow(
    length: BodyLength,
    extensions: Extensions,
    pieces: &[&[u8]],
) -> Result<Followed, chunked::ChunkError> {
    let mut reader = BodyReader::new(length, extensions);
    let (mut pending, mut data, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            match reader.step(&pending)? {
                Step::Skip(n) => {
                    assert!(n > 0, "a step goes on");
                    pending.drain(..n);
                    used += n;
                }
                Step::Data(n) => {
                    assert!(n > 0, "a step goes on");
                    data.extend(pending.drain(..n));
                    used += n;
                }
                Step::More => break,
                Step::End => return Ok(Some((data, reader.take_trailers(), used))),
            }
        }
    }
    Ok(None)
}

fn split_in_two(input: &[u8], at: usize) -> [&[u8]; 2] {
    let (first, second) = input.split_at(at);
    [first, second]
}

proptest! {
    #[test]
    fn no_octets_panic(input in vec(any::<u8>(), 0..300)) {
        let _ = read_request(&input);
        let _ = RequestHead::read(Bytes::copy_from_slice(&input));
        let _ = ResponseHead::read(Bytes::copy_from_slice(&input), false);
        let _ = Trailers::read(&input);
        for extensions in [Extensions::Refused, Extensions::Dropped] {
            let _ = follow(BodyLength::Chunked, extensions, &[&input]);
        }
    }

    #[test]
    fn no_nearly_valid_request_panics(input in nearly_a_request()) {
        let _ = read_request(&input);
        let _ = RequestHead::read(Bytes::from(input));
    }

    #[test]
    fn a_chunked_body_is_the_same_wherever_it_is_split(
        chunks in vec(vec(any::<u8>(), 1..40), 0..6),
        trailers in "(a: [b-y]{0,5}\r\n){0,3}",
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(ChunkHead::new(chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        if let Some((at, octet)) = damage {
            let at = at.index(body.len());
            body[at] = octet;
        }
        body.extend_from_slice(b"GET / HTTP/1.1\r\n");
        let whole = follow(BodyLength::Chunked, Extensions::Refused, &[&body]);
        if damage.is_none() {
            let (data, ..) = whole.clone().expect("it is chunked").expect("it ends");
            prop_assert_eq!(data, chunks.concat());
        }
        for at in 0..=body.len() {
            prop_assert_eq!(&follow(BodyLength::Chunked, Extensions::Refused, &split_in_two(&body, at)), &whole);
        }
        let octets: Vec<_> = body.chunks(1).collect();
        prop_assert_eq!(&follow(BodyLength::Chunked, Extensions::Refused, &octets), &whole);
    }

    #[test]
    fn a_head_ends_at_the_same_octet_wherever_it_is_split(input in nearly_a_request()) {
        let whole = HeadScanner::default().scan(&input);
        let mut octet_by_octet = HeadScanner::default();
        let mut last = Ok(Scan::Partial);
        for end in 1..=input.len() {
            last = octet_by_octet.scan(&input[..end]);
            if last != Ok(Scan::Partial) {
                break;
            }
        }
        prop_assert_eq!(last, whole);
    }

    #[test]
    fn what_is_accepted_means_the_same_to_httparse(input in nearly_a_request()) {
        let Ok(Some((head, end))) = read_request(&input) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut theirs = httparse::Request::new(&mut fields);
        prop_assert_eq!(theirs.parse(&input), Ok(httparse::Status::Complete(end)));
        prop_assert_eq!(theirs.method, Some(head.method()));
        prop_assert_eq!(theirs.path.map(str::as_bytes), Some(head.target()));
        prop_assert_eq!(theirs.version, Some(u8::from(head.version == Version::Http11)));
        let ours: Vec<_> = head.fields.iter().map(|f| (f.name(head.raw()), f.value(head.raw()))).collect();
        let theirs: Vec<_> = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn an_answer_that_is_accepted_means_the_same_to_httparse(input in nearly_an_answer()) {
        let Ok(Scan::Complete(end)) = HeadScanner::default().scan(&input) else { return Ok(()) };
        let Ok(head) = ResponseHead::read(Bytes::copy_from_slice(&input[..end]), false) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut theirs = httparse::Response::new(&mut fields);
        prop_assert_eq!(theirs.parse(&input), Ok(httparse::Status::Complete(end)));
        prop_assert_eq!(theirs.code, Some(head.status));
        let ours: Vec<_> = head.fields.iter().map(|f| (f.name(head.raw()), f.value(head.raw()))).collect();
        let theirs: Vec<_> = theirs.headers.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
        prop_assert_eq!(ours, theirs);
    }
}

/// Where this codec is stricter than httparse: each of these passes there.
#[test]
fn what_httparse_lets_pass_and_this_does_not_is_known() {
    for (what, head) in [
        ("lines ended by LF alone", "GET / HTTP/1.1\nHost: a\n\n"),
        ("several empty lines in front", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n"),
        ("fragments and odd octets in the target", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (
            "framing in two ways",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let theirs = httparse::Request::new(&mut fields).parse(head.as_bytes());
        assert!(matches!(theirs, Ok(httparse::Status::Complete(_))), "{what}: {theirs:?}");
        assert!(refusal(head.as_bytes()).is_some(), "{what}");
    }
}

/// Chunk sizes mean the same to httparse, as far as it follows them.
#[test]
fn chunk_sizes_mean_the_same_to_httparse() {
    for line in ["5\r\n", "A\r\n", "0a\r\n", "fFfF\r\n", "7fffffffffffffff\r\n"] {
        let ours = {
            let mut reader = chunked::ChunkedReader::new(Extensions::Refused);
            assert_eq!(reader.step(line.as_bytes()), Ok(Step::Skip(line.len())), "{line:?}");
            format!("{reader:?}")
        };
        let Ok(httparse::Status::Complete((used, size))) = httparse::parse_chunk_size(line.as_bytes()) else {
            panic!("{line:?}");
        };
        assert_eq!(used, line.len());
        assert!(ours.contains(&format!("left: {size}")), "{line:?}: {ours}");
    }
    assert_eq!(LAST_CHUNK, b"0\r\n\r\n");
}

/// Requests whose pieces are drawn from right and wrong ones.
fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        6 => Just("GET / HTTP/1.1\r\n".to_owned()),
        1 => "(GET|POST|OPTIONS|get|G T) (/|/a|\\*|http://a/b|/a\\?b|/\\.\\./|a) HTTP/1\\.[01](\r\n|\n)",
        1 => "[ -~]{0,20}\r\n",
    ];
    let field = prop_oneof![
        4 => "(Host|Content-Length|Transfer-Encoding|Connection|Expect|TE|Upgrade): (a|5|chunked|close|a:80)\r\n",
        4 => "[A-Za-z-]{1,8}:[ \t]{0,2}[ -~\t]{0,10}\r\n",
        1 => "[ -~\t]{0,8}:?[ -~\u{80}-\u{ff}]{0,8}(\r\n|\n|\r)",
    ];
    let host = prop_oneof![8 => Just("Host: a\r\n"), 1 => Just("")];
    let end = prop_oneof![8 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")];
    (line, host, vec(field, 0..5), end, "[ -~]{0,5}").prop_map(|(line, host, fields, end, rest)| {
        format!("{line}{host}{}{end}{rest}", fields.concat()).into_bytes()
    })
}

fn nearly_an_answer() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "HTTP/1\\.[01] [0-9]{3}( [ -~]{0,8})?\r\n",
        1 => "[ -~]{0,20}\r\n",
    ];
    let field = prop_oneof![
        2 => "(Content-Length|Transfer-Encoding|Connection): (5|chunked|close)\r\n",
        4 => "[A-Za-z-]{1,8}:[ \t]{0,2}[ -~\t\u{80}-\u{ff}]{0,10}\r\n",
    ];
    (line, vec(field, 0..5)).prop_map(|(line, fields)| format!("{line}{}\r\n", fields.concat()).into_bytes())
}
