//! [`Dht`]: the handle of a running node.

use core::fmt;
use core::mem;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use dht_driver::{Command, Commands, Rejected, Sender, Ticket, View, channel};
use dht_net::{Error, ErrorKind, ExternalAddr, Health, Notices, Sample, Stats, after};
use dht_proto::addr::Family;
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::{Item, ItemError};
use dht_proto::request::{AnnouncePort, Lookup, Outcome};
use dht_proto::snapshot::Snapshot;
use ed25519_dalek::SigningKey;

use crate::Builder;
use crate::lookup::{LookupHandle, Peers};

/// How long a call waits unless [`Dht::with_timeout`] says otherwise, in seconds.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a full command queue is tried again.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// A handle of a running node, for any thread. Clones are cheap and name the same node.
///
/// Every call blocks, at most for the handle's timeout. When the time is up before a lookup has
/// ended, the call returns what was known by then, marked
/// [`Ended::TimedOut`](dht_proto::request::Ended::TimedOut); see [`LookupHandle::outcome`].
///
/// ```
/// use dht_mio::Builder;
/// use dht_mio::proto::config::Mode;
/// use dht_mio::proto::id::InfoHash;
/// use dht_mio::proto::request::AnnouncePort;
///
/// // A network of two on this machine; leave `bind`, `bootstrap` and `mode` out on the internet.
/// let local = || Builder::new().mode(Mode::Server);
/// let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
/// let host = first.local_addrs()[0].to_string();
/// let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(host).spawn()?;
///
/// let info_hash: InfoHash = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse()?;
/// let outcome = dht.announce(info_hash, AnnouncePort::Explicit(6881), false)?;
/// assert_eq!(outcome.stored, 1);
/// for peer in dht.get_peers(info_hash)? {
///     assert_eq!(peer, "127.0.0.2:6881".parse()?);
/// }
/// dht.shutdown()?;
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// Dropping the last handle stops the node and saves its state, as [`Dht::shutdown`] does, except
/// that errors are lost.
#[derive(Clone)]
pub struct Dht {
    inner: Arc<Inner>,
    timeout: Duration,
}

