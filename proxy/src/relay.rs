//! Moves a body from one side to the other, as it comes: at most one piece is on its way, and the reader waits for the
//! writer.
//!
//! Not here: framing and protocols (see `sides`), heads (see `forward`), what a failure means (see `downstream`).

use std::cell::Cell;
use std::time::Duration;

use crate::deadline::{Wait, wait_no_longer};
use crate::h1::chunked::ChunkError;
use crate::pace::Pace;
use crate::reason::Reason;
use crate::sides::{Flow, Piece, Sink, Source, SourceError};
use crate::turn;

/// What a failure of the request or answer so far was, for the side that notices it.
#[derive(Debug)]
pub(crate) enum RelayError {
    /// The source ended before its body did.
    Cut,
    /// Reading failed.
    Read,
    /// The source broke the rules of its protocol.
    Invalid,
    /// The body is not framed as announced.
    Framing(ChunkError),
    /// There are more octets than the source may have.
    TooLarge,
    /// Writing failed.
    Write,
}

impl From<SourceError> for RelayError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Cut => Self::Cut,
            SourceError::Read => Self::Read,
            SourceError::Invalid => Self::Invalid,
        }
    }
}

/// How long a source may be silent, how slow and how large its body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// Longest silence.
    pub patience: Duration,
    /// What a longer one means.
    pub late: Reason,
    /// How slow it may be, and what it means if it is slower.
    pub pace: Option<(&'a Pace, Reason)>,
    /// Most octets.
    pub octets_max: u64,
}

impl<'a> Terms<'a> {
    /// For a body of any size at any speed.
    pub(crate) fn patient(patience: Duration, late: Reason) -> Self {
        Self { patience, late, pace: None, octets_max: u64::MAX }
    }

    /// The source is asked for more.
    pub(crate) fn wait(&self, waits: &Cell<Wait>) {
        let now = turn::now();
        let silence = Wait { limit: Some(now + self.patience), reason: self.late };
        let slowness = self.pace.and_then(|(pace, reason)| {
            let left = pace.begin(now);
            (left < self.patience).then_some(Wait { limit: Some(now + left), reason })
        });
        waits.set(slowness.unwrap_or(silence));
    }
}

/// Moves the rest of a body, `head` in front of it. `taken` sees each piece before it is written.
pub(crate) async fn relay(
    source: &mut impl Source,
    sink: &impl Sink,
    flow: &Flow<'_>,
    terms: Terms<'_>,
    mut head: &[u8],
    mut taken: impl FnMut(&Piece),
) -> Result<(), RelayError> {
    let mut octets_left = terms.octets_max;
    loop {
        let piece = source.there().await;
        octets_left = octets_left.checked_sub(piece.data.len() as u64).ok_or(RelayError::TooLarge)?;
        if let Some((pace, _)) = terms.pace {
            pace.moved(piece.data.len());
        }
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
        terms.wait(flow.waits);
        source.more().await?;
        wait_no_longer(flow.waits);
        if let Some((pace, _)) = terms.pace {
            pace.end(turn::now());
        }
    }
}
