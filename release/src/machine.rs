//! What a release does next: a state machine that takes in seconds and says which move is due.
//!
//! ```text
//! waiting -> stepping <-> paused      any but the last two -> rolled_back
//!            stepping <-> inconclusive
//!            stepping  -> confirming -> done
//! ```
//!
//! [`Machine::observe`] takes in what was seen, [`Machine::due`] says what follows from it, [`Machine::make`] makes it so. They
//! are apart because a move may have to wait: what cannot be stored is not done, and is due again with the next second.
//!
//! Not here: what a move means for split and states (see `admin`), the judgement (see `comparison` and `limit`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fairway_catalog::ids::InstanceId;
use jiff::Timestamp;

use crate::comparison::{Comparison, Respect, Sample};
use crate::figures::Figures;
use crate::limit::Limit;
use crate::model::{Ending, Release, Stage};

/// Fewest requests of each side that a step must have seen before the next one begins.
pub const ENOUGH: u64 = 20;
/// After so many step times without enough requests a release is inconclusive.
pub const PATIENCE: u32 = 5;
/// No step begins while the evidence against the canary is stronger than this, to one.
pub const SUSPICION: f64 = 10.0;
/// So long the target may be without a ready instance after a restart of ours, before it has had one.
pub const AFTER_RESTART: Duration = Duration::from_secs(30);
/// At 100 % nobody is left to compare with. What may fail there: three times what failed of the others' requests, and this.
pub const ALONE_MORE: f64 = 0.1;
/// What may fail at 100 % where nothing is known of the others, or so much of theirs failed.
pub const ALONE_MOST: f64 = 0.5;
/// More time than this between two looks is a hole in what was seen, and no time of a step.
const HOLE: Duration = Duration::from_secs(5);
/// At least this part of a step is watched again after a restart.
const WATCHED_AGAIN: u32 = 4;

/// What was seen since the last look.
#[derive(Debug, Clone, Default)]
pub struct Second {
    /// How long that is, by a clock that never jumps.
    pub passed: Duration,
    /// What the target did.
    pub canary: Sample,
    /// What the other versions of the route did.
    pub stable: Sample,
    /// The target's instances in the route.
    pub instances: Vec<Seen>,
    /// Ready instances of the other versions.
    pub others_ready: usize,
    /// The share that the target has by the split in force, in percent: people move that of a manual release.
    pub weight: Option<u8>,
}

/// An instance of the target.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub id: InstanceId,
    /// It gets new requests.
    pub ready: bool,
    /// Its probe fails, and how.
    pub failing: Option<Arc<str>>,
}

/// A change of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// Where to.
    pub stage: Stage,
    /// To which step; `None`: as before.
    pub step: Option<usize>,
    /// How it ends with this.
    pub ending: Option<Ending>,
    /// Why, with figures.
    pub why: String,
}

/// Why people's order makes no move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMove {
    /// It is as ordered already.
    Already,
    /// The release has ended.
    Ended,
    /// The target has no ready instance: nobody would be served.
    NotReady,
}

/// A release that runs, or has.
#[derive(Debug, Clone)]
pub struct Machine {
    release: Release,
    comparison: Comparison,
    limit: Option<Limit>,
    /// While the target has everything.
    alone: Option<Limit>,
    /// What both sides did while the target had a share; since the start, or the restart.
    canary: Sample,
    stable: Sample,
    /// Requests of both in this step.
    in_step: (u64, u64),
    /// How much of the step is over.
    spent: Duration,
    /// Instances of the target that were ready once, and whose probes therefore count.
    proven: BTreeSet<InstanceId>,
    ready: usize,
    others_ready: usize,
    failing: Option<(InstanceId, Arc<str>)>,
    /// How long the target may be without a ready instance that it has not had yet.
    grace: Duration,
}

