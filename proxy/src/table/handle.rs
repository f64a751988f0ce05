//! The present table: one writer, many readers.
//!
//! Not here: how a table is made of a catalog (see the module above), waiting for an instance (see `hold`).

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use fairway_catalog::Catalog;
use fairway_config::names::RouteId;
use tokio::sync::watch;

use super::{Lasting, RouteTable};
use crate::endpoint::EndpointStates;
use crate::hold::Holds;
use crate::metrics::{Metrics, VersionFigures};
use crate::queue::QueueLimits;
use crate::sticky::Keys;

/// The present table, and what outlives it.
#[derive(Debug)]
pub struct TableHandle {
    live: Arc<ArcSwap<RouteTable>>,
    lasting: Lasting,
    /// The serial of the table that is live.
    applied: watch::Sender<u64>,
    pub(crate) holds: Holds,
    /// How many requests wait for a place at full instances, and how long.
    pub(crate) queue_limits: QueueLimits,
}

impl TableHandle {
    /// A handle on the empty, unsettled table.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let lasting = Lasting::new(metrics);
        let empty = Arc::new(RouteTable::empty(&lasting));
        Arc::new(Self {
            live: Arc::new(ArcSwap::new(empty)),
            lasting,
            applied: watch::Sender::new(0),
            holds: Holds::default(),
            queue_limits: QueueLimits::default(),
        })
    }

    /// The table of this moment, for as long as the caller keeps it. For a worker, [`TableHandle::reader`] is cheaper.
    pub fn load(&self) -> Arc<RouteTable> {
        self.live.load_full()
    }

    /// A worker's way to the present table.
    pub fn reader(&self) -> TableReader {
        TableReader(Cache::new(self.live.clone()))
    }

    /// The serial of the inputs that the live table was built from. A change is live in the data plane as soon as this
    /// is at least the serial that the change got.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// The serial of the live table.
    pub(crate) fn serial(&self) -> u64 {
        *self.applied.borrow()
    }

    /// The numbers of the instances.
    pub fn states(&self) -> &EndpointStates {
        &self.lasting.states
    }

    /// How many requests of this route wait for a place at its full instances.
    pub fn queued(&self, route: &RouteId) -> u32 {
        self.load().by_id(route).map_or(0, |entry| entry.queue.len())
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.lasting.metrics
    }

    /// What each version of a route did for its requests so far, in the order of the route's versions; empty if there is
    /// no such route. Take the difference of two for what was done in between.
    pub fn figures(&self, route: &RouteId) -> Vec<VersionFigures> {
        let table = self.load();
        let versions = table.by_id(route).map_or(&[][..], |entry| entry.versions());
        versions.iter().map(|version| version.series.figures(&version.backend.id)).collect()
    }

    /// Seals the cookies of sticky routes with these keys from now on, and opens no others.
    pub fn set_sticky_keys(&self, keys: Keys) {
        self.lasting.sticky.store(Arc::new(keys));
    }

    /// Makes the table of this catalog the live one. Only one caller at a time: see [`follow`].
    pub fn apply(&self, catalog: &Catalog) {
        let start = Instant::now();
        let before = self.live.load_full();
        let table = Arc::new(RouteTable::build(catalog, &self.lasting, Some(&before)));
        self.live.store(table.clone());
        let now = Instant::now();
        self.metrics().build_done("routes", now.duration_since(start));
        self.holds.wake(&table);
        before.not_kept_by(&table).for_each(|entry| entry.queue.look_again());
        self.applied.send_replace(table.serial);
        drop(before);
        self.metrics().sweep(now);
    }
}

/// A worker's way to the present table: no shared counter is touched while the table stays the same.
#[derive(Debug)]
pub struct TableReader(Cache<Arc<ArcSwap<RouteTable>>, Arc<RouteTable>>);

impl TableReader {
    /// The present table. A request looks once and keeps what it needs, so that its route and its instances agree.
    pub fn table(&mut self) -> &Arc<RouteTable> {
        self.0.load()
    }
}

/// The only writer of the tables: one for each catalog; a burst collapses into its last state. Ends when the catalog side
/// is dropped.
pub async fn follow(mut catalogs: watch::Receiver<Arc<Catalog>>, handle: Arc<TableHandle>) {
    catalogs.mark_changed();
    while catalogs.changed().await.is_ok() {
        let catalog = catalogs.borrow_and_update().clone();
        handle.apply(&catalog);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::Tried;
    use crate::request::FieldList;
    use crate::table::fixture::*;

    #[tokio::test]
    async fn each_catalog_becomes_the_table_that_readers_see_and_tells_its_serial() {
        let mut first = catalog();
        put(&mut first, "shop.test/", &[version("v1", &[READY])]);
        first.serial = 7;
        let (catalogs, followed) = watch::channel(Arc::new(first.clone()));
        let handle = TableHandle::new(Metrics::new(1));
        let (mut reader, mut applied) = (handle.reader(), handle.applied());
        assert!(!reader.table().settled && reader.table().entries().is_empty());
        let task = tokio::spawn(follow(followed, handle.clone()));

        applied.wait_for(|serial| *serial >= 7).await.expect("the handle lives");
        assert_eq!(reader.table().entries().len(), 1);
        let kept = reader.table().clone();

        put(&mut first, "other.test/", &[version("v1", &[READY])]);
        first.serial = 8;
        catalogs.send_replace(Arc::new(first));
        applied.wait_for(|serial| *serial >= 8).await.expect("the handle lives");
        assert_eq!(reader.table().entries().len(), 2);
        assert_eq!(kept.entries().len(), 1, "a table that somebody holds does not change");

        drop(catalogs);
        task.await.expect("it ends when nobody can publish any more");
    }

    #[test]
    fn once_a_zero_is_told_to_be_live_no_worker_sends_anything_there() {
        let split = |weight| [version("v1", &[READY]).weight(1), version("v2", &[READY]).weight(weight)];
        let (handle, mut cluster) = (TableHandle::new(Metrics::new(2)), catalog());
        put(&mut cluster, "shop.test/", &split(1));
        cluster.serial = 1;
        handle.apply(&cluster);
        let picks_after = |serial: u64| {
            let (mut reader, applied) = (handle.reader(), handle.applied());
            let (fields, tried) = (FieldList::default(), Tried::default());
            let (asked, mut rng) = (request("shop.test", "/", &fields), fastrand::Rng::with_seed(serial));
            let (mut after, mut seen) = (0, [0, 0]);
            while after < 2000 {
                let live = *applied.borrow() >= serial;
                let entry = reader.table().entries()[0].clone();
                let pick = entry.pick(&asked, &tried, &mut rng, Instant::now()).expect("there is one");
                seen[usize::from(live)] += u32::from(pick.version.name == entry.versions()[1].name);
                after += u32::from(live);
            }
            seen
        };
        for serial in (2..40).step_by(2) {
            std::thread::scope(|scope| {
                let workers = [0; 2].map(|_| scope.spawn(|| picks_after(serial)));
                put(&mut cluster, "shop.test/", &split(0));
                cluster.serial = serial;
                handle.apply(&cluster);
                for worker in workers {
                    let [_, after] = worker.join().expect("no worker panics");
                    assert_eq!(after, 0, "requests to a version of weight 0");
                }
            });
            put(&mut cluster, "shop.test/", &split(1));
            cluster.serial = serial + 1;
            handle.apply(&cluster);
        }
    }
}
