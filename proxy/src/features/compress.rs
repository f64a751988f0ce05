//! Whether an answer is compressed, and with which coding (`fairway.compress`; RFC 9110 sections 8.4 and 12.5.3).
//!
//! Not here: compressing (see `encoder`).

use fairway_config::labels::features::{Coding, Compression};

use crate::h1::syntax::{list, trim};
use crate::h1::{Known, RequestHead, ResponseHead, Version};

/// A body that is known to be smaller goes as it is: what is saved is less than what compressing costs.
const SMALLEST: u64 = 1024;

/// What a route compresses with.
#[derive(Debug)]
pub(crate) struct Compress(Box<[Compression]>);

/// What compression makes of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// What the body is compressed with.
    pub coding: Option<Compression>,
    /// The answer depends on `Accept-Encoding`.
    pub varies: bool,
    /// It stands for an answer that is compressed, though it has no body itself.
    pub weakens: bool,
}

impl Compress {
    /// With these, in the order of preference; `None` without any.
    pub(crate) fn new(codings: &[Compression]) -> Option<Self> {
        (!codings.is_empty()).then(|| Self(codings.into()))
    }

    /// What becomes of this answer to this request.
    pub(crate) fn shape(&self, request: &RequestHead, answer: &ResponseHead) -> Shape {
        let is_plain =
            !answer.values(Known::ContentEncoding).any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
                && answer.values(Known::ContentRange).next().is_none()
                && !is_frozen(answer);
        let is_whole = (200..600).contains(&answer.status) && !matches!(answer.status, 204..=206);
        if request.version == Version::Http10 || !is_plain || !is_whole {
            return Shape::default();
        }
        if answer.status == 304 {
            // It says what the 200 would have said, whose type is not known here.
            return Shape { coding: None, varies: true, weakens: self.choose(request).is_some() };
        }
        if !answer.values(Known::ContentType).next().is_some_and(is_compressible) {
            return Shape::default();
        }
        let is_small = answer.framing.announced.is_some_and(|octets| octets < SMALLEST);
        let coding = if is_small { None } else { self.choose(request) };
        Shape { coding, varies: true, weakens: coding.is_some() }
    }

    /// The coding that the client likes best; of those it likes equally, the one that the route prefers.
    fn choose(&self, request: &RequestHead) -> Option<Compression> {
        let wishes = Wishes::read(request.fields.iter().filter_map(|field| {
            let raw = request.raw();
            field.name(raw).eq_ignore_ascii_case(b"accept-encoding").then(|| field.value(raw))
        }));
        let mut best: Option<(u16, Compression)> = None;
        for own in &self.0 {
            let weight = wishes.of(own.coding);
            if weight > 0 && best.is_none_or(|(other, _)| weight > other) {
                best = Some((weight, *own));
            }
        }
        best.filter(|(weight, _)| *weight >= wishes.plain).map(|(_, coding)| coding)
    }
}

/// `Cache-Control: no-transform`
fn is_frozen(answer: &ResponseHead) -> bool {
    answer.values(Known::CacheControl).flat_map(list).any(|word| word.eq_ignore_ascii_case(b"no-transform"))
}

/// Whether octets of this type are worth it. Pictures, films, archives and gRPC are compressed in their own way.
fn is_compressible(content_type: &[u8]) -> bool {
    let essence =
        content_type.split(|b| *b == b';').next().map(trim).unwrap_or_default().to_ascii_lowercase();
    let Ok(essence) = std::str::from_utf8(&essence) else { return false };
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || essence.ends_with("+text")
        || matches!(
            essence,
            "application/json"
                | "application/x-ndjson"
                | "application/ndjson"
                | "application/json-seq"
                | "application/javascript"
                | "application/x-javascript"
                | "application/ecmascript"
                | "application/xml"
                | "application/xml-dtd"
                | "application/yaml"
                | "application/x-yaml"
                | "application/toml"
                | "application/graphql"
                | "application/wasm"
                | "application/vnd.ms-fontobject"
                | "application/x-font-ttf"
                | "font/ttf"
                | "font/otf"
                | "font/collection"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
        )
}

/// What a client accepts, in thousandths.
#[derive(Debug, Default)]
struct Wishes {
    gzip: Option<u16>,
    brotli: Option<u16>,
    zstd: Option<u16>,
    others: Option<u16>,
    /// `identity`: below everything that is named, unless it is named itself.
    plain: u16,
}

