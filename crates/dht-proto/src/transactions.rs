//! Queries in flight: which transaction id went to whom, for what, and since when.
//!
//! A reply belongs to a query only if the transaction id and the exact source address match. Ids
//! are 32 bits of a keyed stream, so a stranger guesses one with probability 2^-32 per try.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use crate::addr::Addr;
use crate::config::Config;
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

/// All queries in flight of one node.
#[derive(Debug)]
pub(crate) struct Transactions<A, P> {
    by_tid: BTreeMap<u32, Transaction<A, P>>,
    /// Ids in the order of sending, to find the stalled; ids already answered are skipped.
    stalling: VecDeque<(Instant, u32)>,
    /// The same, to find the expired.
    expiring: VecDeque<(Instant, u32)>,
    tids: Stream,
    rtts: RttHistogram,
}

impl<A: Addr, P: Copy> Transactions<A, P> {
    pub(crate) const fn new(tids: Stream) -> Self {
        Self {
            by_tid: BTreeMap::new(),
            stalling: VecDeque::new(),
            expiring: VecDeque::new(),
            tids,
            rtts: RttHistogram::new(),
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
        let tid = loop {
            let tid = self.tids.next() as u32;
            // At most 2^11 of 2^32 ids are taken, so this ends at once.
            if !self.by_tid.contains_key(&tid) {
                break tid;
            }
        };
        self.by_tid.insert(tid, Transaction { to, expected, sent: now, purpose });
        self.stalling.push_back((now, tid));
        self.expiring.push_back((now, tid));
        self.forget_answered();
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
        if self.by_tid.get(&tid)?.to != from {
            return None;
        }
        let transaction = self.by_tid.remove(&tid)?;
        self.rtts.record(now.since(transaction.sent));
        self.forget_answered();
        Some(transaction)
    }

    /// Takes a query to `to` out of flight because the network says that nobody is there.
    pub(crate) fn fail_one(&mut self, to: A) -> Option<Transaction<A, P>> {
        let tid = *self.by_tid.iter().find(|(_, transaction)| transaction.to == to)?.0;
        let transaction = self.by_tid.remove(&tid);
        self.forget_answered();
        transaction
    }

    /// The next query that stalled or expired by `now`.
    pub(crate) fn next_aged(&mut self, now: Instant, config: &Config) -> Option<Aged<A, P>> {
        while let Some(&(sent, tid)) = self.expiring.front() {
            if sent + config.query_timeout > now {
                break;
            }
            self.expiring.pop_front();
            if let Some(transaction) = self.by_tid.remove(&tid) {
                self.forget_answered();
                return Some(Aged::Expired(transaction));
            }
        }
        let stall = self.stall_timeout(config);
        while let Some(&(sent, tid)) = self.stalling.front() {
            if sent + stall > now {
                break;
            }
            self.stalling.pop_front();
            if let Some(transaction) = self.by_tid.get(&tid) {
                return Some(Aged::Stalled(*transaction));
            }
        }
        None
    }

    /// Drops every query in flight; none of them says anything about the node asked.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Transaction<A, P>> {
        self.stalling.clear();
        self.expiring.clear();
        core::mem::take(&mut self.by_tid).into_values()
    }

    /// The most heap bytes that queries in flight can take up.
    pub(crate) const fn memory_ceiling(config: &Config) -> usize {
        // B-tree nodes and queues may be half empty; a query stands in two queues, and as many
        // answered ones may stand there too.
        let queue = 2 * (2 * config.max_transactions + SLACK) * size_of::<(Instant, u32)>();
        2 * config.max_transactions * size_of::<(u32, Transaction<A, P>)>() + 2 * queue
    }

    pub(crate) fn stall_timeout(&self, config: &Config) -> Duration {
        self.rtts.stall_timeout(config)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_tid.len()
    }

    /// When [`next_aged`](Self::next_aged) has something to say.
    pub(crate) fn poll_timeout(&self, config: &Config) -> Option<Instant> {
        let stalls = self.stalling.front().map(|&(sent, _)| sent + self.stall_timeout(config));
        let expires = self.expiring.front().map(|&(sent, _)| sent + config.query_timeout);
        match (stalls, expires) {
            (Some(stalls), Some(expires)) => Some(stalls.min(expires)),
            (stalls, expires) => stalls.or(expires),
        }
    }

    pub(crate) fn check_invariants(&self, config: &Config) {
        assert!(self.by_tid.len() <= config.max_transactions, "too many queries in flight");
        assert!(self.expiring.len() <= 2 * self.by_tid.len() + SLACK, "answered ids pile up");
        assert!(self.stalling.len() <= 2 * self.by_tid.len() + SLACK, "answered ids pile up");
        for tid in self.by_tid.keys() {
            assert!(self.expiring.iter().any(|(_, t)| t == tid), "a query never expires");
        }
    }

    /// Keeps the two queues short: answered ids go when they are in front or the majority. An idle
    /// node keeps no room for queries.
    fn forget_answered(&mut self) {
        if self.by_tid.is_empty() {
            // A tree keeps its last node when it gets empty, and that is large.
            self.by_tid = BTreeMap::new();
            self.stalling = VecDeque::new();
            self.expiring = VecDeque::new();
            return;
        }
        let by_tid = &self.by_tid;
        for queue in [&mut self.stalling, &mut self.expiring] {
            while queue.front().is_some_and(|(_, tid)| !by_tid.contains_key(tid)) {
                queue.pop_front();
            }
            if queue.len() > 2 * by_tid.len() + SLACK {
                queue.retain(|(_, tid)| by_tid.contains_key(tid));
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
}
