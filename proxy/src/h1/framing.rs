//! How long a body is (RFC 9112 section 6).

use super::Version;
use super::fields::FieldIndex;
use super::known::Known;
use super::syntax::decimal;

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// After this many octets; never 0.
    Exactly(u64),
    /// Chunks, then trailers.
    Chunked,
    /// When the connection ends; answers only.
    UntilClose,
}

impl BodyLength {
    /// Whether it comes in chunks.
    pub fn is_chunked(self) -> bool {
        self == Self::Chunked
    }

    /// Of so many octets.
    pub fn of(octets: u64) -> Self {
        if octets == 0 { Self::Empty } else { Self::Exactly(octets) }
    }
}

/// Why the length of a body cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingError {
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndEncoding,
    /// `Content-Length` twice.
    SeveralLengths,
    /// `Content-Length` is no number, or none that fits.
    NotALength,
    /// `Transfer-Encoding` is not `chunked` once.
    NotChunked,
    /// `Transfer-Encoding` in HTTP/1.0.
    EncodingInHttp10,
}

impl FramingError {
    /// One sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::LengthAndEncoding => "Content-Length and Transfer-Encoding are both there",
            Self::SeveralLengths => "there is more than one Content-Length",
            Self::NotALength => "Content-Length is not one decimal number",
            Self::NotChunked => "Transfer-Encoding is not `chunked`, once",
            Self::EncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
        }
    }
}

/// How long the body of a request is. Whatever could be read in two ways is refused.
pub fn of_request(version: Version, fields: &FieldIndex, head: &[u8]) -> Result<BodyLength, FramingError> {
    let mut lengths = fields.values(Known::ContentLength, head);
    let length = lengths.next();
    let encoded = is_encoded(version, fields, head);
    match (length, encoded) {
        (Some(_), Ok(true) | Err(_)) => Err(FramingError::LengthAndEncoding),
        (None, Ok(true)) => Ok(BodyLength::Chunked),
        (None, Err(error)) => Err(error),
        (None, Ok(false)) => Ok(BodyLength::Empty),
        (Some(_), Ok(false)) if lengths.next().is_some() => Err(FramingError::SeveralLengths),
        (Some(value), Ok(false)) => length_in(value).map(BodyLength::of),
    }
}

/// The number of octets that a field says. Beyond 2^63 parsers with signed numbers read another one.
fn length_in(value: &[u8]) -> Result<u64, FramingError> {
    decimal(value).filter(|octets| i64::try_from(*octets).is_ok()).ok_or(FramingError::NotALength)
}

/// The framing of an answer, and whether the connection it came on may carry another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseFraming {
    /// How long the body is.
    pub length: BodyLength,
    /// What `Content-Length` says, also where there is no body (HEAD, 304).
    pub announced: Option<u64>,
    /// Lengths were given in two ways: the connection may be out of step.
    pub doubtful: bool,
}

/// How long the body of an answer with this status to a request with this method is. `Transfer-Encoding` wins over
/// `Content-Length`, and equal lengths collapse: what goes on is framed anew, once.
pub fn of_response(
    version: Version,
    status: u16,
    to_head: bool,
    fields: &FieldIndex,
    head: &[u8],
) -> Result<ResponseFraming, FramingError> {
    let encoded = is_encoded(version, fields, head)?;
    let mut announced = None;
    for value in fields.values(Known::ContentLength, head) {
        let length = length_in(value)?;
        if announced.is_some_and(|before| before != length) {
            return Err(FramingError::SeveralLengths);
        }
        announced = Some(length);
    }
    let has_no_body = to_head || status < 200 || status == 204 || status == 304;
    let length = match announced {
        _ if has_no_body => BodyLength::Empty,
        _ if encoded => BodyLength::Chunked,
        Some(octets) => BodyLength::of(octets),
        None => BodyLength::UntilClose,
    };
    let doubtful = encoded && announced.is_some();
    let announced = announced.filter(|_| !encoded && status >= 200 && status != 204);
    Ok(ResponseFraming { length, announced, doubtful })
}

