//! The chunked coding (RFC 9112 section 7.1), read strictly and written plainly.
//!
//! Not here: bodies of other framings (see `body`).

use super::TRAILER_BYTES_MAX;
use super::scan::{HeadScanner, Scan};
use super::trailers::Trailers;

/// Most octets of the extensions behind one chunk size, where they are dropped rather than refused.
const EXTENSION_BYTES_MAX: usize = 1024;

/// Most hex digits of a chunk size: 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;

/// Most octets that one chunk adds around its data.
pub const CHUNK_HEAD_MAX: usize = 18;

/// What ends a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What becomes of chunk extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extensions {
    /// They make the body invalid: requests at the edge.
    Refused,
    /// They are not passed on: answers. White space behind the size is dropped with them.
    Dropped,
}

/// Why a body is not framed as announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// The size is not 1 to 16 hex digits ended by CRLF.
    Size,
    /// There are extensions, or too many octets of them.
    Extension,
    /// CRLF does not follow the data.
    DataEnd,
    /// The trailer section is no list of fields, or too large.
    Trailer,
}

impl ChunkError {
    /// One sentence for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Size => "a chunk size is not hex digits ended by CRLF",
            Self::Extension => "a chunk has extensions",
            Self::DataEnd => "a chunk's data is not followed by CRLF",
            Self::Trailer => "the trailer section is not valid or too large",
        }
    }
}

/// Follows a chunked body.
#[derive(Debug)]
pub struct ChunkedReader {
    extensions: Extensions,
    state: State,
}

#[derive(Debug)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64, octets: usize },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { scanner: TrailerScanner },
    Done(Option<Trailers>),
}

/// What comes next in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkStep {
    /// So many octets are framing: drop them and ask again.
    Skip(usize),
    /// So many octets are data.
    Data(usize),
    /// Nothing can be said before more octets arrive.
    More,
    /// The body has ended.
    End,
}

impl ChunkedReader {
    /// At the start of a body.
    pub fn new(extensions: Extensions) -> Self {
        Self { extensions, state: State::SIZE }
    }

    /// What the first octets of `input` are. The caller drops what [`ChunkStep::Skip`] and [`ChunkStep::Data`] count.
    pub fn step(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        match &mut self.state {
            State::Data { left } => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                if here == 0 {
                    return Ok(ChunkStep::More);
                }
                *left -= here as u64;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                Ok(ChunkStep::Data(here))
            }
            State::Done(_) => Ok(ChunkStep::End),
            State::Trailer { scanner } => {
                let Some(end) = scanner.scan(input)? else { return Ok(ChunkStep::More) };
                let trailers = Trailers::read(&input[..end]).map_err(|_| ChunkError::Trailer)?;
                self.state = State::Done(Some(trailers).filter(|trailers| !trailers.is_empty()));
                Ok(ChunkStep::Skip(end))
            }
            _ => self.framing(input),
        }
    }

    /// The fields after the last chunk, once the body has ended; `None` when there are none.
    pub fn take_trailers(&mut self) -> Option<Trailers> {
        match &mut self.state {
            State::Done(trailers) => trailers.take(),
            _ => None,
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done(_))
    }

    fn framing(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        for (at, octet) in input.iter().enumerate() {
            if matches!(self.state, State::Data { .. } | State::Trailer { .. }) {
                return Ok(ChunkStep::Skip(at));
            }
            self.octet(*octet)?;
        }
        Ok(if input.is_empty() { ChunkStep::More } else { ChunkStep::Skip(input.len()) })
    }

    fn octet(&mut self, octet: u8) -> Result<(), ChunkError> {
        let next = match (&self.state, octet) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if *digits == SIZE_DIGITS_MAX {
                    return Err(ChunkError::Size);
                }
                let digit = match octet {
                    b'0'..=b'9' => octet - b'0',
                    _ => (octet | 0x20) - b'a' + 10,
                };
                State::Size { size: (size << 4) | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') => State::SizeLf { size: *size },
            (State::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => match self.extensions {
                Extensions::Refused => return Err(ChunkError::Extension),
                Extensions::Dropped => State::Extension { size: *size, octets: 1 },
            },
            (State::Extension { size, .. }, b'\r') => State::SizeLf { size: *size },
            (State::Extension { size, octets }, _) => {
                let is_text = octet == b'\t' || (octet >= b' ' && octet != 0x7f);
                if !is_text || *octets == EXTENSION_BYTES_MAX {
                    return Err(ChunkError::Extension);
                }
                State::Extension { size: *size, octets: octets + 1 }
            }
            (State::SizeLf { size: 0 }, b'\n') => State::Trailer { scanner: TrailerScanner::new() },
            (State::SizeLf { size }, b'\n') => State::Data { left: *size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SIZE,
            (State::DataCr | State::DataLf, _) => return Err(ChunkError::DataEnd),
            _ => return Err(ChunkError::Size),
        };
        self.state = next;
        Ok(())
    }
}

impl State {
    const SIZE: Self = Self::Size { size: 0, digits: 0 };
}

/// Finds the empty line that ends a trailer section, which is the first line when there are no trailers.
#[derive(Debug)]
struct TrailerScanner(HeadScanner);

impl TrailerScanner {
    fn new() -> Self {
        Self(HeadScanner::of_fields())
    }

    /// Where the section ends, once it does.
    fn scan(&mut self, input: &[u8]) -> Result<Option<usize>, ChunkError> {
        match self.0.scan(input).map_err(|_| ChunkError::Trailer)? {
            Scan::Complete(end) if end <= TRAILER_BYTES_MAX => Ok(Some(end)),
            Scan::Partial if input.len() <= TRAILER_BYTES_MAX => Ok(None),
            Scan::Complete(_) | Scan::Partial => Err(ChunkError::Trailer),
        }
    }
}

/// The line in front of a chunk's data; after the data stands CRLF.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHead {
    text: [u8; CHUNK_HEAD_MAX],
    len: usize,
}

