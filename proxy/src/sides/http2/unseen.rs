//! Requests of clients that `h2` refuses by itself, before anybody here sees them: they are told like all others (design
//! rule 8).
//!
//! What opened a stream, was not shown to us, and is answered nevertheless, has been refused by `h2`: with a head, which is
//! its 431, or with a reset. Not here: what it shows us and we refuse (see `request`), how it is told (see `downstream`).

use std::collections::VecDeque;

use crate::reason::Reason;

/// Most streams remembered; the oldest are forgotten first. More than a client may open before `h2` has looked at them.
const REMEMBERED_MAX: usize = 1024;

/// The code of a reset that says that there are too many streams (RFC 9113 section 7).
const REFUSED_STREAM: u32 = 7;

/// The streams of one client that nobody has seen yet.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// Opened and not shown, in the order they came.
    opened: VecDeque<u32>,
    newest: u32,
    /// Refused and not told yet.
    refused: Vec<(u32, Reason)>,
}

impl Unseen {
    /// A header block has begun on this stream.
    pub(super) fn header(&mut self, stream: u32) {
        if stream <= self.newest {
            return; // trailers
        }
        self.newest = stream;
        if self.opened.len() == REMEMBERED_MAX {
            self.opened.pop_front();
        }
        self.opened.push_back(stream);
    }

    /// `h2` has shown it to us: it is ours to tell, even if `h2` has reset it since.
    pub(super) fn shown(&mut self, stream: u32) {
        if !self.forget(stream) {
            self.refused.retain(|(refused, _)| *refused != stream);
        }
    }

    /// The head of an answer goes out.
    pub(super) fn answered(&mut self, stream: u32) {
        if self.forget(stream) {
            self.refused.push((stream, Reason::HeaderTooLarge));
        }
    }

    /// A reset goes out, with this code.
    pub(super) fn reset(&mut self, stream: u32, code: Option<u32>) {
        if self.forget(stream) {
            let is_full = code == Some(REFUSED_STREAM);
            let reason = if is_full { Reason::StreamsFull } else { Reason::RequestInvalid };
            self.refused.push((stream, reason));
        }
    }

    /// Why one of the requests was refused that have not been told yet. Asked when `h2` has nothing more to show.
    pub(super) fn next_refused(&mut self) -> Option<Reason> {
        self.refused.pop().map(|(_, reason)| reason)
    }

    /// Whether it was among those that nobody has seen. Mostly there are none, and the one that is shown is the first.
    fn forget(&mut self, stream: u32) -> bool {
        let at = self.opened.iter().position(|opened| *opened == stream);
        at.and_then(|at| self.opened.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_without_having_been_shown_was_refused() {
        let mut unseen = Unseen::default();
        for stream in [1, 3, 5, 7, 9, 5] {
            unseen.header(stream);
        }
        unseen.shown(1);
        unseen.shown(9);
        for stream in [1, 3] {
            unseen.answered(stream);
        }
        assert_eq!((unseen.next_refused(), unseen.next_refused()), (Some(Reason::HeaderTooLarge), None));
        unseen.reset(5, Some(1));
        unseen.header(11);
        unseen.reset(11, Some(3));
        unseen.shown(11);
        assert_eq!(unseen.next_refused(), Some(Reason::RequestInvalid));
        unseen.reset(7, Some(REFUSED_STREAM));
        assert_eq!(unseen.next_refused(), Some(Reason::StreamsFull));
        unseen.reset(9, Some(1));
        unseen.reset(5, Some(5));
        assert_eq!(unseen.next_refused(), None, "a stream that was shown is ours, and each is told once");
    }

    #[test]
    fn what_is_never_answered_is_forgotten() {
        let mut unseen = Unseen::default();
        for stream in 0..10_000 {
            unseen.header(2 * stream + 1);
        }
        assert_eq!(unseen.opened.len(), REMEMBERED_MAX);
        unseen.shown(19_999);
        assert_eq!(unseen.opened.len(), REMEMBERED_MAX - 1);
    }
}
