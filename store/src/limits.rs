//! Limits of routes that people set through the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use fairway_catalog::Problem;
use fairway_catalog::config::labels::{Limit, RouteLimits};
use fairway_catalog::config::names::RouteId;
use fairway_catalog::inputs::LimitsRecord;
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use crate::decisions::{keep, pair, route};
use crate::error::StoreError;
use crate::log::{self, AuditRecord};
use crate::open::Store;
use crate::stored::{Stored, Unreadable, word};

const LIMITS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("limits");

/// Limits as they are written, and what returns after them: a list rather than a nesting, so that depth is no matter.
#[derive(Debug, Serialize, Deserialize)]
struct StoredLimits {
    /// The ones that hold first; then what holds after each expiry.
    layers: Vec<StoredLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredLayer {
    /// By the names of the labels, in their words.
    limits: BTreeMap<String, String>,
    author: String,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Stored for StoredLimits {}

impl StoredLimits {
    fn of(record: &LimitsRecord) -> Self {
        let chain = std::iter::successors(Some(record), |record| record.then.as_deref());
        Self { layers: chain.map(StoredLayer::of).collect() }
    }

    fn read(self) -> Result<Arc<LimitsRecord>, Unreadable> {
        let mut below = None;
        for layer in self.layers.into_iter().rev() {
            below = Some(Arc::new(layer.read(below)?));
        }
        below.ok_or_else(|| Unreadable::Word("an order without limits".to_owned()))
    }
}

impl StoredLayer {
    fn of(record: &LimitsRecord) -> Self {
        let LimitsRecord { limits, author, at, expires_at, reason, then: _ } = record;
        Self {
            limits: limits.written().map(|(limit, value)| (limit.to_string(), value)).collect(),
            author: author.to_string(),
            at: *at,
            expires_at: *expires_at,
            reason: reason.to_string(),
        }
    }

    fn read(self, then: Option<Arc<LimitsRecord>>) -> Result<LimitsRecord, Unreadable> {
        let Self { limits: stored, author, at, expires_at, reason } = self;
        let mut limits = RouteLimits::default();
        for (name, value) in stored {
            limits.set(name.parse::<Limit>().map_err(word)?, &value).map_err(word)?;
        }
        Ok(LimitsRecord { limits, author: author.into(), at, expires_at, reason: reason.into(), then })
    }
}

impl Store {
    /// Stores a route's limits in place of those before, with their entry in the audit log.
    pub fn put_limits(
        &self,
        route: &RouteId,
        record: &LimitsRecord,
        audit: &AuditRecord,
    ) -> Result<(), StoreError> {
        let value = StoredLimits::of(record).encode();
        self.write(|transaction| {
            transaction.open_table(LIMITS)?.insert(route.to_string().as_str(), value.as_slice())?;
            log::append_audit(transaction, audit)
        })
    }

    /// Removes a route's limits.
    pub fn delete_limits(&self, route: &RouteId, audit: &AuditRecord) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(LIMITS)?.remove(route.to_string().as_str())?;
            log::append_audit(transaction, audit)
        })
    }
}

/// All of them; what cannot be read is left out and told.
pub(crate) fn load(
    transaction: &ReadTransaction,
    problems: &mut Vec<Problem>,
) -> Result<BTreeMap<RouteId, Arc<LimitsRecord>>, redb::Error> {
    let mut limits = BTreeMap::new();
    let table = match transaction.open_table(LIMITS) {
        // A file of a version that knew none, or none were ever ordered.
        Err(TableError::TableDoesNotExist(_)) => return Ok(limits),
        table => table?,
    };
    for entry in table.iter()? {
        let (key, value) = entry?;
        let read = StoredLimits::decode(value.value()).and_then(StoredLimits::read);
        keep(problems, key.value(), pair(route(key.value()), read), &mut limits);
    }
    Ok(limits)
}
