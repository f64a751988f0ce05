//! Chooses version and instance for one request.
//!
//! The version first, in this order: a match rule that fits; the cookie of a sticky route; the split, drawn anew for every
//! request or bound to the client. Then the instance within the version, as its balance says. `disabled` instances are never
//! candidates, `draining` ones only for the clients bound to them: the table lists neither as serving.
//!
//! - [`lots`]: which versions take part and with which weight.
//! - [`balance`]: the instance within a version.
//! - [`ring`]: where clients belong, for `hash`.
//! - [`care`]: who of them counts, when some are ejected, new, or in another zone.
//! - [`client`]: what tells clients apart, and match rules.
//! - [`budget`]: how many retries are allowed.

pub(crate) mod balance;
pub(crate) mod budget;
pub(crate) mod care;
pub(crate) mod client;
pub(crate) mod failures;
mod foresight;
pub(crate) mod lots;
pub(crate) mod peak_ewma;
pub(crate) mod ring;
pub(crate) mod stable_hash;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use fairway_catalog::Condition;
use fairway_config::labels::{MatchRule, SplitBy};
use fastrand::Rng;

use crate::endpoint::{Endpoint, InFlight};
use crate::outlier::stamp;
use crate::reason::Reason;
use crate::request::RequestView;
use crate::sticky::Bound;
use crate::table::{RouteEntry, Version};
use care::Care;
use foresight::foresee_among;
use lots::{Lots, Tier};

/// The instance for one request.
#[derive(Debug)]
pub struct Pick {
    /// Where to send it.
    pub endpoint: Arc<Endpoint>,
    /// The version it belongs to: names, settings, counters.
    pub version: Arc<Version>,
    /// Why this version.
    pub why: Why,
    /// Counts the request as in flight at the instance for as long as this lives.
    pub in_flight: InFlight,
}

/// Why a version was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// One of its match rules fits the request.
    Rule,
    /// The client is bound to it by its cookie.
    Sticky,
    /// Drawn by the weights of the split.
    Split,
    /// The split, bound to the client (`fairway.split_by`).
    Client,
    /// No split: every ready instance of the route has an equal share.
    Equal,
    /// Its weight is 0, though no split says so in writing, and no version with a weight above 0 has a ready instance.
    StandIn,
    /// It stops, but still accepts connections, and no other instance is ready.
    Stopping,
}

impl Why {
    /// The stable word, for the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Sticky => "sticky",
            Self::Split => "split",
            Self::Client => "client",
            Self::Equal => "equal",
            Self::StandIn => "stand-in",
            Self::Stopping => "stopping",
        }
    }
}

/// Why there is no instance for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoInstance {
    /// None is ready, or none that the request has not been at: hold it.
    #[error("no instance is ready")]
    NoneReady,
    /// Those that may serve have their limit of requests in flight: wait for a place (see `queue`).
    #[error("every instance is at its limit of requests in flight")]
    Full(Crowded),
}

/// Whose instances are full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded {
    /// The number of the one version that would do; `None`: any version would.
    pub version: Option<usize>,
    /// Why that version.
    pub why: Why,
}

impl NoInstance {
    /// The word for it.
    pub fn reason(self) -> Reason {
        match self {
            Self::NoneReady => Reason::NoReadyInstance,
            Self::Full(_) => Reason::InstancesFull,
        }
    }
}

/// Where a request has failed already. Allocates with the first failure only.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    uids: Vec<u64>,
    versions: Vec<Arc<str>>,
}

impl Tried {
    /// Notes that this pick failed the request.
    pub fn add(&mut self, pick: &Pick) {
        self.uids.push(pick.endpoint.state.uid);
        self.versions.push(pick.version.name.clone());
    }

    /// Notes those of others.
    pub(crate) fn add_all(&mut self, others: &Self) {
        self.uids.extend(&others.uids);
        self.versions.extend(others.versions.iter().cloned());
    }

    /// How many instances there are.
    pub fn len(&self) -> usize {
        self.uids.len()
    }

