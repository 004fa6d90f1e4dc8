//! Keeping packets alive: carrying out what [`dht_pkarr::keep_alive`] asks, over days and restarts.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
#[cfg(feature = "store")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dht_pkarr::keep_alive::{
    Action, Handed, KeepAlive as Schedule, KeepAliveConfig, Status, TooManyKeys,
};
use dht_pkarr::publish::PublishError as Reason;
use dht_pkarr::resolve::ResolveError as Missing;
use dht_pkarr::{PublicKey, SignedPacket, Timestamp};
use dht_proto::request::Outcome;
use dht_proto::seed::Seed;

use crate::busy::lock;
use crate::cache::PacketCache;
use crate::clock::now;
#[cfg(feature = "store")]
use crate::database::StoreError;
use crate::publish::{PublishError, Published};
use crate::resolve::{ResolveError, Resolved};

#[cfg(feature = "store")]
mod file;

/// The longest wait: the clock may be set meanwhile.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How packets are kept alive.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KeepAliveOptions {
    /// When, and how many copies.
    pub config: KeepAliveConfig,
    /// Where packets and how they are doing are kept over a restart; the file need not be there yet, and
    /// only one process can have it open. What changes is in it seconds later, and nothing else is
    /// written; whatever a crash loses is published once more.
    #[cfg(feature = "store")]
    pub file: Option<PathBuf>,
}

/// Why packets cannot be kept alive.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeepAliveError {
    /// The file cannot be read or written, or is something else.
    #[cfg(feature = "store")]
    File(StoreError),
    /// There are more keys than the configuration allows.
    TooManyKeys(TooManyKeys),
    /// The system has no randomness.
    Random(getrandom::Error),
}

impl fmt::Display for KeepAliveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "store")]
            Self::File(error) => error.fmt(f),
            Self::TooManyKeys(error) => error.fmt(f),
            Self::Random(error) => write!(f, "no randomness: {error}"),
        }
    }
}

impl core::error::Error for KeepAliveError {}

/// What became of a packet that is kept alive.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kept {
    /// It was published.
    Published(Box<Published>),
    /// So many nodes have it.
    Verified {
        /// Whose it is.
        key: PublicKey,
        /// How many nodes returned it.
        holders: u32,
    },
    /// Its owner has published a newer one, which is kept alive from now on.
    Newer(Box<SignedPacket>),
    /// Its owner has stored something else, so it is given up.
    GivenUp {
        /// Whose it was.
        key: PublicKey,
        /// Why.
        why: String,
    },
    /// It came to nothing just now, and is tried again.
    Failed {
        /// Whose it is.
        key: PublicKey,
        /// Why.
        why: String,
    },
    /// The file could not be written, and is tried again.
    NotSaved(String),
}

/// How many nodes have a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copies {
    /// Nodes that returned this very packet.
    pub holders: u32,
    /// The version that supersedes it, if there is one.
    pub newer: Option<i64>,
}

impl Copies {
    pub(crate) fn of(packet: &SignedPacket, outcome: &Outcome) -> Self {
        let own = packet.to_item().ok();
        match (&outcome.item, own) {
            (Some(found), Some(own)) if **found == own => {
                Self { holders: outcome.holders, newer: None }
            }
            (Some(found), Some(own)) if found.supersedes(&own) => {
                Self { holders: 0, newer: found.signed().map(|signed| signed.seq) }
            }
            _ => Self { holders: 0, newer: None },
        }
    }
}

/// What a runtime is to do for a key.
#[derive(Debug)]
pub(crate) enum Task {
    Publish(SignedPacket),
    Verify(SignedPacket),
    /// There is a newer packet than this somewhere.
    Renew(SignedPacket),
}

