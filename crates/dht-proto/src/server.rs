//! The serving half of a node: answers queries, and stores what they announce and put.
//!
//! A [`Server`] is one address family's. It knows the routing table only through
//! [`Context::closest`]. Answering a read allocates nothing once the budget table stands: a reply
//! is put together on the stack and written into the caller's buffer.
//!
//! Where the BEPs leave a choice:
//!
//! * Nobody is met with silence within budget: unknown methods with a target are answered like
//!   find_node, others with 204, and queries from read-only nodes like any other (BEP 43).
//! * Over half of its network's budget a requester gets a quarter of the values, and no samples or
//!   filters; over three quarters nodes and a token only; over all of it nothing, and then nothing
//!   is stored either.
//! * get_peers and get reply with a token, except that get_peers withholds it from newcomers to a
//!   torrent whose peers are full.
//! * What is not stored is not acknowledged: over quota, or weaker than all that a full store
//!   holds, an announce or put is refused with 202.

mod items;
mod peers;
mod pool;
mod quota;
mod reply;
mod sample;
mod throttle;
mod token;

use alloc::boxed::Box;
use core::fmt;
use core::net::SocketAddrV6;
use core::time::Duration;

use self::items::{Admission, ItemStore, Refusal, Terms};
use self::peers::{Announce, PeerStore};
use self::reply::{Envelope, MAX_NODES, ROOM_V4, ROOM_V6, USUAL_K, room_v4, room_v6};
use self::sample::{Dice, Samples};
use self::throttle::{Level, Network, Throttle};
use self::token::{Period, Tokens};
use crate::addr::{Addr, Family};
use crate::ahead::ReadAhead;
use crate::bloom::Filter;
use crate::config::Config;
use crate::footprint;
use crate::id::{ID_LEN, InfoHash, ItemId, NodeId, Target};
use crate::item::Item;
use crate::seed::{Domain, Drawn, Seed, Stream};
use crate::stats::Stats;
use crate::time::Instant;
use crate::wire::{MAX_INTERVAL_SECS, Method, Put, Query, Reply, Values, Want, code, value_len};

/// Room for the peers of one reply, as bencoded strings: 50 on v4, 28 on v6.
const VALUES_LEN: usize = 28 * value_len::<SocketAddrV6>();
/// A forged signature costs its network's budget as much as this many bytes, because checking it
/// costs as much as answering some twenty reads.
const FORGERY_BYTES: u32 = 4_096;

/// What a query may need from outside the server.
#[expect(clippy::exhaustive_structs, reason = "built by whoever passes a query on")]
pub struct Context<'c> {
    /// Our node id.
    pub own_id: NodeId,
    /// The limits in force.
    pub config: &'c Config,
    /// That of the server.
    pub seed: &'c Seed,
    /// Writes the compact records of the closest good nodes of a family to a target, as many whole
    /// ones as there is room for, in any order, and returns the bytes written.
    pub closest: &'c mut dyn FnMut(Family, Target, &mut [u8]) -> usize,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("own_id", &self.own_id).finish_non_exhaustive()
    }
}

/// Answers the queries of one address family.
///
/// An idle server costs nothing beyond its own size: stores and budgets are made on first use.
#[derive(Debug)]
pub struct Server<A: Addr> {
    tokens: Tokens,
    throttle: Throttle,
    random: Stream,
    evictions: Drawn,
    peers: Option<Box<PeerStore<A>>>,
    items: Option<Box<ItemStore<A>>>,
    samples: Option<Box<Samples>>,
}

/// One query and the circumstances of its answer.
struct Call<'c, 'q, 'x, A> {
    now: Instant,
    from: A,
    network: Network,
    level: Level,
    want: Want,
    envelope: Envelope<'q, A>,
    ctx: &'c mut Context<'x>,
}

/// A get_peers query (BEP 5, BEP 33).
#[derive(Clone, Copy)]
struct GetPeers {
    info_hash: InfoHash,
    noseed: bool,
    scrape: bool,
}

