//! The values as written, in JSON: types of their own, so that the catalog's may change without a word about old files.
//!
//! Fields that are not known are ignored, new ones must have a default: an older version reads what a newer one wrote
//! as long as the format's number is the same.

mod release;

use std::collections::BTreeMap;

use fairway_catalog::State;
use fairway_catalog::config::names::{BackendId, Weight};
use fairway_catalog::event::Event;
use fairway_catalog::ids::InstanceId;
use fairway_catalog::inputs::{Owner, SplitRecord, StateRecord, StateSubject};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::log::AuditRecord;
pub(crate) use release::StoredRelease;

/// A stored value that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Word(String),
}

/// A type as it is written.
pub(crate) trait Stored: Serialize + for<'de> Deserialize<'de> {
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("these types have string keys and fail on nothing")
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// A split, and what returns after it: a list rather than a nesting, so that depth is no matter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredSplit {
    /// The one that holds first; then what holds after each expiry.
    layers: Vec<StoredLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredLayer {
    weights: BTreeMap<String, u32>,
    author: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Stored for StoredSplit {}

impl StoredSplit {
    pub(crate) fn of(record: &SplitRecord) -> Self {
        let chain = std::iter::successors(Some(record), |record| record.then.as_deref());
        Self { layers: chain.map(StoredLayer::of).collect() }
    }

    pub(crate) fn read(self) -> Result<SplitRecord, Unreadable> {
        let mut below = None;
        for layer in self.layers.into_iter().rev() {
            below = Some(Box::new(layer.read(below)?));
        }
        below.map(|record| *record).ok_or_else(|| Unreadable::Word("a split without weights".to_owned()))
    }
}

impl StoredLayer {
    fn of(record: &SplitRecord) -> Self {
        let SplitRecord { weights, author, at, expires_at, reason, then: _ } = record;
        Self {
            weights: weights.iter().map(|(id, weight)| (id.to_string(), weight.get())).collect(),
            author: author.to_string(),
            at: *at,
            expires_at: *expires_at,
            reason: reason.to_string(),
        }
    }

    fn read(self, then: Option<Box<SplitRecord>>) -> Result<SplitRecord, Unreadable> {
        let Self { weights, author, at, expires_at, reason } = self;
        let read = |(id, weight): (String, u32)| Ok((backend(&id)?, Weight::computed(weight)));
        let weights = weights.into_iter().map(read).collect::<Result<BTreeMap<_, _>, Unreadable>>()?;
        Ok(SplitRecord { weights, author: author.into(), at, expires_at, reason: reason.into(), then })
    }
}

/// A state other than active.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredState {
    state: String,
    author: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Stored for StoredState {}

impl StoredState {
    pub(crate) fn of(record: &StateRecord) -> Self {
        let StateRecord { state, author, at, reason } = record;
        Self {
            state: state.as_str().to_owned(),
            author: author.to_string(),
            at: *at,
            reason: reason.to_string(),
        }
    }

    pub(crate) fn read(self) -> Result<StateRecord, Unreadable> {
        let Self { state, author, at, reason } = self;
        let state = [State::Active, State::Draining, State::Disabled]
            .into_iter()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| Unreadable::Word(format!("`{state}` is not a state")))?;
        Ok(StateRecord { state, author: author.into(), at, reason: reason.into() })
    }
}

/// A subject's key in the table of states.
pub(crate) fn subject_key(subject: &StateSubject) -> (&'static str, String) {
    match subject {
        StateSubject::Instance(id) => ("instance", id.to_string()),
        StateSubject::Backend(id) => ("backend", id.to_string()),
        StateSubject::Member(route, id) => ("member", format!("{route}\n{id}")),
    }
}

pub(crate) fn read_subject(kind: &str, name: &str) -> Result<StateSubject, Unreadable> {
    match kind {
        "instance" => Ok(StateSubject::Instance(InstanceId::from_printed(name))),
        "backend" => Ok(StateSubject::Backend(backend(name)?)),
        "member" => {
            let not_two = || Unreadable::Word(format!("`{name}` is not a route and a backend"));
            let (route, id) = name.split_once('\n').ok_or_else(not_two)?;
            Ok(StateSubject::Member(route.parse().map_err(|_| not_two())?, backend(id)?))
        }
        _ => Err(Unreadable::Word(format!("`{kind}` is nothing that has a state"))),
    }
}

/// The owner of a route.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredOwner {
    #[serde(default)]
    project: Option<String>,
    last_claim: Timestamp,
}

impl Stored for StoredOwner {}

impl StoredOwner {
    pub(crate) fn of(owner: &Owner) -> Self {
        let Owner { project, last_claim } = owner;
        Self { project: project.as_ref().map(ToString::to_string), last_claim: *last_claim }
    }

    pub(crate) fn read(self) -> Owner {
        let Self { project, last_claim } = self;
        Owner { project: project.map(Into::into), last_claim }
    }
}

/// An event; its revision is in the key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoredEvent {
    at: Timestamp,
    kind: String,
    subject: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    reason: String,
}

impl Stored for StoredEvent {}

impl StoredEvent {
    pub(crate) fn of(event: &Event) -> Self {
        let Event { revision: _, at, kind, subject, from, to, reason } = event;
        Self {
            at: *at,
            kind: kind.to_string(),
            subject: subject.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    pub(crate) fn read(self, revision: u64) -> Event {
        let Self { at, kind, subject, from, to, reason } = self;
        Event {
            revision,
            at,
            kind: kind.into(),
            subject: subject.into(),
            from: from.into(),
            to: to.into(),
            reason: reason.into(),
        }
    }
}

impl Stored for AuditRecord {}

pub(crate) fn backend(name: &str) -> Result<BackendId, Unreadable> {
    name.parse().map_err(word)
}

pub(crate) fn word(error: impl ToString) -> Unreadable {
    Unreadable::Word(error.to_string())
}