impl Task {
    /// What it is about.
    pub(crate) const fn packet(&self) -> &SignedPacket {
        match self {
            Self::Publish(packet) | Self::Verify(packet) | Self::Renew(packet) => packet,
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Done {
    Published(Result<Published, PublishError>),
    Verified(Result<Copies, String>),
    Renewed(SignedPacket, Result<SignedPacket, ResolveError>),
}

impl Done {
    /// What was found in place of a packet, or is in the cache, whichever is newer. What came too late
    /// to be found is in memory.
    pub(crate) fn renewed(
        before: &SignedPacket,
        found: Result<Resolved, ResolveError>,
        cache: &PacketCache,
    ) -> Self {
        let cached = cache.recent(&before.public_key());
        let found = found.map(|found| found.packet.packet);
        let found = match (found, cached.map(|cached| cached.packet)) {
            (Ok(found), Some(cached)) if cached.more_recent_than(&found) => Ok(cached),
            (Err(error), Some(cached)) if !matches!(error.reason, Missing::Item(_)) => Ok(cached),
            (found, _) => found,
        };
        Self::Renewed(before.clone(), found)
    }

    /// What is to be done first, before this counts.
    pub(crate) fn next(&self, packet: &SignedPacket) -> Option<Task> {
        let newer = match self {
            Self::Published(Err(error)) => {
                matches!(error.reason, Reason::Newer { .. } | Reason::NotMostRecent)
            }
            Self::Verified(Ok(copies)) => copies.newer.is_some(),
            Self::Published(Ok(_)) | Self::Verified(Err(_)) | Self::Renewed(..) => false,
        };
        newer.then(|| Task::Renew(packet.clone()))
    }
}

/// All packets that are kept alive.
pub(crate) struct Keeper {
    schedule: Schedule,
    packets: BTreeMap<PublicKey, SignedPacket>,
    /// What is to be written, if there is a file.
    #[cfg(feature = "store")]
    unsaved: Option<file::Unsaved>,
}

impl Keeper {
    /// Goes on where the file ends.
    pub(crate) fn open(options: KeepAliveOptions, has_dht: bool) -> Result<Self, KeepAliveError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(KeepAliveError::Random)?;
        let mut config = options.config;
        if !has_dht {
            // Relays do not say who has it.
            config.verify_after = Duration::ZERO;
        }
        #[cfg_attr(not(feature = "store"), expect(unused_mut, reason = "there is nothing to read"))]
        let mut keeper = Self {
            schedule: Schedule::new(config, &Seed::from_bytes(seed)),
            packets: BTreeMap::new(),
            #[cfg(feature = "store")]
            unsaved: None,
        };
        #[cfg(feature = "store")]
        if let Some(path) = options.file {
            let (file, kept) = file::open(&path).map_err(KeepAliveError::File)?;
            for (packet, status) in kept {
                keeper.insert(packet, status).map_err(KeepAliveError::TooManyKeys)?;
            }
            keeper.unsaved = Some(file::Unsaved::new(file));
        }
        Ok(keeper)
    }

    /// Keeps a packet alive, unless that or a newer one is already. Returns whether it is news.
    pub(crate) fn add(&mut self, packet: SignedPacket) -> Result<bool, TooManyKeys> {
        let known = self.packets.get(&packet.public_key());
        if known.is_some_and(|known| !packet.more_recent_than(known)) {
            return Ok(false);
        }
        self.insert(packet, Status::default()).map(|()| true)
    }

    fn insert(&mut self, packet: SignedPacket, status: Status) -> Result<(), TooManyKeys> {
        self.schedule.insert(now(), packet.public_key(), status)?;
        self.note(packet.public_key());
        self.packets.insert(packet.public_key(), packet);
        Ok(())
    }

    /// Something of this key is not as it is in the file.
    #[cfg_attr(
        not(feature = "store"),
        expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "there is no file")
    )]
    fn note(&mut self, key: PublicKey) {
        #[cfg(feature = "store")]
        if let Some(unsaved) = &mut self.unsaved {
            unsaved.note(key);
        }
        #[cfg(not(feature = "store"))]
        let _ = key;
    }

    pub(crate) fn remove(&mut self, key: &PublicKey) -> Option<Status> {
        self.packets.remove(key);
        self.note(*key);
        self.schedule.remove(key)
    }

    pub(crate) fn status(&self, key: &PublicKey) -> Option<Status> {
        self.schedule.status(key).copied()
    }

    pub(crate) fn statuses(&self) -> Vec<(PublicKey, Status)> {
        self.schedule.statuses().map(|(key, status)| (*key, *status)).collect()
    }

    /// What is due.
    pub(crate) fn poll(&mut self) -> Option<(Handed, Task)> {
        loop {
            let (handed, publish) = match self.schedule.poll(now())? {
                Action::Publish(handed) => (handed, true),
                Action::Verify(handed) => (handed, false),
                _ => return None,
            };
            match self.packets.get(&handed.key()).cloned() {
                Some(packet) if publish => return Some((handed, Task::Publish(packet))),
                Some(packet) => return Some((handed, Task::Verify(packet))),
                None => {
                    self.schedule.handle_failed(now(), handed);
                    self.schedule.remove(&handed.key());
                }
            }
        }
    }

    /// For how long there is nothing to do, unless something is reported.
    pub(crate) fn wait(&self) -> Duration {
        let now = now();
        let micros = |time: Timestamp| time.as_micros().saturating_sub(now.as_micros());
        let due = self.schedule.poll_timeout().map(|due| Duration::from_micros(micros(due)));
        #[cfg(feature = "store")]
        let save = self.unsaved.as_ref().and_then(file::Unsaved::wait);
        #[cfg(not(feature = "store"))]
        let save = None;
        [due, save].into_iter().flatten().fold(MAX_WAIT, Duration::min)
    }

    /// Takes note of how a task ended, and says so.
    pub(crate) fn handle(&mut self, handed: Handed, done: Done) -> Option<Kept> {
        let key = handed.key();
        if !self.schedule.is_current(handed) {
            // Removed meanwhile, or replaced by a newer packet.
            self.schedule.handle_failed(now(), handed);
            return None;
        }
        self.note(key);
        let schedule = &mut self.schedule;
        Some(match done {
            Done::Published(Ok(published)) => {
                schedule.handle_published(now(), handed, published.copies());
                Kept::Published(Box::new(published))
            }
            Done::Published(Err(error)) => {
                schedule.handle_failed(now(), handed);
                Kept::Failed { key, why: error.to_string() }
            }
            Done::Verified(Ok(copies)) => {
                schedule.handle_verified(now(), handed, copies.holders);
                Kept::Verified { key, holders: copies.holders }
            }
            Done::Verified(Err(why)) => {
                schedule.handle_failed(now(), handed);
                Kept::Failed { key, why }
            }
            Done::Renewed(before, Ok(found)) => self.renewed(handed, &before, found),
            Done::Renewed(_, Err(error)) if matches!(error.reason, Missing::Item(_)) => {
                schedule.handle_failed(now(), handed);
                self.remove(&key);
                Kept::GivenUp { key, why: error.to_string() }
            }
            Done::Renewed(_, Err(error)) => {
                schedule.handle_failed(now(), handed);
                Kept::Failed { key, why: error.to_string() }
            }
        })
    }

    fn renewed(&mut self, handed: Handed, before: &SignedPacket, found: SignedPacket) -> Kept {
        self.schedule.handle_failed(now(), handed);
        if found.more_recent_than(before) && matches!(self.add(found.clone()), Ok(true)) {
            return Kept::Newer(Box::new(found));
        }
        let key = handed.key();
        let why = "nodes refuse it as old, but a newer packet was not found".to_owned();
        Kept::Failed { key, why }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("keys", &self.packets.len()).finish_non_exhaustive()
    }
}