impl<A: Addr> Server<A> {
    /// A server that has stored nothing.
    #[must_use]
    pub fn new(seed: &Seed) -> Self {
        Self {
            tokens: Tokens::new(seed),
            throttle: Throttle::new(seed),
            random: seed.stream(Domain::Sample),
            evictions: Drawn::default(),
            peers: None,
            items: None,
            samples: None,
        }
    }

    /// See `Dht::read_ahead`: the server itself.
    pub(crate) fn read_ahead(&self, ahead: &mut impl ReadAhead) {
        ahead.line(&self.throttle);
        ahead.line(&self.samples);
    }

    /// The same of what answering somebody needs.
    pub(crate) fn read_ahead_for(&self, from: A, ahead: &mut impl ReadAhead) {
        self.throttle.read_ahead(from, ahead);
    }

    /// Answers one query into `out`; returns the length of the reply, which is at most
    /// [`Addr::MAX_DATAGRAM`].
    ///
    /// `None` means silence: the budget of the requester's network or of everybody is used up, or
    /// the transaction id leaves no room for a reply. Counts the query by method, and the reply;
    /// the bytes are counted by whoever sends them.
    #[expect(clippy::too_many_arguments, reason = "one call per datagram, all parts needed")]
    pub fn answer(
        &mut self,
        now: Instant,
        from: A,
        tid: &[u8],
        query: &Query<'_>,
        ctx: &mut Context<'_>,
        stats: &mut Stats,
        out: &mut [u8],
    ) -> Option<usize> {
        let config = ctx.config;
        let (network, level) = self.admit(now, from, config, stats)?;
        count_method(&query.method, stats);
        let envelope = Envelope::new(tid, from, config);
        let mut call = Call { now, from, network, level, want: query.want, envelope, ctx };
        let len = match self.dispatch(&mut call, &query.method, stats, out) {
            Ok(len) => len,
            Err(refusal) => {
                stats.errors_out += 1;
                envelope.error(refusal.code, refusal.text, out)
            }
        };
        self.settle(now, network, len, config, stats)
    }

    /// Answers a query that could not be read with an error of [`code`]; otherwise like
    /// [`Server::answer`].
    #[expect(clippy::too_many_arguments, reason = "one call per datagram, all parts needed")]
    pub fn refuse(
        &mut self,
        now: Instant,
        from: A,
        tid: &[u8],
        code: i64,
        text: &str,
        config: &Config,
        stats: &mut Stats,
        out: &mut [u8],
    ) -> Option<usize> {
        let (network, _) = self.admit(now, from, config, stats)?;
        stats.bad_queries += 1;
        stats.errors_out += 1;
        let len = Envelope::new(tid, from, config).error(code, text, out);
        self.settle(now, network, len, config, stats)
    }

    /// Forgets a bounded number of expired peers and items.
    pub fn handle_timeout(&mut self, now: Instant, config: &Config) {
        self.throttle.handle_timeout(now);
        if let Some(peers) = &mut self.peers {
            peers.handle_timeout(now, config);
        }
        if let Some(items) = &mut self.items {
            items.handle_timeout(now, config);
        }
    }

    /// Takes an item from a snapshot that has `left` to live, unless a newer one is stored already
    /// or the store is full.
    pub fn restore_item(
        &mut self,
        now: Instant,
        item: Item,
        left: Duration,
        config: &Config,
        seed: &Seed,
    ) {
        self.items_mut(seed).restore(now, item, left, config);
    }

