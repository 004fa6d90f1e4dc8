//! Files of `redb`.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{
    Builder, DatabaseError, ReadTransaction, ReadableDatabase as _, TableHandle as _,
    WriteTransaction,
};

/// Memory that `redb` may take for pages of a file; it would take a gigabyte.
const PAGE_CACHE: usize = 16 << 20;

/// A file with tables of ours and no others. A write that fails closes it, as `redb` does no more with it
/// then, and the next write opens it again.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    tables: Vec<&'static str>,
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    /// Opens a file, or makes it.
    pub(crate) fn open_or_make(path: &Path, tables: &[&'static str]) -> Result<Self, StoreError> {
        let open = open(path, tables, |builder| builder.create(path))?;
        Ok(Self { path: path.to_owned(), tables: tables.to_vec(), open: RwLock::new(Some(open)) })
    }

    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or_else(|| StoreError::closed(&self.path))?;
        let result = open.begin_read().map_err(redb::Error::from).and_then(|begun| read(&begun));
        result.map_err(|error| StoreError::new(&self.path, &error))
    }

    /// Writes all or nothing, durably. One writer at a time; `write` is called when it is its turn.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        self.open_again()?;
        let result = {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            let open = open.as_ref().ok_or_else(|| StoreError::closed(&self.path))?;
            written(open, write)
        };
        result.map_err(|error| {
            self.close();
            StoreError::new(&self.path, &error)
        })
    }

    fn open_again(&self) -> Result<(), StoreError> {
        if self.open.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut closed = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if closed.is_none() {
            // If it is gone, a new one would have nothing of what was written before.
            let open = open(&self.path, &self.tables, |builder| builder.open(&self.path))?;
            *closed = Some(open);
        }
        Ok(())
    }

    /// As after a write that failed.
    pub(crate) fn close(&self) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn written<T>(
    open: &redb::Database,
    write: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
) -> Result<T, redb::Error> {
    let mut transaction = open.begin_write()?;
    // After a crash the file is open at once.
    transaction.set_quick_repair(true);
    let result = write(&transaction)?;
    transaction.commit()?;
    Ok(result)
}

fn open(
    path: &Path,
    tables: &[&str],
    open: impl FnOnce(&Builder) -> Result<redb::Database, DatabaseError>,
) -> Result<redb::Database, StoreError> {
    let mut builder = redb::Database::builder();
    builder.set_cache_size(PAGE_CACHE);
    // Reading a file that was damaged meanwhile may panic; this takes a second for 100,000 packets.
    builder.set_check_integrity_on_open(true);
    let database = open(&builder).map_err(|error| StoreError::new(path, &error.into()))?;
    match is_foreign(&database, tables) {
        Ok(false) => Ok(database),
        Ok(true) => Err(StoreError::foreign(path)),
        Err(error) => Err(StoreError::new(path, &error)),
    }
}

fn is_foreign(database: &redb::Database, tables: &[&str]) -> Result<bool, redb::Error> {
    let transaction = database.begin_read()?;
    let foreign = transaction.list_tables()?.any(|table| !tables.contains(&table.name()));
    Ok(foreign || transaction.list_multimap_tables()?.next().is_some())
}

/// Why a file cannot be opened or written. It is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// What to do about a file that cannot be read.
const DAMAGED: &str = "move it away to begin anew, or name another file";

impl StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else a file may be")]
    pub(crate) fn new(path: &Path, error: &redb::Error) -> Self {
        let (what, hint) = match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => (
                "another process has it open".to_owned(),
                "stop that one, or give each process a file of its own",
            ),
            // So `redb` calls a file that begins otherwise than its own.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                (format!("it is damaged, or something else ({error})"), DAMAGED)
            }
            redb::Error::Io(error) => (
                error.to_string(),
                "see that its directory is there, that you may write to it, and that there is room",
            ),
            error => (format!("it is damaged, or something else ({error})"), DAMAGED),
        };
        Self { path: path.to_owned(), what, hint }
    }

    /// What is in it makes no sense.
    pub(crate) fn damaged(path: &Path, what: &str) -> Self {
        Self { path: path.to_owned(), what: format!("it is damaged: {what}"), hint: DAMAGED }
    }

    /// There are tables of somebody else in it.
    fn foreign(path: &Path) -> Self {
        let what = "it is the database of something else".to_owned();
        Self { path: path.to_owned(), what, hint: "name another file" }
    }

    /// It could not be written, and not be opened again since.
    fn closed(path: &Path) -> Self {
        let what = "it could not be written, and is closed".to_owned();
        Self { path: path.to_owned(), what, hint: "see that there is room" }
    }

    /// The thread that writes has ended.
    pub(crate) fn gone(path: &Path) -> Self {
        let what = "it is not written any more".to_owned();
        Self { path: path.to_owned(), what, hint: "see what the program has reported before" }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl core::error::Error for StoreError {}
