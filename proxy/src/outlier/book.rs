//! Who is ejected now, for those who do not choose instances: a value to follow, and whom to look after.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use fairway_catalog::{Ejection, InstanceKey};
use tokio::sync::watch;

use super::Peers;

/// Who is ejected, and why.
pub type Ejections = Arc<HashMap<InstanceKey, Ejection>>;

/// Who is ejected now.
#[derive(Debug, Default)]
pub(crate) struct Book {
    told: watch::Sender<Ejections>,
    /// Those of whom somebody failed or is out.
    watched: Mutex<Vec<Weak<Peers>>>,
}

impl Book {
    /// Follows who is ejected.
    pub(crate) fn follow(&self) -> watch::Receiver<Ejections> {
        self.told.subscribe()
    }

    pub(super) fn ejected(&self, key: &InstanceKey, ejection: Ejection) {
        self.told.send_modify(|told| {
            Arc::make_mut(told).insert(key.clone(), ejection);
        });
    }

    /// Takes one out of the book; false when it was not in it.
    pub(crate) fn over(&self, key: &InstanceKey) -> bool {
        if !self.told.borrow().contains_key(key) {
            return false;
        }
        self.told.send_if_modified(|told| Arc::make_mut(told).remove(key).is_some())
    }

    /// Looks after these from now on.
    pub(super) fn watch(&self, peers: &Arc<Peers>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(peers))) {
            watched.push(Arc::downgrade(peers));
        }
    }

    /// Ends what is over and compares what was counted. To be called twice a second or so.
    pub(crate) fn look(&self, now: Instant) {
        let watched = std::mem::take(&mut *self.watched.lock().unwrap_or_else(PoisonError::into_inner));
        for peers in watched.iter().filter_map(Weak::upgrade) {
            if peers.look(now) {
                self.watch(&peers);
            }
        }
    }
}
