//! The state file: replaced atomically, set aside when damaged.

use core::time::Duration;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use dht_proto::time::Instant;

use crate::error::{Error, ErrorKind};
use crate::notice::{Notice, Notices};

/// How often the state is saved, if it has changed and nothing else is asked for.
pub(crate) const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// Stored items are saved this soon after a change, and the state for the first time this soon
/// after the start: what a crash can lose of items, and how often the disk is made to work at most.
pub(crate) const SAVE_SOON: Duration = Duration::from_secs(2);
/// A disk cannot usefully be made to work more often than this.
pub(crate) const MIN_SAVE_INTERVAL: Duration = Duration::from_millis(100);
/// A state file longer than this is damaged. In bytes; a full node needs a twentieth.
const MAX_STATE_LEN: u64 = 64 << 20;
/// Damaged files kept, at most; then the newest of them is replaced.
const MAX_DAMAGED: u32 = 100;

/// A file that is either the old state or the new one, whenever the machine dies.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    /// Held as long as this node lives, so that a second one does not use the same state.
    _lock: Lock,
}

impl StateFile {
    /// Claims the file and checks that it can be replaced later.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| {
            Error::new(
                ErrorKind::State,
                format!(
                    "cannot write beside {}; give a file in a directory that exists and is writable",
                    path.display()
                ),
            )
            .because(error)
        };
        if path.file_name().is_none() || path.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let lock = Lock::acquire(path)?;
        let trial = beside(path, ".tmp");
        File::create(&trial).and_then(|_| fs::remove_file(&trial)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The saved state; `None` if there is none.
    pub(crate) fn load(&self) -> Result<Option<Vec<u8>>, Error> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unreadable(error)),
        };
        let mut bytes = Vec::new();
        match file.take(MAX_STATE_LEN + 1).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// Renames a damaged file, so that a person can look at it, and returns its new name.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, Error> {
        let mut kept_as = PathBuf::new();
        for n in 1..=MAX_DAMAGED {
            kept_as = beside(&self.path, &format!(".damaged-{n}"));
            if !kept_as.exists() {
                break;
            }
        }
        fs::rename(&self.path, &kept_as).map_err(|error| self.unreadable(error))?;
        Ok(kept_as)
    }

    /// Replaces the state. After success it survives a crash of the machine.
    pub(crate) fn save(&self, bytes: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, ".tmp");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&new, &self.path)?;
        sync_dir(&self.path)
    }

    fn unreadable(&self, error: io::Error) -> Error {
        Error::new(
            ErrorKind::State,
            format!("cannot read {}; make it readable or move it away", self.path.display()),
        )
        .because(error)
    }
}

/// `path` with something appended to its file name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(suffix);
    path.with_file_name(name)
}

/// A rename is durable only when its directory is. Other systems than Unix have no such call.
fn sync_dir(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or_else(|| Path::new("."))).and_then(|dir| dir.sync_all())
}

/// An exclusive lock on a file beside the state.
#[derive(Debug)]
struct Lock {
    #[cfg(all(target_os = "linux", not(dht_portable)))]
    _file: nix::fcntl::Flock<File>,
}

impl Lock {
    #[cfg(all(target_os = "linux", not(dht_portable)))]
    fn acquire(path: &Path) -> Result<Self, Error> {
        use nix::fcntl::{Flock, FlockArg};
        let lock = beside(path, ".lock");
        let file = File::create(&lock).map_err(|error| {
            Error::new(
                ErrorKind::State,
                format!(
                    "cannot write {}; give a file in a directory that exists and is writable",
                    lock.display()
                ),
            )
            .because(error)
        })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, errno)) => Err(Error::new(
                ErrorKind::State,
                format!(
                    "{} is in use by another node; stop it or give another file",
                    path.display()
                ),
            )
            .because(io::Error::from(errno))),
        }
    }

    #[cfg(any(not(target_os = "linux"), dht_portable))]
    #[expect(clippy::unnecessary_wraps, reason = "the same face on every system")]
    fn acquire(_path: &Path) -> Result<Self, Error> {
        Ok(Self {})
    }
}

/// What saves the state: the file, and what is in it. Saving blocks, so a runtime does it on a
/// thread where that harms nobody.
#[derive(Debug)]
pub struct Saver {
    file: StateFile,
    saved: Vec<u8>,
    notices: Notices,
}

impl Saver {
    pub(crate) const fn new(file: StateFile, notices: Notices) -> Self {
        Self { file, saved: Vec::new(), notices }
    }

    /// Replaces the saved state, unless it is the same, and waits for the disk. A failure is also
    /// told as [`Notice::StateNotSaved`].
    ///
    /// # Errors
    /// If the system cannot write the file.
    pub fn save(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        if bytes == self.saved {
            return Ok(());
        }
        match self.file.save(&bytes) {
            Ok(()) => {
                self.saved = bytes;
                self.notices.state_saved();
                Ok(())
            }
            Err(error) => {
                self.notices.tell(Notice::StateNotSaved { error: error.to_string() });
                let what = "cannot save the state; free space or make the directory writable";
                Err(Error::new(ErrorKind::State, what).because(error))
            }
        }
    }
}

/// When to save: soon after an item was stored, and else ever more rarely, up to the interval, so
/// that a young node, which learns most, loses little.
#[derive(Clone, Copy, Debug)]
pub struct SaveTimes {
    interval: Duration,
    /// Until the save after the next one.
    pause: Duration,
    next: Instant,
    /// How many puts the last saved state holds.
    items_saved: u64,
}

impl SaveTimes {
    /// For a node that starts now.
    #[must_use]
    pub fn new(now: Instant, interval: Duration) -> Self {
        let pause = SAVE_SOON.min(interval);
        Self { interval, pause, next: now + pause, items_saved: 0 }
    }

    /// Whether to save now, when so many puts have been stored
    /// ([`Stats::items_stored`](dht_proto::stats::Stats::items_stored)).
    pub fn is_due(&mut self, now: Instant, items_stored: u64) -> bool {
        if items_stored != self.items_saved {
            // The first change counts, not the last.
            self.next = self.next.min(now + SAVE_SOON);
        }
        now >= self.next
    }

    /// When to ask again, at the latest.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// A save has begun, of a state with so many puts.
    pub fn begun(&mut self, now: Instant, items_stored: u64) {
        self.items_saved = items_stored;
        self.pause = (self.pause * 2).min(self.interval);
        self.next = now + self.pause;
    }

    /// The disk has not caught up with the last save.
    pub fn busy(&mut self, now: Instant) {
        self.next = now + SAVE_SOON.min(self.interval);
    }
}

#[cfg(test)]
mod tests;
