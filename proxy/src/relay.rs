//! Moves a body from one side to the other, as it comes: at most one piece is on its way, and the reader waits for the
//! writer.
//!
//! Not here: framing and protocols (see `sides`), heads (see `forward`), what a failure means (see `downstream`).

use std::time::Duration;

use crate::deadline::{wait, wait_no_longer};
use crate::h1::chunked::ChunkError;
use crate::reason::Reason;
use crate::sides::{Flow, Piece, Sink, Source, SourceError};

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

impl From<SourceError> for RelayError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Cut => Self::Cut,
            SourceError::Read => Self::Read,
        }
    }
}

/// How long a source may be silent, and what it means if it takes longer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Silence {
    /// Longest silence.
    pub patience: Duration,
    /// What a longer one means.
    pub late: Reason,
}

/// Moves the rest of a body, `head` in front of it. `taken` sees each piece before it is written.
pub(crate) async fn relay(
    source: &mut impl Source,
    sink: &impl Sink,
    flow: &Flow<'_>,
    silence: Silence,
    mut head: &[u8],
    mut taken: impl FnMut(&Piece),
) -> Result<(), RelayError> {
    loop {
        let piece = source.there().await;
        taken(&piece);
        if !head.is_empty() || !piece.data.is_empty() || piece.ended {
            sink.write(head, &piece, flow).await.map_err(|_| RelayError::Write)?;
            head = b"";
        }
        if let Some(error) = piece.broken {
            return Err(RelayError::Framing(error));
        }
        if piece.ended {
            return Ok(());
        }
        drop(piece); // it lies in the buffer that is read into
        wait(flow.waits, silence.patience, silence.late);
        source.more().await?;
        wait_no_longer(flow.waits);
    }
}
