//! The only place that changes decisions: checks an order against the catalog, stores it, puts it into the inputs, and
//! waits until it is live.
//!
//! One order at a time, but for rollbacks, which wait for nobody. An order that has begun is carried out whether or not its client
//! still waits. Not here: what a split may say (see `weights`), releases, which change decisions by themselves, too (see `release`),
//! orders about copies (see `mirror`) and limits (see `limits`), how refusals look (see `refused`).

pub(crate) mod error;
mod limits;
mod mirror;
mod names;
mod refused;
pub(crate) mod release;
mod weights;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use fairway_catalog::inputs::{SplitRecord, StateRecord, StateSubject};
use fairway_catalog::{Backend, Catalog, Decisions, InputsHandle, Instance, Problem, Route, State};
use fairway_config::names::{BackendId, RouteId, Weight};
use fairway_store::{AuditRecord, Store, StoreError};
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::types::{SplitOrder, StateOrder};
pub(crate) use error::OrderError;
pub(crate) use names::{find_backend, find_instances, find_route};
pub use release::Figures;
use release::Releases;
pub(crate) use release::{Running, Step};

/// Longest wait until an order is live everywhere.
const LIVE_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait for the orders before, and for the store.
const STORED_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for the answer to an order: for those before, for the store, and until it is live.
const ANSWERED_WITHIN: Duration = STORED_WITHIN.saturating_add(STORED_WITHIN).saturating_add(LIVE_WITHIN);
/// Splits, or limits, of a route that return one after the other, at most.
const EXPIRIES_MAX: usize = 16;
/// The name in [`InputsHandle::report`] of all writes into the store: the last one tells how it is.
const PART: &str = "store-writes";

/// Who gives an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// What the client calls itself.
    pub name: String,
    /// Where it is: an address, or the user at the other end of a Unix socket.
    pub from: String,
}

/// What became of an order that was carried out.
#[derive(Debug, Clone)]
pub struct Done<T> {
    /// What it was about, as it is now.
    pub now: T,
    /// Whether every part of the process goes by it; false when that takes longer than 2 s.
    pub live: bool,
}

/// Changes decisions; cheap to clone.
#[derive(Debug, Clone)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inputs: InputsHandle,
    catalogs: watch::Receiver<Arc<Catalog>>,
    store: Option<Arc<Store>>,
    /// The serials that the table of the data plane, the zone of the DNS, ... were built from.
    applied: Vec<watch::Receiver<u64>>,
    /// Each route's last release.
    releases: Releases,
    /// Whoever changes anything has it, but for a rollback: that waits for nobody.
    turn: Mutex<()>,
    /// Another process is about to take over, and the store is not ours.
    handed_over: AtomicBool,
}

impl Control {
    /// Writes into these inputs and this store; an order is live when the catalog and each of `applied` have reached
    /// its serial. Without a store every order is refused.
    pub fn new(
        inputs: InputsHandle,
        catalogs: watch::Receiver<Arc<Catalog>>,
        store: Option<Arc<Store>>,
        applied: Vec<watch::Receiver<u64>>,
    ) -> Self {
        let (releases, turn, handed_over) = (Releases::default(), Mutex::new(()), AtomicBool::new(false));
        Self(Arc::new(Shared { inputs, catalogs, store, applied, releases, turn, handed_over }))
    }

    /// Replaces the whole split of a route.
    pub(crate) async fn put_split(
        &self,
        route: String,
        order: SplitOrder,
        if_match: Option<String>,
        who: Who,
    ) -> Result<Done<Arc<Route>>, OrderError> {
        self.carry_out(move |shared| async move {
            shared.put_split(&route, &order, if_match.as_deref(), &who).await
        })
        .await
    }

    /// Removes the API's split of a route; `now` is `None` when the route itself is gone.
    pub(crate) async fn delete_split(
        &self,
        route: String,
        if_match: Option<String>,
        who: Who,
    ) -> Result<Done<Option<Arc<Route>>>, OrderError> {
        self.carry_out(
            move |shared| async move { shared.delete_split(&route, if_match.as_deref(), &who).await },
        )
        .await
    }