    /// Whether nothing has failed yet.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty()
    }

    fn has(&self, endpoint: &Endpoint) -> bool {
        self.uids.contains(&endpoint.state.uid)
    }

    /// The numbers of the instances' states.
    pub(crate) fn uids(&self) -> &[u64] {
        &self.uids
    }

    fn has_version(&self, version: &Version) -> bool {
        self.versions.contains(&version.name)
    }
}

impl RouteEntry {
    /// Chooses version and instance, and counts the request as in flight there. An instance in `tried` is never chosen;
    /// after a failure another version is preferred where one with a weight above 0 has an instance (design rule 7).
    pub fn pick(
        &self,
        request: &RequestView<'_>,
        tried: &Tried,
        rng: &mut Rng,
        now: Instant,
    ) -> Result<Pick, NoInstance> {
        self.pick_bound(request, None, tried, rng, now)
    }

    /// The same for a client whose cookie says where it belongs.
    pub(crate) fn pick_bound(
        &self,
        request: &RequestView<'_>,
        bound: Option<&Bound>,
        tried: &Tried,
        rng: &mut Rng,
        now: Instant,
    ) -> Result<Pick, NoInstance> {
        let mut chooser = Chooser { entry: self, request, bound, tried, rng, now };
        if let Some(pick) = chooser.by_rule().or_else(|| chooser.by_cookie()) {
            return Ok(pick);
        }
        if let Some(crowded) = chooser.crowded_by_cookie() {
            return Err(NoInstance::Full(crowded));
        }
        if tried.is_empty() { chooser.by_lots(&self.lots) } else { chooser.by_lots(&self.lots_after(tried)) }
    }

    /// Chooses once more for a request that found only full instances: of the version that was drawn for it, if one was.
    pub(crate) fn pick_crowded(
        &self,
        crowded: Crowded,
        request: &RequestView<'_>,
        tried: &Tried,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<Pick> {
        let Some(index) = crowded.version else { return self.pick(request, tried, rng, now).ok() };
        let version = self.versions.get(index)?;
        let mut chooser = Chooser { entry: self, request, bound: None, tried, rng, now };
        chooser.instance_of(version, self.endpoints_in_turn(version), crowded.why)
    }

    /// Another instance of the version that was chosen first.
    pub(crate) fn pick_beside(
        &self,
        first: &Pick,
        request: &RequestView<'_>,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<Pick> {
        let mut tried = Tried::default();
        tried.add(first);
        let mut chooser = Chooser { entry: self, request, bound: None, tried: &tried, rng, now };
        let second = chooser.instance_of(&first.version, first.version.serving(), first.why)?;
        // Nobody has failed: one that is out is no better than to wait.
        let (standing, at) = (&second.endpoint.state.standing, stamp(now));
        (!standing.is_ejected(at) && !standing.is_silent(at)).then_some(second)
    }

    /// The pick of a request that was handed a place at an instance; `None` if nothing new is sent there any more, or it is
    /// ejected and there are others that the request has not been at.
    pub(crate) fn pick_at(&self, in_flight: InFlight, why: Why, tried: &Tried, now: Instant) -> Option<Pick> {
        let uid = in_flight.at().uid;
        self.versions
            .iter()
            .find_map(|version| {
                let among = self.endpoints_in_turn(version);
                let endpoint = among.iter().find(|endpoint| endpoint.state.uid == uid)?;
                let others = better_than(version, among, endpoint, now);
                let is_out = others.iter().any(|uid| !tried.uids.contains(uid));
                (!is_out).then(|| (version.clone(), endpoint.clone()))
            })
            .map(|(version, endpoint)| Pick { endpoint, version, why, in_flight })
    }

    /// The instances that a request which waits for this version goes to rather than to this one, because it is ejected or
    /// does not listen yet: full ones, too. Mostly there are none. By the numbers of their states.
    pub(crate) fn better_than(&self, version: &str, uid: u64, now: Instant) -> Vec<u64> {
        let Some(version) = self.versions.iter().find(|one| &*one.name == version) else { return Vec::new() };
        let among = self.endpoints_in_turn(version);
        let endpoint = among.iter().find(|endpoint| endpoint.state.uid == uid);
        endpoint.map_or_else(Vec::new, |endpoint| better_than(version, among, endpoint, now))
    }

    /// Whether a request that failed at `tried` could be sent anywhere, full instances too.
    pub fn has_instance_beside(&self, tried: &Tried) -> bool {
        if tried.is_empty() { !self.lots.is_empty() } else { !self.lots_after(tried).is_empty() }
    }

    /// Whether the route's requests may cause one more retry now: 20 % of its requests, and 10 a second (design rule 7).
    /// A yes is spent.
    pub fn may_retry(&self, now: Instant) -> bool {
        let requests = self.versions.iter().map(|version| version.series.requests()).sum();
        self.budget.spend(requests, now)
    }

    /// The versions with a match rule that fits the request, by name, each with the first such rule.
    pub(crate) fn rules_for<'a>(
        &'a self,
        request: &RequestView<'_>,
    ) -> impl Iterator<Item = (&'a Arc<Version>, &'a MatchRule)> {
        let request = *request;
        self.versions.iter().filter_map(move |version| {
            let mut rules = version.backend.transport.matches.iter();
            rules.find(|rule| client::matches(rule, &request)).map(|rule| (version, rule))
        })
    }

