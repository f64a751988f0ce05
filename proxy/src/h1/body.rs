//! Follows a body of any framing to its end.

use super::chunked::{ChunkError, ChunkStep, ChunkedReader, Extensions};
use super::framing::BodyLength;
use super::trailers::Trailers;

/// Follows a body to its end.
#[derive(Debug)]
pub struct BodyReader(Kind);

#[derive(Debug)]
enum Kind {
    Exactly(u64),
    Chunked(ChunkedReader),
    UntilClose,
    Done,
}

/// What comes next in a body.
pub type Step = ChunkStep;

impl BodyReader {
    /// At the start of a body.
    pub fn new(length: BodyLength, extensions: Extensions) -> Self {
        Self(match length {
            BodyLength::Empty | BodyLength::Exactly(0) => Kind::Done,
            BodyLength::Exactly(octets) => Kind::Exactly(octets),
            BodyLength::Chunked => Kind::Chunked(ChunkedReader::new(extensions)),
            BodyLength::UntilClose => Kind::UntilClose,
        })
    }

    /// What the first octets of `input` are; the caller drops what [`Step::Skip`] and [`Step::Data`] count.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        match &mut self.0 {
            Kind::Done => Ok(Step::End),
            Kind::Chunked(chunked) => chunked.step(input),
            Kind::Exactly(_) | Kind::UntilClose if input.is_empty() => Ok(Step::More),
            Kind::UntilClose => Ok(Step::Data(input.len())),
            Kind::Exactly(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                if *left == 0 {
                    self.0 = Kind::Done;
                }
                Ok(Step::Data(here))
            }
        }
    }

    /// The connection ended. True when that is where the body ends, too.
    pub fn ends_with_the_connection(&mut self) -> bool {
        if matches!(self.0, Kind::UntilClose) {
            self.0 = Kind::Done;
        }
        self.is_done()
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Done => true,
            Kind::Chunked(chunked) => chunked.is_done(),
            Kind::Exactly(_) | Kind::UntilClose => false,
        }
    }

    /// Octets that still belong to the body, when that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.0 {
            Kind::Done => Some(0),
            Kind::Exactly(left) => Some(*left),
            Kind::Chunked(_) | Kind::UntilClose => None,
        }
    }

    /// The fields after a chunked body that has ended; `None` when there are none.
    pub fn take_trailers(&mut self) -> Option<Trailers> {
        match &mut self.0 {
            Kind::Chunked(chunked) => chunked.take_trailers(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_known_length_ends_after_its_octets() {
        let mut body = BodyReader::new(BodyLength::Exactly(5), Extensions::Refused);
        assert_eq!(body.step(b""), Ok(Step::More));
        assert_eq!(body.step(b"abc"), Ok(Step::Data(3)));
        assert!(!body.ends_with_the_connection(), "two octets are missing");
        assert_eq!(body.step(b"deGET /"), Ok(Step::Data(2)));
        assert_eq!(body.step(b"GET /"), Ok(Step::End));
    }

    #[test]
    fn a_body_without_framing_ends_with_the_connection_only() {
        let mut body = BodyReader::new(BodyLength::UntilClose, Extensions::Dropped);
        assert_eq!(body.step(b"abc"), Ok(Step::Data(3)));
        assert!(!body.is_done());
        assert!(body.ends_with_the_connection());
        assert!(body.is_done());
    }
}
