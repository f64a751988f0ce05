//! What is counted for one (route, backend) and for one backend.
//!
//! Not here: which of them a scrape shows and for how long they are kept (see the module above).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use fairway_config::names::BackendId;
use prometheus::proto;

use super::figures::{self, Figures, VersionFigures};
use super::histogram::{self, CONNECT, Histogram, REQUEST, WAIT};
use super::mirrored::{self, Copies, Mirrored};
use super::shards::Shards;
use crate::forward::grpc::Status;
use crate::outlier::Cause;
use crate::reason::Reason;

/// Requests of one route that went to one backend; the backend is empty for those that reached none, the route too for
/// those that found none.
#[derive(Debug)]
pub struct Series {
    /// The route's name as printed.
    pub route: Arc<str>,
    /// The backend's name as printed.
    pub backend: Arc<str>,
    shards: Shards<Requests>,
    /// How long requests waited for a place at full instances; of a route's own series, once one has. Rare enough to be
    /// shared.
    waits: OnceLock<Box<Histogram>>,
    /// When the 95th percentile was reckoned last, and what it was; where somebody asks for it.
    p95: Mutex<Option<(Instant, Option<Duration>)>>,
}

/// Fewer answers say nothing of the slowest of them.
const P95_LEAST: u64 = 100;
/// How long a percentile is kept before it is reckoned again.
const P95_KEPT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Requests {
    durations: Histogram,
    outcomes: Outcomes,
    /// By status, once there is a call of gRPC.
    grpc: OnceLock<Box<[AtomicU64; Status::COUNT]>>,
    figures: Figures,
    /// Once there is a copy.
    copies: OnceLock<Box<Copies>>,
}

impl Series {
    pub(super) fn new(route: &Arc<str>, backend: &Arc<str>, workers: usize) -> Self {
        Self {
            route: route.clone(),
            backend: backend.clone(),
            shards: Shards::new(workers),
            waits: OnceLock::new(),
            p95: Mutex::default(),
        }
    }

    /// The time within which 95 % of the answers of this backend have come so far; `None` while there are too few.
    pub(crate) fn p95(&self, backend: &BackendId) -> Option<Duration> {
        let mut kept = self.p95.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, p95)) = *kept
            && now.duration_since(at) < P95_KEPT
        {
            return p95;
        }
        let latencies = self.figures(backend).latencies;
        let p95 = if latencies.total() < P95_LEAST { None } else { latencies.quantile(0.95) };
        *kept = Some((now, p95));
        p95
    }

    /// Counts a request that waited this long for a place at full instances.
    pub(crate) fn queued(&self, took: Duration) {
        self.waits.get_or_init(Box::default).observe(&WAIT, took);
    }

    /// How long requests waited; `None` as long as none did.
    pub(super) fn waits(&self) -> Option<proto::Histogram> {
        histogram::sum(std::iter::once(&**self.waits.get()?), &WAIT)
    }

    /// Whether any request of the route ever waited.
    pub(super) fn has_queued(&self) -> bool {
        self.waits.get().is_some()
    }

    pub(super) fn request_done(&self, worker: usize, code: u16, reason: Reason, took: Duration) {
        let shard = self.shards.of(worker);
        shard.outcomes.count(code, reason);
        shard.durations.observe(&REQUEST, took);
    }

    pub(super) fn attempt_done(&self, worker: usize, answered_in: Option<Duration>, failed: bool) {
        self.shards.of(worker).figures.count(answered_in, failed);
    }

    /// What this backend did for requests of this route, for comparing it with others.
    pub(crate) fn figures(&self, backend: &BackendId) -> VersionFigures {
        figures::sum(backend, self.shards.iter().map(|shard| &shard.figures))
    }

    pub(super) fn mirrored(&self, worker: usize, result: Mirrored, took: Option<Duration>) {
        self.shards.of(worker).copies.get_or_init(Box::default).count(result, took);
    }

    fn copies(&self) -> impl Iterator<Item = &Copies> + Clone {
        self.shards.iter().filter_map(|shard| shard.copies.get().map(|copies| &**copies))
    }

    /// What became of copies that went here, without results that there never were.
    pub(super) fn mirror_results(&self) -> impl Iterator<Item = (Mirrored, u64)> {
        mirrored::results(self.copies())
    }

    /// How long copies took that were answered.
    pub(super) fn mirror_durations(&self) -> Option<proto::Histogram> {
        mirrored::durations(self.copies())
    }

    pub(super) fn grpc_done(&self, worker: usize, status: Status) {
        let counts = self
            .shards
            .of(worker)
            .grpc
            .get_or_init(|| Box::new([const { AtomicU64::new(0) }; Status::COUNT]));
        counts[status.number()].fetch_add(1, Relaxed);
    }

    /// How often calls of gRPC ended so, without those that never did.
    pub(super) fn grpc(&self) -> impl Iterator<Item = (Status, u64)> {
        let count = |status: Status| {
            let shards = self.shards.iter().filter_map(|shard| shard.grpc.get());
            shards.map(|counts| counts[status.number()].load(Relaxed)).sum::<u64>()
        };
        Status::all().map(move |status| (status, count(status))).filter(|(_, count)| *count > 0)
    }

    /// How many requests have ended.
    pub fn requests(&self) -> u64 {
        self.shards.iter().map(|shard| shard.durations.count()).sum()
    }

    pub(super) fn durations(&self) -> Option<proto::Histogram> {
        histogram::sum(self.shards.iter().map(|shard| &shard.durations), &REQUEST)
    }

    /// How often each outcome was seen: status (`None` for the many that share the last cell), reason, number.
    pub(super) fn outcomes(&self) -> Vec<(Option<u16>, Reason, u64)> {
        let mut sums: Vec<(u32, u64)> = Vec::new();
        for (key, count) in self.shards.iter().flat_map(|shard| shard.outcomes.iter()) {
            match sums.iter_mut().find(|(known, _)| *known == key) {
                Some((_, sum)) => *sum += count,
                None => sums.push((key, count)),
            }
        }
        sums.sort_unstable();
        sums.into_iter()
            .filter_map(|(key, count)| unpack(key).map(|(code, reason)| (code, reason, count)))
            .collect()
    }
}