    /// What the choice would be for a request of this moment, without choosing.
    pub(crate) fn foresee<'a>(&'a self, request: &RequestView<'_>, now: Instant) -> Foresight<'a> {
        let mut rules = self
            .rules_for(request)
            .filter(|(version, _)| version.serving().iter().any(|e| !e.state.is_full()));
        let bound = match &self.route.split_by {
            SplitBy::Request => None,
            SplitBy::Client(key) => client::hash(key, request),
        };
        let bound = bound.and_then(|client| self.lots.draw_for(client, &self.versions));
        let usable = |endpoint: &Endpoint| !endpoint.state.is_full();
        let instance = |version: &'a Arc<Version>| {
            foresee_among(version, self.endpoints_in_turn(version), &usable, request, now)
        };
        Foresight {
            rule: rules.next(),
            bound: bound.and_then(|version| self.versions.get(version)),
            tier: self.lots.tier(),
            shares: (0..self.versions.len()).map(|version| self.lots.share(version)).collect(),
            instances: self.versions.iter().map(instance).collect(),
        }
    }

    /// Whether the version has failed the request, and one that has more weight has an instance (design rule 7).
    fn is_failing_canary(&self, version: &Version, tried: &Tried) -> bool {
        let is_well = |endpoint: &Endpoint| endpoint.instance.condition != Condition::Ejected;
        let could_serve = |other: &Version| {
            other.serving().iter().any(|endpoint| !tried.has(endpoint) && is_well(endpoint))
        };
        tried.has_version(version)
            && self.versions.iter().any(|other| other.weight > version.weight && could_serve(other))
    }

    /// The version that a client belongs to.
    fn version_bound(&self, bound: &Bound) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| *version.name == *bound.backend)
    }

    fn lots_after(&self, tried: &Tried) -> Lots {
        let fresh = Lots::new(&self.versions, |endpoint| !tried.has(endpoint));
        fresh.without(|version| self.versions.get(version).is_some_and(|version| tried.has_version(version)))
    }
}

/// Whether nothing is sent to this instance because it is ejected or does not listen, and others are there.
fn is_out(version: &Version, among: &[Arc<Endpoint>], endpoint: &Endpoint, now: Instant) -> bool {
    !version.is_calm(now) && Care::of_the_lucky(version, among, now).is_out(endpoint)
}

/// Those of these that nothing is wrong with, if something is wrong with this one.
fn better_than(version: &Version, among: &[Arc<Endpoint>], endpoint: &Endpoint, now: Instant) -> Vec<u64> {
    if version.is_calm(now) {
        return Vec::new();
    }
    let care = Care::of_the_lucky(version, among, now);
    if care.is_sound(endpoint) {
        return Vec::new();
    }
    among.iter().filter(|other| care.is_sound(other)).map(|other| other.state.uid).collect()
}

