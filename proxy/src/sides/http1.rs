//! The sides of HTTP/1.1 connections: framing is removed from what comes and added to what goes.
//!
//! Not here: when a body ends (see `h1`), opening connections (see `upstream`).

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::{Answers, Downstream, Flow, NoHead, Piece, Sink, Source, SourceError};
use crate::buffers::{Buffers, read_lent};
use crate::h1::chunked::{ChunkHead, Extensions};
use crate::h1::{BodyLength, BodyReader, HeadScanner, InvalidResponse, ResponseHead, Scan, Step, Version};
use crate::stream::{Duplex, Stream};

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
    let mut data = Bytes::new();
    if read > 0 {
        let mut taken = buffer.split_to(read);
        if end > start {
            taken.truncate(end);
            taken.advance(start);
            data = taken.freeze();
        }
    }
    Piece { data, ended: body.is_done(), trailers: body.take_trailers(), broken }
}

/// A body that comes on a connection.
#[derive(Debug)]
pub(crate) struct Body<'a, S> {
    /// The connection.
    pub io: &'a Duplex<S>,
    /// What was read from it and not yet taken.
    pub buffer: &'a mut BytesMut,
    /// Where its memory comes from.
    pub buffers: &'a Buffers,
    /// Where the body is.
    pub reader: BodyReader,
}

impl<S: Stream> Source for Body<'_, S> {
    async fn there(&mut self) -> Piece {
        take(&mut self.reader, self.buffer)
    }

    async fn more(&mut self) -> Result<(), SourceError> {
        let read = read_lent(self.io, self.buffer, self.buffers).await.map_err(|_| SourceError::Read)?;
        if read == 0 && !self.reader.ends_with_the_connection() {
            return Err(SourceError::Cut);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffers.give_back(std::mem::take(self.buffer));
        }
    }

    fn become_raw(&mut self) {
        self.reader = BodyReader::new(BodyLength::UntilClose, Extensions::Refused);
    }
}

impl<S: Stream> Sink for Duplex<S> {
    async fn write(&self, head: &[u8], piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        let data = &piece.data[..];
        if !flow.chunked {
            return send(self, &mut [head, data].map(IoSlice::new), data.len(), flow).await;
        }
        let trailers = piece.trailers.as_ref().map_or(&b""[..], |trailers| trailers.lines());
        let chunk = (!data.is_empty()).then(|| ChunkHead::new(data.len()));
        let (before, after): (&[u8], &[u8]) = match &chunk {
            Some(chunk) => (chunk.as_bytes(), b"\r\n"),
            None => (b"", b""),
        };
        let last: [&[u8]; 3] = if piece.ended { [b"0\r\n", trailers, b"\r\n"] } else { [b"", b"", b""] };
        let mut parts = [head, before, data, after, last[0], last[1], last[2]].map(IoSlice::new);
        send(self, &mut parts, data.len(), flow).await
    }

    async fn end(&self) -> io::Result<()> {
        self.shutdown().await
    }

    async fn has_room(&self) -> io::Result<()> {
        self.all_sent().await
    }
}

/// Sends a message's parts, `body` octets of a body among them.
async fn send<S: Stream>(
    io: &Duplex<S>,
    parts: &mut [IoSlice<'_>],
    body: usize,
    flow: &Flow<'_>,
) -> io::Result<()> {
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    flow.waits();
    io.write_all(parts, |written| {
        left = left.saturating_sub(written);
        flow.taken(written, left);
    })
    .await?;
    flow.done(body);
    Ok(())
}

impl<S: Stream> Downstream for Duplex<S> {
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_reset(cx)
    }

    fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll_left(self, cx)
    }

    fn poll_broken(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.is_broken() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn framing(&self, version: Version, length: BodyLength) -> BodyLength {
        match length {
            BodyLength::Chunked | BodyLength::UntilClose if version == Version::Http10 => {
                BodyLength::UntilClose
            }
            BodyLength::Chunked | BodyLength::UntilClose => BodyLength::Chunked,
            known => known,
        }
    }

    fn cut(&self, length: BodyLength) {
        // A missing last chunk, or missing octets, tell it already.
        if length == BodyLength::UntilClose {
            self.reset_on_close();
        }
    }
}

/// How an instance ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It ended its direction.
    Orderly,
    /// By a reset.
    Reset,
}

/// What an instance answers on a connection.
#[derive(Debug)]
pub(crate) struct Incoming<'a, S> {
    /// The connection.
    pub io: &'a Duplex<S>,
    /// What was read from it and not yet used; empty at first.
    pub buffer: &'a mut BytesMut,
    /// Where its memory comes from.
    pub buffers: &'a Buffers,
    /// An octet has come.
    pub begun: bool,
    /// How the connection ended before an answer, if it did.
    pub ended: Option<Ending>,
}

impl<S: Stream> Answers for Incoming<'_, S> {
    type Body<'a>
        = Body<'a, S>
    where
        Self: 'a;

    async fn head(&mut self, to_head: bool) -> Result<ResponseHead, NoHead> {
        let mut scanner = HeadScanner::default();
        let invalid = |InvalidResponse(text)| NoHead::Invalid(text);
        loop {
            if !self.buffer.is_empty() {
                let scan = scanner.scan(self.buffer).map_err(|error| invalid(error.into()))?;
                if let Scan::Complete(end) = scan {
                    let raw = self.buffer.split_to(end).freeze();
                    return ResponseHead::read(raw, to_head).map_err(invalid);
                }
                ResponseHead::may_start(self.buffer).map_err(invalid)?;
            }
            match read_lent(self.io, self.buffer, self.buffers).await {
                Ok(1..) => self.begun = true,
                Ok(0) | Err(_) if self.begun => {
                    return Err(NoHead::Closed("the instance's answer broke off in its header"));
                }
                Ok(0) => {
                    self.ended = Some(Ending::Orderly);
                    return Err(NoHead::Closed("the instance closed the connection without an answer"));
                }
                // TLS 1.3 has such news after the handshake.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(NoHead::Closed(
                        "the instance ended TLS; if it asks for a certificate, see `[upstream_tls] cert`",
                    ));
                }
                Err(error) => {
                    self.ended = (error.kind() == io::ErrorKind::ConnectionReset).then_some(Ending::Reset);
                    return Err(NoHead::Closed("the connection to the instance broke before an answer"));
                }
            }
        }
    }

    fn body(&mut self, length: BodyLength) -> Body<'_, S> {
        let reader = BodyReader::new(length, Extensions::Dropped);
        Body { io: self.io, buffer: self.buffer, buffers: self.buffers, reader }
    }

    fn has_begun(&self) -> bool {
        self.begun
    }

    fn is_clean(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::chunked::ChunkError;

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