impl ChunkHead {
    /// For a chunk of so many octets, at least 1: an empty chunk would end the body.
    pub fn new(size: usize) -> Self {
        debug_assert!(size > 0, "an empty chunk ends the body");
        let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1) as usize;
        let mut text = [0; CHUNK_HEAD_MAX];
        for (i, slot) in text[..digits].iter_mut().enumerate() {
            let digit = (size >> (4 * (digits - 1 - i))) & 0xf;
            *slot = b"0123456789abcdef"[digit];
        }
        text[digits..digits + 2].copy_from_slice(b"\r\n");
        Self { text, len: digits + 2 }
    }

    /// Its octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extensions: Extensions, input: &[u8]) -> Result<(Vec<u8>, usize), ChunkError> {
        let mut reader = ChunkedReader::new(extensions);
        let (mut data, mut at) = (Vec::new(), 0);
        loop {
            match reader.step(&input[at..])? {
                ChunkStep::Skip(n) => at += n,
                ChunkStep::Data(n) => {
                    data.extend_from_slice(&input[at..at + n]);
                    at += n;
                }
                ChunkStep::More => panic!("{:?} has no end", String::from_utf8_lossy(input)),
                ChunkStep::End => return Ok((data, at)),
            }
        }
    }

    #[test]
    fn chunks_are_joined_and_what_follows_the_body_is_left() {
        let body = b"5\r\nhello\r\n06\r\n world\r\n0\r\n\r\nGET /";
        assert_eq!(read(Extensions::Refused, body), Ok((b"hello world".to_vec(), body.len() - 5)));
        assert_eq!(
            read(Extensions::Refused, b"A\r\n0123456789\r\n000\r\n\r\n"),
            Ok((b"0123456789".to_vec(), 22))
        );
    }

    #[test]
    fn what_is_not_plainly_chunked_is_refused() {
        use ChunkError::*;
        for (body, want) in [
            (&b"5;a=b\r\nhello\r\n0\r\n\r\n"[..], Extension),
            (b"5 \r\nhello\r\n0\r\n\r\n", Extension),
            (b"5\nhello\r\n0\r\n\r\n", Size),
            (b"5\r\nhello\n0\r\n\r\n", DataEnd),
            (b"5\r\nhello0\r\n\r\n", DataEnd),
            (b"5\r\nhello\rx", DataEnd),
            (b"5\r\rhello", Size),
            (b"\r\nhello", Size),
            (b"+5\r\nhello", Size),
            (b"-5\r\nhello", Size),
            (b"0x5\r\nhello", Size),
            (b" 5\r\nhello", Size),
            (b"5_\r\nhello", Size),
            (b";\r\n", Size),
            (b"fffffffffffffffff\r\n", Size),
            (b"00000000000000005\r\nhello", Size),
            (b"0\r\n\n", Trailer),
            (b"0\r\na: b\n\r\n", Trailer),
            (b"0\r\na : b\r\n\r\n", Trailer),
            (b"0\r\n a: b\r\n\r\n", Trailer),
        ] {
            assert_eq!(read(Extensions::Refused, body), Err(want), "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn the_extensions_of_an_answer_are_dropped_but_not_the_rules_for_lines() {
        let body = b"5;a=\"b\"\r\nhello\r\n0 ; x\r\n\r\n";
        assert_eq!(read(Extensions::Dropped, body), Ok((b"hello".to_vec(), body.len())));
        assert_eq!(read(Extensions::Dropped, b"5;a\nhello"), Err(ChunkError::Extension));
        assert_eq!(read(Extensions::Dropped, b"5;a\r5\r\nhello"), Err(ChunkError::Size));
        let long = [b"5;".as_slice(), &[b'x'; 2000], b"\r\nhello\r\n0\r\n\r\n"].concat();
        assert_eq!(read(Extensions::Dropped, &long), Err(ChunkError::Extension));
    }

    #[test]
    fn a_trailer_section_is_bounded() {
        let large = [b"0\r\na: ".as_slice(), &vec![b'v'; TRAILER_BYTES_MAX], b"\r\n\r\n"].concat();
        assert_eq!(read(Extensions::Refused, &large), Err(ChunkError::Trailer));
        let mut reader = ChunkedReader::new(Extensions::Refused);
        assert_eq!(reader.step(b"0\r\n"), Ok(ChunkStep::Skip(3)));
        assert_eq!(
            reader.step(&vec![b'v'; TRAILER_BYTES_MAX + 1]),
            Err(ChunkError::Trailer),
            "before its end is there"
        );
    }

    #[test]
    fn a_chunk_head_reads_back_as_its_size() {
        for size in [1, 9, 15, 16, 255, 4096, 32 * 1024, usize::MAX] {
            let head = ChunkHead::new(size);
            assert_eq!(head.as_bytes(), format!("{size:x}\r\n").as_bytes());
        }
    }
}
