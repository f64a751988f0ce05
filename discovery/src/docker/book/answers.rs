//! What answers change: inspects, lists of containers, lists of networks.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::facts::Network;

use super::entry::{Entry, Sent};
use super::{Ask, Book, Inspected, Listed, tells_problems};
use crate::docker::address::Attachment;
use crate::docker::container::{Container, Namespace, Phase};

/// When a running container without an address is looked at again, beside events and the diff.
const ADDRESS_RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// When a container whose inspect failed is looked at again.
pub(super) const UNREADABLE_RETRY: Duration = Duration::from_secs(2);
/// How many containers that look unchanged one diff inspects all the same, in turn.
pub(super) const SPOT_CHECKS: usize = 100;

impl Book {
    /// Looks at a container again, as asked by [`Ask::InspectLater`].
    pub(in crate::docker) fn look_again(&mut self, id: &Arc<str>) {
        if self.entries.contains_key(id) || self.unreadable.contains_key(id) {
            self.want(id, true);
        }
    }

    /// An inspect of `id` was answered.
    pub(in crate::docker) fn inspected(&mut self, id: &Arc<str>, answer: Inspected) {
        let Some(asked) = self.asked.remove(id) else { return };
        if self.is_touched_since(id, asked) {
            if self.entries.contains_key(id) || self.awaited.contains_key(id) {
                self.want(id, true);
            }
            return;
        }
        self.unsettled.remove(id);
        let since = self.pending_since.remove(id);
        self.settling(since, |book| book.take_in(id, answer));
    }

    fn take_in(&mut self, id: &Arc<str>, answer: Inspected) {
        let early = self.awaited.remove(id).unwrap_or_default().signals;
        match answer {
            Inspected::Found(container) if container.phase != Phase::Down && self.is_kept(&container) => {
                self.changes.changed |= self.unreadable.remove(id).is_some();
                let id = container.id.clone(); // it may have been asked by a name
                self.enter(*container, early);
                self.refresh(&id);
            }
            Inspected::Found(_) | Inspected::Absent => {
                self.leave(id);
                self.refresh(id);
            }
            Inspected::Failed(error) => {
                if self.unreadable.insert(id.clone(), error.as_str().into()).as_deref() != Some(&*error) {
                    self.changes.changed = true;
                }
                self.changes.asks.push(Ask::InspectLater(id.clone(), UNREADABLE_RETRY));
            }
        }
    }

    /// The running containers, by a list that was asked for at the count `asked`. A thorough one inspects all that are
    /// worth it; another what looks different, what is in an unusual state, and some of the rest in turn. Says whether
    /// something differed that no event had told.
    pub(in crate::docker) fn listed(&mut self, asked: u64, list: &[Listed], thorough: bool) -> bool {
        let mut differed = false;
        let present: HashSet<&Arc<str>> = list.iter().map(|listed| &listed.id).collect();
        let absent = |id: &&Arc<str>| !present.contains(id) && !self.is_touched_since(id, asked);
        let gone: Vec<Arc<str>> = self.entries.keys().filter(absent).cloned().collect();
        for id in gone {
            differed = true;
            self.leave(&id);
            self.refresh(&id);
        }
        self.unreadable.retain(|id, _| present.contains(id));
        let spots = self.spot_checks();
        for listed in list {
            if self.is_touched_since(&listed.id, asked) {
                continue;
            }
            let differs = self.differs(listed);
            differed |= differs;
            let known = self.entries.get(&listed.id);
            let checked = |entry: &Entry| thorough || entry.is_unusual() || spots.contains(&listed.id);
            if differs || known.is_some_and(checked) {
                if thorough {
                    self.unsettled.insert(listed.id.clone());
                }
                self.want(&listed.id, false);
            }
        }
        self.ask_networks();
        self.prune();
        differed
    }

    /// Whether a line of a list is not what is known.
    fn differs(&self, listed: &Listed) -> bool {
        match self.entries.get(&listed.id) {
            Some(entry) => entry.differs(listed),
            None => {
                let is_asked =
                    self.awaited.contains_key(&listed.id) || self.unreadable.contains_key(&listed.id);
                !is_asked && (listed.interesting || self.is_needed(&listed.id, &listed.name))
            }
        }
    }

    /// Whether an event of the container came after the count `asked`.
    fn is_touched_since(&self, id: &str, asked: u64) -> bool {
        self.touched.get(id).is_some_and(|touched| *touched > asked)
    }