/// Whoever is told what became of packets.
type Listener = Box<dyn FnMut(Kept) + Send>;

/// All packets, for the runner and its handles.
pub(crate) type Shared = Arc<Mutex<Keeper>>;

/// How handles reach a runner, which may have ended.
pub(crate) trait Runner: fmt::Debug + Send + Sync {
    /// There is something to do.
    fn wake(&self);
    /// It is to end.
    fn stop(&self);
}

/// A handle of packets that are kept alive. Clones are cheap and name the same ones.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    keeper: Shared,
    runner: Arc<dyn Runner>,
}

impl KeepAlive {
    /// Keeps a packet alive, unless that or a newer one of its key is already.
    ///
    /// # Errors
    /// [`TooManyKeys`].
    pub fn insert(&self, packet: SignedPacket) -> Result<(), TooManyKeys> {
        lock(&self.keeper).add(packet)?;
        self.runner.wake();
        Ok(())
    }

    /// Lets a packet die.
    pub fn remove(&self, key: &PublicKey) {
        lock(&self.keeper).remove(key);
    }

    /// How a packet is doing.
    #[must_use]
    pub fn status(&self, key: &PublicKey) -> Option<Status> {
        lock(&self.keeper).status(key)
    }

    /// How all are doing.
    #[must_use]
    pub fn statuses(&self) -> Vec<(PublicKey, Status)> {
        lock(&self.keeper).statuses()
    }

