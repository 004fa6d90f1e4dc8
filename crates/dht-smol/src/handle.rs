//! [`Dht`]: the handle of a node.

use core::fmt;
use core::future::Future;
use core::net::SocketAddr;
use std::sync::Arc;

use async_channel as channel;
use dht_driver::{Command, View};
use dht_net::{Error, ErrorKind, ExternalAddr, Health, Sample, Stats};
use dht_proto::addr::Family;
use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::{Item, ItemError};
use dht_proto::request::{AnnouncePort, Lookup, Outcome};
use dht_proto::snapshot::Snapshot;
use ed25519_dalek::SigningKey;
use futures_lite::StreamExt;

use crate::Builder;
use crate::inner::Inner;
use crate::lookup::{Items, LookupHandle, Peers};

/// A handle of a node. Clones are cheap and name the same node.
///
/// Futures and streams made by it are `'static` and `Send`, and keep the node alive. They start when
/// they are polled first. None of them has a limit in time of its own, except that a lookup ends
/// after [`Config::lookup_timeout`](dht_proto::config::Config::lookup_timeout) at the latest; race
/// them with a timer to have one. If nobody polls the [`EventLoop`](crate::EventLoop), they wait.
///
/// Dropping the last handle stops the node and saves its state, as [`Dht::shutdown`] does, except
/// that nobody waits for it.
#[derive(Clone)]
pub struct Dht {
    inner: Arc<Inner>,
}