    /// The networks.
    pub(in crate::docker) fn networks_listed(&mut self, networks: Vec<Network>) {
        let Some(asked) = self.networks_asked.take() else { return };
        if self.networks_touched > asked {
            return self.ask_networks();
        }
        self.changes.changed |= self.networks_hidden.take().is_some();
        let keep = |network: Network| {
            let id = network.id.clone();
            let old = self.networks.get(&id).filter(|old| ***old == network);
            (id, old.cloned().unwrap_or_else(|| Arc::new(network)))
        };
        let networks: BTreeMap<_, _> = networks.into_iter().map(keep).collect();
        if networks != self.networks {
            self.networks = networks;
            self.changes.changed = true;
            self.refresh_all();
        }
    }

    /// The engine does not tell its networks; says how.
    pub(in crate::docker) fn networks_hidden(&mut self, why: &str) {
        self.networks_asked = None;
        self.changes.changed |= self.networks_hidden.as_deref() != Some(why);
        self.networks_hidden = Some(why.into());
    }

    /// Takes in a container as inspected; what events said of this life stays.
    pub(super) fn enter(&mut self, container: Container, early: Vec<Sent>) {
        let id = container.id.clone();
        let unknown = |at: &&Attachment| !at.network.is_empty() && !self.networks.contains_key(&at.network);
        let has_unknown_network = container.attachments.iter().any(|at| unknown(&at));
        let shares = match &container.namespace {
            Namespace::Container(of) if self.find(of).is_none() => Some(of.clone()),
            _ => None,
        };
        let mut entry = Entry::new(container);
        let started = entry.container.started;
        match self.entries.get(&id) {
            Some(old) if old.container.started == started => entry.go_on_from(old),
            Some(old) => {
                old.last_signal.filter(|sent| sent.at > Some(started)).into_iter().for_each(|sent| {
                    entry.signalled(sent);
                })
            }
            None => {
                early.into_iter().filter(|sent| sent.at.is_none_or(|at| at >= started)).for_each(|sent| {
                    entry.signalled(sent);
                })
            }
        }
        for sent in self.past.remove(&id).unwrap_or_default() {
            if entry.may_still_stop(&sent, self.began) {
                entry.signalled(sent);
            }
        }
        let awaits_address = entry.container.phase == Phase::Running
            && entry.container.namespace == Namespace::Own
            && entry.container.attachments.iter().all(|at| at.ip.is_none());
        if let Some(delay) = ADDRESS_RETRIES.get(entry.address_retries).filter(|_| awaits_address) {
            entry.address_retries += 1;
            self.changes.asks.push(Ask::InspectLater(id.clone(), *delay));
        }
        self.entries.insert(id.clone(), entry);
        if has_unknown_network {
            self.ask_networks();
        }
        if let Some(of) = shares {
            self.want(&of, true);
        }
    }

    pub(super) fn leave(&mut self, id: &Arc<str>) {
        self.changes.changed |= self.unreadable.remove(id).is_some();
        if let Some(entry) = self.entries.remove(id) {
            self.changes.changed |= !entry.container.is_exposed() && tells_problems(&entry.container);
        }
        self.pending_since.remove(id);
    }

    pub(super) fn forget_network(&mut self, id: &Arc<str>) {
        if self.networks.remove(id).is_some() {
            self.changes.changed = true;
            self.refresh_all();
        }
    }

    /// Some containers that look unchanged, another set at each diff.
    fn spot_checks(&mut self) -> HashSet<Arc<str>> {
        let start = self.next_spot.take();
        let from = start.as_deref().unwrap_or_default();
        let after = self.entries.keys().skip_while(|id| &***id < from);
        let before = self.entries.keys().take_while(|id| &***id < from);
        let mut turn = after.chain(before).cloned();
        let spots = turn.by_ref().take(SPOT_CHECKS).collect();
        self.next_spot = turn.next();
        spots
    }

    /// Forgets events that no answer still out can be older than.
    fn prune(&mut self) {
        let floor = self.asked.values().copied().min().unwrap_or(self.clock);
        self.touched.retain(|_, touched| *touched > floor);
    }

    fn is_kept(&self, container: &Container) -> bool {
        let needed = || self.is_needed(&container.id, &container.name);
        container.is_exposed() || tells_problems(container) || needed()
    }
}