    /// When [`Server::handle_timeout`] is due; never if there is nothing to give back.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut due = self.throttle.poll_timeout();
        if self.peers.is_some() || self.items.is_some() {
            let peers = self.peers.as_ref().and_then(|peers| peers.poll_timeout());
            let items = self.items.as_ref().and_then(|items| items.poll_timeout());
            due = due.into_iter().chain(peers).chain(items).min();
        }
        due
    }

    /// The stored items with their expiry, for a snapshot.
    pub fn items(&self) -> impl Iterator<Item = (&Item, Instant)> {
        self.items.iter().flat_map(|items| items.iter())
    }

    /// Sets the gauges of what is stored.
    pub fn add_gauges(&self, stats: &mut Stats) {
        if let Some(peers) = &self.peers {
            stats.torrents += peers.torrents().len() as u64;
            stats.peers += peers.len() as u64;
        }
        stats.items += self.items.as_ref().map_or(0, |items| items.len() as u64);
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.throttle.heap_bytes()
            + self.peers.as_ref().map_or(0, |peers| peers.memory())
            + self.items.as_ref().map_or(0, |items| items.memory())
            + self.samples.as_ref().map_or(0, |samples| samples.memory())
    }

    /// The most bytes that a server can take up, itself included.
    #[must_use]
    pub const fn memory_ceiling(config: &Config) -> usize {
        footprint::sum(&[
            size_of::<Self>(),
            PeerStore::<A>::memory_ceiling(config),
            ItemStore::<A>::memory_ceiling(config),
            Throttle::memory_ceiling(config),
            size_of::<Samples>(),
            footprint::list::<[u8; ID_LEN]>(config.max_samples),
        ])
    }

    /// Panics if a bound or an ordering of the stores is violated.
    ///
    /// # Panics
    /// Only on a bug.
    pub fn check_invariants(&self, config: &Config) {
        self.throttle.check_invariants(config);
        let ceiling = Throttle::memory_ceiling(config);
        footprint::check("throttle", self.throttle.heap_bytes(), ceiling);
        if let Some(peers) = &self.peers {
            peers.check_invariants(config);
            let ceiling = PeerStore::<A>::memory_ceiling(config);
            footprint::check("peers", peers.memory(), ceiling);
        }
        if let Some(items) = &self.items {
            items.check_invariants(config);
            let ceiling = ItemStore::<A>::memory_ceiling(config);
            footprint::check("items", items.memory(), ceiling);
        }
        if let Some(samples) = &self.samples {
            samples.check_invariants(config);
        }
    }

    /// Decides how much `from` may be sent, before any work is done for it.
    fn admit(
        &mut self,
        now: Instant,
        from: A,
        config: &Config,
        stats: &mut Stats,
    ) -> Option<(Network, Level)> {
        let network = self.throttle.network(from);
        let level = self.throttle.level(now, network, config);
        match level {
            Level::Full => {}
            Level::Reduced | Level::NodesOnly => stats.degraded += 1,
            Level::Silent => {
                stats.throttled += 1;
                return None;
            }
        }
        Some((network, level))
    }

    /// Charges and counts what was written.
    fn settle(
        &mut self,
        now: Instant,
        network: Network,
        len: Option<usize>,
        config: &Config,
        stats: &mut Stats,
    ) -> Option<usize> {
        let Some(len) = len else {
            stats.oversized_tids += 1;
            return None;
        };
        self.throttle.charge(now, network, len as u32, config);
        self.throttle.charge_query(now, network, config);
        stats.replies_out += 1;
        Some(len)
    }

    fn dispatch(
        &mut self,
        call: &mut Call<'_, '_, '_, A>,
        method: &Method<'_>,
        stats: &mut Stats,
        out: &mut [u8],
    ) -> Result<Option<usize>, Refusal> {
        Ok(match *method {
            Method::Ping => call.reply_id(out),
            Method::FindNode { target } | Method::Unknown { target: Some(target), .. } => {
                call.reply_nodes(target, call.reply(), out)
            }
            Method::Unknown { target: None, .. } => {
                return Err(Refusal::new(code::METHOD_UNKNOWN, "method unknown"));
            }
            Method::GetPeers { info_hash, noseed, scrape } => {
                self.get_peers(call, GetPeers { info_hash, noseed, scrape }, out)
            }
            Method::AnnouncePeer { info_hash, port, implied_port, seed, token } => {
                // BEP 5: with `implied_port`, "the source port of the UDP packet" is the peer's.
                let peer = if implied_port { call.from } else { call.from.with_port(port) };
                self.announce(call, Announce { info_hash, peer, seed }, token, stats)?;
                call.reply_id(out)
            }
            Method::Get { target, seq } => self.get(call, target, seq, out),
            Method::Put(put) => {
                self.put(call, &put, stats)?;
                call.reply_id(out)
            }
            Method::SampleInfohashes { target } => self.sample_infohashes(call, target, out),
        })
    }

    fn get_peers(
        &mut self,
        call: &mut Call<'_, '_, '_, A>,
        query: GetPeers,
        out: &mut [u8],
    ) -> Option<usize> {
        let target = query.info_hash.target();
        let token = self.tokens.issue(call.period(), call.from, target);
        let mut reply = call.reply();
        reply.token = Some(&token);

        let mut values: [u8; VALUES_LEN];
        let filters: [Filter; 2];
        let dice = Dice::new(self.random.next());
        let torrent = self.peers.as_mut().and_then(|peers| peers.get(call.now, query.info_hash));
        if let Some(torrent) = torrent {
            let scrape = query.scrape && call.level == Level::Full;
            values = [0; VALUES_LEN];
            let len = torrent.sample(dice, query.noseed, call.values(scrape), &mut values);
            reply.values = values.get(..len).filter(|v| !v.is_empty()).map(Values::of_strings);
            if scrape {
                // BEP 33: both filters are there if there is an entry, even if one is empty.
                filters = torrent.filters().into();
                let [seeds, downloaders] = &filters;
                reply.seeds_filter = Some(seeds.as_bytes());
                reply.peers_filter = Some(downloaders.as_bytes());
            }
            // Without a token newcomers turn to our neighbours, where there is room; those that
            // are stored here may renew. Like libtorrent, which withholds it from all.
            if torrent.is_full_for(call.from, call.ctx.config) {
                reply.token = None;
            }
        }
        call.reply_nodes(target, reply, out)
    }

    fn announce(
        &mut self,
        call: &Call<'_, '_, '_, A>,
        announce: Announce<A>,
        token: &[u8],
        stats: &mut Stats,
    ) -> Result<(), Refusal> {
        self.check_token(call, announce.info_hash.target(), token, stats)?;
        if announce.peer.port() == 0 {
            return Err(Refusal::new(code::PROTOCOL, "invalid port"));
        }
        let dice = self.eviction_dice(call.ctx.seed);
        let config = call.ctx.config;
        let peers = self.peers.get_or_insert_with(Box::default);
        peers
            .announce(call.now, announce, call.ctx.own_id, dice, config)
            .map_err(|_| Refusal::new(code::SERVER, "announce quota is used up"))
    }

    fn get(
        &self,
        call: &mut Call<'_, '_, '_, A>,
        id: ItemId,
        known_seq: Option<i64>,
        out: &mut [u8],
    ) -> Option<usize> {
        let token = self.tokens.issue(call.period(), call.from, id.target());
        let mut reply = call.reply();
        reply.token = Some(&token);
        let item = self.items.as_ref().and_then(|items| items.get(call.now, id));
        if let Some(item) = item.filter(|_| call.level <= Level::Reduced) {
            let signed = item.signed();
            reply.seq = signed.map(|signed| signed.seq);
            // BEP 44: with `seq`, a node "SHOULD only return the value if the stored item's
            // sequence number is greater"; it leaves out k, v and sig, and nothing else.
            let known = signed.zip(known_seq).is_some_and(|(signed, known)| signed.seq <= known);
            if !known {
                reply.v = Some(item.value());
                reply.public_key = signed.map(|signed| &signed.public_key);
                reply.signature = signed.map(|signed| &signed.signature);
            }
        }
        call.reply_nodes(id.target(), reply, out)
    }

    /// Checks cheapest first, the signature last.
    fn put(
        &mut self,
        call: &Call<'_, '_, '_, A>,
        put: &Put<'_>,
        stats: &mut Stats,
    ) -> Result<(), Refusal> {
        let (now, from, config) = (call.now, call.from, call.ctx.config);
        // An immutable item is keyed by its value alone and a mutable one by its key and salt,
        // whatever else the query says: neither can take the place of the other.
        let id = match &put.mutable {
            None => ItemId::of_immutable(put.v),
            Some(mutable) => ItemId::of_mutable(mutable.public_key, mutable.salt),
        };
        self.check_token(call, id.target(), put.token, stats)?;
        items::check_form(put)?;
        let terms = Terms { now, from, own_id: call.ctx.own_id, config };
        let dice = self.eviction_dice(call.ctx.seed);
        let admission = self.items_mut(call.ctx.seed).admit(put, id, dice, terms)?;
        if admission == Admission::Renewed {
            stats.items_stored += 1;
            return Ok(());
        }
        if put.mutable.is_some() {
            if !self.throttle.take_verification(now, config) {
                return Err(Refusal::new(code::SERVER, "busy"));
            }
            stats.verifications += 1;
        }
        let item = items::checked_item(put, config).inspect_err(|_| {
            self.throttle.charge(now, call.network, FORGERY_BYTES, config);
        })?;
        self.items_mut(call.ctx.seed).store(item, admission, terms);
        stats.items_stored += 1;
        Ok(())
    }

    fn sample_infohashes(
        &mut self,
        call: &mut Call<'_, '_, '_, A>,
        target: Target,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut reply = call.reply();
        let config = call.ctx.config;
        let interval = config.sample_interval.as_secs().min(MAX_INTERVAL_SECS);
        reply.interval = Some(interval.cast_signed());
        reply.num = Some(0);
        // BEP 51: `samples` is always there, even if empty: that tells it from find_node.
        reply.samples = Some(&[]);
        if let Some(peers) = &self.peers {
            let torrents = peers.torrents();
            reply.num = Some(i64::try_from(torrents.len()).unwrap_or(i64::MAX));
            let dice = Dice::new(self.random.next());
            let samples = self.samples.get_or_insert_with(Box::default);
            let samples = samples.get(call.now, torrents, dice, config);
            reply.samples = Some(match call.level {
                Level::Full => samples,
                Level::Reduced | Level::NodesOnly | Level::Silent => &[],
            });
        }
        call.reply_nodes(target, reply, out)
    }

    fn check_token(
        &self,
        call: &Call<'_, '_, '_, A>,
        target: Target,
        token: &[u8],
        stats: &mut Stats,
    ) -> Result<(), Refusal> {
        if self.tokens.accepts(call.period(), call.from, target, token) {
            return Ok(());
        }
        stats.bad_tokens += 1;
        Err(Refusal::new(code::PROTOCOL, "invalid token"))
    }

    fn items_mut(&mut self, seed: &Seed) -> &mut ItemStore<A> {
        let new = || Box::new(ItemStore::new(seed.key(Domain::Announcers)));
        self.items.get_or_insert_with(new)
    }

    fn eviction_dice(&mut self, seed: &Seed) -> Dice {
        Dice::new(seed.draw(Domain::Eviction, &mut self.evictions, Stream::next))
    }
}