    /// Sets the state of an instance, or of all ports of a container.
    pub(crate) async fn set_instances(
        &self,
        reference: String,
        order: StateOrder,
        who: Who,
    ) -> Result<Done<Vec<Arc<Instance>>>, OrderError> {
        self.carry_out(move |shared| async move {
            let named = find_instances(&shared.catalog(), &reference)?;
            let subjects: Vec<StateSubject> =
                named.iter().map(|instance| StateSubject::Instance(instance.id.clone())).collect();
            let subject = named.iter().map(|i| i.id.to_string()).collect::<Vec<_>>().join(" ");
            let live = shared.set_state(&subjects, subject, &order, &who).await?;
            let catalog = shared.catalog();
            // One that went in the meantime is told as it was.
            let now = named.into_iter().map(|old| catalog.instances.get(&old.id).cloned().unwrap_or(old));
            Ok(Done { now: now.collect(), live })
        })
        .await
    }

    /// Sets the state of a backend.
    pub(crate) async fn set_backend(
        &self,
        reference: String,
        order: StateOrder,
        who: Who,
    ) -> Result<Done<Arc<Backend>>, OrderError> {
        self.carry_out(move |shared| async move {
            let named = find_backend(&shared.catalog(), &reference)?;
            let subjects = shared.subjects_of(&named.id, order.state.into());
            let live = shared.set_state(&subjects, named.id.to_string(), &order, &who).await?;
            let now = shared.catalog().backends.get(&named.id).cloned().unwrap_or(named);
            Ok(Done { now, live })
        })
        .await
    }

    /// Shows how a write into the store ended: a failure is a problem until a later write succeeds.
    pub(crate) fn report(&self, written: &Result<(), StoreError>) {
        self.0.report(written);
    }

    /// Runs an order as a task of its own: what is stored must get into the inputs, though its client hangs up.
    async fn carry_out<T, F>(
        &self,
        order: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
    ) -> Result<T, OrderError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OrderError>> + Send,
    {
        let shared = self.0.clone();
        let task = tokio::spawn(async move {
            let turn_of = shared.clone();
            let Ok(_turn) = timeout(STORED_WITHIN, turn_of.turn.lock()).await else {
                return Err(OrderError::Busy);
            };
            // The order before may not have been live in time: its effect is what this one is checked against.
            shared.reach(shared.inputs.current().serial).await;
            order(shared).await
        });
        match timeout(ANSWERED_WITHIN, task).await {
            Ok(ended) => ended.unwrap_or(Err(OrderError::Failed)),
            Err(_) => Err(OrderError::Waits),
        }
    }
}

