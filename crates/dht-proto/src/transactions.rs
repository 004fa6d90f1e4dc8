//! Queries in flight: which transaction id went to whom, for what, and since when.
//!
//! A reply belongs to a query only if the transaction id and the exact source address match. Ids
//! are 32 bits of a keyed stream, so a stranger guesses one with probability 2^-32 per try.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use crate::ahead::ReadAhead;
use crate::config::Config;
use crate::footprint;
use crate::id::NodeId;
use crate::rtt::RttHistogram;
use crate::seed::Stream;
use crate::time::Instant;

/// A query in flight, on behalf of a purpose `P`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction<A, P> {
    pub(crate) to: A,
    /// The id that must answer, if we know it.
    pub(crate) expected: Option<NodeId>,
    pub(crate) sent: Instant,
    pub(crate) purpose: P,
}

/// A query that got old.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aged<A, P> {
    /// Slower than most answers lately; may still be answered.
    Stalled(Transaction<A, P>),
    /// Given up.
    Expired(Transaction<A, P>),
}

/// A query that left.
#[derive(Clone, Copy, Debug)]
struct Sent<A, P> {
    transaction: Transaction<A, P>,
    tid: u32,
    answered: bool,
}

impl<A: Copy, P> Sent<A, P> {
    const fn key(&self) -> Key<A> {
        (self.transaction.to, self.tid)
    }
}

/// What a reply must match, in an order that keeps the queries to one address together.
type Key<A> = (A, u32);

/// All queries in flight of one node.
#[derive(Debug)]
pub(crate) struct Transactions<A, P> {
    /// A node that awaits nothing has none.
    awaited: Option<Box<Awaited<A, P>>>,
    tids: Stream,
    /// The half of the latest draw that no query has yet.
    spare: Option<u32>,
    rtts: RttHistogram,
}

#[derive(Debug)]
struct Awaited<A, P> {
    /// In the order of sending, to find who is late. The first is not answered.
    sent: VecDeque<Sent<A, P>>,
    /// How many of them are not answered.
    in_flight: usize,
    /// Their numbers, since they were too many to look through. Kept until none is left, so that a busy
    /// node does not make it again and again.
    index: Option<BTreeMap<Key<A>, u64>>,
    /// The number of the first of them; the others are numbered on from there.
    first: u64,
    /// The number of the first that has not stalled and is not answered.
    fresh: u64,
}

impl<A, P> Default for Awaited<A, P> {
    fn default() -> Self {
        let sent = VecDeque::with_capacity(FEW);
        Self { sent, in_flight: 0, index: None, first: 0, fresh: 0 }
    }
}

// Not for `Addr` alone: a test counts the comparisons.
impl<A: Copy + Ord, P: Copy> Transactions<A, P> {
    pub(crate) const fn new(tids: Stream) -> Self {
        Self { awaited: None, tids, spare: None, rtts: RttHistogram::new() }
    }

    /// See `Dht::read_ahead`.
    pub(crate) fn read_ahead(&self, step: u32, ahead: &mut impl ReadAhead) {
        let Some(awaited) = self.awaited.as_deref().filter(|_| (1..=2).contains(&step)) else {
            return;
        };
        if step == 1 {
            ahead.line(&awaited.sent);
            ahead.line(&awaited.fresh);
        } else {
            ahead.lines::<_, 4>(awaited.sent.as_slices().0);
        }
    }