impl Machine {
    /// A release that begins.
    pub fn new(release: Release) -> Self {
        Self {
            comparison: Comparison::default(),
            limit: release.plan.max_error_rate.map(Limit::new),
            alone: None,
            canary: Sample::default(),
            stable: Sample::default(),
            in_step: (0, 0),
            spent: release.spent,
            proven: BTreeSet::new(),
            ready: 0,
            others_ready: 0,
            failing: None,
            grace: Duration::ZERO,
            release,
        }
    }

    /// A release that goes on after a restart at this time. Its evidence begins anew; of its step remains what was left, and a
    /// quarter at least.
    pub fn resumed(mut release: Release, now: Timestamp) -> Self {
        let runs = matches!(release.stage, Stage::Stepping | Stage::Inconclusive | Stage::Confirming);
        // The clock may have been set: time that ran backwards is none.
        let since = Duration::try_from(now.duration_since(release.since)).unwrap_or_default();
        let most = release.plan.step_time - release.plan.step_time / WATCHED_AGAIN;
        let over = if runs { release.spent.saturating_add(since) } else { release.spent };
        release.spent = over.min(most);
        Self { grace: AFTER_RESTART, ..Self::new(release) }
    }

    /// The release.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        Figures { canary: self.canary.clone(), stable: self.stable.clone(), log: self.comparison.log() }
    }

    /// In what there is most evidence against the target.
    pub fn strongest(&self) -> Respect {
        self.comparison.strongest()
    }

    /// How much of the step's time is over.
    pub fn spent(&self) -> Duration {
        self.spent
    }

    /// Takes in what was seen.
    pub fn observe(&mut self, second: &Second) {
        let Second { passed, canary, stable, instances, others_ready, weight } = second;
        if self.release.plan.manual {
            self.release.weight = weight.unwrap_or(self.release.weight);
        }
        self.others_ready = *others_ready;
        self.ready = instances.iter().filter(|instance| instance.ready).count();
        self.proven
            .extend(instances.iter().filter(|instance| instance.ready).map(|instance| instance.id.clone()));
        self.failing = instances.iter().find_map(|instance| {
            let failing = instance.failing.clone().filter(|_| self.proven.contains(&instance.id))?;
            Some((instance.id.clone(), failing))
        });
        self.grace = self.grace.saturating_sub(*passed);
        if !matches!(self.release.stage, Stage::Waiting | Stage::Paused) {
            self.spent = self.spent.saturating_add(*passed.min(&HOLE));
        }
        if self.release.weight == 0 {
            // How long requests of the stable versions take is worth knowing beforehand.
            return self.comparison.observe(&Sample::default(), stable);
        }
        self.comparison.observe(canary, stable);
        if let Some(limit) = &mut self.limit {
            limit.observe(canary);
        }
        match self.release.weight == 100 {
            true => self.alone_limit().observe(canary),
            false => self.alone = None,
        }
        self.canary.add(canary);
        self.stable.add(stable);
        self.in_step.0 += canary.requests;
        self.in_step.1 += stable.requests;
    }

    /// The move that is due.
    pub fn due(&self) -> Option<Move> {
        let release = &self.release;
        if release.stage.is_ended() {
            return None;
        }
        if let Some((ending, why)) = self.verdict() {
            // Whom nobody can replace is not taken out: a bad answer is better than none.
            let replaced = self.others_ready > 0 || ending == Ending::NotReady;
            return if replaced { Some(self.rolled_back(ending, why)) } else { self.irreplaceable(&why) };
        }
        match release.stage {
            Stage::Waiting if self.ready > 0 => Some(self.begin()),
            _ if release.plan.manual => self.manual(),
            Stage::Stepping => self.step_over(),
            Stage::Inconclusive if self.known_enough().is_ok() => Some(self.next_step("enough is known now")),
            Stage::Confirming if self.spent >= release.plan.step_time => {
                let why = format!("nothing was wrong with it; {}", self.figures().text());
                Some(self.done(Ending::Completed, why))
            }
            _ => None,
        }
    }

    /// Makes a move at this time.
    pub fn make(&mut self, due: &Move, now: Timestamp) {
        let release = &mut self.release;
        if due.step.is_some() && due.step != release.step
            || due.stage == Stage::Confirming && !release.confirming
        {
            self.spent = Duration::ZERO;
            self.in_step = (0, 0);
        }
        release.step = due.step.or(release.step);
        release.confirming = release.confirming || due.stage == Stage::Confirming;
        release.stage = due.stage;
        release.ending = due.ending.or(release.ending);
        release.why = due.why.as_str().into();
        release.since = now;
        release.spent = self.spent;
        if due.stage == Stage::RolledBack {
            release.weight = 0;
        } else if !release.plan.manual && !release.stage.is_ended() {
            release.weight = release.step_weight();
        }
    }

    /// The same release with its promotion complete: the target has everything.
    pub fn promoted(&mut self) {
        self.release.weight = 100;
    }

    /// People hold it.
    pub fn pause(&self, who: &str) -> Result<Move, NoMove> {
        match self.release.stage {
            stage if stage.is_ended() => Err(NoMove::Ended),
            // Nothing moves by itself: it waits for its target, and the weights that people have set wait with it.
            Stage::Waiting if self.release.plan.manual => Err(NoMove::Already),
            Stage::Paused => Err(NoMove::Already),
            _ => Ok(self.to(Stage::Paused, format!("paused by {who}; {}", self.figures().text()))),
        }
    }

    /// People let it go on; one that is inconclusive takes its next step on their word.
    pub fn resume(&self, who: &str) -> Result<Move, NoMove> {
        let why = format!("resumed by {who}");
        match self.release.stage {
            stage if stage.is_ended() => Err(NoMove::Ended),
            Stage::Paused if self.release.confirming => Ok(self.to(Stage::Confirming, why)),
            Stage::Paused if self.release.step.is_some() || self.release.weight > 0 => {
                Ok(self.to(Stage::Stepping, why))
            }
            Stage::Paused => Ok(self.to(Stage::Waiting, why)),
            Stage::Inconclusive => Ok(self.next_step(&why)),
            _ => Err(NoMove::Already),
        }
    }

    /// People promote it, whatever is known.
    pub fn confirm(&self, who: &str) -> Result<Move, NoMove> {
        match self.release.stage {
            stage if stage.is_ended() => Err(NoMove::Ended),
            _ if self.ready == 0 => Err(NoMove::NotReady),
            _ => {
                let why = format!("confirmed by {who}; {}", self.figures().text());
                Ok(self.done(Ending::Confirmed, why))
            }
        }
    }

    /// People take it back.
    pub fn roll_back(&self, who: &str) -> Result<Move, NoMove> {
        match self.release.stage.is_ended() {
            true => Err(NoMove::Ended),
            false => Ok(self.rolled_back(Ending::Ordered, format!("rolled back by {who}"))),
        }
    }

    /// Why the target has to be taken back at once, if it has to.
    fn verdict(&self) -> Option<(Ending, String)> {
        if self.release.weight == 0 {
            return None;
        }
        let probe = self.failing.as_ref().map(|(id, how)| format!("the probe of {id} fails ({how})"));
        // Weights that people set before it comes wait for it.
        let is_awaited = self.release.stage == Stage::Waiting || !self.grace.is_zero();
        if self.ready == 0 && (!self.proven.is_empty() || !is_awaited) {
            let because = probe.map(|fails| format!(": {fails}")).unwrap_or_default();
            return Some((Ending::NotReady, format!("no instance of it is ready any more{because}")));
        }
        if let Some(fails) = probe {
            return Some((Ending::Probe, fails));
        }
        if let Some(limit) = self.limit.as_ref().filter(|limit| limit.is_exceeded()) {
            let why = format!("more than {} % of its requests fail", limit.rate() * 100.0);
            return Some((Ending::MaxErrorRate, why));
        }
        if let Some(alone) = self.alone.as_ref().filter(|alone| alone.is_exceeded()) {
            let why =
                format!("more than {:.0} % of its requests fail since it has them all", alone.rate() * 100.0);
            return Some((Ending::Failures, why));
        }
        let respect = self.comparison.worse()?;
        let ending = if respect == Respect::Failures { Ending::Failures } else { Ending::Latency };
        Some((ending, respect.as_text().to_owned()))
    }

    /// From the moment that the target has everything: what of its requests may fail, by what failed of the others' before.
    fn alone_limit(&mut self) -> &mut Limit {
        let Sample { requests, failures, .. } = self.stable;
        let rate = match requests {
            0..ENOUGH => ALONE_MOST,
            _ => (3.0 * failures as f64 / requests as f64 + ALONE_MORE).min(ALONE_MOST),
        };
        self.alone.get_or_insert_with(|| Limit::new(rate))
    }

    fn irreplaceable(&self, why: &str) -> Option<Move> {
        let why = format!("{why}, but no other version has a ready instance; {}", self.figures().text());
        let is_held = matches!(self.release.stage, Stage::Inconclusive | Stage::Paused);
        (!is_held).then(|| self.to(Stage::Inconclusive, why))
    }

    fn begin(&self) -> Move {
        match self.release.plan.manual {
            true => self.to(
                Stage::Stepping,
                "an instance of the target is ready; set weights, then confirm".to_owned(),
            ),
            false => {
                let why = "an instance of the target is ready".to_owned();
                Move { step: Some(0), ..self.to(Stage::Stepping, why) }
            }
        }
    }

    /// People move the weights; at 0 a target may come and go.
    fn manual(&self) -> Option<Move> {
        let is_away = self.ready == 0 && self.release.weight == 0 && self.release.stage == Stage::Stepping;
        is_away.then(|| self.to(Stage::Waiting, "no instance of the target is ready".to_owned()))
    }

    fn step_over(&self) -> Option<Move> {
        let step_time = self.release.plan.step_time;
        if self.spent < step_time {
            return None;
        }
        match self.known_enough() {
            Ok(()) => Some(self.next_step("nothing is wrong with it so far")),
            Err(lack) if self.spent >= step_time * PATIENCE => {
                let why = format!("{lack} after {} s; {}", self.spent.as_secs(), self.figures().text());
                Some(self.to(Stage::Inconclusive, why))
            }
            Err(_) => None,
        }
    }

    /// Whether this step has seen what it was to see; else what it lacks.
    fn known_enough(&self) -> Result<(), String> {
        let (canary, stable) = self.in_step;
        if canary < ENOUGH {
            return Err(format!("the target got {canary} requests in this step, and {ENOUGH} are needed"));
        }
        if stable < ENOUGH && self.release.weight < 100 {
            return Err(format!(
                "the other versions got {stable} requests in this step, and {ENOUGH} are needed"
            ));
        }
        if self.comparison.log() > SUSPICION.ln() {
            return Err(format!("it may be that {}", self.comparison.strongest().as_text()));
        }
        Ok(())
    }

    fn next_step(&self, because: &str) -> Move {
        let why = format!("{because}; {}", self.figures().text());
        if self.release.is_last_step() {
            return self.to(Stage::Confirming, why);
        }
        let step = self.release.step.map_or(0, |step| step + 1);
        Move { step: Some(step), ..self.to(Stage::Stepping, why) }
    }

    fn rolled_back(&self, ending: Ending, why: String) -> Move {
        let why = format!("{why}; {}", self.figures().text());
        Move { ending: Some(ending), ..self.to(Stage::RolledBack, why) }
    }

    fn done(&self, ending: Ending, why: String) -> Move {
        Move { ending: Some(ending), ..self.to(Stage::Done, why) }
    }

    fn to(&self, stage: Stage, why: String) -> Move {
        Move { stage, step: None, ending: None, why }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
