//! What people decided, and which project owns which route.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairway_catalog::config::labels::Severity;
use fairway_catalog::config::names::RouteId;
use fairway_catalog::inputs::{Owner, SplitRecord, StateRecord, StateSubject};
use fairway_catalog::{Decisions, Problem};
use fairway_release::model::Release;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::error::StoreError;
use crate::limits;
use crate::log::{self, AuditRecord};
use crate::mirrors;
use crate::open::Store;
use crate::releases;
use crate::stored::{Stored, StoredOwner, StoredSplit, StoredState, Unreadable, read_subject, subject_key};

pub(crate) const SPLITS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("splits");
/// By kind (`instance`, `backend`) and name.
pub(crate) const STATES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("states");
const OWNERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("owners");

/// What a start reads.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Splits, states, mirrors, limits and owners.
    pub decisions: Decisions,
    /// Every route's last release, ended or not.
    pub releases: BTreeMap<RouteId, Release>,
    /// What the first catalog's revision must be above: more than any that was published before.
    pub revision: u64,
    /// Entries that cannot be read and are left out; they stay in the file.
    pub problems: Vec<Problem>,
}

impl Store {
    /// Reads everything but the logs, and reserves revisions for this run.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        let revision = self.reserve_revisions()?;
        self.read(|transaction| {
            let mut problems = Vec::new();
            let mut decisions = Decisions::default();
            let splits = transaction.open_table(SPLITS)?;
            for entry in splits.iter()? {
                let (key, value) = entry?;
                let read = StoredSplit::decode(value.value()).and_then(StoredSplit::read);
                let route = route(key.value());
                keep(&mut problems, key.value(), pair(route, read), &mut decisions.splits);
            }
            let states = transaction.open_table(STATES)?;
            for entry in states.iter()? {
                let (key, value) = entry?;
                let (kind, name) = key.value();
                let read = StoredState::decode(value.value()).and_then(StoredState::read);
                keep(&mut problems, name, pair(read_subject(kind, name), read), &mut decisions.states);
            }
            decisions.mirrors = mirrors::load(transaction, &mut problems)?;
            decisions.limits = limits::load(transaction, &mut problems)?;
            let owners = transaction.open_table(OWNERS)?;
            for entry in owners.iter()? {
                let (key, value) = entry?;
                let read = StoredOwner::decode(value.value()).map(StoredOwner::read);
                keep(&mut problems, key.value(), pair(route(key.value()), read), &mut decisions.owners);
            }
            let mut found = BTreeMap::new();
            releases::load(transaction, &mut Entries { problems: &mut problems, found: &mut found })?;
            Ok(Loaded { decisions, releases: found, revision, problems })
        })
    }

    /// Stores a route's split in place of the one before, with its entry in the audit log.
    pub fn put_split(
        &self,
        route: &RouteId,
        record: &SplitRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let value = StoredSplit::of(record).encode();
        self.write(|transaction| {
            transaction.open_table(SPLITS)?.insert(route.to_string().as_str(), value.as_slice())?;
            log::append_audit(transaction, audit)
        })
    }

    /// Removes a route's split.
    pub fn delete_split(&self, route: &RouteId, audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(SPLITS)?.remove(route.to_string().as_str())?;
            log::append_audit(transaction, audit)
        })
    }

    /// Stores the same state for each of these, all or none.
    pub fn put_state(
        &self,
        subjects: &[StateSubject],
        record: &StateRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let value = StoredState::of(record).encode();
        self.write(|transaction| {
            let mut states = transaction.open_table(STATES)?;
            for subject in subjects {
                let (kind, name) = subject_key(subject);
                states.insert((kind, name.as_str()), value.as_slice())?;
            }
            log::append_audit(transaction, audit)
        })
    }

    /// Makes each of these active again, all or none.
    pub fn delete_state(&self, subjects: &[StateSubject], audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut states = transaction.open_table(STATES)?;
            for subject in subjects {
                let (kind, name) = subject_key(subject);
                states.remove((kind, name.as_str()))?;
            }
            log::append_audit(transaction, audit)
        })
    }

    /// Replaces the owners of all routes.
    pub fn put_owners(&self, owners: &BTreeMap<RouteId, Owner>) -> Result<(), StoreError> {
        let new: BTreeMap<String, Vec<u8>> = owners
            .iter()
            .map(|(route, owner)| (route.to_string(), StoredOwner::of(owner).encode()))
            .collect();
        self.write(|transaction| {
            let mut table = transaction.open_table(OWNERS)?;
            table.retain(|route, _| new.contains_key(route))?;
            for (route, value) in &new {
                insert_changed(&mut table, route, value)?;
            }
            Ok(())
        })
    }
}

pub(crate) fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(SPLITS)?;
    transaction.open_table(STATES)?;
    transaction.open_table(OWNERS)?;
    Ok(())
}

/// Most owners are the same as before: a value that is there already is not written.
fn insert_changed(table: &mut Table<'_, &str, &[u8]>, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    let same = table.get(key)?.is_some_and(|old| old.value() == value);
    if !same {
        table.insert(key, value)?;
    }
    Ok(())
}

/// Where what is read goes.
pub(crate) struct Entries<'a, V> {
    pub(crate) problems: &'a mut Vec<Problem>,
    pub(crate) found: &'a mut BTreeMap<RouteId, V>,
}

pub(crate) fn route(name: &str) -> Result<RouteId, Unreadable> {
    name.parse().map_err(|_| Unreadable::Word(format!("`{name}` is not a route")))
}

pub(crate) fn pair<K, V>(
    key: Result<K, Unreadable>,
    value: Result<V, Unreadable>,
) -> Result<(K, V), Unreadable> {
    Ok((key?, value?))
}

/// One entry that cannot be read costs no other.
pub(crate) fn keep<K: Ord, V>(
    problems: &mut Vec<Problem>,
    name: &str,
    entry: Result<(K, V), Unreadable>,
    into: &mut BTreeMap<K, V>,
) {
    match entry {
        Ok((key, value)) => {
            into.insert(key, value);
        }
        Err(error) => {
            let subject: Arc<str> = name.into();
            let text = format!("what is stored about {subject} cannot be read and is left out: {error}");
            let remedy = "order it again: set the split, state or limits anew, start the release anew";
            problems.push(Problem::new("store-entry-unreadable", Severity::Error, subject, text, remedy));
        }
    }
}
