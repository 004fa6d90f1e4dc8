//! One node of one address family: takes datagrams and time, and hands them to the parts.
//!
//! This is dispatch only. The table decides who is known, the server what is answered, the lookups
//! what is asked, the transactions what is awaited, and the role whether we answer at all.

mod ahead;
mod ask;
mod bounds;
mod link;
mod maintain;
mod settle;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use crate::MAX_DATAGRAM;
use crate::addr::{Addr, Family, Scope};
use crate::config::Config;
use crate::health::{FamilyHealth, Problem, Trouble};
use crate::id::{ID_LEN, NodeId, Target, bep42};
use crate::lookup::{Ctx, Lookups, MAX_SEEDS, WalkRef};
use crate::outbox::Outbox;
use crate::request::{Event, Lookup, LookupId, NodeInfo, Outcome};
use crate::role::Role;
use crate::seed::{Domain, Drawn, Seed};
use crate::server::{Context, Server};
use crate::snapshot::FamilySnapshot;
use crate::stats::Stats;
use crate::table::Table;
use crate::time::Instant;
use crate::transactions::{Aged, Transaction, Transactions};
use crate::voter::Voter;
use crate::wire::{self, Body, DecodeError, ErrorReply, Message, Query, Reply};

use self::ask::{direct_addr, goal_of};
use self::link::{JUMP, Link};
use self::maintain::Maintain;

/// What a query of ours is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// Is this contact alive?
    Ping,
    /// A step of a lookup. `blames`: silence speaks against the node. Nodes that do not know a
    /// method may stay silent to it (jech/dht to `get`), so only BEP 5 queries blame.
    Walk { walk: WalkRef, blames: bool },
}

/// The node of the other family, as far as BEP 32 concerns this one.
pub(crate) trait Sibling {
    /// Writes the compact nodes nearest to the target, returns the bytes written.
    fn closest(&self, target: Target, n: usize, out: &mut [u8]) -> usize;
    /// Takes compact nodes that a node of this family told us.
    fn learn(&mut self, now: Instant, nodes: &[u8], from: Scope);
    /// Whether it needs contacts, so that we ask for some on its behalf.
    fn is_hungry(&self) -> bool;
}

/// One node: see the module. What every datagram needs stands together, in this order, because a million
/// nodes are read line by line out of memory.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Node<A: Addr> {
    last_now: Instant,
    config: Arc<Config>,
    outbox: Outbox,
    lookups: Lookups<A>,
    transactions: Transactions<A, Purpose>,
    /// What the user knows of our role.
    told_server: bool,
    /// The user does not know our address yet.
    external_is_news: bool,
    ids: Drawn,
    targets: Drawn,
    jitter: Drawn,
    role: Role,
    server: Server<A>,
    maintain: Maintain,
    /// Contacts of an earlier run, until the node has joined.
    restored: Vec<(NodeId, A)>,
    /// How many of them were asked since the last attempt to join.
    restored_asked: usize,
    table: Table<A>,
    link: Link,
    stats: Stats,
    /// For what is drawn so rarely that its streams keep no keys.
    seed: Seed,
    bootstrap: Vec<A>,
    voter: Voter<A>,
}

impl<A: Addr> Node<A> {
    pub(crate) fn new(config: Arc<Config>, seed: &Seed, now: Instant) -> Self {
        let mut ids = Drawn::default();
        let own_id = new_id(seed, &mut ids, configured_ip::<A>(&config));
        let role = Role::new(config.mode, seed, now);
        Self {
            table: Table::new(own_id),
            transactions: Transactions::new(seed.stream(Domain::TransactionId)),
            lookups: Lookups::new(),
            server: Server::new(seed),
            told_server: role.is_server(),
            role,
            voter: Voter::new(),
            external_is_news: false,
            outbox: Outbox::new(),
            bootstrap: bootstrap_of(&config),
            restored: Vec::new(),
            restored_asked: 0,
            maintain: Maintain::new(&config, now),
            link: Link::new(),
            seed: seed.clone(),
            ids,
            targets: Drawn::default(),
            jitter: Drawn::default(),
            stats: Stats::default(),
            last_now: now,
            config,
        }
    }

