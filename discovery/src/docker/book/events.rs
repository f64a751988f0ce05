//! What each event changes at once, and what it asks.

use std::sync::Arc;

use jiff::Timestamp;

use super::entry::Sent;
use super::{Book, EARLY_SIGNALS_MAX};
use crate::docker::container::{Phase, Restart};
use crate::docker::event::{Change, Event, What};

impl Book {
    /// An event came, at `now` by our clock.
    pub(in crate::docker) fn event(&mut self, event: &Event, now: Timestamp) {
        self.clock += 1;
        match &event.what {
            What::NetworkMade => {
                self.networks_touched = self.clock;
                self.ask_networks();
            }
            What::NetworkGone(id) => {
                self.networks_touched = self.clock;
                self.settling(event.at, |book| book.forget_network(id));
            }
            What::Container(id, change) => {
                self.touched.insert(id.clone(), self.clock);
                self.settling(event.at, |book| book.container_event(id, change, event.at, now));
            }
        }
    }

    /// Does something that may change what is told, and if so notes that the event of that time has had its effect.
    pub(super) fn settling(&mut self, at: Option<Timestamp>, act: impl FnOnce(&mut Self)) {
        let before = std::mem::take(&mut self.changes.changed);
        act(self);
        if self.changes.changed {
            self.changes.settled.extend(at);
        }
        self.changes.changed |= before;
    }

    fn container_event(&mut self, id: &Arc<str>, change: &Change, at: Option<Timestamp>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(id) else {
            return self.event_of_unknown(id, change, at, now);
        };
        // An answer may be ahead of the events: one of an earlier life says nothing of this one.
        let is_old = at.is_some_and(|at| at < entry.container.started);
        let container = &mut entry.container;
        match change {
            Change::Started { .. } | Change::Connected | Change::Updated => {
                return self.want_after(id, at);
            }
            Change::Signalled(_)
            | Change::Died { .. }
            | Change::Stopped
            | Change::Paused
            | Change::Unpaused
                if is_old =>
            {
                return self.want_after(id, at);
            }
            Change::Signalled(signal) => {
                if !entry.signalled(Sent { signal: *signal, seen: now, at }) {
                    return;
                }
            }
            Change::Died { exit_code } if container.restarts_after(*exit_code) && !entry.stopped => {
                container.phase = Phase::Restarting;
                self.want_after(id, None);
            }
            Change::Died { .. } => {
                let may_return = container.restart != Restart::Never;
                self.leave(id);
                if may_return {
                    self.want_after(id, None);
                }
            }
            Change::Stopped | Change::Destroyed => self.leave(id),
            Change::Paused => container.phase = Phase::Paused,
            Change::Unpaused => container.phase = Phase::Running,
            Change::Renamed { name } => container.name = name.clone(),
            Change::Health(health) => container.health = Some(*health),
            Change::Disconnected(network) => {
                container.attachments.retain(|at| at.network != *network);
                self.want_after(id, None);
            }
        }
        self.refresh(id);
    }

    /// An event of a container that has no entry: it concerns us once it starts.
    fn event_of_unknown(&mut self, id: &Arc<str>, change: &Change, at: Option<Timestamp>, now: Timestamp) {
        match change {
            Change::Started { interesting } if *interesting || self.is_needed(id, "") => {
                self.want_after(id, at)
            }
            Change::Destroyed => {
                self.awaited.remove(id);
                self.unsettled.remove(id);
                self.leave(id);
            }
            Change::Signalled(signal) => {
                if let Some(awaited) = self.awaited.get_mut(id) {
                    awaited.signals.truncate(EARLY_SIGNALS_MAX - 1);
                    awaited.signals.push(Sent { signal: *signal, seen: now, at });
                }
            }
            _ => {}
        }
    }
}