    /// Records a query that leaves now, and returns its transaction id.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        to: A,
        expected: Option<NodeId>,
        purpose: P,
    ) -> [u8; 4] {
        let awaited = self.awaited.get_or_insert_with(Box::default);
        let tid = loop {
            let tid = self.spare.take().unwrap_or_else(|| {
                let drawn = self.tids.next();
                self.spare = Some((drawn >> 32) as u32);
                drawn as u32
            });
            // Of 2^32 ids at most 2^16 are taken, so this ends at once.
            if awaited.find(&(to, tid)).is_none() {
                break tid;
            }
        };
        let transaction = Transaction { to, expected, sent: now, purpose };
        awaited.push(Sent { transaction, tid, answered: false });
        tid.to_be_bytes()
    }

    /// The query that a reply from `from` answers, which is then no longer in flight.
    pub(crate) fn finish(
        &mut self,
        now: Instant,
        from: A,
        tid: &[u8],
    ) -> Option<Transaction<A, P>> {
        let tid = u32::from_be_bytes(tid.try_into().ok()?);
        let number = self.awaited.as_ref()?.find(&(from, tid))?;
        let transaction = self.take(number)?;
        self.rtts.record(now.since(transaction.sent));
        Some(transaction)
    }

    /// Takes a query to `to` out of flight because the network says that nobody is there.
    pub(crate) fn fail_one(&mut self, to: A) -> Option<Transaction<A, P>> {
        let number = self.awaited.as_ref()?.find_any(to)?;
        self.take(number)
    }

    /// The next query that stalled or expired by `now`.
    pub(crate) fn next_aged(&mut self, now: Instant, config: &Config) -> Option<Aged<A, P>> {
        let awaited = self.awaited.as_ref()?;
        if awaited.sent.front()?.transaction.sent + config.query_timeout <= now {
            let first = awaited.first;
            return self.take(first).map(Aged::Expired);
        }
        let stall = self.stall_timeout(config);
        let awaited = self.awaited.as_mut()?;
        let transaction = awaited.next_to_stall()?.transaction;
        if transaction.sent + stall > now {
            return None;
        }
        awaited.fresh += 1;
        awaited.skip_answered();
        Some(Aged::Stalled(transaction))
    }

    /// Drops every query in flight; none of them says anything about the node asked.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Transaction<A, P>> {
        let sent = self.awaited.take().into_iter().flat_map(|awaited| awaited.sent);
        sent.filter(|sent| !sent.answered).map(|sent| sent.transaction)
    }

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        let heap = |awaited: &Awaited<A, P>| {
            let indexed = awaited.index.as_ref().map_or(0, BTreeMap::len);
            size_of::<Awaited<A, P>>()
                + footprint::tree::<Key<A>, u64>(indexed)
                + footprint::room::<Sent<A, P>>(awaited.sent.capacity())
        };
        self.awaited.as_deref().map_or(0, heap)
    }

    /// The most heap bytes that queries in flight can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        // As many answered ones may stand in the queue too.
        let queued = config.max_transactions.saturating_mul(2).saturating_add(SLACK + 1);
        let queue = footprint::list::<Sent<A, P>>(queued);
        let tree = footprint::btree::<Key<A>, u64>(config.max_transactions);
        footprint::sum(&[size_of::<Awaited<A, P>>(), tree, queue])
    }

    pub(crate) fn stall_timeout(&self, config: &Config) -> Duration {
        self.rtts.stall_timeout(config)
    }

    pub(crate) fn len(&self) -> usize {
        self.awaited.as_ref().map_or(0, |awaited| awaited.in_flight)
    }

    /// When [`next_aged`](Self::next_aged) has something to say.
    pub(crate) fn poll_timeout(&self, config: &Config) -> Option<Instant> {
        let awaited = self.awaited.as_ref()?;
        let expires = awaited.sent.front()?.transaction.sent + config.query_timeout;
        let stall = |sent: &Sent<A, P>| sent.transaction.sent + self.stall_timeout(config);
        let stalls = awaited.next_to_stall().map(stall);
        Some(stalls.map_or(expires, |stalls| stalls.min(expires)))
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        let Some(awaited) = &self.awaited else { return };
        let Awaited { sent, in_flight, index, first, fresh } = &**awaited;
        assert!(*in_flight > 0, "an idle node keeps no room for queries");
        assert!(*in_flight <= config.max_transactions, "too many queries in flight");
        assert!(sent.len() <= 2 * in_flight + SLACK, "answered ids pile up");
        assert!(sent.front().is_some_and(|sent| !sent.answered), "nothing expires");
        assert!(
            awaited.next_to_stall().is_none_or(|sent| !sent.answered),
            "an answered one stalls"
        );
        assert!((*first..=first + sent.len() as u64).contains(fresh), "nothing stalls");
        let waiting = sent.iter().filter(|sent| !sent.answered).count();
        assert_eq!(waiting, *in_flight, "what is answered is no longer in flight");
        assert!(*in_flight <= FEW || index.is_some(), "too many to look through");
        let Some(index) = index else { return };
        let waits = |(key, number): (&Key<A>, &u64)| {
            let sent = sent.get((number - first) as usize);
            sent.is_some_and(|sent| sent.key() == *key && !sent.answered)
        };
        assert_eq!(index.len(), *in_flight, "a query that nobody finds");
        assert!(index.iter().all(waits), "a query never expires");
    }

    /// Takes a query out of flight. With the last one all memory goes.
    fn take(&mut self, number: u64) -> Option<Transaction<A, P>> {
        let awaited = self.awaited.as_mut()?;
        let transaction = awaited.answered(number);
        if awaited.in_flight == 0 {
            self.awaited = None;
        }
        transaction
    }
}