    /// Takes over the id, contacts and items of an earlier run. Contacts are asked before anybody
    /// is told about them.
    pub(crate) fn restore(&mut self, now: Instant, snapshot: &FamilySnapshot<A>) {
        if self.external().is_none_or(|ip| bep42::is_valid(snapshot.id, ip)) {
            self.table.set_own_id(now, snapshot.id, &self.config);
        }
        let possible = |(_, addr): &&(NodeId, A)| addr.is_possible();
        let possible = snapshot.contacts.iter().filter(possible).copied();
        self.restored = possible.take(Table::<A>::max_len(&self.config)).collect();
        for (item, left) in &snapshot.items {
            self.server.restore_item(now, item.clone(), *left, &self.config, &self.seed);
        }
    }

    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        from: A,
        datagram: &[u8],
        sibling: &mut impl Sibling,
        out: &mut [u8; MAX_DATAGRAM],
    ) -> Option<usize> {
        let now = self.tick(now);
        self.stats.datagrams_in += 1;
        self.stats.bytes_in += datagram.len() as u64;
        if !from.is_possible() {
            self.stats.bad_source += 1;
            return None;
        }
        // By reference: a message is large, and moving it would cost a tenth of a ping.
        let sent = match &wire::decode(datagram) {
            Ok(message) => {
                self.stats.unsorted += u64::from(message.unsorted);
                match &message.body {
                    Body::Query(query) => {
                        self.handle_query(now, from, message, query, sibling, out)
                    }
                    Body::Reply(reply) => {
                        self.handle_reply(now, from, message, reply, sibling);
                        None
                    }
                    Body::Error(error) => {
                        self.handle_error(now, from, message.tid, error);
                        None
                    }
                }
            }
            Err(DecodeError::BadQuery { tid, code, text }) if datagram.len() > ID_LEN => {
                self.refuse(now, from, tid, *code, text, out)
            }
            // A query has an id, so nobody who is shorter than one means us to answer; libtorrent
            // does not read such datagrams either. It would only multiply the bytes of a forger.
            Err(_) => {
                self.stats.malformed += 1;
                None
            }
        };
        if let Some(len) = sent {
            self.stats.bytes_out += len as u64;
        }
        sent
    }

    /// The operating system says that nobody is at this address.
    pub(crate) fn handle_unreachable(&mut self, now: Instant, to: A) {
        let now = self.tick(now);
        let Some(transaction) = self.transactions.fail_one(to) else { return };
        self.stats.unreachable += 1;
        self.on_failed(now, &transaction, false);
        self.maintain(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let now = self.tick(now);
        while let Some(aged) = self.transactions.next_aged(now, &self.config) {
            match aged {
                Aged::Stalled(transaction) => self.on_stalled(now, &transaction),
                Aged::Expired(transaction) => {
                    self.stats.timeouts += 1;
                    self.on_failed(now, &transaction, true);
                }
            }
        }
        let (lookups, mut ctx) = self.lookups(now);
        lookups.handle_timeout(&mut ctx);
        self.server.handle_timeout(now, &self.config);
        self.role.handle_timeout(now, &self.seed);
        self.maintain(now);
    }

    // Not inlined into the verbs of `Dht`, which mostly find a network missing, or nothing to send; nor are
    // those that send something inlined here.
    #[inline(never)]
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        sibling_is_hungry: bool,
        buf: &mut [u8; MAX_DATAGRAM],
    ) -> Option<(A, usize)> {
        let now = self.tick(now);
        while self.may_send() {
            // Pings are few and spaced out, so they hold nobody up.
            let ping = if self.has_ping() { self.next_ping(now) } else { None };
            let sent = if let Some((id, addr)) = ping {
                self.send_ping(now, id, addr, buf)
            } else {
                let slot = self.outbox.pop()?;
                self.send_next(now, slot, sibling_is_hungry, buf)
            };
            if let Some((to, len)) = sent {
                self.stats.queries_out += 1;
                self.stats.bytes_out += len as u64;
                self.role.on_sent(now, to);
                self.link.on_sent(now);
                return sent;
            }
        }
        None
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        if core::mem::take(&mut self.external_is_news) {
            return self.external().map(Event::ExternalAddress);
        }
        let serving = self.role.is_server();
        if core::mem::replace(&mut self.told_server, serving) != serving {
            return Some(Event::Serving { family: A::FAMILY, serving });
        }
        self.outbox.pop_event()
    }

    /// Whether the user hears of our role or address next: of the latest, however often it changed.
    const fn has_news(&self) -> bool {
        self.external_is_news || self.told_server != self.role.is_server()
    }

    /// Never later than the last `now` while output waits.
    #[inline(never)]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waits =
            self.has_news() || self.outbox.events() > 0 || (self.has_work() && self.may_send());
        if waits { Some(self.last_now) } else { self.deadline() }
    }

    /// See `Dht::handle_due`: output that waits asks for nothing but to be taken.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.lookups.are_over() || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Starts a lookup that the caller knows as `tag`.
    pub(crate) fn start(&mut self, now: Instant, tag: LookupId, lookup: &Lookup) -> WalkRef {
        let now = self.tick(now);
        self.stats.lookups += 1;
        let (goal, target) = goal_of(lookup);
        self.start_walk(now, goal, Some(tag), target, direct_addr(lookup))
    }

    pub(crate) fn cancel(&mut self, walk: WalkRef) -> bool {
        self.lookups.cancel(walk)
    }

    /// Ends a walk that the other network has made needless, while events are read, and adds what it
    /// cost to the outcome. A refresh may have waited for its place, and it begins at once: whoever
    /// reads the last event may sleep then.
    pub(crate) fn overtaken(&mut self, walk: WalkRef, lookup: LookupId, outcome: &mut Outcome) {
        if let Some(stopped) = self.lookups.stop(walk) {
            outcome.add_cost(&stopped);
        }
        self.outbox.retain_events(|event| {
            let is_its = event.lookup() == Some(lookup);
            if let (true, Event::Done { outcome: ended, .. }) = (is_its, event) {
                // It had ended by itself, and nobody has read that yet.
                outcome.add_cost(ended);
            }
            !is_its
        });
        self.maintain(self.last_now);
    }

    /// Removes the waiting events of a lookup.
    pub(crate) fn forget_events(&mut self, lookup: LookupId) {
        self.outbox.retain_events(|event| event.lookup() != Some(lookup));
    }

    pub(crate) fn has_room(&self) -> bool {
        self.lookups.len() < self.config.max_lookups
    }

    /// A node that somebody told the user about (BEP 5 `PORT`, a saved list).
    pub(crate) fn add_contact(&mut self, now: Instant, addr: A, id: Option<NodeId>) {
        let now = self.tick(now);
        if !addr.is_possible() {
            self.stats.bad_source += 1;
            return;
        }
        self.table.offer(now, id, addr, &self.config);
        self.maintain.hurry_if_lost(now, self.table.len(), &self.config);
    }

    /// An address to start from, asked again whenever the node is lost.
    pub(crate) fn add_bootstrap(&mut self, now: Instant, addr: A) {
        let now = self.tick(now);
        if !addr.is_possible() {
            self.stats.bad_source += 1;
            return;
        }
        if self.bootstrap.len() < MAX_BOOTSTRAP && !self.bootstrap.contains(&addr) {
            self.bootstrap.push(addr);
        }
        self.maintain.hurry(now);
    }

    pub(crate) fn snapshot(&self) -> FamilySnapshot<A> {
        let mut snapshot = FamilySnapshot::new(self.table.own_id());
        let contacts = self.table.contacts().iter().map(|contact| (contact.id(), contact.addr()));
        let listed = |(id, _): &&(NodeId, A)| self.table.get(*id).is_none();
        snapshot.contacts = contacts.chain(self.restored.iter().filter(listed).copied()).collect();
        let left = |expiry: Instant| expiry.since(self.last_now);
        snapshot.items =
            self.server.items().map(|(item, expiry)| (item.clone(), left(expiry))).collect();
        snapshot
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.contacts = self.table.len() as u64;
        stats.candidates = self.table.candidates_len() as u64;
        stats.in_flight = self.transactions.len() as u64;
        stats.lookups_running = self.lookups.len() as u64;
        self.server.add_gauges(&mut stats);
        stats
    }

    pub(crate) fn own_id(&self) -> NodeId {
        self.table.own_id()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn contacts(&self) -> Vec<NodeInfo> {
        let contacts = self.table.contacts().iter();
        contacts.map(|c| NodeInfo { id: c.id(), addr: c.addr().socket_addr() }).collect()
    }

    pub(crate) fn bucket_sizes(&self) -> impl Iterator<Item = usize> {
        self.table.bucket_sizes()
    }

    pub(crate) fn report(&mut self, now: Instant, trouble: Option<Trouble>) {
        self.tick(now);
        self.link.trouble = trouble;
    }

    pub(crate) fn health(&self, now: Instant) -> FamilyHealth {
        let contacts = self.table.len();
        FamilyHealth {
            family: A::FAMILY,
            contacts,
            network_size: self.network_size(),
            external: self.external(),
            answers: self.role.answers(),
            server: self.role.is_server(),
            strangers: self.role.strangers(),
            problem: if contacts == 0 {
                Some(self.why_nobody())
            } else {
                self.link.problem(now, self.config.offline_after)
            },
        }
    }

    // Queries that we receive.

    fn handle_query(
        &mut self,
        now: Instant,
        from: A,
        message: &Message<'_>,
        query: &Query<'_>,
        sibling: &impl Sibling,
        out: &mut [u8],
    ) -> Option<usize> {
        if query.id == self.table.own_id() {
            // Our own query, sent back by a reflector.
            self.stats.id_mismatch += 1;
            return None;
        }
        self.role.on_query(now, from);
        if !message.read_only {
            self.table.heard_query(now, query.id, from, &self.config);
        }
        if !self.role.answers() {
            self.stats.queries_unserved += 1;
            return None;
        }
        let (table, k) = (&self.table, self.config.k);
        let mut closest = |family, target, out: &mut [u8]| {
            if family == A::FAMILY {
                table.closest_compact(target, k, out)
            } else {
                sibling.closest(target, k, out)
            }
        };
        let own_id = self.table.own_id();
        let (config, seed) = (&self.config, &self.seed);
        let mut ctx = Context { own_id, config, seed, closest: &mut closest };
        let len =
            self.server.answer(now, from, message.tid, query, &mut ctx, &mut self.stats, out)?;
        // A reply, too, keeps a hole in our own firewall open.
        self.role.on_sent(now, from);
        Some(len)
    }

    fn refuse(
        &mut self,
        now: Instant,
        from: A,
        tid: &[u8],
        code: i64,
        text: &str,
        out: &mut [u8],
    ) -> Option<usize> {
        if !self.role.answers() {
            self.stats.queries_unserved += 1;
            return None;
        }
        let config = &self.config;
        let len = self.server.refuse(now, from, tid, code, text, config, &mut self.stats, out)?;
        self.role.on_sent(now, from);
        Some(len)
    }

    // Answers to our own queries.

    fn handle_reply(
        &mut self,
        now: Instant,
        from: A,
        message: &Message<'_>,
        reply: &Reply<'_>,
        sibling: &mut impl Sibling,
    ) {
        let Some(transaction) = self.transactions.finish(now, from, message.tid) else {
            self.stats.unsolicited += 1;
            return;
        };
        self.stats.replies_in += 1;
        self.link.on_answered();
        self.role.on_answer(now, from, &self.seed);
        if reply.id == self.table.own_id() {
            // A reflector, or our own address: no contact, and no answer.
            self.stats.id_mismatch += 1;
            self.on_failed(now, &transaction, false);
            self.maintain(now);
            return;
        }
        let rtt = now.since(transaction.sent);
        let verdict = self.table.replied(now, reply.id, from, rtt, &self.config);
        self.link.had_contacts |= verdict == crate::table::Verdict::Added;
        self.stats.id_changes += u64::from(verdict == crate::table::Verdict::IdChanged);
        if transaction.expected.is_some_and(|expected| expected != reply.id) {
            self.stats.id_mismatch += 1;
            if matches!(transaction.purpose, Purpose::Walk { walk, .. } if walk.store) {
                self.fail_walk(now, &transaction, false);
                self.maintain(now);
                return;
            }
        }
        if let Some((seen_as, _)) = message.ip {
            self.vote(now, from, seen_as);
        }
        let foreign = match A::FAMILY {
            Family::V4 => reply.nodes6,
            Family::V6 => reply.nodes,
        };
        if let Some(nodes) = foreign {
            sibling.learn(now, nodes, from.scope());
        }
        if let Purpose::Walk { walk, .. } = transaction.purpose {
            if self.lookups.is_maintenance(walk) {
                self.offer_nodes(now, from, reply);
            }
            let node = NodeInfo { id: reply.id, addr: from.socket_addr() };
            let (lookups, mut ctx) = self.lookups(now);
            lookups.on_reply(walk, node, from, reply, &mut ctx);
        }
        self.maintain(now);
    }

    /// What our own lookups turn up fills the table, as far as buckets have room.
    fn offer_nodes(&mut self, now: Instant, from: A, reply: &Reply<'_>) {
        let nodes = match A::FAMILY {
            Family::V4 => reply.nodes,
            Family::V6 => reply.nodes6,
        };
        for (id, addr) in wire::nodes::<A>(nodes.unwrap_or_default()).take(2 * self.config.k) {
            if !addr.is_credible_from(from) {
                self.stats.bad_nodes += 1;
            } else if id != self.table.own_id() {
                self.link.anybody_named = true;
                self.table.offer(now, Some(id), addr, &self.config);
            }
        }
    }

    fn handle_error(&mut self, now: Instant, from: A, tid: &[u8], error: &ErrorReply<'_>) {
        let Some(transaction) = self.transactions.finish(now, from, tid) else {
            self.stats.unsolicited += 1;
            return;
        };
        self.stats.errors_in += 1;
        self.link.on_answered();
        self.role.on_answer(now, from, &self.seed);
        if !matches!(transaction.purpose, Purpose::Walk { blames: false, .. }) {
            // BEP 5 knows no reason to refuse a ping, find_node or get_peers.
            self.table.failed(now, transaction.expected, from, false, &self.config);
        }
        if let Purpose::Walk { walk, .. } = transaction.purpose {
            let id = transaction.expected.unwrap_or(NodeId::from_bytes([0; 20]));
            let node = NodeInfo { id, addr: from.socket_addr() };
            let (lookups, mut ctx) = self.lookups(now);
            lookups.on_error(walk, node, from, error, &mut ctx);
        }
        self.maintain(now);
    }

    fn on_stalled(&mut self, now: Instant, transaction: &Transaction<A, Purpose>) {
        if let Purpose::Walk { walk, .. } = transaction.purpose {
            let (lookups, mut ctx) = self.lookups(now);
            lookups.on_stalled(walk, transaction.to, &mut ctx);
        }
    }

    /// The query brought nothing, and that speaks against the node asked.
    fn on_failed(&mut self, now: Instant, transaction: &Transaction<A, Purpose>, timeout: bool) {
        let blames = match transaction.purpose {
            Purpose::Ping => true,
            Purpose::Walk { blames, .. } => blames || !timeout,
        };
        if blames && !self.is_counted(transaction) {
            let offline = self.link.is_offline(now, self.config.offline_after);
            let (id, to) = (transaction.expected, transaction.to);
            self.table.failed(now, id, to, offline, &self.config);
        }
        self.fail_walk(now, transaction, timeout);
    }

    /// Whether a failure was counted after this query left. Many lookups may ask the same contact at
    /// a time, and a short outage of ours must not look like many silences of its own.
    fn is_counted(&self, transaction: &Transaction<A, Purpose>) -> bool {
        let contact = transaction.expected.and_then(|id| self.table.at(id, transaction.to));
        contact.is_some_and(|contact| {
            contact.fails() > 0 && contact.last_asked() > transaction.sent + SAME_TIME
        })
    }

    /// The query is lost, by nobody's fault.
    fn on_lost(&mut self, now: Instant, transaction: &Transaction<A, Purpose>) {
        self.fail_walk(now, transaction, true);
    }

    fn fail_walk(&mut self, now: Instant, transaction: &Transaction<A, Purpose>, timeout: bool) {
        if let Purpose::Walk { walk, .. } = transaction.purpose {
            let (lookups, mut ctx) = self.lookups(now);
            lookups.on_failed(walk, transaction.to, timeout, &mut ctx);
        }
    }

    /// BEP 42: enough nodes see us at this address. Our id follows it.
    fn vote(&mut self, now: Instant, voter: A, seen_as: IpAddr) {
        if configured_ip::<A>(&self.config).is_some() {
            return;
        }
        let Some(ip) = self.voter.vote(now, voter, seen_as) else { return };
        self.external_is_news = true;
        if !bep42::is_valid(self.table.own_id(), ip) {
            let id = new_id(&self.seed, &mut self.ids, Some(ip));
            self.table.set_own_id(now, id, &self.config);
            self.maintain.settle_anew(now);
        }
    }

    // Odds and ends.

    /// Our address as others see it, as far as we know.
    fn external(&self) -> Option<IpAddr> {
        configured_ip::<A>(&self.config).or_else(|| self.voter.agreed())
    }

    /// Every input passes through here: time that goes backwards stands still, and a long pause is
    /// looked into before anybody is blamed for it.
    fn tick(&mut self, now: Instant) -> Instant {
        let now = now.max(self.last_now);
        if now >= self.last_now + JUMP {
            self.on_long_pause(now);
        }
        self.last_now = now;
        now
    }

    #[cold]
    fn on_long_pause(&mut self, now: Instant) {
        let due = self.deadline().map(|deadline| deadline.max(self.last_now));
        if self.link.notice_jump(now, due) {
            let lost: Vec<_> = self.transactions.drain().collect();
            for transaction in &lost {
                self.on_lost(now, transaction);
            }
            self.maintain.rejoin(now);
        }
    }

    fn lookups(&mut self, now: Instant) -> (&mut Lookups<A>, Ctx<'_>) {
        let stall = self.transactions.stall_timeout(&self.config);
        let own_id = self.table.own_id();
        let ctx = Ctx { now, own_id, config: &self.config, stall, outbox: &mut self.outbox };
        (&mut self.lookups, ctx)
    }

    /// Contacts of an earlier run come first, all at once: they make a restart warm.
    #[inline(never)]
    fn next_ping(&mut self, now: Instant) -> Option<(Option<NodeId>, A)> {
        let Some(&(id, addr)) = self.restored.get(self.restored_asked) else {
            return self.table.next_ping(now, &self.config);
        };
        self.restored_asked += 1;
        Some((Some(id), addr))
    }

    fn has_work(&self) -> bool {
        self.outbox.has_work() || self.has_ping()
    }

    fn has_ping(&self) -> bool {
        self.restored_asked < self.restored.len()
            || self.table.ping_due().is_some_and(|due| due <= self.last_now)
    }

    /// Whether a query may leave: there is a place for its transaction, and for what it may bring.
    fn may_send(&self) -> bool {
        self.transactions.len() < self.config.max_transactions
            && self.outbox.events() < self.config.max_events
    }

    fn deadline(&self) -> Option<Instant> {
        let or_never = |due: Option<Instant>| due.unwrap_or(Instant::FAR_FUTURE);
        let pings = if self.may_send() { self.table.ping_due() } else { None };
        // One after the other: an array of them all would not stay in registers, and this is asked for
        // several times for each datagram.
        let earliest = or_never(self.transactions.poll_timeout(&self.config))
            .min(or_never(self.lookups.poll_timeout()))
            .min(or_never(self.server.poll_timeout()))
            .min(or_never(self.role.poll_timeout()))
            .min(or_never(self.maintain.poll_timeout()))
            .min(or_never(self.refresh_due()))
            .min(or_never(pings));
        (earliest != Instant::FAR_FUTURE).then_some(earliest)
    }

    fn network_size(&self) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "an estimate is not negative")]
        let size = self.table.size_estimate(&self.config) as u64;
        size
    }

    fn why_nobody(&self) -> Problem {
        if let Some(problem) = self.link.trouble_problem() {
            return problem;
        }
        let someone = !self.bootstrap.is_empty() || self.table.candidates_len() > 0;
        match (self.stats.queries_out, self.stats.replies_in + self.stats.errors_in) {
            (0, _) if !someone => Problem::NobodyToAsk,
            (0, _) => Problem::Starting,
            (queries, 0) => Problem::NothingAnswered { queries },
            _ if self.stats.bad_nodes > 0 && !self.link.anybody_named => Problem::OnlyPrivate,
            _ if self.link.had_contacts => Problem::AllLost,
            _ => Problem::NobodyUsable,
        }
    }
}

