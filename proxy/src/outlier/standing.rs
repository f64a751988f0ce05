//! How one life of an instance stands at this moment: ejected, coming back, or not listening yet.
//!
//! Written by whoever sees something, read by every choice while anything of it holds for an instance of the version; no
//! locks there. Not here: who decides (see `peers`).

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fairway_catalog::Ejection;

use super::rate::Count;
use super::{EJECTION, EJECTION_MAX, FORGIVEN, SLOW_START, millis, part_after, stamp};

/// How long an instance that does not listen yet is left in peace after a refusal.
pub(crate) const KNOCK: Duration = Duration::from_millis(100);

/// How an instance stands.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The end of its ejection as a [`stamp`]; 0 when there was none lately.
    out_until: AtomicU64,
    /// When it may be asked again whether it listens, as a [`stamp`]; 0 when nothing says that it does not.
    knock_at: AtomicU64,
    /// It has accepted a connection of ours in this life.
    listens: AtomicBool,
    /// New clients are sent to it, as the table has it.
    serving: AtomicBool,
    /// It may be ejected for its failures (`fairway.outlier`).
    judged: AtomicBool,
    /// It has a probe of ours.
    probed: AtomicBool,
    good: AtomicU32,
    bad: AtomicU32,
    past: Mutex<Past>,
}

/// Its ejections so far.
#[derive(Debug, Default)]
struct Past {
    /// How many were in a row.
    times: u32,
    ended: Option<Instant>,
    told: Option<Ejection>,
}

impl Standing {
    /// Notes what a new table says of it.
    pub(crate) fn note(&self, serving: bool, judged: bool, probed: bool) {
        self.serving.store(serving, Relaxed);
        self.judged.store(judged, Relaxed);
        self.probed.store(probed, Relaxed);
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.serving.load(Relaxed)
    }

    pub(crate) fn is_judged(&self) -> bool {
        self.judged.load(Relaxed)
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.probed.load(Relaxed)
    }

    pub(crate) fn succeeded(&self) {
        self.good.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.bad.fetch_add(1, Relaxed);
    }

    /// Requests so far; wraps.
    pub(crate) fn count(&self) -> Count {
        Count { good: self.good.load(Relaxed), bad: self.bad.load(Relaxed) }
    }

    /// Whether it is out, at this [`stamp`].
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        now < self.out_until.load(Relaxed)
    }

    /// Whether it was refused a moment ago though nobody has seen it listen yet, at this [`stamp`].
    pub(crate) fn is_silent(&self, now: u64) -> bool {
        now < self.knock_at.load(Relaxed)
    }

    /// The part of its requests that it gets at this [`stamp`]: the whole unless it has just come back.
    pub(crate) fn part(&self, now: u64) -> f32 {
        match self.out_until.load(Relaxed) {
            0 => 1.0,
            out_until => part_after(Duration::from_millis(now.saturating_sub(out_until))),
        }
    }

    /// Whether anything here bears upon a choice at this [`stamp`] or soon after it.
    pub(crate) fn is_special(&self, now: u64) -> bool {
        let out_until = self.out_until.load(Relaxed);
        let comes_back = out_until != 0 && now < out_until.saturating_add(millis(SLOW_START));
        comes_back || self.is_silent(now)
    }

    /// For how long it would be ejected now.
    pub(super) fn next_ejection(&self, now: Instant) -> Duration {
        (EJECTION * self.past().in_a_row(now).min(100)).min(EJECTION_MAX)
    }

    /// Ejects it for so long. `told` is what others see of it.
    pub(super) fn eject(&self, now: Instant, length: Duration, told: Ejection) {
        let mut past = self.past();
        past.times = past.in_a_row(now);
        past.ended = Some(now + length);
        past.told = Some(told);
        self.out_until.store(stamp(now + length), Relaxed);
    }

    /// Ends its ejection now: it comes back as one that is new.
    pub(super) fn end(&self, now: Instant) {
        self.past().ended = Some(now);
        self.out_until.fetch_min(stamp(now), Relaxed);
    }

    /// What is told of its ejection, as long as it is out.
    pub(crate) fn ejection(&self, now: Instant) -> Option<Ejection> {
        if self.is_ejected(stamp(now)) { self.past().told.clone() } else { None }
    }

    /// Forgets that it was ejected, once it has come back whole.
    pub(super) fn settle(&self, now: u64) {
        if !self.is_special(now) {
            self.out_until.store(0, Relaxed);
        }
    }

    /// Whether it has accepted a connection of ours.
    pub(crate) fn listens(&self) -> bool {
        self.listens.load(Relaxed)
    }

    /// It has accepted a connection.
    pub(crate) fn accepted(&self) {
        if !self.listens() {
            self.listens.store(true, SeqCst);
            self.knock_at.store(0, SeqCst);
        }
    }

    /// It refused a connection and had accepted none. Another worker's may be accepted at this moment: in one order (`SeqCst`) that
    /// is seen here, or what is written here is taken back there. Else nobody would, and few would ever be let through.
    pub(super) fn refused(&self, now: Instant) {
        self.knock_at.store(stamp(now + KNOCK), SeqCst);
        if self.listens.load(SeqCst) {
            self.knock_at.store(0, SeqCst);
        }
    }

    /// Whether the caller is to ask now whether it listens: one of those who wait, once each [`KNOCK`].
    pub(crate) fn may_knock(&self, now: Instant) -> bool {
        let at = self.knock_at.load(Relaxed);
        at == 0 || (at <= stamp(now) && self.takes_turn(at, stamp(now + KNOCK)))
    }

    fn takes_turn(&self, at: u64, next: u64) -> bool {
        self.knock_at.compare_exchange(at, next, Relaxed, Relaxed).is_ok()
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        // Each change is complete before anything can panic.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    /// Which ejection in a row one of now would be, from 1.
    fn in_a_row(&self, now: Instant) -> u32 {
        let Some(ended) = self.ended else { return 1 };
        let good_for = now.saturating_duration_since(ended).as_secs() / FORGIVEN.as_secs();
        let forgiven = u32::try_from(good_for).unwrap_or(u32::MAX);
        self.times.saturating_sub(forgiven) + 1
    }
}
