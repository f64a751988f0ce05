//! One copy per worker of what workers count, so that none waits for another's cache line.

use std::sync::OnceLock;

/// Copies of `T`, one per worker, each made when its worker first counts.
#[derive(Debug)]
pub(super) struct Shards<T>(Box<[OnceLock<Box<Apart<T>>>]>);

/// Alone on its cache lines: two of them, as they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T: Default> Shards<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// This worker's copy.
    pub(super) fn of(&self, worker: usize) -> &T {
        &self.0[worker % self.0.len()].get_or_init(Box::default).0
    }

    /// The copies there are.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().filter_map(|slot| slot.get().map(|apart| &apart.0))
    }
}
