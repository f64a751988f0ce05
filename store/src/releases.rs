//! Releases, each with what it makes of its route's split and of states: both are stored, or neither is.

use fairway_catalog::config::names::RouteId;
use fairway_catalog::inputs::{SplitRecord, StateRecord, StateSubject};
use fairway_release::model::Release;
use redb::{ReadTransaction, TableDefinition, TableError};

use crate::decisions::{Entries, SPLITS, STATES, keep, pair, route};
use crate::error::StoreError;
use crate::log::{self, AuditRecord};
use crate::open::Store;
use crate::stored::{Stored, StoredRelease, StoredSplit, StoredState, subject_key};

const RELEASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("releases");

/// What a move of a release makes of its route's split and of states.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Consequences {
    /// The route's split: `None` as it is, `Some(None)` removed.
    pub split: Option<Option<SplitRecord>>,
    /// States; `None` for active.
    pub states: Vec<(StateSubject, Option<StateRecord>)>,
}

impl Store {
    /// Stores a route's release in place of the one before, with what follows from it and its entry in the audit log.
    pub fn put_release(
        &self,
        route: &RouteId,
        release: &Release,
        then: &Consequences,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let value = StoredRelease::of(release).encode();
        let name = route.to_string();
        self.write(|transaction| {
            transaction.open_table(RELEASES)?.insert(name.as_str(), value.as_slice())?;
            let mut splits = transaction.open_table(SPLITS)?;
            match &then.split {
                None => {}
                Some(None) => drop(splits.remove(name.as_str())?),
                Some(Some(split)) => {
                    splits.insert(name.as_str(), StoredSplit::of(split).encode().as_slice())?;
                }
            }
            let mut states = transaction.open_table(STATES)?;
            for (subject, state) in &then.states {
                let (kind, name) = subject_key(subject);
                match state {
                    None => drop(states.remove((kind, name.as_str()))?),
                    Some(state) => {
                        states.insert((kind, name.as_str()), StoredState::of(state).encode().as_slice())?;
                    }
                }
            }
            log::append_audit(transaction, audit)
        })
    }
}

/// Every route's last release.
pub(crate) fn load(
    transaction: &ReadTransaction,
    entries: &mut Entries<'_, Release>,
) -> Result<(), redb::Error> {
    let table = match transaction.open_table(RELEASES) {
        // A file of a version that knew none.
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        table => table?,
    };
    for entry in redb::ReadableTable::iter(&table)? {
        let (key, value) = entry?;
        let read = StoredRelease::decode(value.value()).and_then(StoredRelease::read);
        keep(entries.problems, key.value(), pair(route(key.value()), read), entries.found);
    }
    Ok(())
}
