//! A release as written.

use std::collections::BTreeMap;
use std::time::Duration;

use fairway_catalog::config::names::{BackendId, Weight};
use fairway_release::model::{Ending, Release, Stage};
use fairway_release::plan::Plan;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Stored, StoredSplit, Unreadable, backend};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredRelease {
    to: String,
    steps: Vec<u8>,
    step_seconds: u64,
    #[serde(default)]
    manual: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_error_rate: Option<f64>,
    from: BTreeMap<String, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former: Option<StoredSplit>,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(default)]
    confirming: bool,
    weight: u8,
    spent_ms: u64,
    since: Timestamp,
    #[serde(default)]
    why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ending: Option<String>,
    author: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Stored for StoredRelease {}

impl StoredRelease {
    pub(crate) fn of(release: &Release) -> Self {
        let Release {
            plan,
            from,
            former,
            stage,
            step,
            confirming,
            weight,
            spent,
            since,
            why,
            ending,
            author,
            at,
            reason,
        } = release;
        let Plan { to, steps, step_time, manual, max_error_rate } = plan;
        Self {
            to: to.to_string(),
            steps: steps.clone(),
            step_seconds: step_time.as_secs(),
            manual: *manual,
            max_error_rate: *max_error_rate,
            from: from.iter().map(|(id, weight)| (id.to_string(), weight.get())).collect(),
            former: former.as_ref().map(StoredSplit::of),
            state: stage.as_str().to_owned(),
            step: *step,
            confirming: *confirming,
            weight: *weight,
            spent_ms: u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
            since: *since,
            why: why.to_string(),
            ending: ending.map(|ending| ending.as_str().to_owned()),
            author: author.to_string(),
            at: *at,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn read(self) -> Result<Release, Unreadable> {
        let Self { to, steps, step_seconds, manual, max_error_rate, from, former, state, step, .. } = self;
        let steps: Vec<f64> = steps.into_iter().map(f64::from).collect();
        let plan = Plan::check(backend(&to)?, Some(&steps), Some(step_seconds as f64), false, max_error_rate)
            .map_err(|errors| {
                Unreadable::Word(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            })?;
        let weight = |(id, weight): (String, u32)| Ok((backend(&id)?, Weight::computed(weight)));
        let from: BTreeMap<BackendId, Weight> =
            from.into_iter().map(weight).collect::<Result<_, Unreadable>>()?;
        if from.contains_key(&plan.to) || from.values().all(|weight| *weight == Weight::ZERO) {
            return Err(Unreadable::Word("a release from nobody".to_owned()));
        }
        if step.is_some_and(|step| step >= plan.steps.len()) || self.weight > 100 {
            return Err(Unreadable::Word("a release has no such step".to_owned()));
        }
        let stage = Stage::ALL.into_iter().find(|known| known.as_str() == state);
        let stage = stage.ok_or_else(|| Unreadable::Word(format!("`{state}` is no state of a release")))?;
        let ending = |given: String| {
            let known = Ending::ALL.into_iter().find(|known| known.as_str() == given);
            known.ok_or_else(|| Unreadable::Word(format!("`{given}` is no end of a release")))
        };
        Ok(Release {
            plan: Plan { manual, ..plan },
            from,
            former: former.map(StoredSplit::read).transpose()?,
            stage,
            step,
            confirming: self.confirming,
            weight: self.weight,
            spent: Duration::from_millis(self.spent_ms),
            since: self.since,
            why: self.why.into(),
            ending: self.ending.map(ending).transpose()?,
            author: self.author.into(),
            at: self.at,
            reason: self.reason.into(),
        })
    }
}
