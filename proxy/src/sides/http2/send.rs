//! A body that goes out on an HTTP/2 stream.
//!
//! Data is handed to `h2` only as far as the windows of the other side allow, so that what waits for a slow reader waits in
//! its source.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use super::fields::read_lines;
use crate::sides::{Flow, Piece};

/// Pieces up to this size are copied: a small one would keep a whole buffer of its source from being used again.
const COPIED_MAX: usize = 4 * 1024;

/// Where the body of one message goes; there is no stream before its head has gone.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(RefCell<Option<SendStream<Bytes>>>);

impl Outgoing {
    /// The head has gone; the body follows on this stream.
    pub(crate) fn start(&self, stream: SendStream<Bytes>) {
        *self.0.borrow_mut() = Some(stream);
    }

    /// Sends a piece, and the end behind it if it is the last one. Waits for the windows.
    pub(crate) async fn send(&self, piece: &Piece, flow: &Flow<'_>) -> io::Result<()> {
        let octets = piece.data.len();
        let trailers = piece.trailers.as_ref().filter(|trailers| piece.ended && !trailers.is_empty());
        let ends = piece.ended && trailers.is_none();
        if octets > 0 {
            let mut left =
                if octets <= COPIED_MAX { Bytes::copy_from_slice(&piece.data) } else { piece.data.clone() };
            flow.waits();
            poll_fn(|cx| self.poll_data(cx, &mut left, ends, flow)).await?;
        } else if ends {
            self.end()?;
        }
        if let Some(trailers) = trailers {
            let fields = read_lines(&Bytes::copy_from_slice(trailers.lines()));
            self.with(|stream| stream.send_trailers(fields))?;
        }
        flow.done(octets);
        Ok(())
    }

    fn poll_data(
        &self,
        cx: &mut Context<'_>,
        left: &mut Bytes,
        ends: bool,
        flow: &Flow<'_>,
    ) -> Poll<io::Result<()>> {
        let mut stream = self.0.borrow_mut();
        let stream = stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.reserve_capacity(left.len());
        loop {
            match stream.capacity().min(left.len()) {
                0 => match ready!(stream.poll_capacity(cx)) {
                    Some(capacity) => drop(capacity.map_err(gone)?),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => {
                    let data = left.split_to(room);
                    stream.send_data(data, ends && left.is_empty()).map_err(gone)?;
                    flow.taken(room, left.len());
                    if left.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Waits until the windows have room.
    pub(crate) async fn has_room(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut stream = self.0.borrow_mut();
            let stream = stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            stream.reserve_capacity(1);
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(capacity) => drop(capacity.map_err(gone)?),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends the stream's direction.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.with(|stream| stream.send_data(Bytes::new(), true))
    }

    fn with(&self, work: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>) -> io::Result<()> {
        let mut stream = self.0.borrow_mut();
        work(stream.as_mut().ok_or(io::ErrorKind::NotConnected)?).map_err(gone)
    }
}

/// The stream, or the connection, is no more.
pub(crate) fn gone(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