impl Wishes {
    fn read<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut wishes = Self::default();
        for element in values.flat_map(list) {
            let mut parts = element.split(|b| *b == b';').map(trim);
            let coding = parts.next().unwrap_or_default();
            // What is no weight is no wish.
            let Some(weight) = parts.next().map_or(Some(1000), weight) else { continue };
            match () {
                () if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") => {
                    wishes.gzip = Some(weight);
                }
                () if coding.eq_ignore_ascii_case(b"br") => wishes.brotli = Some(weight),
                () if coding.eq_ignore_ascii_case(b"zstd") => wishes.zstd = Some(weight),
                () if coding == b"*" => wishes.others = Some(weight),
                () if coding.eq_ignore_ascii_case(b"identity") => wishes.plain = weight,
                () => {}
            }
        }
        wishes
    }

    fn of(&self, coding: Coding) -> u16 {
        let named = match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
        };
        named.or(self.others).unwrap_or(0)
    }
}

/// `q=0.5`: at most three digits behind the point (RFC 9110 section 12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, digits) = match value {
        [whole] => (whole, &b""[..]),
        [whole, b'.', digits @ ..] => (whole, digits),
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        (0..3).fold(0, |sum, at| sum * 10 + u16::from(digits.get(at).map_or(0, |digit| digit - b'0')));
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// Fields that would not be true of the compressed body.
const UNTRUE: [&[u8]; 5] = [b"accept-ranges", b"content-md5", b"content-digest", b"digest", b"repr-digest"];

impl Shape {
    /// Whether a field of the instance goes on as it is.
    pub(crate) fn keeps(&self, name: &[u8]) -> bool {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        !(self.weakens && is(b"etag"))
            && !(self.coding.is_some() && (UNTRUE.iter().any(|untrue| is(untrue)) || is(b"content-encoding")))
    }

