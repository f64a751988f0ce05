//! The instances of one backend, compared with one another: who of them may be ejected, and who is.
//!
//! One lock for each backend, taken when something failed and never else.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use fairway_catalog::Ejection;
use jiff::Timestamp;

use super::rate::{Count, stands_out};
use super::{Book, Cause, EJECTION_MAX, stamp};
use crate::endpoint::EndpointState;
use crate::metrics::BackendSeries;
use crate::queue::look_for_places;

/// How long failures are counted before they are compared.
const WINDOW: Duration = Duration::from_secs(10);

/// The instances of one backend, each in its present life.
#[derive(Debug)]
pub(crate) struct Peers {
    /// One of them is ejected, has just come back, or does not listen yet: a choice has to look.
    special: AtomicBool,
    /// How many of them are ejected, or were a moment ago.
    out: AtomicUsize,
    /// One of them failed: its requests and those of the others are compared.
    troubled: AtomicBool,
    members: Mutex<Members>,
    book: Arc<Book>,
    series: Arc<BackendSeries>,
}

#[derive(Debug, Default)]
struct Members {
    known: Vec<Weak<EndpointState>>,
    window: Option<Window>,
}

/// What the counts were when it began, by number of the state.
#[derive(Debug)]
struct Window {
    since: Instant,
    counts: HashMap<u64, Count>,
}

impl Peers {
    pub(crate) fn new(book: Arc<Book>, series: Arc<BackendSeries>) -> Arc<Self> {
        let (special, troubled, members) = (AtomicBool::new(false), AtomicBool::new(false), Mutex::default());
        Arc::new(Self { special, out: AtomicUsize::new(0), troubled, members, book, series })
    }

    /// A further life of an instance.
    pub(crate) fn join(&self, state: &Arc<EndpointState>) {
        let mut members = self.lock();
        members.known.retain(|known| known.strong_count() > 0);
        members.known.push(Arc::downgrade(state));
    }

    /// Whether a choice has to look at how each instance stands.
    pub(crate) fn is_special(&self) -> bool {
        self.special.load(Relaxed)
    }

    /// Most that may be ejected now: as many, and those whose ejection has ended since the last look.
    pub(crate) fn out_at_most(&self) -> usize {
        self.out.load(Relaxed)
    }

    /// One of them is about to fail: from now on their requests are compared.
    pub(crate) fn trouble(self: &Arc<Self>, now: Instant) {
        if self.troubled.load(Relaxed) || self.troubled.swap(true, Relaxed) {
            return;
        }
        let mut members = self.lock();
        members.window = Some(members.window_of(now));
        self.book.watch(self);
    }

    /// Ejects one of them, unless that would leave too few. `how` is what it did, in words.
    pub(crate) fn eject(
        self: &Arc<Self>,
        state: &EndpointState,
        cause: Cause,
        how: &dyn Display,
        now: Instant,
    ) -> bool {
        let (alive, ejected) = {
            let members = self.lock();
            let alive = members.alive();
            let ejected = self.eject_among(&alive, state, cause, how, now);
            (alive, ejected)
        };
        if ejected {
            look_for_places(&alive);
        }
        ejected
    }

    fn eject_among(
        self: &Arc<Self>,
        alive: &[Arc<EndpointState>],
        state: &EndpointState,
        cause: Cause,
        how: &dyn Display,
        now: Instant,
    ) -> bool {
        let at = stamp(now);
        if state.is_retired() || !state.standing.is_serving() || state.standing.is_ejected(at) {
            return false;
        }
        let serving = alive.iter().filter(|peer| peer.standing.is_serving()).count();
        let staying: Vec<_> = alive
            .iter()
            .filter(|peer| peer.uid != state.uid && peer.standing.is_serving())
            .filter(|peer| !peer.standing.is_ejected(at))
            .collect();
        let out = serving.saturating_sub(staying.len() + 1);
        let may_go = match cause {
            // Nothing is won when all fail alike: a database that is down takes no instance out.
            Cause::InARow => out < serving / 2 && staying.iter().any(|peer| peer.failures_in_a_row() == 0),
            Cause::Rate => out < serving / 2,
            // It knows best. But somebody has to serve.
            Cause::Own => !staying.is_empty(),
        };
        if !may_go {
            return false;
        }
        let until_probed = cause == Cause::Own && state.standing.is_probed();
        let length = if until_probed { EJECTION_MAX } else { state.standing.next_ejection(now) };
        let since = Timestamp::now();
        let until = since.saturating_add(length).unwrap_or(Timestamp::MAX);
        let or_probed = if until_probed { ", or until its probe succeeds" } else { "" };
        let reason = format!("ejected until {until:.0}{or_probed}: {how}").into();
        let (instance, backend) = (state.key.id.as_str(), &*self.series.backend);
        tracing::warn!(instance, backend, cause = cause.as_str(), "{reason}");
        let told = Ejection { since, until, until_probed, reason };
        // Before it is: whoever sees that it is ejected sees that some are, or looks again with the next request.
        self.out.fetch_add(1, Relaxed);
        state.standing.eject(now, length, told.clone());
        state.forget_failures();
        self.special.store(true, Relaxed);
        self.series.ejected(cause);
        self.book.watch(self);
        self.book.ejected(&state.key, told);
        true
    }