impl Shared {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalogs.borrow().clone()
    }

    async fn put_split(
        &self,
        route: &str,
        order: &SplitOrder,
        if_match: Option<&str>,
        who: &Who,
    ) -> Result<Done<Arc<Route>>, OrderError> {
        let catalog = self.catalog();
        let route = find_route(&catalog, route)?;
        check_etag(&route, if_match)?;
        self.check_no_release(&route.id)?;
        error::check_reason(&order.reason)?;
        let weights = weights::check(&order.weights, route.members.iter().map(|member| &member.backend.id))?;
        let now = Timestamp::now();
        let expires_at = order.expires_in.as_deref().map(|text| weights::expiry(text, now)).transpose()?;
        let mut record = SplitRecord {
            weights,
            author: who.name.as_str().into(),
            at: now,
            expires_at,
            reason: order.reason.as_str().into(),
            then: None,
        };
        if let Some(end) = expires_at {
            record.then = self.what_returns(&route, end, &record).map(Box::new);
        }
        let chain = std::iter::successors(Some(&record), |record| record.then.as_deref());
        if chain.count() > EXPIRIES_MAX {
            return Err(OrderError::TooManyExpiries { most: EXPIRIES_MAX });
        }
        let audit = audit(who, "put-split", &route.id, describe(&record), &order.reason, now);
        let (id, stored, moves) = (route.id.clone(), record.clone(), self.releases.moves(&route.id));
        self.store(move |store| store.put_split(&id, &stored, &audit)).await?;
        let live = self.decide_split(&route.id, moves, Some(record)).await?;
        Ok(Done { now: self.catalog().routes.get(&route.id).cloned().unwrap_or(route), live })
    }

    /// What holds after a new split's end: the API's split that would hold then; without any split at all the backends
    /// of now share equally; `None` for the layers below.
    fn what_returns(&self, route: &Route, end: Timestamp, new: &SplitRecord) -> Option<SplitRecord> {
        let decisions = self.inputs.current().decisions;
        if let Some(replaced) = decisions.splits.get(&route.id).filter(|old| old.effective(new.at).is_some())
        {
            return replaced.effective(end).cloned();
        }
        if route.split.is_some() || route.members.is_empty() {
            return None;
        }
        let weights =
            route.members.iter().map(|member| (member.backend.id.clone(), Weight::DEFAULT)).collect();
        let reason = format!("the split of {} ended; these backends shared equally before", new.author);
        Some(SplitRecord {
            weights,
            author: new.author.clone(),
            at: end,
            expires_at: None,
            reason: reason.into(),
            then: None,
        })
    }

    async fn delete_split(
        &self,
        route: &str,
        if_match: Option<&str>,
        who: &Who,
    ) -> Result<Done<Option<Arc<Route>>>, OrderError> {
        let stored = |id: &RouteId| self.inputs.current().decisions.splits.contains_key(id);
        let id = self.there_or_remembered(route, stored, |found| check_etag(found, if_match))?;
        self.check_no_release(&id)?;
        let mut live = true;
        if stored(&id) {
            let audit = audit(who, "delete-split", &id, String::new(), "", Timestamp::now());
            let (gone, moves) = (id.clone(), self.releases.moves(&id));
            self.store(move |store| store.delete_split(&gone, &audit)).await?;
            live = self.decide_split(&id, moves, None).await?;
        }
        Ok(Done { now: self.catalog().routes.get(&id).cloned(), live })
    }

    /// The route of which something is to be removed. What is remembered of one that is gone can be removed, too.
    fn there_or_remembered(
        &self,
        route: &str,
        is_remembered: impl Fn(&RouteId) -> bool,
        check: impl FnOnce(&Route) -> Result<(), OrderError>,
    ) -> Result<RouteId, OrderError> {
        match find_route(&self.catalog(), route) {
            Ok(found) => check(&found).map(|()| found.id.clone()),
            Err(error) => route.parse().ok().filter(is_remembered).ok_or(error),
        }
    }

    /// Whom an order about a backend is for: what a release has disabled in one route, an activation lifts, too.
    fn subjects_of(&self, backend: &BackendId, state: State) -> Vec<StateSubject> {
        let decisions = self.inputs.current().decisions;
        let is_shut =
            |subject: &&StateSubject| matches!(subject, StateSubject::Member(_, id) if id == backend);
        let shut = decisions.states.keys().filter(is_shut).filter(|_| state == State::Active).cloned();
        std::iter::once(StateSubject::Backend(backend.clone())).chain(shut).collect()
    }

    async fn set_state(
        &self,
        subjects: &[StateSubject],
        subject: String,
        order: &StateOrder,
        who: &Who,
    ) -> Result<bool, OrderError> {
        error::check_reason(&order.reason)?;
        let (state, now) = (State::from(order.state), Timestamp::now());
        let audit = audit(who, "put-state", &subject, state.to_string(), &order.reason, now);
        let record = (state != State::Active).then(|| StateRecord {
            state,
            author: who.name.as_str().into(),
            at: now,
            reason: order.reason.as_str().into(),
        });
        let (to_store, stored) = (subjects.to_vec(), record.clone());
        self.store(move |store| match &stored {
            Some(record) => store.put_state(&to_store, record, &audit),
            None => store.delete_state(&to_store, &audit),
        })
        .await?;
        let live = self.decide(|decisions| {
            for subject in subjects {
                match &record {
                    Some(record) => decisions.states.insert(subject.clone(), record.clone()),
                    None => decisions.states.remove(subject),
                };
            }
        });
        Ok(live.await)
    }

    fn report(&self, written: &Result<(), StoreError>) {
        let problems: Vec<Problem> = written.as_ref().err().map(StoreError::to_problem).into_iter().collect();
        self.inputs.report(PART, problems);
    }

    /// Writes into the store. One that does not answer is waited for, since nobody knows what it will say, and told as a problem.
    async fn store(
        &self,
        write: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), OrderError> {
        let Some(store) = self.store.clone() else { return Err(OrderError::NoStore) };
        let path = store.path().to_owned();
        let mut writing = spawn_blocking(move || write(&store));
        let written = match timeout(STORED_WITHIN, &mut writing).await {
            Ok(written) => written,
            Err(_) => {
                self.report(&Err(StoreError::Silent { path, waited: STORED_WITHIN }));
                writing.await
            }
        };
        let written = written.map_err(|_| OrderError::Failed)?;
        self.report(&written);
        Ok(written?)
    }

    /// Puts the split of a route, or none, into the inputs, unless its release has made a move since `moves`: it was rolled back
    /// while the store was waited for, and what was ordered before that does not undo it.
    async fn decide_split(
        &self,
        route: &RouteId,
        moves: u64,
        split: Option<SplitRecord>,
    ) -> Result<bool, OrderError> {
        let mut is_late = false;
        let serial = self.inputs.update(|inputs| {
            is_late = self.releases.moves(route) != moves;
            if !is_late {
                let splits = &mut Arc::make_mut(&mut inputs.decisions).splits;
                match split {
                    Some(split) => drop(splits.insert(route.clone(), split)),
                    None => drop(splits.remove(route)),
                }
            }
        });
        match is_late {
            true => Err(self.ended(route)),
            false => Ok(self.reach(serial).await),
        }
    }

    /// Changes the decisions in the inputs; whether that is live everywhere in time.
    async fn decide(&self, change: impl FnOnce(&mut Decisions)) -> bool {
        let serial = self.inputs.update(|inputs| change(Arc::make_mut(&mut inputs.decisions)));
        self.reach(serial).await
    }

    async fn reach(&self, serial: u64) -> bool {
        let everywhere = async {
            // A part whose sender is gone has ended: nothing waits for it any more.
            let _ = self.catalogs.clone().wait_for(|catalog| catalog.serial >= serial).await;
            for applied in &self.applied {
                let _ = applied.clone().wait_for(|applied| *applied >= serial).await;
            }
        };
        timeout(LIVE_WITHIN, everywhere).await.is_ok()
    }
}

