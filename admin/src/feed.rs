//! The event feed: what changed from each catalog to the next, kept in memory for readers and on disk for later.
//!
//! Readers are served from memory alone. The disk follows behind: a slow or full one delays nobody. Not here: which
//! changes are events (see `fairway_catalog::event`), how they look (see `api::events`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fairway_catalog::Catalog;
use fairway_catalog::event::{Event, diff};
use fairway_store::{EVENTS_KEPT, Store, StoreError};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::state::stopped;

/// Between two writes to disk: changes come in bursts, and each write waits for the disk.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts on a disk that fails.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The events that readers can have; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// The revision of the last catalog whose events are in.
    seen: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    /// By revision.
    events: VecDeque<Arc<Event>>,
    /// Every event after this revision is here.
    complete_after: u64,
}

/// What a reader asked for is partly gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Missed {
    /// Events after the revision asked for were compacted.
    #[error("the events after revision {after} are no longer kept; the oldest are those after {oldest}")]
    Compacted { after: u64, oldest: u64 },
    /// No such revision was ever published: it is of another life of the state folder.
    #[error("revision {after} was never reached here; the newest is {newest}")]
    Ahead { after: u64, newest: u64 },
}

impl Feed {
    /// The feed as the store remembers it; empty without a store, or when it cannot be read.
    pub(crate) fn load(store: Option<&Store>, revision: u64) -> Self {
        let mut ring = Ring { events: VecDeque::new(), complete_after: revision };
        match store.map(read_stored) {
            Some(Ok(stored)) => ring = stored,
            Some(Err(error)) => tracing::warn!(%error, "the events of earlier runs cannot be read"),
            None => {}
        }
        Self(Arc::new(Shared { ring: Mutex::new(ring), seen: watch::Sender::new(revision) }))
    }

    /// The events after this revision (all that are kept, when it is `None`), and the revision up to which they tell
    /// everything. `newest` is the revision of the catalog that readers see by now.
    pub(crate) fn after(&self, after: Option<u64>, newest: u64) -> Result<(Vec<Arc<Event>>, u64), Missed> {
        let ring = self.ring();
        let seen = *self.0.seen.borrow();
        let after = match after {
            Some(after) if after > newest.max(seen) => return Err(Missed::Ahead { after, newest }),
            None => ring.complete_after,
            Some(after) if after < ring.complete_after => {
                return Err(Missed::Compacted { after, oldest: ring.complete_after });
            }
            Some(after) => after,
        };
        let first = ring.events.partition_point(|event| event.revision <= after);
        Ok((ring.events.range(first..).cloned().collect(), seen))
    }

    /// Waits until there is an event after this revision; for ever, when there never is.
    pub(crate) async fn wait_after(&self, after: u64) {
        let mut seen = self.0.seen.subscribe();
        loop {
            seen.borrow_and_update();
            if self.ring().events.back().is_some_and(|last| last.revision > after) {
                return;
            }
            // The sender is ours: it does not go away.
            let _ = seen.changed().await;
        }
    }

    /// Follows the catalogs until their sender is gone.
    pub(crate) async fn follow(self, mut catalogs: watch::Receiver<Arc<Catalog>>) {
        let mut before = Arc::new(Catalog::empty(*self.0.seen.borrow()));
        catalogs.mark_changed();
        while catalogs.changed().await.is_ok() {
            let catalog = catalogs.borrow_and_update().clone();
            if catalog.revision > before.revision {
                self.add(diff(&before, &catalog), catalog.revision);
            }
            before = catalog;
        }
    }

    fn add(&self, events: Vec<Event>, revision: u64) {
        let mut ring = self.ring();
        ring.events.extend(events.into_iter().map(Arc::new));
        while ring.events.len() as u64 > EVENTS_KEPT {
            ring.complete_after = ring.events.pop_front().map_or(ring.complete_after, |event| event.revision);
        }
        // Within the lock: a reader that sees the revision sees its events.
        self.0.seen.send_replace(revision);
    }

    /// Writes what comes to disk, until `stop` is true; then what is left, once. `report` is told how each write ended.
    pub(crate) async fn keep(
        self,
        store: Arc<Store>,
        mut stop: watch::Receiver<bool>,
        report: impl Fn(&Result<(), StoreError>),
    ) {
        let mut seen = self.0.seen.subscribe();
        let mut written = Written { events: self.newest_stored(), revision: *seen.borrow_and_update() };
        loop {
            let stopping = tokio::select! {
                () = stopped(&mut stop) => true,
                _ = seen.changed() => false,
            };
            let result = self.write(&store, &mut written).await;
            report(&result);
            let pause = match result {
                Ok(()) => WRITE_PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "events cannot be stored; they are kept in memory");
                    RETRY_PAUSE
                }
            };
            if stopping {
                return;
            }
            tokio::select! {
                () = stopped(&mut stop) => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Stores what is not stored yet.
    async fn write(&self, store: &Arc<Store>, written: &mut Written) -> Result<(), StoreError> {
        let (lost, new, seen) = {
            let ring = self.ring();
            let first = ring.events.partition_point(|event| event.revision <= written.events);
            let new: Vec<Event> = ring.events.range(first..).map(|event| (**event).clone()).collect();
            let lost = (ring.complete_after > written.events).then_some(ring.complete_after);
            (lost, new, *self.0.seen.borrow())
        };
        let noted = seen.saturating_sub(written.revision) < Store::REVISIONS_BETWEEN_NOTES;
        if lost.is_none() && new.is_empty() && noted {
            return Ok(());
        }
        let last = new.last().map_or(written.events, |event| event.revision);
        let store = store.clone();
        let work = spawn_blocking(move || {
            if let Some(lost) = lost {
                store.forget_events_up_to(lost)?;
            }
            store.append_events(&new)?;
            store.note_revision(seen)
        });
        // The task is not aborted; a panic in it was logged, and what it was to write is tried again.
        if let Ok(result) = work.await {
            result?;
            *written = Written { events: last, revision: seen };
        }
        Ok(())
    }

    fn newest_stored(&self) -> u64 {
        let ring = self.ring();
        ring.events.back().map_or(ring.complete_after, |event| event.revision)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the disk has come.
#[derive(Debug)]
struct Written {
    /// The revision of the last event that is stored.
    events: u64,
    /// The last revision that the store knows of.
    revision: u64,
}

fn read_stored(store: &Store) -> Result<Ring, StoreError> {
    let complete_after = store.oldest_revision()?;
    let most = usize::try_from(EVENTS_KEPT).unwrap_or(usize::MAX);
    let events = store.events_after(complete_after, most)?;
    Ok(Ring { events: events.into_iter().map(Arc::new).collect(), complete_after })
}