fn is_encoded(version: Version, fields: &FieldIndex, head: &[u8]) -> Result<bool, FramingError> {
    let mut encodings = fields.values(Known::TransferEncoding, head);
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(false),
        (Some(_), _) if version == Version::Http10 => Err(FramingError::EncodingInHttp10),
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(_), _) => Err(FramingError::NotChunked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V11: Version = Version::Http11;

    fn request(version: Version, fields: &str) -> Result<BodyLength, FramingError> {
        let head = fields.as_bytes();
        of_request(version, &FieldIndex::read(head, 0..head.len()).expect("they are fields"), head)
    }

    fn response(status: u16, to_head: bool, fields: &str) -> Result<ResponseFraming, FramingError> {
        let head = fields.as_bytes();
        let index = FieldIndex::read(head, 0..head.len()).expect("they are fields");
        of_response(V11, status, to_head, &index, head)
    }

    #[test]
    fn a_request_has_one_framing_or_is_refused() {
        use FramingError::*;
        for (fields, want) in [
            ("", Ok(BodyLength::Empty)),
            ("Content-Length: 0\r\n", Ok(BodyLength::Empty)),
            ("Content-Length: 5\r\n", Ok(BodyLength::Exactly(5))),
            ("Transfer-Encoding: Chunked\r\n", Ok(BodyLength::Chunked)),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(SeveralLengths)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(SeveralLengths)),
            ("Content-Length: 5, 5\r\n", Err(NotALength)),
            ("Content-Length: +5\r\n", Err(NotALength)),
            ("Content-Length: -5\r\n", Err(NotALength)),
            ("Content-Length: 0x5\r\n", Err(NotALength)),
            ("Content-Length:\r\n", Err(NotALength)),
            ("Content-Length: 99999999999999999999\r\n", Err(NotALength)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(LengthAndEncoding)),
            ("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", Err(LengthAndEncoding)),
            ("Transfer-Encoding: chunked, xchunked\r\n", Err(NotChunked)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(NotChunked)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(NotChunked)),
            ("Transfer-Encoding: chunked;a=b\r\n", Err(NotChunked)),
            ("Transfer-Encoding: \"chunked\"\r\n", Err(NotChunked)),
            ("Transfer-Encoding: identity\r\n", Err(NotChunked)),
            ("Transfer-Encoding:\r\n", Err(NotChunked)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(NotChunked)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n", Err(NotChunked)),
        ] {
            assert_eq!(request(V11, fields), want, "{fields:?}");
        }
        assert_eq!(request(Version::Http10, "Transfer-Encoding: chunked\r\n"), Err(EncodingInHttp10));
    }

    #[test]
    fn an_answers_body_ends_where_its_status_and_framing_say() {
        let length =
            |status, to_head, fields| response(status, to_head, fields).map(|framing| framing.length);
        let cl = "Content-Length: 5\r\n";
        let te = "Transfer-Encoding: chunked\r\n";
        for (status, to_head, fields, want) in [
            (200, false, cl, BodyLength::Exactly(5)),
            (200, false, te, BodyLength::Chunked),
            (200, false, "", BodyLength::UntilClose),
            (200, true, cl, BodyLength::Empty),
            (200, true, te, BodyLength::Empty),
            (204, false, cl, BodyLength::Empty),
            (304, false, cl, BodyLength::Empty),
            (100, false, cl, BodyLength::Empty),
            (200, false, "Content-Length: 5\r\nContent-Length: 5\r\n", BodyLength::Exactly(5)),
        ] {
            assert_eq!(length(status, to_head, fields), Ok(want), "{status} {to_head} {fields:?}");
        }
        assert_eq!(
            length(200, false, "Content-Length: 5\r\nContent-Length: 6\r\n"),
            Err(FramingError::SeveralLengths)
        );
        assert_eq!(length(200, false, "Content-Length: five\r\n"), Err(FramingError::NotALength));
        assert_eq!(length(200, false, "Transfer-Encoding: gzip\r\n"), Err(FramingError::NotChunked));
    }

    #[test]
    fn an_answer_framed_twice_is_read_as_chunked_and_its_connection_is_doubtful() {
        let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
        let got = response(200, false, both).expect("chunked wins");
        assert_eq!(got, ResponseFraming { length: BodyLength::Chunked, announced: None, doubtful: true });
    }

    #[test]
    fn a_length_is_passed_on_where_there_is_no_body_but_never_with_204() {
        let announced = |status, to_head| {
            response(status, to_head, "Content-Length: 5\r\n").expect("it is framed").announced
        };
        assert_eq!(announced(200, true), Some(5));
        assert_eq!(announced(304, false), Some(5));
        assert_eq!(announced(204, false), None);
    }
}