/// `If-Match` (RFC 9110 section 13.1.1): a list of entity tags, or `*`.
fn is_matched_by(etag: &str, if_match: Option<&str>) -> bool {
    // Scripts lose the quotes of a tag easily, and without them it cannot be taken for another.
    let bare = etag.trim_matches('"');
    let ours = |tag: &str| tag == "*" || tag == bare || tag == etag;
    if_match.is_none_or(|tags| tags.split(',').map(str::trim).any(ours))
}

fn check_etag(route: &Route, if_match: Option<&str>) -> Result<(), OrderError> {
    match is_matched_by(&route.etag, if_match) {
        true => Ok(()),
        false => Err(OrderError::Changed { route: route.id.clone(), etag: route.etag.clone() }),
    }
}

fn audit(
    who: &Who,
    action: &str,
    subject: &impl ToString,
    detail: String,
    reason: &str,
    at: Timestamp,
) -> AuditRecord {
    AuditRecord {
        at,
        who: who.name.clone(),
        from: who.from.clone(),
        action: action.to_owned(),
        subject: subject.to_string(),
        detail,
        reason: reason.to_owned(),
    }
}

/// `web@v1=95 web@v2=5 until 2026-01-01T02:00:00Z`
fn describe(record: &SplitRecord) -> String {
    let weight = |(id, weight): (&BackendId, &Weight)| format!("{id}={weight}");
    let mut text = record.weights.iter().map(weight).collect::<Vec<_>>().join(" ");
    if let Some(end) = record.expires_at {
        text.push_str(&format!(" until {end}"));
    }
    text
}