/// The table knows times to the second only.
const SAME_TIME: Duration = Duration::from_secs(2);
/// Bootstrap addresses kept, and unverified candidates that a lookup starts from.
const MAX_BOOTSTRAP: usize = MAX_SEEDS / 2;

impl<A: Addr> Sibling for Option<Box<Node<A>>> {
    fn closest(&self, target: Target, n: usize, out: &mut [u8]) -> usize {
        self.as_ref().map_or(0, |node| node.table.closest_compact(target, n, out))
    }

    fn learn(&mut self, now: Instant, nodes: &[u8], from: Scope) {
        let Some(node) = self else { return };
        let now = node.tick(now);
        for (id, addr) in wire::nodes::<A>(nodes).take(node.config.k) {
            if addr.is_credible_in(from) {
                node.table.offer(now, Some(id), addr, &node.config);
            }
        }
        node.maintain.hurry_if_lost(now, node.table.len(), &node.config);
    }

    fn is_hungry(&self) -> bool {
        self.as_ref().is_some_and(|node| node.table.len() < 4 * node.config.k)
    }
}

/// The addresses to start from that can be a node's, each once.
fn bootstrap_of<A: Addr>(config: &Config) -> Vec<A> {
    let mut taken = Vec::new();
    for addr in config.bootstrap.iter().copied().filter_map(A::from_socket_addr) {
        if taken.len() < MAX_BOOTSTRAP && addr.is_possible() && !taken.contains(&addr) {
            taken.push(addr);
        }
    }
    taken
}

/// Our address, if the configuration names it.
fn configured_ip<A: Addr>(config: &Config) -> Option<IpAddr> {
    let ours = |ip: &IpAddr| A::from_socket_addr((*ip, 0).into()).is_some();
    config.public_ips.iter().copied().find(ours)
}

/// An id for a node at this address (BEP 42), or one that does not know its address yet.
fn new_id(seed: &Seed, ids: &mut Drawn, ip: Option<IpAddr>) -> NodeId {
    seed.draw(Domain::NodeId, ids, |stream| {
        if let Some(ip) = ip {
            return bep42::derive(ip, stream);
        }
        let mut bytes = [0; ID_LEN];
        rand_core::Rng::fill_bytes(stream, &mut bytes);
        NodeId::from_bytes(bytes)
    })
}
