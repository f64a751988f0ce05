//! What becomes of an exchange when one of its limits passes: most are the end of it, some begin anew.
//!
//! Not here: the limits themselves (see `deadline`, `pace`), who waits for what (see `exchange`).

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::{End, Seen};
use crate::deadline::{Wait, Waits, wait, wait_no_longer};
use crate::endpoint::UpstreamSettings;
use crate::forward::grpc::is_talk;
use crate::h1::{Known, RequestHead};
use crate::reason::Reason;
use crate::relay::Terms;
use crate::turn;

/// How often a client is looked at that nobody reads from: the system tells of its reset, but wakes only those who read.
const LOOK: Duration = Duration::from_secs(1);

/// What is borne in one exchange.
pub(super) struct Patience<'a> {
    pub(super) waits: &'a Waits,
    pub(super) settings: &'a UpstreamSettings,
    /// How the client may send its body.
    pub(super) up_terms: Terms<'a>,
    pub(super) seen: &'a Seen,
    pub(super) head: &'a RequestHead,
}

impl Patience<'_> {
    /// Whether the body stands still because the instance takes nothing of it.
    pub(super) fn is_held_up(&self) -> bool {
        let up = self.waits.up.get();
        up.limit.is_some() && up.reason == Reason::UpstreamTimeout
    }

    /// Has the task woken in a while, whatever happens until then.
    pub(super) fn look_again(&self) {
        if self.waits.look.get().is_none() {
            self.waits.look.set(Some(turn::now() + LOOK));
        }
    }

    /// Whether a limit that has passed is none: both sides may go on for as long as they say something.
    pub(super) fn goes_on(&self, limit: Instant) -> bool {
        let Self { waits, settings, seen, .. } = self;
        if waits.look.get() == Some(limit) {
            waits.look.set(None);
            if self.is_held_up() {
                self.look_again();
            }
            return true;
        }
        if waits.total == Some(limit) || seen.status.get().is_none() || seen.uploaded.get() {
            return false;
        }
        let passed =
            |wait: &Cell<Wait>, reason| wait.get().limit == Some(limit) && wait.get().reason == reason;
        if passed(&waits.up, Reason::ClientTimeout) || passed(&waits.up, Reason::BodyTooSlow) {
            return self.bears_silence();
        }
        let moved = seen.sent.get() > seen.sent_before.replace(seen.sent.get());
        if moved && passed(&waits.down, Reason::UpstreamCut) {
            wait(&waits.down, settings.idle_timeout, Reason::UpstreamCut);
            return true;
        }
        false
    }

    /// Whether a client may go on that has said little or nothing of its body since the answer began: what it took of the
    /// answer counts as if it had sent that, and in a conversation nobody counts.
    fn bears_silence(&self) -> bool {
        let Self { waits, seen, up_terms, .. } = self;
        if is_talk(self.head.first(Known::ContentType)) {
            // The answer alone says how long a silence is too long.
            wait_no_longer(&waits.up);
            return true;
        }
        let taken = seen.body_bytes.get();
        let moved = taken - seen.body_bytes_before.replace(taken);
        if let Some((pace, _)) = up_terms.pace {
            pace.end(turn::now());
            pace.moved(moved as usize);
        }
        up_terms.wait(&waits.up);
        moved > 0
    }
}

/// How an exchange ends when one of its limits has passed.
pub(super) fn timed_out(reason: Reason, seen: &Seen) -> End {
    match reason {
        Reason::ClientTimeout if seen.status.get().is_none() => {
            End::BadRequest(reason, "the request body did not arrive in time")
        }
        Reason::BodyTooSlow if seen.status.get().is_none() => {
            End::BadRequest(reason, "the request body arrived more slowly than this listener allows")
        }
        Reason::ClientTimeout | Reason::BodyTooSlow => End::ClientLeft(reason),
        _ if seen.status.get().is_some() => End::Cut(reason),
        Reason::TotalTimeout => End::NoAnswer(reason, "the request took longer than its route allows"),
        Reason::UpstreamClosed => End::NoAnswer(reason, "the instance stopped reading and did not answer"),
        _ => End::NoAnswer(reason, "the instance did not answer in time"),
    }
}