impl<A: Copy + Ord, P: Copy> Awaited<A, P> {
    /// The next query to stall: of those that have not, the first that left.
    fn next_to_stall(&self) -> Option<&Sent<A, P>> {
        self.sent.get((self.fresh - self.first) as usize)
    }

    /// The number of the query that a reply must match.
    fn find(&self, key: &Key<A>) -> Option<u64> {
        if let Some(index) = &self.index {
            return index.get(key).copied();
        }
        // What left last is mostly what is answered next.
        let is_it = |sent: &Sent<A, P>| sent.tid == key.1 && sent.key() == *key && !sent.answered;
        Some(self.first + self.sent.iter().rposition(is_it)? as u64)
    }

    /// The number of a query to this address: of several, that with the lowest id.
    fn find_any(&self, to: A) -> Option<u64> {
        if let Some(index) = &self.index {
            return index.range((to, 0)..=(to, u32::MAX)).next().map(|(_, number)| *number);
        }
        let there = self.sent.iter().zip(self.first..);
        let there = there.filter(|(sent, _)| sent.transaction.to == to && !sent.answered);
        there.min_by_key(|(sent, _)| sent.tid).map(|(_, number)| number)
    }

    fn push(&mut self, sent: Sent<A, P>) {
        let number = self.first + self.sent.len() as u64;
        self.sent.push_back(sent);
        self.in_flight += 1;
        if let Some(index) = &mut self.index {
            index.insert(sent.key(), number);
        } else if self.in_flight > FEW {
            let waiting = self.sent.iter().zip(self.first..).filter(|(sent, _)| !sent.answered);
            self.index = Some(waiting.map(|(sent, number)| (sent.key(), number)).collect());
        }
    }

    /// Marks a query as answered, and keeps the queue short: answered ones go when they are in front or
    /// the majority.
    fn answered(&mut self, number: u64) -> Option<Transaction<A, P>> {
        let sent = self.sent.get_mut((number - self.first) as usize)?;
        sent.answered = true;
        let (transaction, key) = (sent.transaction, sent.key());
        self.in_flight -= 1;
        if let Some(index) = &mut self.index {
            index.remove(&key);
        }
        while self.sent.front().is_some_and(|sent| sent.answered) {
            self.sent.pop_front();
            self.first += 1;
        }
        self.fresh = self.fresh.max(self.first);
        self.skip_answered();
        if self.sent.len() > 2 * self.in_flight + SLACK {
            self.renumber();
        }
        Some(transaction)
    }

    fn skip_answered(&mut self) {
        while self.next_to_stall().is_some_and(|sent| sent.answered) {
            self.fresh += 1;
        }
    }

    /// Drops the answered. Done so rarely that it costs each of them a constant.
    fn renumber(&mut self) {
        let stalled = self.sent.iter().take((self.fresh - self.first) as usize);
        self.fresh = self.first + stalled.filter(|sent| !sent.answered).count() as u64;
        self.sent.retain(|sent| !sent.answered);
        let Some(index) = &mut self.index else { return };
        for (sent, number) in self.sent.iter().zip(self.first..) {
            if let Some(old) = index.get_mut(&sent.key()) {
                *old = number;
            }
        }
    }
}

/// With no more in flight than these, which is a lookup or two, a look through the queue is cheaper than an
/// index. They have at most [`SLACK`] and as many answered ones among them.
const FEW: usize = 16;

/// Answered ids that may wait in the queues beside as many as are in flight.
const SLACK: usize = 16;

#[cfg(test)]
mod tests {
    use core::net::SocketAddrV4;

    use super::*;
    use crate::seed::{Domain, Seed};

    fn new() -> Transactions<SocketAddrV4, u8> {
        Transactions::new(Seed::from_bytes([1; 32]).stream(Domain::TransactionId))
    }