impl Dht {
    /// Sets a node up.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Asks one address whether a node is there: `closest` of the outcome holds it if so, and
    /// `duration` is the round trip (BEP 5 `ping`).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let outcome = dht.ping(addr).await?;
    /// assert_eq!(outcome.closest[0].addr, addr);
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn ping(
        &self,
        addr: SocketAddr,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<> {
        self.start(Lookup::Ping { addr }).outcome()
    }

    /// Finds the k nodes closest to an id (BEP 5 `find_node`).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let outcome = dht.find_node("5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse()?).await?;
    /// assert_eq!(outcome.closest.len(), 1);
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn find_node(
        &self,
        target: NodeId,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<> {
        self.start(Lookup::FindNode { target }).outcome()
    }

    /// Finds peers, which arrive while the lookup runs (BEP 5 `get_peers`). For an example, see
    /// [`Peers`].
    pub fn get_peers(&self, info_hash: InfoHash) -> Peers {
        self.start(Lookup::GetPeers { info_hash, scrape: false, noseed: false }).peers()
    }

    /// Tells the k closest nodes that we share something (BEP 5 `announce_peer`). `stored` of the
    /// outcome counts the nodes that took it; peers met on the way are not kept.
    ///
    /// ```
    /// use dht_smol::proto::request::AnnouncePort;
    ///
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let info_hash = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse()?;
    /// let outcome = dht.announce(info_hash, AnnouncePort::Implied, false).await?;
    /// assert_eq!(outcome.stored, 1);
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn announce(
        &self,
        info_hash: InfoHash,
        port: AnnouncePort,
        seed: bool,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<> {
        self.start(Lookup::Announce { info_hash, port, seed }).outcome()
    }

    /// Finds an item, ever newer versions of which arrive while the lookup runs (BEP 44 `get`).
    ///
    /// `salt` is empty for immutable items and for mutable ones without salt.
    ///
    /// ```
    /// use futures_lite::StreamExt;
    ///
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let (id, _) = dht.put_immutable(b"5:hello").await?;
    /// let mut items = dht.get_item(id, b"");
    /// while let Some(item) = items.next().await {
    ///     assert_eq!(item.value(), b"5:hello");
    /// }
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn get_item(&self, target: ItemId, salt: &[u8]) -> Items {
        self.start(Lookup::GetItem { target, salt: salt.to_vec(), newer_than: None }).items()
    }

    /// Finds an immutable item; `None` if nobody has it (BEP 44).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn get_immutable(
        &self,
        target: ItemId,
    ) -> impl Future<Output = Result<Option<Item>, Error>> + Send + use<> {
        let outcome = self.get_item(target, b"").outcome();
        async { Ok(outcome.await?.item.map(|item| *item)) }
    }

    /// Finds the newest version of a mutable item; `None` if nobody has one (BEP 44).
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn get_mutable(
        &self,
        public_key: &[u8; 32],
        salt: &[u8],
    ) -> impl Future<Output = Result<Option<Item>, Error>> + Send + use<> {
        let outcome = self.get_item(ItemId::of_mutable(public_key, salt), salt).outcome();
        async { Ok(outcome.await?.item.map(|item| *item)) }
    }

    /// Stores an item at the k closest nodes (BEP 44 `put`). `stored` of the outcome counts those
    /// that took it, `refusals` says who did not and why.
    ///
    /// With `cas`, only nodes whose version is that one take it.
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn put_item(
        &self,
        item: Item,
        cas: Option<i64>,
    ) -> impl Future<Output = Result<Outcome, Error>> + Send + use<> {
        self.start(Lookup::PutItem { item: Box::new(item), cas }).outcome()
    }

    /// Stores a bencoded value under its own hash; see [`Dht::put_item`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let (id, outcome) = dht.put_immutable(b"5:hello").await?;
    /// assert_eq!(outcome.stored, 1);
    /// let item = dht.get_immutable(id).await?;
    /// assert_eq!(item.unwrap().value(), b"5:hello");
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Of kind [`ErrorKind::InvalidInput`] if the value is too long or not canonical bencode; else
    /// see [`LookupHandle::outcome`].
    pub fn put_immutable(
        &self,
        bencoded: &[u8],
    ) -> impl Future<Output = Result<(ItemId, Outcome), Error>> + Send + use<> {
        self.put(Item::immutable(bencoded), None)
    }

    /// Stores a bencoded value under a key and a salt, as version `seq`; see [`Dht::put_item`].
    ///
    /// ```
    /// use ed25519_dalek::SigningKey;
    ///
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let key = SigningKey::from_bytes(&[7; 32]);
    /// let (_, outcome) = dht.put_mutable(&key, b"salt", 1, b"5:hello", None).await?;
    /// assert_eq!(outcome.stored, 1);
    /// let item = dht.get_mutable(key.verifying_key().as_bytes(), b"salt").await?;
    /// assert_eq!(item.unwrap().value(), b"5:hello");
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
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
    ) -> impl Future<Output = Result<(ItemId, Outcome), Error>> + Send + use<> {
        self.put(Item::sign(key, salt, seq, bencoded), cas)
    }

    fn put(
        &self,
        item: Result<Item, ItemError>,
        cas: Option<i64>,
    ) -> impl Future<Output = Result<(ItemId, Outcome), Error>> + Send + use<> {
        let put = item.map(|item| (item.id(), self.put_item(item, cas)));
        async {
            let (id, outcome) =
                put.map_err(|error| Error::new(ErrorKind::InvalidInput, error.to_string()))?;
            Ok((id, outcome.await?))
        }
    }

    /// Asks one node for a sample of its infohashes (BEP 51).
    ///
    /// ```
    /// use dht_smol::proto::id::InfoHash;
    /// use dht_smol::proto::request::AnnouncePort;
    ///
    /// # futures_lite::future::block_on(async {
    /// # let local = || dht_smol::Builder::new().mode(dht_smol::proto::config::Mode::Server);
    /// # let first = local().bind("127.0.0.1:0".parse()?).no_bootstrap().spawn()?;
    /// # let addr = first.local_addrs()[0];
    /// # let dht = local().bind("127.0.0.2:0".parse()?).bootstrap(addr.to_string()).spawn()?;
    /// let info_hash: InfoHash = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse()?;
    /// dht.announce(info_hash, AnnouncePort::Implied, false).await?;
    /// let sample = dht.sample(addr, info_hash.target()).await?;
    /// assert_eq!(sample.samples, [info_hash]);
    /// # dht.shutdown().await?;
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// See [`LookupHandle::outcome`].
    pub fn sample(
        &self,
        addr: SocketAddr,
        target: Target,
    ) -> impl Future<Output = Result<Sample, Error>> + Send + use<> {
        let mut lookup = self.start(Lookup::Sample { addr, target });
        async move {
            let mut sample = Sample::default();
            while let Some(event) = lookup.next().await {
                sample.note(event);
            }
            sample.outcome = lookup.outcome().await?;
            Ok(sample)
        }
    }

    /// Makes any lookup; it starts when it is polled.
    pub fn start(&self, lookup: Lookup) -> LookupHandle {
        LookupHandle::new(Arc::clone(&self.inner), lookup)
    }

    /// Adds a node that may be worth asking, for example one that a torrent's peer told
    /// (BEP 5 `PORT` message).
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn add_contact(
        &self,
        addr: SocketAddr,
        id: Option<NodeId>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.send(Command::AddContact { addr, id }).await }
    }