/// What the choice would be.
pub(crate) struct Foresight<'a> {
    /// The version whose rule fits, and the rule.
    pub(crate) rule: Option<(&'a Arc<Version>, &'a MatchRule)>,
    /// The version that the client is bound to by the split.
    pub(crate) bound: Option<&'a Arc<Version>>,
    /// Who takes part in the draw.
    pub(crate) tier: Tier,
    /// Each version's part of the draws, 0 to 1.
    pub(crate) shares: Vec<f64>,
    /// The instance of each version that would serve, if the version were drawn.
    pub(crate) instances: Vec<Option<&'a Arc<Endpoint>>>,
}

/// One choice.
struct Chooser<'a, 'r> {
    entry: &'a RouteEntry,
    request: &'a RequestView<'r>,
    bound: Option<&'a Bound>,
    tried: &'a Tried,
    rng: &'a mut Rng,
    now: Instant,
}

impl Chooser<'_, '_> {
    /// Who gets a version whatever its weight, as long as it has an instance; else the split decides.
    fn by_rule(&mut self) -> Option<Pick> {
        if !self.entry.has_rules {
            return None;
        }
        let entry = self.entry;
        entry.rules_for(self.request).find_map(|(version, _)| {
            let bound = self.instance_bound(version, version.keeping(), Why::Rule);
            bound.or_else(|| self.instance_of(version, version.serving(), Why::Rule))
        })
    }

    /// Where the client's cookie says, whatever the weights: its instance, else another one of that version. Others that
    /// drain are as good as none, unless the whole version does.
    fn by_cookie(&mut self) -> Option<Pick> {
        let version = self.entry.version_bound(self.bound?)?;
        if self.entry.is_failing_canary(version, self.tried) {
            return None;
        }
        self.instance_bound(version, version.keeping(), Why::Sticky)
            .or_else(|| self.instance_of(version, version.serving(), Why::Sticky))
            .or_else(|| self.instance_of(version, version.draining(), Why::Sticky))
    }

    /// With a split, a bound client waits for a place at its version rather than to be poured over another.
    fn crowded_by_cookie(&self) -> Option<Crowded> {
        let (bound, tried) = (self.bound?, self.tried);
        self.entry.route.split.as_ref()?;
        let version = self
            .entry
            .version_bound(bound)
            .filter(|version| !self.entry.is_failing_canary(version, self.tried))?;
        let is_full = version.serving().iter().any(|endpoint| !tried.has(endpoint));
        let index = self.entry.versions.iter().position(|one| Arc::ptr_eq(one, version));
        index.filter(|_| is_full).map(|index| Crowded { version: Some(index), why: Why::Sticky })
    }

    fn by_lots(&mut self, lots: &Lots) -> Result<Pick, NoInstance> {
        // Nobody is ready: what stops is as good elsewhere as where the client belongs.
        if lots.tier() == Tier::Stopping
            && let Some(version) = self.bound.and_then(|bound| self.entry.version_bound(bound))
            && let Some(pick) = self.instance_bound(version, version.stopping(), Why::Stopping)
        {
            return Ok(pick);
        }
        let client = self.client();
        let index = self.draw(lots, client).ok_or(NoInstance::NoneReady)?;
        let index = self.instead_of_silent(index, lots.tier(), client).unwrap_or(index);
        let why = self.why(lots.tier(), client);
        let version = self.entry.versions.get(index).ok_or(NoInstance::NoneReady)?;
        if let Some(pick) = self.instance_of(version, lots.tier().endpoints(version), why) {
            return Ok(pick);
        }
        // Full. With a split, what is too much for one version is refused rather than poured over another: the weights
        // are a promise, and a canary would drown. Without one, versions make no difference.
        if lots.tier() == Tier::Weighted && self.entry.route.split.is_some() {
            return Err(NoInstance::Full(Crowded { version: Some(index), why }));
        }
        let full = NoInstance::Full(Crowded { version: None, why });
        let tried = self.tried;
        let free =
            Lots::new(&self.entry.versions, |endpoint| !tried.has(endpoint) && !endpoint.state.is_full());
        let index = self.draw(&free, client).ok_or(full)?;
        let version = self.entry.versions.get(index).ok_or(full)?;
        self.instance_of(version, free.tier().endpoints(version), self.why(free.tier(), client)).ok_or(full)
    }

