//! A body that comes on an HTTP/2 stream.
//!
//! What was taken is given back to the windows at once: at most one piece is on its way, so a reader that is slow shrinks
//! the window of the stream and slows the sender down.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;

use super::fields::trailers;
use crate::h1::chunked::ChunkError;
use crate::sides::{Piece, Source, SourceError};

/// A body that comes on a stream.
#[derive(Debug)]
pub(crate) struct Body {
    /// `None`: there was never one.
    stream: Option<RecvStream>,
    /// It came while somebody waited for it.
    held: Bytes,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The message has no body, whatever the stream does.
    None,
    /// More may come.
    Open,
    /// All data has come; the end, with what trails, is still to be told.
    Trailed(Piece),
    /// All of it has been taken.
    Done,
    /// It broke off.
    Broken(SourceError),
}

impl Body {
    /// Of a message with or without a body.
    pub(crate) fn new(stream: RecvStream, has_body: bool) -> Self {
        let state = if has_body { State::Open } else { State::None };
        Self { stream: Some(stream), held: Bytes::new(), state }
    }

    /// Of a message that never came.
    pub(crate) fn lost() -> Self {
        Self { stream: None, held: Bytes::new(), state: State::Broken(SourceError::Cut) }
    }

    /// The next data. `None`: there is no more; the state says why.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() && !stream.is_end_stream() => {}
                Some(Ok(data)) => {
                    // Fails when the stream is gone, which the next poll tells.
                    let _ = stream.flow_control().release_capacity(data.len());
                    if stream.is_end_stream() {
                        self.state = State::Trailed(Piece { ended: true, ..Piece::default() });
                    }
                    return Poll::Ready(Some(data));
                }
                Some(Err(error)) => self.state = State::Broken(broken(&error)),
                None => self.state = ready!(poll_end(stream, cx)),
            }
            if !matches!(self.state, State::Open) {
                return Poll::Ready(None);
            }
        }
    }

    /// What is there already.
    fn take(&mut self, cx: &mut Context<'_>) -> Piece {
        let mut data = std::mem::take(&mut self.held);
        if data.is_empty()
            && matches!(self.state, State::Open)
            && let Poll::Ready(Some(more)) = self.poll_data(cx)
        {
            data = more;
        }
        match &mut self.state {
            State::Trailed(end) => {
                let piece = Piece { data, ..std::mem::take(end) };
                self.state = State::Done;
                piece
            }
            State::None | State::Done => Piece::whole(data),
            State::Open | State::Broken(_) => Piece { data, ..Piece::default() },
        }
    }
}

/// What follows the data.
fn poll_end(stream: &mut RecvStream, cx: &mut Context<'_>) -> Poll<State> {
    let mut end = Piece { ended: true, ..Piece::default() };
    match ready!(stream.poll_trailers(cx)) {
        Ok(None) => {}
        Ok(Some(fields)) => match trailers(&fields) {
            Ok(trailers) => end.trailers = Some(trailers).filter(|trailers| !trailers.is_empty()),
            Err(_) => end = Piece { broken: Some(ChunkError::Trailer), ..Piece::default() },
        },
        Err(error) => return Poll::Ready(State::Broken(broken(&error))),
    }
    Poll::Ready(State::Trailed(end))
}

fn broken(error: &h2::Error) -> SourceError {
    match (error.is_reset(), error.is_library()) {
        (true, true) => SourceError::Invalid,
        (true, false) => SourceError::Cut,
        (false, _) => SourceError::Read,
    }
}

impl Source for Body {
    async fn there(&mut self) -> Piece {
        poll_fn(|cx| Poll::Ready(self.take(cx))).await
    }

    async fn more(&mut self) -> Result<(), SourceError> {
        poll_fn(|cx| {
            if self.held.is_empty()
                && matches!(self.state, State::Open)
                && let Some(data) = ready!(self.poll_data(cx))
            {
                self.held = data;
            }
            match &self.state {
                State::Broken(error) if self.held.is_empty() => Poll::Ready(Err(*error)),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::None | State::Done)
    }

    fn rest(&mut self) {}

    fn become_raw(&mut self) {
        self.state = State::Open;
    }
}
