//! Queries in flight: which transaction id went to whom, for what, and since when.
//!
//! A reply belongs to a query only if the transaction id and the exact source address match. Ids
//! are 32 bits of a keyed stream, so a stranger guesses one with probability 2^-32 per try.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;

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

/// When a query left, and which one.
#[derive(Clone, Copy, Debug)]
struct Sent<A> {
    at: Instant,
    key: Key<A>,
}

/// What a reply must match, in an order that keeps the queries to one address together.
type Key<A> = (A, u32);

/// All queries in flight of one node.
#[derive(Debug)]
pub(crate) struct Transactions<A, P> {
    /// A node that awaits nothing has none.
    awaited: Option<Box<Awaited<A, P>>>,
    tids: Stream,
    rtts: RttHistogram,
}

#[derive(Debug)]
struct Awaited<A, P> {
    in_flight: BTreeMap<Key<A>, Transaction<A, P>>,
    /// In the order of sending, to find the stalled; those already answered are skipped.
    stalling: VecDeque<Sent<A>>,
    /// The same, to find the expired.
    expiring: VecDeque<Sent<A>>,
}

impl<A, P> Default for Awaited<A, P> {
    fn default() -> Self {
        Self { in_flight: BTreeMap::new(), stalling: VecDeque::new(), expiring: VecDeque::new() }
    }
}

// Not for `Addr` alone: a test counts the comparisons.
impl<A: Copy + Ord, P: Copy> Transactions<A, P> {
    pub(crate) const fn new(tids: Stream) -> Self {
        Self { awaited: None, tids, rtts: RttHistogram::new() }
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
            let tid = self.tids.next() as u32;
            // Of 2^32 ids at most 2^16 are taken, so this ends at once.
            if !awaited.in_flight.contains_key(&(to, tid)) {
                break tid;
            }
        };
        awaited.in_flight.insert((to, tid), Transaction { to, expected, sent: now, purpose });
        let sent = Sent { at: now, key: (to, tid) };
        awaited.stalling.push_back(sent);
        awaited.expiring.push_back(sent);
        awaited.forget_answered();
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
        let transaction = self.take(&(from, tid))?;
        self.rtts.record(now.since(transaction.sent));
        Some(transaction)
    }

    /// Takes a query to `to` out of flight because the network says that nobody is there.
    pub(crate) fn fail_one(&mut self, to: A) -> Option<Transaction<A, P>> {
        let in_flight = &self.awaited.as_ref()?.in_flight;
        let key = *in_flight.range((to, 0)..=(to, u32::MAX)).next()?.0;
        self.take(&key)
    }

    /// The next query that stalled or expired by `now`.
    pub(crate) fn next_aged(&mut self, now: Instant, config: &Config) -> Option<Aged<A, P>> {
        while let Some(&Sent { at, key }) = self.awaited.as_ref()?.expiring.front() {
            if at + config.query_timeout > now {
                break;
            }
            self.awaited.as_mut()?.expiring.pop_front();
            if let Some(transaction) = self.take(&key) {
                return Some(Aged::Expired(transaction));
            }
        }
        let stall = self.stall_timeout(config);
        let awaited = self.awaited.as_mut()?;
        while let Some(&Sent { at, key }) = awaited.stalling.front() {
            if at + stall > now {
                break;
            }
            awaited.stalling.pop_front();
            if let Some(transaction) = awaited.in_flight.get(&key) {
                return Some(Aged::Stalled(*transaction));
            }
        }
        None
    }

    /// Drops every query in flight; none of them says anything about the node asked.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Transaction<A, P>> {
        self.awaited.take().into_iter().flat_map(|awaited| awaited.in_flight.into_values())
    }

    /// The most heap bytes that queries in flight can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        // A query stands in two queues, and as many answered ones may stand there too.
        let queued = config.max_transactions.saturating_mul(2).saturating_add(SLACK + 1);
        let queue = footprint::list::<Sent<A>>(queued);
        let tree = footprint::btree::<Key<A>, Transaction<A, P>>(config.max_transactions);
        footprint::sum(&[size_of::<Awaited<A, P>>(), tree, queue, queue])
    }

    pub(crate) fn stall_timeout(&self, config: &Config) -> Duration {
        self.rtts.stall_timeout(config)
    }

    pub(crate) fn len(&self) -> usize {
        self.awaited.as_ref().map_or(0, |awaited| awaited.in_flight.len())
    }

    /// When [`next_aged`](Self::next_aged) has something to say.
    pub(crate) fn poll_timeout(&self, config: &Config) -> Option<Instant> {
        let awaited = self.awaited.as_ref()?;
        let stalls = awaited.stalling.front().map(|sent| sent.at + self.stall_timeout(config));
        let expires = awaited.expiring.front().map(|sent| sent.at + config.query_timeout);
        match (stalls, expires) {
            (Some(stalls), Some(expires)) => Some(stalls.min(expires)),
            (stalls, expires) => stalls.or(expires),
        }
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        let Some(awaited) = &self.awaited else { return };
        let Awaited { in_flight, stalling, expiring } = &**awaited;
        assert!(!in_flight.is_empty(), "an idle node keeps no room for queries");
        assert!(in_flight.len() <= config.max_transactions, "too many queries in flight");
        assert!(expiring.len() <= 2 * in_flight.len() + SLACK, "answered ids pile up");
        assert!(stalling.len() <= 2 * in_flight.len() + SLACK, "answered ids pile up");
        let queued: BTreeSet<_> = expiring.iter().map(|sent| sent.key).collect();
        assert!(in_flight.keys().all(|key| queued.contains(key)), "a query never expires");
    }

    /// Takes a query out of awaited. With the last one all memory goes: a tree alone would keep a node
    /// of 700 bytes.
    fn take(&mut self, key: &Key<A>) -> Option<Transaction<A, P>> {
        let awaited = self.awaited.as_mut()?;
        let transaction = awaited.in_flight.remove(key)?;
        if awaited.in_flight.is_empty() {
            self.awaited = None;
        } else {
            awaited.forget_answered();
        }
        Some(transaction)
    }
}

impl<A: Copy + Ord, P> Awaited<A, P> {
    /// Keeps the two queues short: answered ids go when they are in front or the majority.
    fn forget_answered(&mut self) {
        let in_flight = &self.in_flight;
        for queue in [&mut self.stalling, &mut self.expiring] {
            while queue.front().is_some_and(|sent| !in_flight.contains_key(&sent.key)) {
                queue.pop_front();
            }
            if queue.len() > 2 * in_flight.len() + SLACK {
                queue.retain(|sent| in_flight.contains_key(&sent.key));
            }
        }
    }
}

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
