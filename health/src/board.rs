//! Where the probe tasks leave their verdicts, and from where they get into the inputs: several flips in one moment
//! become one change.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_catalog::{Condition, InputsHandle, InstanceKey, Problem, Verdict};
use jiff::Timestamp;
use tokio::sync::Notify;

/// The verdicts of all probed instances. Holds at most one entry per probed instance and one per recently dismissed one.
#[derive(Debug, Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    dirty: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Every admitted instance; `None` while nothing has been said of it.
    verdicts: HashMap<InstanceKey, Option<Verdict>>,
    /// What the inputs do not have yet; `None` takes a verdict back.
    unsaved: HashMap<InstanceKey, Option<Verdict>>,
}

impl Board {
    /// Lets verdicts about these instances in. What was said of others is taken back, and nothing more about them gets
    /// in: a task may still speak in the moment it is ended.
    pub(crate) fn admit_only(&self, keys: &HashSet<InstanceKey>) {
        let mut state = self.lock();
        let State { verdicts, unsaved } = &mut *state;
        verdicts.retain(|key, verdict| {
            let stays = keys.contains(key);
            if !stays && verdict.is_some() {
                unsaved.insert(key.clone(), None);
            }
            stays
        });
        for key in keys {
            verdicts.entry(key.clone()).or_default();
        }
        if !unsaved.is_empty() {
            self.dirty.notify_one();
        }
    }

    /// The condition last told.
    pub(crate) fn condition(&self, key: &InstanceKey) -> Option<Condition> {
        self.lock().verdicts.get(key)?.as_ref().map(|verdict| verdict.condition)
    }

    /// Tells a verdict. What does not differ from the last one costs nothing.
    pub(crate) fn tell(
        &self,
        key: &InstanceKey,
        condition: Condition,
        reason: &Arc<str>,
        problem: Option<Problem>,
    ) {
        let mut state = self.lock();
        let Some(told) = state.verdicts.get_mut(key) else { return };
        let since = match told {
            Some(old) if old.condition == condition => {
                // A ready instance keeps the reason it rose with: 200 today and 204 tomorrow is no news.
                let same_reason = condition == Condition::Ready || old.reason == *reason;
                if same_reason && old.problem == problem {
                    return;
                }
                old.since
            }
            _ => Timestamp::now(),
        };
        let verdict = Verdict { condition, since, reason: reason.clone(), problem };
        *told = Some(verdict.clone());
        state.unsaved.insert(key.clone(), Some(verdict));
        self.dirty.notify_one();
    }

    /// Waits until the inputs lack something.
    pub(crate) async fn changed(&self) {
        self.dirty.notified().await;
    }

    /// Brings everything that the inputs lack into them, in one change.
    pub(crate) fn save(&self, inputs: &InputsHandle) {
        let unsaved = std::mem::take(&mut self.lock().unsaved);
        if unsaved.is_empty() {
            return;
        }
        inputs.update(|inputs| {
            let verdicts = Arc::make_mut(&mut inputs.verdicts);
            for (key, verdict) in unsaved {
                match verdict {
                    Some(verdict) => verdicts.insert(key, verdict),
                    None => verdicts.remove(&key),
                };
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything can panic, so what is there can be used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use fairway_catalog::Inputs;

    use super::*;
    use crate::testing::some_key;

    fn board_with(keys: &[InstanceKey]) -> (Board, InputsHandle) {
        let board = Board::default();
        board.admit_only(&keys.iter().cloned().collect());
        (board, InputsHandle::new(Inputs::default()))
    }

    #[test]
    fn flips_of_one_moment_become_one_change() {
        let keys = [some_key(1), some_key(2), some_key(3)];
        let (board, inputs) = board_with(&keys);
        for key in &keys {
            board.tell(key, Condition::Unhealthy, &"GET / answered 500".into(), None);
            board.tell(key, Condition::Ready, &"GET / answered 200".into(), None);
        }
        board.save(&inputs);
        let inputs = inputs.current();
        assert_eq!(inputs.serial, 1);
        assert!(keys.iter().all(|key| inputs.verdicts[key].condition == Condition::Ready));
    }

    #[test]
    fn only_a_new_condition_or_reason_is_news_and_since_follows_the_condition() {
        let key = some_key(1);
        let (board, inputs) = board_with(std::slice::from_ref(&key));
        let tell = |condition, reason: &str| {
            board.tell(&key, condition, &reason.into(), None);
            board.save(&inputs);
            (inputs.current().serial, inputs.current().verdicts[&key].clone())
        };
        let (serial, first) = tell(Condition::Unhealthy, "GET / answered 500");
        assert_eq!(serial, 1);
        assert_eq!(tell(Condition::Unhealthy, "GET / answered 500").0, 1);
        let (serial, second) = tell(Condition::Unhealthy, "GET / answered 503");
        assert_eq!((serial, &*second.reason, second.since), (2, "GET / answered 503", first.since));
        let (serial, third) = tell(Condition::Ready, "GET / answered 200");
        assert_eq!(serial, 3);
        assert!(third.since > first.since);
        assert_eq!(tell(Condition::Ready, "GET / answered 204").0, 3);
    }

    #[test]
    fn a_dismissed_instance_loses_its_verdict_and_gets_no_new_one() {
        let key = some_key(1);
        let (board, inputs) = board_with(std::slice::from_ref(&key));
        board.tell(&key, Condition::Ready, &"connected".into(), None);
        board.save(&inputs);
        board.admit_only(&HashSet::new());
        board.tell(&key, Condition::Ready, &"connected".into(), None);
        board.save(&inputs);
        assert!(inputs.current().verdicts.is_empty());
        assert_eq!(inputs.current().serial, 2);
    }
}
