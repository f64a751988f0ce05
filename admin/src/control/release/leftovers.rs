//! What releases leave behind: the state of a version that drained and has gone for good.
//!
//! Without this a version that is deployed again, perhaps because the new one has to go, would be draining from its start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairway_catalog::State;
use fairway_catalog::inputs::{StateRecord, StateSubject};
use fairway_config::names::BackendId;
use jiff::Timestamp;

use super::super::{Shared, Who, audit};
use super::ITSELF;

/// A version without any instance for so long has gone for good: longer than a restart of its machine.
const GONE_FOR: Duration = Duration::from_secs(15 * 60);
/// After the store refused.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// For how long each version that a release let drain has had no instance.
pub(super) type Absent = BTreeMap<BackendId, Duration>;

impl Shared {
    /// Lifts the states of those that have gone for good. People's own states stay.
    pub(super) async fn clear_leftovers(&self, absent: &mut Absent, passed: Duration) {
        let (catalog, decisions) = (self.catalog(), self.inputs.current().decisions);
        let known =
            catalog.settled && catalog.sources.iter().all(|source| source.listed && source.lost.is_none());
        let drained: BTreeSet<&BackendId> =
            decisions.states.iter().filter_map(|(subject, record)| left_draining(subject, record)).collect();
        let gone: Vec<&BackendId> =
            drained.into_iter().filter(|id| known && !catalog.backends.contains_key(*id)).collect();
        absent.retain(|id, _| gone.contains(&id));
        for id in gone {
            let time = absent.entry(id.clone()).or_default();
            *time = time.saturating_add(passed);
            if *time >= GONE_FOR && !self.forget_state(id).await {
                *time = GONE_FOR.saturating_sub(AGAIN_AFTER);
            }
        }
    }

    async fn forget_state(&self, id: &BackendId) -> bool {
        let who = Who { name: ITSELF.to_owned(), from: "fairway".to_owned() };
        let reason = "it drained after a release, and has had no instance for a quarter of an hour";
        let record = audit(&who, "put-state", id, State::Active.to_string(), reason, Timestamp::now());
        let decisions = self.inputs.current().decisions;
        let of_it = decisions.states.iter().filter(|(subject, set)| left_draining(subject, set) == Some(id));
        let subjects: Vec<StateSubject> = of_it.map(|(subject, _)| subject.clone()).collect();
        let written = subjects.clone();
        if self.store(move |store| store.delete_state(&written, &record)).await.is_err() {
            return false;
        }
        tracing::info!(backend = %id, "its state is lifted: {reason}");
        self.decide(|decisions| decisions.states.retain(|subject, _| !subjects.contains(subject))).await;
        true
    }
}

/// The version that a release let drain with this state, as a whole or in one route.
fn left_draining<'a>(subject: &'a StateSubject, record: &StateRecord) -> Option<&'a BackendId> {
    match subject {
        StateSubject::Backend(id) | StateSubject::Member(_, id) => {
            (&*record.author == ITSELF && record.state == State::Draining).then_some(id)
        }
        StateSubject::Instance(_) => None,
    }
}