    /// By whom the version is drawn, where the route asks for it and the request tells who that is.
    fn client(&self) -> Option<u64> {
        match &self.entry.route.split_by {
            SplitBy::Request => None,
            SplitBy::Client(key) => client::hash(key, self.request),
        }
    }

    /// The version: by the client; without one at random, independently of every other request.
    fn draw(&mut self, lots: &Lots, client: Option<u64>) -> Option<usize> {
        match client {
            Some(client) => lots.draw_for(client, &self.entry.versions),
            None => lots.draw(self.rng),
        }
    }

    /// Another version for a request whose version has nobody who listens yet, if there is one that has: it has just been
    /// asked, and a wait for it would be for nothing.
    fn instead_of_silent(&mut self, drawn: usize, tier: Tier, client: Option<u64>) -> Option<usize> {
        let (entry, tried, now) = (self.entry, self.tried, self.now);
        let version = entry.versions.get(drawn).filter(|version| !version.is_calm(now))?;
        let at = stamp(now);
        let listens = |endpoint: &Endpoint| !endpoint.state.standing.is_silent(at);
        if tier != Tier::Weighted || version.serving().iter().any(|e| listens(e) && !tried.has(e)) {
            return None;
        }
        let others = Lots::new(&entry.versions, |endpoint| listens(endpoint) && !tried.has(endpoint));
        if others.tier() == Tier::Weighted { self.draw(&others, client) } else { None }
    }

    fn why(&self, tier: Tier, client: Option<u64>) -> Why {
        match (tier, client) {
            (Tier::Weighted, Some(_)) => Why::Client,
            (Tier::Weighted, None) if self.entry.route.split.is_none() => Why::Equal,
            (Tier::Weighted, None) => Why::Split,
            (Tier::StandIn, _) => Why::StandIn,
            (Tier::Stopping, _) => Why::Stopping,
        }
    }

    /// The client's own instance, if it is of this version and among these.
    fn instance_bound(&self, version: &Arc<Version>, among: &[Arc<Endpoint>], why: Why) -> Option<Pick> {
        let bound = self.bound.filter(|bound| *bound.backend == *version.name)?;
        let endpoint = among.iter().find(|endpoint| endpoint.key.id.as_str() == &*bound.instance)?;
        if self.tried.has(endpoint) || is_out(version, among, endpoint, self.now) {
            return None;
        }
        let in_flight = endpoint.state.begin()?;
        Some(Pick { endpoint: endpoint.clone(), version: version.clone(), why, in_flight })
    }

    fn instance_of(&mut self, version: &Arc<Version>, among: &[Arc<Endpoint>], why: Why) -> Option<Pick> {
        if version.is_calm(self.now) {
            return self.one_of(version, among, why, |_| true);
        }
        let care = Care::new(version, among, self.request, self.rng, self.now);
        let tried = self.tried;
        let waits = || among.iter().any(|endpoint| care.is_sound(endpoint) && !tried.has(endpoint));
        self.one_of(version, care.near(), why, |endpoint| care.is_preferred(endpoint))
            .or_else(|| self.one_of(version, among, why, |endpoint| care.counts(endpoint)))
            .or_else(|| self.one_of(version, among, why, |endpoint| care.is_sound(endpoint)))
            // An ejected instance is better than none, but not better than one that is merely full.
            .or_else(|| if waits() { None } else { self.one_of(version, among, why, |_| true) })
    }

    fn one_of(
        &mut self,
        version: &Arc<Version>,
        among: &[Arc<Endpoint>],
        why: Why,
        counts: impl Fn(&Endpoint) -> bool,
    ) -> Option<Pick> {
        let tried = self.tried;
        let usable =
            |endpoint: &Endpoint| !tried.has(endpoint) && !endpoint.state.is_full() && counts(endpoint);
        // Another worker may take the last place between the choice and the count: then it is full, choose again.
        loop {
            let question =
                balance::Question { version, among, usable: &usable, request: self.request, now: self.now };
            let endpoint = question.choose(self.rng)?.clone();
            if let Some(in_flight) = endpoint.state.begin() {
                return Some(Pick { endpoint, version: version.clone(), why, in_flight });
            }
        }
    }
}
