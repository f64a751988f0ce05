//! Moves a body from one connection to the other, as it comes: at most one buffer is on its way, and the reader waits for
//! the writer.
//!
//! Not here: when a body ends (see `h1`), heads (see `forward`), what a failure means (see `downstream`).

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::buffers::{Buffers, read_lent};
use crate::deadline::{Wait, wait, wait_no_longer};
use crate::h1::chunked::{ChunkError, ChunkHead};
use crate::h1::{BodyReader, Step, Trailers};
use crate::reason::Reason;
use crate::stream::{Duplex, Stream};

/// What a failure of the request or answer so far was, for the side that notices it.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// The source ended before its body did.
    Cut,
    /// Reading failed.
    Read,
    /// The body is not framed as announced.
    Framing(ChunkError),
    /// Writing failed.
    Write,
}

/// A piece of a body without its framing.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// The octets.
    pub data: BytesMut,
    /// The body ends behind them.
    pub ended: bool,
    /// The fields after the end.
    pub trailers: Option<Trailers>,
    /// What follows breaks the framing.
    pub broken: Option<ChunkError>,
}

/// Takes what `buffer` holds of a body, framing removed. What came before a fault in the framing is good.
pub(crate) fn take(body: &mut BodyReader, buffer: &mut BytesMut) -> Piece {
    let (mut read, mut start, mut end) = (0, 0, 0);
    let mut broken = None;
    loop {
        match body.step(&buffer[read..]) {
            Ok(Step::Skip(octets)) => read += octets,
            Ok(Step::Data(octets)) if start == end => {
                (start, end) = (read, read + octets);
                read = end;
            }
            // Chunks move together, so that they go on as one.
            Ok(Step::Data(octets)) => {
                buffer.copy_within(read..read + octets, end);
                (read, end) = (read + octets, end + octets);
            }
            Ok(Step::More | Step::End) => break,
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let mut data = BytesMut::new();
    if read > 0 {
        data = buffer.split_to(read);
        data.truncate(end);
        data.advance(start);
    }
    Piece { data, ended: body.is_done(), trailers: body.take_trailers(), broken }
}

/// How octets are written to the other side.
#[derive(Debug)]
pub(crate) struct Sink<'a, W> {
    /// Where to.
    pub to: &'a Duplex<W>,
    /// Bodies are chunked anew.
    pub chunked: bool,
    /// What this direction waits for.
    pub waits: &'a Cell<Wait>,
    /// Longest time without the other side taking an octet.
    pub patience: Duration,
    /// What it means if it takes longer.
    pub late: Reason,
    /// Octets taken by the other side, framing included; where somebody counts them.
    pub sent: Option<&'a Cell<u64>>,
    /// Octets of bodies handed over.
    pub body_bytes: &'a Cell<u64>,
}

impl<W: Stream> Sink<'_, W> {
    /// Writes a head and a piece of the body behind it, in one go; either may be empty.
    pub(crate) async fn write(&self, head: &[u8], piece: &Piece) -> io::Result<()> {
        let data = &piece.data[..];
        let trailers = piece.trailers.as_ref().map_or(&b""[..], |trailers| trailers.lines());
        let chunk = (self.chunked && !data.is_empty()).then(|| ChunkHead::new(data.len()));
        let (before, after): (&[u8], &[u8]) = match &chunk {
            Some(chunk) => (chunk.as_bytes(), b"\r\n"),
            None => (b"", b""),
        };
        let last: [&[u8]; 3] =
            if self.chunked && piece.ended { [b"0\r\n", trailers, b"\r\n"] } else { [b"", b"", b""] };
        let mut parts = [head, before, data, after, last[0], last[1], last[2]].map(IoSlice::new);
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        wait(self.waits, self.patience, self.late);
        self.to
            .write_all(&mut parts, |written| {
                if let Some(sent) = self.sent {
                    sent.set(sent.get() + written as u64);
                }
                left = left.saturating_sub(written);
                if left > 0 {
                    wait(self.waits, self.patience, self.late);
                }
            })
            .await?;
        wait_no_longer(self.waits);
        self.body_bytes.set(self.body_bytes.get() + data.len() as u64);
        Ok(())
    }
}

/// Where a body comes from.
#[derive(Debug)]
pub(crate) struct Source<'a, R> {
    /// The connection.
    pub from: &'a Duplex<R>,
    /// What was read from it and not yet taken.
    pub buffer: &'a mut BytesMut,
    /// Where its memory comes from.
    pub buffers: &'a Buffers,
    /// Where the body is.
    pub body: &'a mut BodyReader,
    /// Longest silence.
    pub patience: Duration,
    /// What it means if it takes longer.
    pub late: Reason,
}

/// Moves the rest of a body, `head` in front of it. `taken` sees each piece before it is written.
pub(crate) async fn relay<R: Stream, W: Stream>(
    source: Source<'_, R>,
    sink: &Sink<'_, W>,
    mut head: &[u8],
    mut taken: impl FnMut(&Piece),
) -> Result<(), RelayError> {
    let Source { from, buffer, buffers, body, patience, late } = source;
    loop {
        let piece = take(body, buffer);
        taken(&piece);
        if !head.is_empty() || !piece.data.is_empty() || piece.ended {
            sink.write(head, &piece).await.map_err(|_| RelayError::Write)?;
            head = b"";
        }
        if let Some(error) = piece.broken {
            return Err(RelayError::Framing(error));
        }
        if piece.ended {
            return Ok(());
        }
        drop(piece);
        wait(sink.waits, patience, late);
        let read = read_lent(from, buffer, buffers).await.map_err(|_| RelayError::Read)?;
        wait_no_longer(sink.waits);
        if read == 0 && !body.ends_with_the_connection() {
            return Err(RelayError::Cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::BodyLength;
    use crate::h1::chunked::Extensions;

    #[test]
    fn chunks_that_came_together_are_taken_as_one_piece() {
        let mut body = BodyReader::new(BodyLength::Chunked, Extensions::Refused);
        let mut buffer = BytesMut::from(&b"3\r\nabc\r\n1\r\nd\r\n2\r\nef\r\n0\r\nx: y\r\n\r\nGET /"[..]);
        let piece = take(&mut body, &mut buffer);
        assert_eq!(&piece.data[..], b"abcdef");
        assert!(piece.ended);
        assert_eq!(piece.trailers.expect("trailers").lines(), b"x: y\r\n");
        assert_eq!(&buffer[..], b"GET /");
    }

    #[test]
    fn a_piece_of_a_body_leaves_what_cannot_be_read_yet() {
        let mut body = BodyReader::new(BodyLength::Chunked, Extensions::Refused);
        let mut buffer = BytesMut::from(&b"5\r\nab"[..]);
        let piece = take(&mut body, &mut buffer);
        assert_eq!((&piece.data[..], piece.ended, buffer.len()), (&b"ab"[..], false, 0));
        buffer.extend_from_slice(b"cde\r\n0\r\na: b");
        let piece = take(&mut body, &mut buffer);
        assert_eq!((&piece.data[..], piece.ended, &buffer[..]), (&b"cde"[..], false, &b"a: b"[..]));
    }

    #[test]
    fn what_came_before_a_fault_is_good() {
        let mut body = BodyReader::new(BodyLength::Chunked, Extensions::Refused);
        let piece = take(&mut body, &mut BytesMut::from(&b"3\r\nabc\r\nnonsense"[..]));
        assert_eq!((&piece.data[..], piece.broken), (&b"abc"[..], Some(ChunkError::Size)));
    }
}
