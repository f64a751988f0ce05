//! One container in the book: as inspected last, and what events have said of this life since.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::Listed;
use crate::docker::container::{Container, Phase};
use crate::docker::signal::Signal;

/// How long after its stop timeout a container that still runs has ignored its stop signal (design rule 6).
const IGNORED: Duration = Duration::from_secs(5);

/// One container.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) container: Container,
    /// When its stop signal was seen in this life.
    pub(super) stopping: Option<Timestamp>,
    /// A signal that Docker takes as the wish to stop it was sent in this life: no restart follows.
    pub(super) stopped: bool,
    /// The last such signal: it may be of a life that no answer has shown yet.
    pub(super) last_signal: Option<Sent>,
    /// How often it was looked at again for an address.
    pub(super) address_retries: usize,
}

/// What is known of a container before its first inspect.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    /// Signals that came before the first answer, which tells what they mean.
    pub(super) signals: Vec<Sent>,
}

/// A signal that was sent to a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) signal: Option<Signal>,
    /// When we learned of it, by our clock.
    pub(super) seen: Timestamp,
    /// When it was sent, by the engine's clock.
    pub(super) at: Option<Timestamp>,
}
impl Entry {
    pub(super) fn new(container: Container) -> Self {
        Self { container, stopping: None, stopped: false, last_signal: None, address_retries: 0 }
    }

    /// What events said of the life that `old` is of, too.
    pub(super) fn go_on_from(&mut self, old: &Self) {
        (self.stopping, self.stopped, self.last_signal) = (old.stopping, old.stopped, old.last_signal);
        self.address_retries = old.address_retries;
    }

    /// A signal was sent to it. Says whether that shows.
    pub(super) fn signalled(&mut self, sent: Sent) -> bool {
        let is_stop_signal = sent.signal == Some(self.container.stop_signal);
        if is_stop_signal || sent.signal == Some(Signal::KILL) {
            self.stopped = true;
            self.last_signal = Some(sent);
        }
        if is_stop_signal {
            self.stopping = Some(sent.seen);
        }
        is_stop_signal
    }

    /// Whether a signal that was sent before we came, at `began` by the engine's clock, is news of this life, and so young
    /// that the container may yet end of it: one that runs for longer has ignored it.
    pub(super) fn may_still_stop(&self, sent: &Sent, began: Timestamp) -> bool {
        let is_news = sent.at >= Some(self.container.started)
            && self.last_signal.is_none_or(|known| known.at.is_some() && known.at < sent.at);
        let end = |at: Timestamp| at.saturating_add(self.container.stop_timeout.saturating_add(IGNORED));
        is_news && sent.at.is_some_and(|at| end(at).unwrap_or(Timestamp::MAX) >= began)
    }

    pub(super) fn differs(&self, listed: &Listed) -> bool {
        let mut ips: Vec<IpAddr> = self.container.attachments.iter().filter_map(|at| at.ip).collect();
        ips.sort_unstable();
        self.container.phase != listed.phase || self.container.name != listed.name || ips != listed.ips
    }

    /// Whether it is in a state that should not last, or has no address.
    pub(super) fn is_unusual(&self) -> bool {
        let no_address = self.container.attachments.iter().all(|at| at.ip.is_none());
        self.stopping.is_some() || self.container.phase != Phase::Running || no_address
    }
}