impl<A: Addr> Call<'_, '_, '_, A> {
    fn period(&self) -> Period {
        Period::at(self.now, self.ctx.config.token_rotation)
    }

    fn reply_id(&self, out: &mut [u8]) -> Option<usize> {
        self.envelope.least(&self.reply(), out)
    }

    /// A reply that carries nothing but the id yet.
    const fn reply<'r>(&self) -> Reply<'r> {
        Reply::new(self.ctx.own_id)
    }

    /// Completes a reply with the nodes closest to a target, of the families asked for, and
    /// encodes it.
    ///
    /// BEP 32: without `want`, the family of the transport.
    #[inline]
    fn reply_nodes(&mut self, target: Target, reply: Reply<'_>, out: &mut [u8]) -> Option<usize> {
        // Room is cleared before it is used: no more than what nearly every node needs.
        if self.ctx.config.k <= USUAL_K {
            self.reply_within::<{ room_v4(USUAL_K) }, { room_v6(USUAL_K) }>(target, reply, out)
        } else {
            self.reply_within::<ROOM_V4, ROOM_V6>(target, reply, out)
        }
    }

    /// The same with nodes that take up so many bytes at most.
    #[inline]
    fn reply_within<const V4: usize, const V6: usize>(
        &mut self,
        target: Target,
        reply: Reply<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let Want { n4, n6 } = self.want;
        let wanted = |asked, family| asked || (!n4 && !n6 && A::FAMILY == family);
        let k = self.ctx.config.k.min(MAX_NODES);
        let mut v4: [u8; V4];
        let mut v6: [u8; V6];
        let mut reply = reply;
        if wanted(n4, Family::V4) {
            v4 = [0; V4];
            reply.nodes = self.nodes(Family::V4, target, room_v4(k), &mut v4);
        }
        if wanted(n6, Family::V6) {
            v6 = [0; V6];
            reply.nodes6 = self.nodes(Family::V6, target, room_v6(k), &mut v6);
        }
        match self.envelope.reply(&reply, out) {
            Some(len) => Some(len),
            None => self.reply_less(target, reply, out),
        }
    }

    /// The same with what fits of a reply that is too long.
    #[cold]
    fn reply_less(&mut self, target: Target, reply: Reply<'_>, out: &mut [u8]) -> Option<usize> {
        let (mut v4, mut v6) = ([0; ROOM_V4], [0; ROOM_V6]);
        let mut reply = reply;
        self.envelope.shorten(&mut reply, out);
        // Of fewer nodes than there were, the nearest.
        if let Some(nodes) = reply.nodes {
            reply.nodes = self.nodes(Family::V4, target, nodes.len(), &mut v4);
        }
        if let Some(nodes) = reply.nodes6 {
            reply.nodes6 = self.nodes(Family::V6, target, nodes.len(), &mut v6);
        }
        self.envelope.least(&reply, out)
    }

    /// The nodes closest to a target, in so many bytes at most.
    #[inline]
    fn nodes<'r>(
        &mut self,
        family: Family,
        target: Target,
        len: usize,
        room: &'r mut [u8],
    ) -> Option<&'r [u8]> {
        let room = room.get_mut(..len)?;
        let len = (self.ctx.closest)(family, target, room);
        room.get(..len)
    }

    /// How many values fit beside everything else, and are affordable.
    const fn values(&self, scrape: bool) -> usize {
        let all = if scrape { A::MAX_VALUES_WITH_SCRAPE } else { A::MAX_VALUES };
        match self.level {
            Level::Full => all,
            Level::Reduced => all / 4,
            Level::NodesOnly | Level::Silent => 0,
        }
    }
}

fn count_method(method: &Method<'_>, stats: &mut Stats) {
    let counter = match method {
        Method::Ping => &mut stats.ping_in,
        Method::FindNode { .. } => &mut stats.find_node_in,
        Method::GetPeers { .. } => &mut stats.get_peers_in,
        Method::AnnouncePeer { .. } => &mut stats.announce_peer_in,
        Method::Get { .. } => &mut stats.get_in,
        Method::Put(_) => &mut stats.put_in,
        Method::SampleInfohashes { .. } => &mut stats.sample_infohashes_in,
        Method::Unknown { .. } => &mut stats.unknown_in,
    };
    *counter += 1;
}

#[cfg(test)]
mod tests;