    /// Ends an ejection before its time.
    pub(crate) fn end(&self, state: &EndpointState, now: Instant) {
        let members = self.lock();
        if state.standing.is_ejected(stamp(now)) {
            state.standing.end(now);
            self.book.over(&state.key);
            self.tell_return(state);
            let alive = members.alive();
            drop(members);
            look_for_places(&alive);
        }
    }

    /// One of them refused a connection, and has accepted none so far.
    pub(crate) fn does_not_listen(self: &Arc<Self>, state: &EndpointState, now: Instant) {
        let _members = self.lock();
        state.standing.refused(now);
        self.special.store(true, Relaxed);
        self.book.watch(self);
    }

    /// Ends what is over and compares what was counted; false when there is nothing to look after any more.
    pub(super) fn look(self: &Arc<Self>, now: Instant) -> bool {
        let at = stamp(now);
        let mut members = self.lock();
        let alive = members.alive();
        let full = members.window.take_if(|window| now.saturating_duration_since(window.since) >= WINDOW);
        if let Some(window) = full {
            let failed = self.compare(&alive, &window, now);
            if failed {
                members.window = Some(members.window_of(now));
            } else {
                self.troubled.store(false, Relaxed);
            }
        }
        for state in &alive {
            if !state.standing.is_ejected(at) && self.book.over(&state.key) {
                self.tell_return(state);
            }
            state.standing.settle(at);
        }
        let out = alive.iter().filter(|state| state.standing.is_ejected(at)).count();
        self.out.store(out, Relaxed);
        let special = alive.iter().any(|state| state.standing.is_special(at));
        self.special.store(special, Relaxed);
        let goes_on = special || members.window.is_some();
        drop(members);
        look_for_places(&alive);
        goes_on
    }

    fn tell_return(&self, state: &EndpointState) {
        let (instance, backend) = (state.key.id.as_str(), &*self.series.backend);
        tracing::info!(instance, backend, "its ejection is over: it comes back slowly");
    }

    /// Ejects whose failures stand out, the worst first. Gives whether any request failed.
    fn compare(self: &Arc<Self>, alive: &[Arc<EndpointState>], window: &Window, now: Instant) -> bool {
        let at = stamp(now);
        let since_then = |state: &Arc<EndpointState>| {
            let (now, then) = (state.standing.count(), window.counts.get(&state.uid).copied());
            let then = then.unwrap_or_default();
            Count { good: now.good.wrapping_sub(then.good), bad: now.bad.wrapping_sub(then.bad) }
        };
        let mut counted: Vec<_> = alive
            .iter()
            .filter(|state| state.standing.is_serving() && !state.standing.is_ejected(at))
            .map(|state| (state, since_then(state)))
            .collect();
        let all = counted.iter().fold(Count::default(), |sum, (_, count)| sum.and(*count));
        counted.sort_by(|(_, a), (_, b)| b.rate().total_cmp(&a.rate()));
        let mut rest = all;
        for (state, count) in counted {
            let peers =
                Count { good: rest.good.saturating_sub(count.good), bad: rest.bad.saturating_sub(count.bad) };
            if !state.standing.is_judged() || !stands_out(count, peers) {
                continue;
            }
            let (rate, usual) = (count.rate() * 100.0, peers.rate() * 100.0);
            let how = format!("{rate:.0} % of its requests failed in 10 s, {usual:.0} % of its peers'");
            if self.eject_among(alive, state, Cause::Rate, &how, now) {
                rest = peers;
            }
        }
        all.bad > 0
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // Each change is complete before anything can panic.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    fn alive(&self) -> Vec<Arc<EndpointState>> {
        self.known.iter().filter_map(Weak::upgrade).filter(|state| !state.is_retired()).collect()
    }

    fn window_of(&self, since: Instant) -> Window {
        let counts = self.alive().iter().map(|state| (state.uid, state.standing.count())).collect();
        Window { since, counts }
    }
}
