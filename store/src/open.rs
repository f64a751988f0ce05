//! The file: made, locked, checked, opened again after a failed disk, and noticed when it is gone.
//!
//! Not here: what is in it (see `decisions` and `log`).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction,
};

use crate::error::StoreError;
use crate::{decisions, holder, log};

/// The name of the file in the state folder.
pub const FILE_NAME: &str = "fairway.redb";

/// The format of what is in the file. A file with a larger number is not touched.
const FORMAT: u64 = 1;
/// Everything there is to cache is smaller than this.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Numbers about the file itself and about the logs.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// The store. One process at a time has it open; calls block until the disk has it, one at a time.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Which file it is, whatever is under its name later.
    identity: FileIdentity,
    /// `None` after the disk failed: opened again at the next call.
    database: Mutex<Option<Database>>,
    /// Another process is to have it.
    handed_over: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl Store {
    /// Opens the store in this folder, and makes both where they are missing; the folder is for its owner alone.
    ///
    /// A damaged file is left as it is: the caller goes on without a store, and shows the problem.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| folder_error(folder, error))?;
        let path = folder.join(FILE_NAME);
        if !path.try_exists().map_err(|error| io_error(&path, error))? {
            make(folder, &path)?;
        }
        let database = open_file(&path)?;
        let identity = identify(&path)?;
        Ok(Self { path, identity, database: Mutex::new(Some(database)), handed_over: AtomicBool::new(false) })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file, so that another process can open it; every call fails until [`Store::take_back`]. A call under way
    /// ends first.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
        self.database.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The file is ours again: opened at the next call, which fails for as long as the other process has it.
    pub fn take_back(&self) {
        self.handed_over.store(false, Ordering::Release);
    }

    /// A disk that does not answer, for tests of others: until the guard is dropped every other call waits.
    #[doc(hidden)]
    pub fn silenced(&self) -> impl Drop {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` in one transaction, on disk when this returns.
    pub(crate) fn write<T>(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Runs `look` on what is committed.
    pub(crate) fn read<T>(
        &self,
        look: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.with(|database| look(&database.begin_read()?))
    }

    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        if identify(&self.path).ok() != Some(self.identity) {
            return Err(StoreError::Gone { path: self.path.clone() });
        }
        let mut slot = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that nobody opens it again behind a handover.
        if self.handed_over.load(Ordering::Acquire) {
            return Err(StoreError::HandedOver { path: self.path.clone() });
        }
        let database = match slot.take() {
            Some(database) => database,
            None => open_file(&self.path)?,
        };
        // After a failed write redb refuses everything until the file is opened again: the next call does.
        let (result, database) = guarded(&self.path, || match work(&database) {
            Ok(result) => Ok((result, database)),
            Err(error) => Err(explain(&self.path, error)),
        })?;
        *slot = Some(database);
        Ok(result)
    }
}

/// redb asserts what a damaged page breaks: its panic is one more way to learn of the damage (design rule 9).
fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // What was borrowed is dropped within, and nothing of it is used afterwards.
    let caught = panic::catch_unwind(AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| {
        Err(StoreError::Damaged {
            path: path.to_owned(),
            detail: "its pages contradict each other".to_owned(),
        })
    })
}

/// Makes the file under another name first, so that a file under the right name is always whole.
fn make(folder: &Path, path: &Path) -> Result<(), StoreError> {
    let new = folder.join(format!("{FILE_NAME}.new"));
    let options =
        || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&new);
    let create = |file: File| builder().create_file(file).map_err(|error| explain(&new, error.into()));
    let opened = create(options().map_err(|error| io_error(&new, error))?);
    let database = match opened {
        // Left by a start that was cut off; nobody holds it.
        Err(StoreError::Damaged { .. }) => {
            fs::remove_file(&new).map_err(|error| io_error(&new, error))?;
            create(options().map_err(|error| io_error(&new, error))?)?
        }
        opened => opened?,
    };
    fill(&database).map_err(|error| explain(&new, error))?;
    drop(database);
    fs::rename(&new, path).map_err(|error| io_error(path, error))?;
    // The name itself must last, too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io_error(folder, error))
}

fn fill(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    decisions::make_tables(&transaction)?;
    log::make_tables(&transaction)?;
    Ok(transaction.commit()?)
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    let length = fs::metadata(path).map_err(|error| io_error(path, error))?.len();
    if length == 0 {
        // redb would take it for a new one, and what was in it would be forgotten without a word.
        return Err(StoreError::Damaged { path: path.to_owned(), detail: "it is empty".to_owned() });
    }
    guarded(path, || {
        let mut database = builder().open(path).map_err(|error| explain(path, error.into()))?;
        // A few megabytes at most: the checksums of all pages are looked at in milliseconds.
        if !database.check_integrity().map_err(|error| explain(path, error.into()))? {
            tracing::warn!(file = %path.display(), "the store was damaged and has been repaired");
        }
        check_format(path, database)
    })
}

fn check_format(path: &Path, database: Database) -> Result<Database, StoreError> {
    match format(&database).map_err(|error| explain(path, error))? {
        None => {
            Err(StoreError::Damaged { path: path.to_owned(), detail: "it has no format number".to_owned() })
        }
        Some(found) if found > FORMAT => {
            Err(StoreError::TooNew { path: path.to_owned(), found, known: FORMAT })
        }
        Some(_) => Ok(database),
    }
}

fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    Ok(meta.get(FORMAT_KEY)?.map(|number| number.value()))
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn identify(path: &Path) -> Result<FileIdentity, StoreError> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path, error))?;
    Ok(FileIdentity { device: metadata.dev(), inode: metadata.ino() })
}

fn folder_error(folder: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            StoreError::NoFolder { path: folder.to_owned(), source: error }
        }
        _ => io_error(folder, error),
    }
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    use io::ErrorKind::*;
    let path = path.to_owned();
    match source.kind() {
        PermissionDenied | ReadOnlyFilesystem => StoreError::Denied { path },
        StorageFull | QuotaExceeded | FileTooLarge => StoreError::Full { path },
        UnexpectedEof | InvalidData => StoreError::Damaged { path, detail: source.to_string() },
        _ => StoreError::Io { path, source },
    }
}

fn explain(path: &Path, error: redb::Error) -> StoreError {
    use redb::Error::*;
    match error {
        DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned(), holder: holder::of(path) },
        Io(error) => io_error(path, error),
        Corrupted(_)
        | RepairAborted
        | UpgradeRequired(_)
        | TableTypeMismatch { .. }
        | TableIsMultimap(_)
        | TableIsNotMultimap(_)
        | TypeDefinitionChanged { .. }
        | TableDoesNotExist(_) => StoreError::Damaged { path: path.to_owned(), detail: error.to_string() },
        other => StoreError::Io { path: path.to_owned(), source: io::Error::other(other.to_string()) },
    }
}