/// Cells per chunk, and chunks at most: a hostile instance that answers with every status there is must not fill the
/// memory or the scrape.
const CELLS: usize = 8;
const CHUNKS_MAX: usize = 8;

/// Counters by (status, reason) in the order of their first use: the usual outcome is the first cell.
#[derive(Debug, Default)]
struct Outcomes {
    cells: [Cell; CELLS],
    more: OnceLock<Box<Outcomes>>,
}

#[derive(Debug, Default)]
struct Cell {
    /// See [`pack`]; 0 while it is free.
    key: AtomicU32,
    count: AtomicU64,
}

impl Outcomes {
    fn count(&self, code: u16, reason: Reason) {
        let known = (100..=599).contains(&code);
        let key = pack(if known { code } else { 0 }, reason);
        let mut chunk = self;
        for _ in 1..CHUNKS_MAX {
            if let Some(cell) = chunk.cells.iter().find(|cell| cell.takes(key)) {
                cell.count.fetch_add(1, Relaxed);
                return;
            }
            chunk = chunk.more.get_or_init(Box::default);
        }
        // Full but for one chunk: its first cell stands for every further outcome.
        chunk.cells[0].key.store(pack(0, Reason::Ok), Relaxed);
        chunk.cells[0].count.fetch_add(1, Relaxed);
    }

    fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        let chunks = std::iter::successors(Some(self), |chunk| chunk.more.get().map(|more| &**more));
        let cells = chunks.flat_map(|chunk| &chunk.cells);
        cells.map(|cell| (cell.key.load(Relaxed), cell.count.load(Relaxed))).take_while(|(key, _)| *key != 0)
    }
}

impl Cell {
    /// Whether this cell is the key's, which takes it if it is free.
    fn takes(&self, key: u32) -> bool {
        match self.key.load(Relaxed) {
            0 => self.key.compare_exchange(0, key, Relaxed, Relaxed).map_or_else(|now| now == key, |_| true),
            taken => taken == key,
        }
    }
}

fn pack(code: u16, reason: Reason) -> u32 {
    (u32::from(code) << 8 | reason as u32) + 1
}