/// What the clones of a handle share.
#[derive(Debug)]
pub(crate) struct Inner {
    /// `None` only while the last handle is being dropped.
    commands: Option<Commands<Sender>>,
    waker: mio::Waker,
    tickets: AtomicU64,
    local_addrs: Vec<SocketAddr>,
    notices: Notices,
    shared: Arc<Shared>,
    /// The loop's thread, if it is ours.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Dht {
    /// Sets a node up.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) const fn from_inner(inner: Arc<Inner>) -> Self {
        Self { inner, timeout: DEFAULT_TIMEOUT }
    }

    /// A handle of the same node whose calls wait this long. [`DEFAULT_TIMEOUT`] otherwise.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), timeout }
    }

    /// Asks one address whether a node is there: `closest` of the outcome holds it if so, and
    /// `duration` is the round trip (BEP 5 `ping`).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn ping(&self, addr: SocketAddr) -> Result<Outcome, Error> {
        self.start(Lookup::Ping { addr })?.outcome()
    }

    /// Finds the k nodes closest to an id (BEP 5 `find_node`).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn find_node(&self, target: NodeId) -> Result<Outcome, Error> {
        self.start(Lookup::FindNode { target })?.outcome()
    }

    /// Finds peers, which arrive while the lookup runs (BEP 5 `get_peers`).
    ///
    /// # Errors
    /// If the node has stopped or is too busy.
    pub fn get_peers(&self, info_hash: InfoHash) -> Result<Peers, Error> {
        let lookup = Lookup::GetPeers { info_hash, scrape: false, noseed: false };
        self.start(lookup).map(LookupHandle::peers)
    }

    /// Tells the k closest nodes that we share something (BEP 5 `announce_peer`). `stored` of the
    /// outcome counts the nodes that took it; peers met on the way are not kept.
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn announce(
        &self,
        info_hash: InfoHash,
        port: AnnouncePort,
        seed: bool,
    ) -> Result<Outcome, Error> {
        self.start(Lookup::Announce { info_hash, port, seed })?.outcome()
    }

    /// Finds the newest version of an item; `item` of the outcome holds it (BEP 44 `get`).
    ///
    /// `salt` is empty for immutable items and for mutable ones without salt.
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn get_item(&self, target: ItemId, salt: &[u8]) -> Result<Outcome, Error> {
        self.start(Lookup::GetItem { target, salt: salt.to_vec(), newer_than: None })?.outcome()
    }

    /// Finds an immutable item; `None` if nobody has it (BEP 44).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn get_immutable(&self, target: ItemId) -> Result<Option<Item>, Error> {
        Ok(self.get_item(target, b"")?.item.map(|item| *item))
    }

    /// Finds the newest version of a mutable item; `None` if nobody has one (BEP 44).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn get_mutable(&self, public_key: &[u8; 32], salt: &[u8]) -> Result<Option<Item>, Error> {
        let target = ItemId::of_mutable(public_key, salt);
        Ok(self.get_item(target, salt)?.item.map(|item| *item))
    }

    /// Stores an item at the k closest nodes (BEP 44 `put`). `stored` of the outcome counts those
    /// that took it, `refusals` says who did not and why.
    ///
    /// With `cas`, only nodes whose version is that one take it.
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn put_item(&self, item: Item, cas: Option<i64>) -> Result<Outcome, Error> {
        self.start(Lookup::PutItem { item: Box::new(item), cas })?.outcome()
    }

    /// Stores a bencoded value under its own hash; see [`Dht::put_item`].
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidInput`] if the value is too long or not canonical bencode; else
    /// see [`LookupHandle::outcome`].
    pub fn put_immutable(&self, bencoded: &[u8]) -> Result<(ItemId, Outcome), Error> {
        self.put(Item::immutable(bencoded), None)
    }

    /// Stores a bencoded value under a key and a salt, as version `seq`; see [`Dht::put_item`].
    ///
    /// ```
    /// use dht_mio::Builder;
    /// use dht_mio::proto::config::Mode;
    /// use ed25519_dalek::SigningKey;
    ///
    /// # let local = || Builder::new().mode(Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let host = first.local_addrs()[0].to_string();
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(host).spawn()?;
    /// let key = SigningKey::from_bytes(&[7; 32]);
    /// let (_, outcome) = dht.put_mutable(&key, b"salt", 1, b"5:hello", None)?;
    /// assert_eq!(outcome.stored, 1);
    /// let item = dht.get_mutable(key.verifying_key().as_bytes(), b"salt")?;
    /// assert_eq!(item.unwrap().value(), b"5:hello");
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidInput`] if the value is too long or not canonical bencode, or the
    /// salt is too long; else see [`LookupHandle::outcome`].
    pub fn put_mutable(
        &self,
        key: &SigningKey,
        salt: &[u8],
        seq: i64,
        bencoded: &[u8],
        cas: Option<i64>,
    ) -> Result<(ItemId, Outcome), Error> {
        self.put(Item::sign(key, salt, seq, bencoded), cas)
    }

    fn put(
        &self,
        item: Result<Item, ItemError>,
        cas: Option<i64>,
    ) -> Result<(ItemId, Outcome), Error> {
        let item = item.map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
        Ok((item.id(), self.put_item(item, cas)?))
    }

    /// Asks one node for a sample of its infohashes (BEP 51).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn sample(&self, addr: SocketAddr, target: Target) -> Result<Sample, Error> {
        let mut lookup = self.start(Lookup::Sample { addr, target })?;
        let mut sample = Sample::default();
        for event in &mut lookup {
            sample.note(event);
        }
        sample.outcome = lookup.outcome()?;
        Ok(sample)
    }

    /// Starts any lookup. The handle's timeout runs from now.
    ///
    /// # Errors
    /// If the node has stopped, or its command queue stays full for the whole timeout.
    pub fn start(&self, lookup: Lookup) -> Result<LookupHandle, Error> {
        let ticket = Ticket(self.inner.tickets.fetch_add(1, Ordering::Relaxed));
        let (subscriber, receiver) = channel();
        let handle = LookupHandle::new(self.clone(), ticket, receiver, self.timeout);
        self.send(Command::Start { ticket, lookup, subscriber })?;
        Ok(handle)
    }

    /// Adds a node that may be worth asking, for example one that a torrent's peer told
    /// (BEP 5 `PORT` message).
    ///
    /// # Errors
    /// If the node has stopped, or its command queue stays full.
    pub fn add_contact(&self, addr: SocketAddr, id: Option<NodeId>) -> Result<(), Error> {
        self.send(Command::AddContact { addr, id })
    }

    /// The counters.
    ///
    /// # Errors
    /// If the node has stopped, or the loop does not answer in time.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.ask(|view| Stats::from(&view))
    }

    /// How the node is doing, in words.
    ///
    /// # Errors
    /// If the node has stopped, or the loop does not answer in time.
    pub fn health(&self) -> Result<Health, Error> {
        let (node, io) = self.ask(|view| (view.dht.health(view.now), view.io))?;
        Ok(Health::new(node, &io, &self.inner.notices))
    }

    /// What a restart needs: ids, contacts and stored items. [`Builder::state_file`] keeps it
    /// without further ado.
    ///
    /// # Errors
    /// If the node has stopped, or the loop does not answer in time.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.ask(|view| view.dht.snapshot())
    }

    /// Saves the state file now and waits until it is on disk. It is saved at intervals, and at the
    /// end, anyway.
    ///
    /// # Errors
    /// If there is no state file, it cannot be written, the node has stopped, or the loop does not
    /// answer in time.
    pub fn save(&self) -> Result<(), Error> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.inner.shared.ask_to_save(answer)?;
        self.inner.wake();
        self.wait_for(&answered)?
    }

    /// Our node id on a network; `None` if we are not part of it.
    ///
    /// # Errors
    /// If the node has stopped, or the loop does not answer in time.
    pub fn node_id(&self, family: Family) -> Result<Option<NodeId>, Error> {
        self.ask(move |view| view.dht.node_id(family))
    }

    /// The addresses that the network sees us at.
    ///
    /// # Errors
    /// If the node has stopped, or the loop does not answer in time.
    pub fn external_addr(&self) -> Result<ExternalAddr, Error> {
        self.ask(|view| view.external.into())
    }

    /// The addresses that the sockets are bound to: at most one of each family, v4 first.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.inner.local_addrs
    }

    /// Stops the node, whatever other handles there are, and waits until its state is saved.
    ///
    /// Running lookups end with an error of kind [`ErrorKind::Stopped`]. Does nothing if the node
    /// has stopped already.
    ///
    /// # Errors
    /// If the state could not be saved, or the loop, run by hand, does not end in time.
    pub fn shutdown(&self) -> Result<(), Error> {
        match self.send(Command::Shutdown) {
            Err(error) if error.kind() != ErrorKind::Stopped => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let result = self.inner.shared.wait_for_exit(self.timeout)?;
        self.inner.join();
        result
    }

    /// Runs a function inside the loop and waits for its answer.
    fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.send(Command::Inspect(Box::new(move |view| {
            // Nobody waits any more if this fails.
            drop(answer.send(look(view)));
        })))?;
        self.wait_for(&answered)
    }

    /// Waits for an answer of the loop.
    fn wait_for<T>(&self, answered: &mpsc::Receiver<T>) -> Result<T, Error> {
        answered.recv_timeout(self.timeout).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => late(self.timeout),
            mpsc::RecvTimeoutError::Disconnected => Error::stopped(),
        })
    }

    pub(crate) fn set_thread(&self, thread: JoinHandle<()>) {
        *self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// Sends a command if there is room for it.
    pub(crate) fn post(&self, command: Command<Sender>) {
        drop(self.inner.offer(command));
    }

    /// Sends a command, waiting for room if the queue is full.
    fn send(&self, command: Command<Sender>) -> Result<(), Error> {
        let deadline = after(Instant::now(), self.timeout);
        let mut command = command;
        loop {
            match self.inner.offer(command) {
                Ok(()) => return Ok(()),
                Err((Rejected::Closed, _)) => return Err(Error::stopped()),
                Err((Rejected::Full, _)) if Instant::now() >= deadline => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        "too many requests are waiting; send fewer, or see that the loop is run",
                    ));
                }
                Err((Rejected::Full, back)) => command = back,
            }
            thread::sleep(QUEUE_PAUSE);
        }
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht")
            .field("local_addrs", &self.inner.local_addrs)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn late(timeout: Duration) -> Error {
    Error::new(
        ErrorKind::TimedOut,
        format!("the loop did not answer within {timeout:?}; see that it is run"),
    )
}

impl Inner {
    pub(crate) const fn new(
        commands: Commands<Sender>,
        waker: mio::Waker,
        local_addrs: Vec<SocketAddr>,
        notices: Notices,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            commands: Some(commands),
            waker,
            tickets: AtomicU64::new(0),
            local_addrs,
            notices,
            shared,
            thread: Mutex::new(None),
        }
    }

    /// Sends a command if there is room for it.
    pub(crate) fn offer(
        &self,
        command: Command<Sender>,
    ) -> Result<(), (Rejected, Command<Sender>)> {
        match &self.commands {
            Some(commands) => commands.send(command)?,
            None => return Err((Rejected::Closed, command)),
        }
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // A waker fails only if the loop's end of it is gone; then so is the queue.
        drop(self.waker.wake());
    }

    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may be dropped by the loop itself, inside a callback.
        if let Some(thread) = thread.filter(|t| t.thread().id() != thread::current().id()) {
            // A panic of the loop has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the queue tells the loop to end; it has to be awake to see that.
        self.commands = None;
        self.wake();
        self.join();
    }
}

/// Who waits for a save.
pub(crate) type Asked = mpsc::SyncSender<Result<(), Error>>;

/// What the loop has an end of, whether there are handles or not.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who waits for the state to be saved.
    saves: Vec<Asked>,
    /// How the loop ended.
    exit: Option<Result<(), Error>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while holding the lock, so the state is whole even if a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_to_save(&self, asked: Asked) -> Result<(), Error> {
        let mut state = self.lock();
        if state.exit.is_some() {
            return Err(Error::stopped());
        }
        state.saves.push(asked);
        Ok(())
    }

    pub(crate) fn take_saves(&self) -> Vec<Asked> {
        mem::take(&mut self.lock().saves)
    }

    /// Only the first call counts.
    pub(crate) fn set_exit(&self, result: Result<(), Error>) {
        let mut state = self.lock();
        state.exit.get_or_insert(result);
        // Those who still wait for a save learn it from the closed channel.
        state.saves.clear();
        self.ended.notify_all();
    }

    /// Waits for the end; the outer error means that it did not come.
    fn wait_for_exit(&self, timeout: Duration) -> Result<Result<(), Error>, Error> {
        let timeout = timeout.min(Duration::from_secs(1_000_000_000));
        let waited =
            self.ended.wait_timeout_while(self.lock(), timeout, |state| state.exit.is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.exit.clone().ok_or_else(|| late(timeout))
    }
}
