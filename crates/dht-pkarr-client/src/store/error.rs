//! What can be wrong with the file of a cache.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a cache on disk cannot be opened or written. The file is left as it is.
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

impl StoreError {
    pub(super) fn new(path: &Path, error: &redb::Error) -> Self {
        let damaged = "move it away to begin anew, or name another file";
        let (what, hint) = match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => (
                "another process has it open".to_owned(),
                "stop that one, or give each process a file of its own",
            ),
            // So `redb` calls a file that begins otherwise than its own.
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                (format!("it is damaged, or no cache of packets ({error})"), damaged)
            }
            redb::Error::Io(error) => (
                error.to_string(),
                "see that its directory is there, that you may write to it, and that there is room",
            ),
            error => (format!("it is damaged, or no cache of packets ({error})"), damaged),
        };
        Self { path: path.to_owned(), what, hint }
    }

    /// There are tables of somebody else in it.
    pub(super) fn foreign(path: &Path) -> Self {
        let what = "it is a database, but no cache of packets".to_owned();
        Self { path: path.to_owned(), what, hint: "name another file" }
    }

    /// The thread that writes has ended.
    pub(super) fn gone(path: &Path) -> Self {
        let what = "it is not written any more".to_owned();
        Self { path: path.to_owned(), what, hint: "see what the program has reported before" }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cache {}: {}", self.path.display(), self.what)
    }
}

impl core::error::Error for StoreError {}