    /// Appends the fields that tell of it, as far as `may_pass` lets them.
    pub(crate) fn write(&self, out: &mut Vec<u8>, head: &ResponseHead, may_pass: impl Fn(&[u8]) -> bool) {
        let raw = head.raw();
        let of = |name: &'static [u8]| {
            head.fields
                .iter()
                .filter(move |field| field.name(raw).eq_ignore_ascii_case(name))
                .map(|field| field.value(raw))
        };
        if self.weakens && may_pass(b"etag") {
            for tag in of(b"etag") {
                let mark: &[u8] = if tag.starts_with(b"\"") { b"W/" } else { b"" };
                [b"ETag: ", mark, tag, b"\r\n"].into_iter().for_each(|part| out.extend_from_slice(part));
            }
        }
        if let Some(compression) = self.coding {
            for part in ["Content-Encoding: ", compression.coding.as_str(), "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        let is_told = may_pass(b"vary")
            && of(b"vary")
                .flat_map(list)
                .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
        if self.varies && !is_told {
            out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fairway_config::labels;

    use super::*;

    fn compress(value: &str) -> Compress {
        let parsed = labels::parse([("fairway.compress", value)]);
        Compress::new(parsed.spec.features.compress.as_deref().expect("codings")).expect("one")
    }

    fn request(fields: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        RequestHead::read(Bytes::from(text)).expect("a request")
    }

    fn answer(status: u16, fields: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        ResponseHead::read(Bytes::from(text), false).expect("an answer")
    }

    fn chosen(own: &str, accepts: &str) -> Option<&'static str> {
        let request = request(&format!("Accept-Encoding: {accepts}\r\n"));
        compress(own).choose(&request).map(|one| one.coding.as_str())
    }

    #[test]
    fn the_coding_that_the_client_likes_best_is_chosen_then_the_routes_own_order_counts() {
        for (accepts, want) in [
            ("gzip, br, zstd", Some("zstd")),
            ("gzip, br", Some("br")),
            ("GZIP", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip;q=1.0, br;q=0.9", Some("gzip")),
            ("gzip ; Q=0.5, br;q=0.501", Some("br")),
            ("br;q=0, gzip", Some("gzip")),
            ("*", Some("zstd")),
            ("*;q=0.1, zstd;q=0", Some("br")),
            ("gzip;q=0.5, *;q=0.5", Some("zstd")),
            ("identity", None),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
            ("identity;q=0", None),
            ("identity;q=0, gzip;q=0.001", Some("gzip")),
            ("deflate, compress", None),
            ("", None),
            ("*;q=0", None),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=0.1234", None),
            ("gzip;q=", None),
            ("gzip;q=-1", None),
            ("gzip;x=1", None),
            ("gzipped", None),
        ] {
            assert_eq!(chosen("zstd, br, gzip", accepts), want, "{accepts}");
        }
        assert_eq!(chosen("gzip, br", "br, gzip"), Some("gzip"));
        assert_eq!(compress("gzip").choose(&request("")), None, "without the field");
        let split = request("Accept-Encoding: br;q=0.1\r\nAccept-Encoding: gzip\r\n");
        assert_eq!(compress("br, gzip").choose(&split).map(|one| one.coding), Some(Coding::Gzip));
    }

    #[test]
    fn only_answers_that_gain_by_it_are_compressed() {
        let accepting = request("Accept-Encoding: gzip\r\n");
        let text = "Content-Type: text/html; charset=utf-8\r\n";
        let with = |status, fields: &str| {
            let shape = compress("gzip").shape(&accepting, &answer(status, &format!("{text}{fields}")));
            (shape.coding.is_some(), shape.varies)
        };
        assert_eq!(with(200, ""), (true, true));
        assert_eq!(with(200, "Transfer-Encoding: chunked\r\n"), (true, true));
        assert_eq!(with(200, "Content-Length: 1024\r\n"), (true, true));
        assert_eq!(with(404, ""), (true, true));
        assert_eq!(
            with(200, "Content-Length: 1023\r\n"),
            (false, true),
            "small, but others of it may not be"
        );
        assert_eq!(with(200, "Content-Encoding: identity\r\n"), (true, true));
        for (status, fields) in [
            (204, ""),
            (205, ""),
            (206, "Content-Range: bytes 0-1/3\r\n"),
            (200, "Content-Encoding: gzip\r\n"),
            (200, "Content-Encoding: identity\r\nContent-Encoding: br\r\n"),
            (200, "Cache-Control: max-age=1, No-Transform\r\n"),
            (200, "Content-Range: bytes 0-1/3\r\n"),
        ] {
            assert_eq!(with(status, fields), (false, false), "{status} {fields}");
        }
        assert_eq!(with(304, ""), (false, true));
        let old = "GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n";
        let old = RequestHead::read(Bytes::from(old)).expect("a request");
        assert_eq!(compress("gzip").shape(&old, &answer(200, text)), Shape::default());
        let plain = compress("gzip").shape(&request(""), &answer(200, text));
        assert_eq!(plain, Shape { coding: None, varies: true, weakens: false });
    }

    #[test]
    fn types_that_are_compressed_already_are_left_alone() {
        for good in [
            "text/plain",
            "Text/CSS",
            "text/event-stream",
            "application/json",
            "application/problem+json; charset=utf-8",
            "image/svg+xml",
            "application/javascript",
            "application/wasm",
        ] {
            assert!(is_compressible(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "image/png",
            "video/mp4",
            "application/zip",
            "application/grpc",
            "application/grpc+proto",
            "application/octet-stream",
            "multipart/byteranges",
            "font/woff2",
            "text",
        ] {
            assert!(!is_compressible(bad.as_bytes()), "{bad}");
        }
        let untyped = answer(200, "");
        assert_eq!(compress("gzip").shape(&request("Accept-Encoding: gzip\r\n"), &untyped), Shape::default());
    }

    #[test]
    fn the_fields_of_a_compressed_answer_are_true_of_it() {
        let accepting = request("Accept-Encoding: gzip\r\n");
        let written = |fields: &str| {
            let answer = answer(200, &format!("Content-Type: text/plain\r\n{fields}"));
            let shape = compress("gzip").shape(&accepting, &answer);
            let mut out = Vec::new();
            shape.write(&mut out, &answer, |_| true);
            String::from_utf8(out).expect("text")
        };
        let coded = "Content-Encoding: gzip\r\n";
        let vary = "Vary: Accept-Encoding\r\n";
        assert_eq!(written(""), format!("{coded}{vary}"));
        assert_eq!(written("ETag: \"a\"\r\n"), format!("ETag: W/\"a\"\r\n{coded}{vary}"));
        assert_eq!(written("ETag: W/\"a\"\r\n"), format!("ETag: W/\"a\"\r\n{coded}{vary}"));
        assert_eq!(written("Vary: Cookie\r\n"), format!("{coded}{vary}"));
        assert_eq!(written("Vary: cookie, accept-encoding\r\n"), coded);
        assert_eq!(written("Vary: *\r\n"), coded);
        let shape = compress("gzip").shape(&accepting, &answer(200, "Content-Type: text/plain\r\n"));
        for gone in ["Accept-Ranges", "ETag", "Content-MD5", "Content-Digest"] {
            assert!(!shape.keeps(gone.as_bytes()), "{gone}");
        }
        assert!(shape.keeps(b"Last-Modified") && Shape::default().keeps(b"ETag"));
        assert!(Shape { varies: true, ..Shape::default() }.keeps(b"Accept-Ranges"));
    }
}
