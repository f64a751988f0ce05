//! What happened: the events of the feed, and who ordered what. Both are cut to a length.

use fairway_catalog::event::Event;
use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::open::{META, Store};
use crate::stored::{Stored, StoredEvent};

/// Most events that are kept.
pub const EVENTS_KEPT: u64 = 10_000;
/// Events that are this much older than the newest one go, however few there are.
const EVENTS_KEPT_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Most entries of the audit log that are kept.
const AUDIT_KEPT: u64 = 10_000;
/// Revisions are reserved in blocks of this many, so that one that was published and not yet written when the process
/// was killed is never given again.
const RESERVED: u64 = 1_000;

/// By revision, and the place within it.
const EVENTS: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("events");
/// By a number that grows.
const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
/// Every revision published so far is below this.
const REVISION_KEY: &str = "revision";
/// The last revision of which an event was removed.
const COMPACTED_KEY: &str = "compacted";

/// Who ordered what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// Who: what the client calls itself.
    pub who: String,
    /// From where: an address, or the user at the other end of a Unix socket.
    pub from: String,
    /// What was done: `put-split`, `delete-split`, `put-state`, `release-start`, `release-stepping`, ...
    pub action: String,
    /// To what: a route, a backend, instances.
    pub subject: String,
    /// The order: weights, a state.
    #[serde(default)]
    pub detail: String,
    /// Why, in the client's words.
    #[serde(default)]
    pub reason: String,
}

impl Store {
    /// Adds events, in ascending order of their revisions, and lets go of those that are too many or too old.
    pub fn append_events(&self, events: &[Event]) -> Result<(), StoreError> {
        let Some(newest) = events.last() else { return Ok(()) };
        self.write(|transaction| {
            let mut table = transaction.open_table(EVENTS)?;
            let (mut revision, mut place) = (0, 0);
            for event in events {
                place = if event.revision == revision { place + 1 } else { 0 };
                revision = event.revision;
                table.insert((revision, place), StoredEvent::of(event).encode().as_slice())?;
            }
            let removed = compact(&mut table, newest.at)?;
            let mut meta = transaction.open_table(META)?;
            if let Some(removed) = removed {
                meta.insert(COMPACTED_KEY, removed)?;
            }
            raise(&mut meta, REVISION_KEY, newest.revision)
        })
    }

    /// The first events after this revision, at most `limit` and always whole revisions but for the last.
    pub fn events_after(&self, revision: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let Some(first) = revision.checked_add(1) else { return Ok(Vec::new()) };
        self.read(|transaction| {
            let table = transaction.open_table(EVENTS)?;
            let mut events = Vec::new();
            for entry in table.range((first, 0)..)?.take(limit) {
                let (key, value) = entry?;
                // One that cannot be read is one that a reader cannot use.
                if let Ok(event) = StoredEvent::decode(value.value()) {
                    events.push(event.read(key.value().0));
                }
            }
            Ok(events)
        })
    }

    /// Every event after this revision is still here; of this one and those before some are not.
    pub fn oldest_revision(&self) -> Result<u64, StoreError> {
        self.read(|transaction| {
            let meta = transaction.open_table(META)?;
            Ok(meta.get(COMPACTED_KEY)?.map_or(0, |number| number.value()))
        })
    }

    /// Events up to this revision were lost before they could be stored: nobody is to think that they did not happen.
    pub fn forget_events_up_to(&self, revision: u64) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.open_table(EVENTS)?.retain(|key, _| key.0 > revision)?;
            raise(&mut transaction.open_table(META)?, COMPACTED_KEY, revision)
        })
    }

    /// Revisions up to this one were published, with or without events. To be called every few hundred revisions.
    pub fn note_revision(&self, revision: u64) -> Result<(), StoreError> {
        self.write(|transaction| raise(&mut transaction.open_table(META)?, REVISION_KEY, revision))
    }

    /// How far revisions may go on between two [`Store::note_revision`].
    pub const REVISIONS_BETWEEN_NOTES: u64 = RESERVED / 2;

    /// The newest entries of the audit log, the newest first.
    pub fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(AUDIT)?;
            let mut records = Vec::new();
            for entry in table.iter()?.rev().take(limit) {
                records.extend(AuditRecord::decode(entry?.1.value()).ok());
            }
            Ok(records)
        })
    }

    /// The revision that this run begins at: 0 in a new store. On a full disk it is the same at the next start: better
    /// than to start without the splits.
    pub(crate) fn reserve_revisions(&self) -> Result<u64, StoreError> {
        let begin = self.read(|transaction| {
            let last = transaction.open_table(META)?.get(REVISION_KEY)?.map(|number| number.value());
            Ok(last.map_or(0, |last| last.saturating_add(RESERVED)))
        })?;
        let reserve = |transaction: &WriteTransaction| {
            transaction.open_table(META)?.insert(REVISION_KEY, begin)?;
            Ok(())
        };
        match self.write(reserve) {
            Err(error @ (StoreError::Full { .. } | StoreError::Io { .. })) => {
                tracing::warn!(%error, "no revisions can be reserved");
                Ok(begin)
            }
            reserved => reserved.map(|()| begin),
        }
    }
}

pub(crate) fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(EVENTS)?;
    transaction.open_table(AUDIT)?;
    Ok(())
}

pub(crate) fn append_audit(transaction: &WriteTransaction, record: &AuditRecord) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(AUDIT)?;
    let last = table.last()?.map(|(number, _)| number.value());
    table.insert(last.map_or(0, |last| last.saturating_add(1)), record.encode().as_slice())?;
    while table.len()? > AUDIT_KEPT {
        table.pop_first()?;
    }
    Ok(())
}

/// Removes the events that are too many or too old; the last revision of which one went.
fn compact(table: &mut Table<'_, (u64, u32), &[u8]>, newest: Timestamp) -> Result<Option<u64>, redb::Error> {
    let mut removed = None;
    loop {
        let too_many = table.len()? > EVENTS_KEPT;
        let Some((key, value)) = table.first()? else { break };
        let at = StoredEvent::decode(value.value()).map(|event| event.at());
        let too_old = at.map_or(true, |at| newest.duration_since(at) > EVENTS_KEPT_FOR);
        let revision = key.value().0;
        drop((key, value));
        if !too_many && !too_old {
            break;
        }
        table.pop_first()?;
        removed = Some(revision);
    }
    Ok(removed)
}

fn raise(meta: &mut Table<'_, &str, u64>, key: &str, to: u64) -> Result<(), redb::Error> {
    let now = meta.get(key)?.map_or(0, |number| number.value());
    if to > now {
        meta.insert(key, to)?;
    }
    Ok(())
}