fn unpack(key: u32) -> Option<(Option<u16>, Reason)> {
    let packed = key.checked_sub(1)?;
    let reason = *Reason::ALL.get((packed & 0xff) as usize)?;
    let code = u16::try_from(packed >> 8).ok().filter(|code| *code != 0);
    Some((code, reason))
}

/// What happened on the way to one backend.
#[derive(Debug)]
pub struct BackendSeries {
    /// The backend's name as printed.
    pub backend: Arc<str>,
    connects: Shards<Histogram>,
    /// By the number of the reason. Rare enough to be shared, and most backends never have any.
    retries: OnceLock<Box<[AtomicU64]>>,
    /// Second requests for those that took long: those that came first, and the others.
    hedges: [AtomicU64; 2],
    /// By the number of the cause.
    ejections: [AtomicU64; Cause::ALL.len()],
}

impl BackendSeries {
    pub(super) fn new(backend: &Arc<str>, workers: usize) -> Self {
        Self {
            backend: backend.clone(),
            connects: Shards::new(workers),
            retries: OnceLock::new(),
            hedges: Default::default(),
            ejections: Default::default(),
        }
    }

    pub(super) fn connected(&self, worker: usize, took: Duration) {
        self.connects.of(worker).observe(&CONNECT, took);
    }

    pub(super) fn retried(&self, reason: Reason) {
        let zeros = || Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        self.retries.get_or_init(zeros)[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts an instance of it that was ejected.
    pub(crate) fn ejected(&self, cause: Cause) {
        self.ejections[cause as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn ejections(&self) -> impl Iterator<Item = (Cause, u64)> {
        let counts = self.ejections.iter().map(|count| count.load(Relaxed));
        Cause::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    pub(super) fn hedged(&self, won: bool) {
        self.hedges[usize::from(won)].fetch_add(1, Relaxed);
    }

    /// How often a second request was sent, by what became of it; without those that never did.
    pub(super) fn hedges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.hedges.iter().map(|count| count.load(Relaxed));
        ["lost", "won"].into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    pub(super) fn connects(&self) -> Option<proto::Histogram> {
        histogram::sum(self.connects.iter(), &CONNECT)
    }

    pub(super) fn retries(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.retries.get().into_iter().flatten().map(|count| count.load(Relaxed));
        Reason::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_percentile_is_known_from_a_hundred_answers_on() {
        let backend = "b@v1".parse().expect("a backend");
        let series = |answers: u64| {
            let series = Series::new(&"r".into(), &"b@v1".into(), 1);
            for n in 0..answers {
                let took = Duration::from_millis(if n % 10 == 0 { 900 } else { 20 });
                series.shards.of(0).figures.count(Some(took), false);
            }
            series.p95(&backend)
        };
        assert_eq!(series(99), None);
        let p95 = series(100).expect("there are enough");
        assert!((Duration::from_millis(700)..=Duration::from_millis(1100)).contains(&p95), "{p95:?}");
    }

    #[test]
    fn outcomes_of_all_workers_are_summed() {
        let series = Series::new(&"r".into(), &"b".into(), 3);
        for (worker, code, reason) in [
            (0, 200, Reason::Ok),
            (1, 200, Reason::Ok),
            (2, 502, Reason::ConnectFailed),
            (2, 200, Reason::Ok),
        ] {
            series.request_done(worker, code, reason, Duration::from_millis(3));
        }
        assert_eq!(series.outcomes(), [(Some(200), Reason::Ok, 3), (Some(502), Reason::ConnectFailed, 1)]);
        assert_eq!(series.requests(), 4);
        let histogram = series.durations().expect("four were observed");
        assert_eq!(histogram.get_sample_count(), 4);
        assert!((histogram.get_sample_sum() - 0.012).abs() < 1e-9);
    }

    #[test]
    fn a_backend_that_answers_with_every_status_cannot_grow_the_series_without_bound() {
        let series = Series::new(&"r".into(), &"b".into(), 1);
        for code in 0..2000 {
            series.request_done(0, code, Reason::Ok, Duration::ZERO);
        }
        let outcomes = series.outcomes();
        assert!(outcomes.len() <= CELLS * CHUNKS_MAX);
        assert_eq!(outcomes.iter().map(|(_, _, count)| count).sum::<u64>(), 2000, "none is lost");
    }
}