    /// The counters.
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn stats(&self) -> impl Future<Output = Result<Stats, Error>> + Send + use<> {
        self.ask(|view| Stats::from(&view))
    }

    /// How the node is doing, in words.
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn health(&self) -> impl Future<Output = Result<Health, Error>> + Send + use<> {
        let asked = self.ask(|view| (view.dht.health(view.now), view.io));
        let inner = Arc::clone(&self.inner);
        async move {
            let (node, io) = asked.await?;
            Ok(Health::new(node, &io, &inner.notices))
        }
    }

    /// What a restart needs: ids, contacts and stored items. The builder's `state_file` keeps it
    /// without further ado.
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn snapshot(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send + use<> {
        self.ask(|view| view.dht.snapshot())
    }

    /// Saves the state file now and waits until it is on disk. It is saved at intervals, and at the
    /// end, anyway.
    ///
    /// # Errors
    /// If there is no state file, it cannot be written, or the node has stopped.
    pub fn save(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move { inner.save().await }
    }

    /// Our node id on a network; `None` if we are not part of it.
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn node_id(
        &self,
        family: Family,
    ) -> impl Future<Output = Result<Option<NodeId>, Error>> + Send + use<> {
        self.ask(move |view| view.dht.node_id(family))
    }

    /// The addresses that the network sees us at.
    ///
    /// # Errors
    /// If the node has stopped.
    pub fn external_addr(
        &self,
    ) -> impl Future<Output = Result<ExternalAddr, Error>> + Send + use<> {
        self.ask(|view| view.external.into())
    }

    /// The addresses that the sockets are bound to: at most one of each family, v4 first.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.inner.local_addrs
    }

    /// Stops the node, whatever other handles there are, and waits until its sockets are closed and
    /// its state is saved.
    ///
    /// Running lookups end with an error of kind [`ErrorKind::Stopped`]. Once the node has stopped,
    /// this only tells how that went.
    ///
    /// # Errors
    /// If the state could not be saved, or the [`EventLoop`](crate::EventLoop) was dropped.
    pub fn shutdown(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = Arc::clone(&self.inner);
        async move {
            match inner.send(Command::Shutdown).await {
                Err(error) if error.kind() != ErrorKind::Stopped => return Err(error),
                Ok(()) | Err(_) => {}
            }
            inner.ended().await
        }
    }

    /// Runs a function inside the loop and waits for its answer.
    fn ask<T, F>(&self, look: F) -> impl Future<Output = Result<T, Error>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> T + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let (answer, answered) = channel::bounded(1);
        let command = Command::Inspect(Box::new(move |view| {
            // Nobody waits any more if this fails.
            drop(answer.try_send(look(view)));
        }));
        async move {
            inner.send(command).await?;
            answered.recv().await.map_err(|_| Error::stopped())
        }
    }
}

impl fmt::Debug for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dht").field("local_addrs", &self.inner.local_addrs).finish_non_exhaustive()
    }
}
