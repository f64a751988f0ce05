//! To which version copies of a route's requests go.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairway_catalog::Problem;
use fairway_catalog::config::names::{Percent, RouteId};
use fairway_catalog::inputs::MirrorRecord;
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use crate::decisions::{keep, pair, route};
use crate::error::StoreError;
use crate::log::{self, AuditRecord};
use crate::open::Store;
use crate::stored::{Stored, Unreadable, backend, word};

const MIRRORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("mirrors");

/// A mirror as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct StoredMirror {
    to: String,
    percent: f64,
    author: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Stored for StoredMirror {}

impl StoredMirror {
    fn of(record: &MirrorRecord) -> Self {
        let MirrorRecord { to, percent, author, at, reason } = record;
        Self {
            to: to.to_string(),
            percent: percent.get(),
            author: author.to_string(),
            at: *at,
            reason: reason.to_string(),
        }
    }

    fn read(self) -> Result<Arc<MirrorRecord>, Unreadable> {
        let Self { to, percent, author, at, reason } = self;
        let (to, percent) = (backend(&to)?, Percent::new(percent).map_err(word)?);
        Ok(Arc::new(MirrorRecord { to, percent, author: author.into(), at, reason: reason.into() }))
    }
}

impl Store {
    /// Stores a route's mirror in place of the one before, with its entry in the audit log.
    pub fn put_mirror(
        &self,
        route: &RouteId,
        record: &MirrorRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let value = StoredMirror::of(record).encode();
        self.write(|transaction| {
            transaction.open_table(MIRRORS)?.insert(route.to_string().as_str(), value.as_slice())?;
            log::append_audit(transaction, audit)
        })
    }

    /// Removes a route's mirror.
    pub fn delete_mirror(&self, route: &RouteId, audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(MIRRORS)?.remove(route.to_string().as_str())?;
            log::append_audit(transaction, audit)
        })
    }
}

/// All of them; what cannot be read is left out and told.
pub(crate) fn load(
    transaction: &ReadTransaction,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<RouteId, Arc<MirrorRecord>>, redb::Error> {
    let mut mirrors = BTreeMap::new();
    let table = match transaction.open_table(MIRRORS) {
        // A file of a version that knew none, or none was ever ordered.
        Err(TableError::TableDoesNotExist(_)) => return Ok(mirrors),
        table => table?,
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let read = StoredMirror::decode(value.value()).and_then(StoredMirror::read);
        keep(problems, key.value(), pair(route(key.value()), read), &mut mirrors);
    }
    Ok(mirrors)
}
