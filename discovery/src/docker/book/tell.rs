//! What follows for the units: made anew for what has changed, and for what depends on it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::entry::Entry;
use super::{Book, tells_problems};
use crate::docker::address::{self, Choice, Reach};
use crate::docker::container::{Container, Namespace};
use crate::docker::unit;

/// Longest chain of containers that share one's network.
const SHARED_NAMESPACES_MAX: usize = 4;

impl Book {
    pub(super) fn refresh_all(&mut self) {
        let ids: BTreeSet<Arc<str>> = self.entries.keys().chain(self.units.keys()).cloned().collect();
        ids.iter().for_each(|id| self.refresh_one(id));
    }

    /// Makes the unit of a container anew, and of those that share its network.
    pub(super) fn refresh(&mut self, id: &Arc<str>) {
        self.refresh_one(id);
        let name = self.entries.get(id).map(|entry| entry.container.name.clone()).unwrap_or_default();
        let users: Vec<Arc<str>> = self.users_of(id, &name).cloned().collect();
        users.iter().for_each(|user| self.refresh_one(user));
        if self.own.as_ref() == Some(id) {
            self.refresh_shared();
        }
    }

    fn refresh_one(&mut self, id: &Arc<str>) {
        let unit = self.entries.get(id).and_then(|entry| {
            let address = self.address_of(&entry.container, entry.container.spec.network.as_deref(), 0);
            unit::build(&entry.container, entry.stopping, address, &self.place)
        });
        match unit {
            None => self.changes.changed |= self.units.remove(id).is_some(),
            Some(unit) if self.units.get(id).is_some_and(|old| **old == unit) => {}
            Some(unit) => {
                self.units.insert(id.clone(), Arc::new(unit));
                self.changes.changed = true;
            }
        }
        let tells = |entry: &Entry| !entry.container.is_exposed() && tells_problems(&entry.container);
        self.changes.changed |= self.entries.get(id).is_some_and(tells);
    }

    pub(super) fn refresh_shared(&mut self) {
        let own = self.own.as_ref().and_then(|own| self.entries.get(own));
        let networks =
            own.iter().flat_map(|entry| entry.container.attachments.iter().map(|at| at.network.clone()));
        let shared: BTreeSet<Arc<str>> = networks.filter(|id| !id.is_empty()).collect();
        if shared != self.shared {
            self.shared = shared;
            self.refresh_all();
        }
    }

    fn address_of(&self, container: &Container, label: Option<&str>, depth: usize) -> Choice {
        let pending = |reason: String| Choice { reason: reason.into(), ..Choice::default() };
        match &container.namespace {
            Namespace::None => pending("it has no network: its network mode is none".to_owned()),
            Namespace::Host => match self.place.address {
                Some(ip) => {
                    let reason = "host network: the address of its node".into();
                    Choice { ip: Some(ip), reason, ..Choice::default() }
                }
                None => pending("host network: no address of its node is known but loopback".to_owned()),
            },
            Namespace::Own => {
                let reach = Reach { shared: &self.shared, networks: &self.networks };
                let project = container.origin.project.as_deref();
                address::choose(label, project, &container.attachments, reach)
            }
            Namespace::Container(of) => match self.find(of) {
                Some(other) if depth < SHARED_NAMESPACES_MAX => {
                    let choice = self.address_of(&other.container, label, depth + 1);
                    let reason =
                        format!("shares the network of {}: {}", other.container.name, choice.reason).into();
                    Choice { reason, ..choice }
                }
                _ => {
                    let short = of.get(..12).unwrap_or(of);
                    pending(format!("shares the network of container {short}, which does not run"))
                }
            },
        }
    }

    /// The address of containers in the host's network.
    pub(in crate::docker) fn set_node_address(&mut self, address: Option<IpAddr>) {
        if self.place.address != address {
            self.place.address = address;
            self.refresh_all();
        }
    }
}
