//! A body that is compressed on its way: what comes in pieces goes out in pieces, and what was taken is not kept back while
//! there is nothing more to take.
//!
//! Not here: which bodies (see `features::compress`), how (see `features::encoder`).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use crate::features::encoder::Encoder;
use crate::sides::{Piece, Source, SourceError};

/// A body, compressed.
#[derive(Debug)]
pub(super) struct Compressed<B> {
    body: B,
    /// `None` once the body has ended, or the encoder has failed.
    encoder: Option<Box<Encoder>>,
    /// What was flushed and not yet taken.
    flushed: Vec<u8>,
    /// The encoder keeps octets that the client could read.
    keeps: bool,
    /// The last piece has been given.
    ended: bool,
}

impl<B: Source> Compressed<B> {
    pub(super) fn new(body: B, encoder: Box<Encoder>) -> Self {
        Self { body, encoder: Some(encoder), flushed: Vec::new(), keeps: false, ended: false }
    }

    /// Puts a piece through the encoder.
    fn encode(&mut self, piece: &Piece) -> io::Result<Vec<u8>> {
        let Some(mut encoder) = self.encoder.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        encoder.write(&piece.data)?;
        self.keeps |= !piece.data.is_empty();
        let mut out = encoder.take();
        if piece.ended {
            out.extend(encoder.finish()?);
        } else {
            self.encoder = Some(encoder);
        }
        Ok(out)
    }

    /// Makes what the encoder keeps readable; false when it keeps nothing.
    fn flush(&mut self) -> Result<bool, SourceError> {
        self.keeps = false;
        let Some(encoder) = &mut self.encoder else { return Ok(false) };
        encoder.flush().map_err(|_| SourceError::Read)?;
        self.flushed = encoder.take();
        Ok(!self.flushed.is_empty())
    }
}

impl<B: Source> Source for Compressed<B> {
    async fn there(&mut self) -> Piece {
        if !self.flushed.is_empty() {
            return Piece { data: std::mem::take(&mut self.flushed).into(), ..Piece::default() };
        }
        let piece = self.body.there().await;
        match self.encode(&piece) {
            Ok(data) => {
                self.ended = piece.ended;
                Piece { data: data.into(), ..piece }
            }
            // The next wait tells.
            Err(_) => Piece::default(),
        }
    }

    async fn more(&mut self) -> Result<(), SourceError> {
        if self.encoder.is_none() {
            return Err(SourceError::Read);
        }
        if self.keeps {
            let now = {
                let mut more = pin!(self.body.more());
                poll_fn(|cx| Poll::Ready(more.as_mut().poll(cx))).await
            };
            if let Poll::Ready(done) = now {
                return done;
            }
            if self.flush()? {
                return Ok(());
            }
        }
        self.body.more().await
    }

    fn is_done(&self) -> bool {
        self.ended
    }

    fn rest(&mut self) {
        self.body.rest();
    }

    fn become_raw(&mut self) {
        self.body.become_raw();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Read;

    use bytes::Bytes;
    use fairway_config::labels::features::{Coding, Compression};

    use super::*;

    /// What a source does next.
    #[derive(Debug, Clone, Copy)]
    enum Next {
        Data(&'static [u8]),
        Pause,
        End,
        Cut,
    }

    /// Does what it was told, and notes how often it was asked for more.
    struct Told(VecDeque<Next>);

    impl Source for Told {
        async fn there(&mut self) -> Piece {
            match self.0.front() {
                Some(Next::Data(data)) => {
                    let data = Bytes::from_static(data);
                    self.0.pop_front();
                    Piece { data, ..Piece::default() }
                }
                Some(Next::End) => Piece::whole(Bytes::new()),
                _ => Piece::default(),
            }
        }

        async fn more(&mut self) -> Result<(), SourceError> {
            if let Some(Next::Pause) = self.0.front() {
                self.0.pop_front();
                tokio::task::yield_now().await;
            }
            match self.0.front() {
                Some(Next::Cut) => Err(SourceError::Cut),
                _ => Ok(()),
            }
        }

        fn is_done(&self) -> bool {
            false
        }

        fn rest(&mut self) {}

        fn become_raw(&mut self) {}
    }

    /// Everything that comes out, piece by piece, as a relay would take it.
    async fn relayed(told: &[Next]) -> Result<Vec<Vec<u8>>, SourceError> {
        let encoder = Encoder::new(Compression { coding: Coding::Gzip, level: 5 }).expect("an encoder");
        let mut body = Compressed::new(Told(told.iter().copied().collect()), Box::new(encoder));
        let mut pieces = Vec::new();
        loop {
            let piece = body.there().await;
            if !piece.data.is_empty() {
                pieces.push(piece.data.to_vec());
            }
            if piece.ended {
                assert!(body.is_done());
                return Ok(pieces);
            }
            body.more().await?;
        }
    }

    fn decoded(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        // What is cut can be read up to the cut.
        let _ = flate2::read::GzDecoder::new(&*pieces.concat()).read_to_end(&mut out);
        out
    }

    #[tokio::test]
    async fn pieces_are_flushed_when_nothing_more_is_there_and_not_before() {
        let told = [Next::Data(b"ab"), Next::Data(b"cd"), Next::Pause, Next::Data(b"ef"), Next::End];
        let pieces = relayed(&told).await.expect("it ends");
        assert_eq!(decoded(&pieces), b"abcdef");
        let read: Vec<_> = (1..=pieces.len()).map(|count| decoded(&pieces[..count])).collect();
        assert!(read.contains(&b"abcd".to_vec()), "the pause let the client read: {read:?}");
        assert!(!read.contains(&b"ab".to_vec()), "nothing was flushed while more was there: {read:?}");
    }

    #[tokio::test]
    async fn a_body_in_one_piece_goes_out_in_one_piece() {
        let encoder = Encoder::new(Compression { coding: Coding::Gzip, level: 5 }).expect("an encoder");
        let mut body = Compressed::new(Told([Next::End].into()), Box::new(encoder));
        let piece = body.there().await;
        assert!(piece.ended && !piece.data.is_empty());
        assert_eq!(decoded(&[piece.data.to_vec()]), b"");
    }

    #[tokio::test]
    async fn a_body_that_is_cut_has_no_end() {
        let told = [Next::Data(b"abc"), Next::Pause, Next::Cut];
        assert_eq!(relayed(&told).await.expect_err("it is cut"), SourceError::Cut);
    }
}