    /// Writes to the file what it does not have yet, and waits for that. It is done every few seconds anyway.
    ///
    /// # Errors
    /// If the file cannot be written. What could not be is written later.
    #[cfg(feature = "store")]
    pub fn save(&self) -> Result<(), StoreError> {
        file::save(&self.keeper)
    }

    /// Ends the runner, which writes the file first.
    pub fn stop(&self) {
        self.runner.stop();
    }
}

/// What a runner has, whatever it waits with.
pub(crate) struct Keeping {
    keeper: Shared,
    listener: Listener,
}

impl Keeping {
    pub(crate) fn new(keeper: Keeper, listener: impl FnMut(Kept) + Send + 'static) -> Self {
        Self { keeper: Arc::new(Mutex::new(keeper)), listener: Box::new(listener) }
    }

    pub(crate) fn handle(&self, runner: impl Runner + 'static) -> KeepAlive {
        KeepAlive { keeper: Arc::clone(&self.keeper), runner: Arc::new(runner) }
    }

    /// What is due.
    pub(crate) fn due(&self) -> Option<(Handed, Task)> {
        lock(&self.keeper).poll()
    }

    /// See [`Keeper::wait`].
    pub(crate) fn wait(&self) -> Duration {
        lock(&self.keeper).wait()
    }

    /// A task has ended.
    pub(crate) fn done(&mut self, handed: Handed, done: Done) {
        let kept = lock(&self.keeper).handle(handed, done);
        self.tell(kept);
    }

    /// What writes the file if it is time, or in any case, and may take a while; [`Keeping::tell`] it the
    /// result.
    pub(crate) fn saving(&self, in_any_case: bool) -> impl FnOnce() -> Option<Kept> + Send + use<> {
        let keeper = Arc::clone(&self.keeper);
        move || save(&keeper, in_any_case)
    }

    pub(crate) fn tell(&mut self, kept: Option<Kept>) {
        kept.into_iter().for_each(&mut self.listener);
    }
}

#[cfg(feature = "store")]
fn save(keeper: &Shared, in_any_case: bool) -> Option<Kept> {
    let wait = lock(keeper).unsaved.as_ref()?.wait()?;
    if !in_any_case && !wait.is_zero() {
        return None;
    }
    file::save(keeper).err().map(|error| Kept::NotSaved(error.to_string()))
}

#[cfg(not(feature = "store"))]
fn save(_keeper: &Shared, _in_any_case: bool) -> Option<Kept> {
    None
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeping").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}
