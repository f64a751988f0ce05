//! When a client floods: what costs us work and brings nobody an answer is paid from budgets that time and what we send
//! refill. Resets (rapid reset, CVE-2023-44487), PING, SETTINGS, PRIORITY, WINDOW_UPDATE, CONTINUATION, DATA without octets
//! and frames of unknown kinds are counted.
//!
//! Not here: header blocks that are too large, streams that break the rules and DATA in crumbs (see `receive`), what follows
//! (see `downstream::http2`).

use tokio::time::Instant;

use super::frame::{Head, flag, kind};
use crate::sides::http2::calm::{Budget, CAUSED, FRAMES, READ_AT_ONCE, RESETS};

/// Counts the frames of a connection.
#[derive(Debug)]
pub(super) struct Calm {
    frames: Budget,
    resets: Budget,
}

impl Calm {
    /// For a new connection.
    pub(super) fn new(now: Instant) -> Self {
        Self { frames: Budget::new(FRAMES, now), resets: Budget::new(RESETS, now) }
    }

    /// Whether this frame, which has come, is no flood.
    pub(super) fn came(&mut self, head: Head, now: Instant) -> bool {
        match head.kind {
            kind::RST_STREAM => self.resets.spend(now),
            kind::HEADERS => true,
            kind::DATA if head.len > 0 || head.has(flag::END_STREAM) => true,
            // Ours are few, and each is answered once.
            kind::SETTINGS if head.has(flag::ACK) => true,
            _ => self.frames.spend(now),
        }
    }

    /// A frame of an answer goes.
    pub(super) fn went(&mut self, octets: usize, ends: bool) {
        self.frames.earn(CAUSED + 2 * (octets as u32 / READ_AT_ONCE));
        self.resets.earn(u32::from(ends));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn head(kind: u8, flags: u8, len: usize) -> Head {
        Head { len, kind, flags, stream: 1 }
    }

    #[test]
    fn control_frames_without_answers_run_out_and_come_back_with_time() {
        for (kind, flags) in [(2, 0), (4, 0), (6, 0), (6, 1), (8, 0), (9, 4), (0, 0), (77, 0)] {
            let start = Instant::now();
            let (mut calm, frame) = (Calm::new(start), head(kind, flags, 0));
            assert!((0..FRAMES.0).all(|_| calm.came(frame, start)), "{kind}");
            let later = start + Duration::from_secs(1);
            assert!((0..FRAMES.1).all(|_| calm.came(frame, later)), "{kind}");
            assert!(!calm.came(frame, later), "{kind}");
        }
    }

    #[test]
    fn window_updates_of_a_client_that_takes_answers_are_no_flood() {
        let now = Instant::now();
        let mut calm = Calm::new(now);
        for _ in 0..10 * FRAMES.0 {
            calm.went(100, false);
            assert!(calm.came(head(kind::WINDOW_UPDATE, 0, 4), now));
            assert!(calm.came(head(kind::WINDOW_UPDATE, 0, 4), now));
        }
    }

    #[test]
    fn resets_are_bounded_by_answers_and_time() {
        let (reset, start) = (head(kind::RST_STREAM, 0, 4), Instant::now());
        let mut calm = Calm::new(start);
        for _ in 0..10 * RESETS.0 {
            calm.went(10, true);
            assert!(calm.came(reset, start), "one reset for each answer");
        }
        calm.went(10, true);
        assert!((0..RESETS.0).all(|_| calm.came(reset, start)));
        assert!(!calm.came(reset, start));
        let later = start + Duration::from_secs(3600);
        assert!((0..RESETS.0).all(|_| calm.came(reset, later)), "an hour gives back no more than there was");
        assert!(!calm.came(reset, later));
    }
}