    fn addr(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    /// libtorrent test_dht.cpp 3268 `rpc_reply_ignores_wrong_port`
    #[test]
    fn a_reply_from_another_port_or_address_does_not_count() {
        let mut transactions = new();
        let now = Instant::from_secs(1);
        let tid = transactions.begin(now, addr("1.2.3.4:5"), None, 7);
        assert!(transactions.finish(now, addr("1.2.3.4:6"), &tid).is_none());
        assert!(transactions.finish(now, addr("1.2.3.5:5"), &tid).is_none());
        assert!(transactions.finish(now, addr("1.2.3.4:5"), &tid[..3]).is_none());
        assert!(transactions.finish(now, addr("1.2.3.4:5"), b"12345").is_none());
        assert_eq!(transactions.finish(now, addr("1.2.3.4:5"), &tid).unwrap().purpose, 7);
        assert!(transactions.finish(now, addr("1.2.3.4:5"), &tid).is_none(), "only once");
    }

    #[test]
    fn a_query_stalls_then_expires_once_each() {
        let (mut transactions, config) = (new(), Config::default());
        let sent = Instant::from_secs(1);
        transactions.begin(sent, addr("1.2.3.4:5"), None, 0);
        assert_eq!(transactions.poll_timeout(&config), Some(sent + config.stall_initial));
        assert!(transactions.next_aged(sent, &config).is_none());
        let stalled = sent + config.stall_initial;
        assert!(matches!(transactions.next_aged(stalled, &config), Some(Aged::Stalled(_))));
        assert!(transactions.next_aged(stalled, &config).is_none());
        assert_eq!(transactions.poll_timeout(&config), Some(sent + config.query_timeout));
        let expired = sent + config.query_timeout;
        assert!(matches!(transactions.next_aged(expired, &config), Some(Aged::Expired(_))));
        assert!(transactions.next_aged(expired, &config).is_none());
        assert_eq!(transactions.poll_timeout(&config), None);
    }

    #[test]
    fn answered_queries_leave_no_trace() {
        let (mut transactions, config) = (new(), Config::default());
        let first = transactions.begin(Instant::ZERO, addr("9.9.9.9:9"), None, 0);
        for i in 1..10_000 {
            let now = Instant::from_millis(i);
            let tid = transactions.begin(now, addr("1.2.3.4:5"), None, 0);
            transactions.finish(now, addr("1.2.3.4:5"), &tid).unwrap();
            transactions.check_invariants(&config);
        }
        transactions.finish(Instant::from_secs(10), addr("9.9.9.9:9"), &first).unwrap();
        assert_eq!((transactions.len(), transactions.poll_timeout(&config)), (0, None));
    }

    #[test]
    fn unreachable_fails_one_query_to_that_address() {
        let mut transactions = new();
        transactions.begin(Instant::ZERO, addr("1.2.3.4:5"), None, 1);
        transactions.begin(Instant::ZERO, addr("1.2.3.4:6"), None, 2);
        assert_eq!(transactions.fail_one(addr("1.2.3.4:6")).unwrap().purpose, 2);
        assert!(transactions.fail_one(addr("1.2.3.4:6")).is_none());
        assert_eq!(transactions.len(), 1);
    }

    /// An address that counts how often it is compared.
    #[derive(Clone, Copy, Debug)]
    struct Counted(u16);

    std::thread_local! {
        static COMPARED: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
    }

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> core::cmp::Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other).is_eq()
        }
    }

    impl Eq for Counted {}

    /// Rule 5: whatever the network says about whichever address, the queries in flight are not
    /// walked through.
    #[test]
    fn no_unreachable_address_is_searched_for_among_all_queries() {
        let tids = Seed::from_bytes([1; 32]).stream(Domain::TransactionId);
        let mut transactions = Transactions::<Counted, u8>::new(tids);
        for i in 0..4096 {
            transactions.begin(Instant::ZERO, Counted(2 * i), None, 0);
        }
        let cost = |transactions: &mut Transactions<Counted, u8>, to| {
            COMPARED.set(0);
            let failed = transactions.fail_one(Counted(to)).is_some();
            (failed, COMPARED.get())
        };
        for i in [0, 4, 1000, 4095] {
            let (failed, compared) = cost(&mut transactions, 2 * i + 1);
            assert!(!failed && compared < 150, "{compared} comparisons for nobody");
        }
        for i in [5, 1001, 4094] {
            let (failed, compared) = cost(&mut transactions, 2 * i);
            assert!(failed && compared < 450, "{compared} comparisons for one");
        }
    }

    #[test]
    fn nothing_in_flight_takes_no_heap() {
        let mut transactions = new();
        let tid = transactions.begin(Instant::ZERO, addr("1.2.3.4:5"), None, 1);
        transactions.finish(Instant::ZERO, addr("1.2.3.4:5"), &tid).unwrap();
        assert!(transactions.awaited.is_none());
        transactions.begin(Instant::ZERO, addr("1.2.3.4:5"), None, 1);
        assert_eq!(transactions.drain().count(), 1);
        assert!(transactions.awaited.is_none());
    }
}
