//! I3: a reply counts only if its transaction id and address match exactly one live query; any
//! other is counted as unsolicited and changes nothing else. A live query's reply does count.
//! Queries in flight are bounded, end in time, and their ids cannot be guessed from each other. A query
//! of somebody who is read-only makes no candidate of them (BEP 43).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::Dht;
use dht_proto::stats::Stats;
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body};

use super::{Checker, Happening, PerHost, demand};

/// Consecutive ids this near to each other look like a counter.
const NEAR: u32 = 1 << 8;
/// This many near ids in a row prove one: chance makes them once in 2^60.
const IN_A_ROW: u32 = 3;

type Key = (u32, SocketAddr);

#[derive(Debug, Default)]
struct Node {
    stats: Stats,
    due: Option<Instant>,
    latest: Instant,
    timeout: Duration,
    live: BTreeMap<Key, Instant>,
    sent: VecDeque<(Instant, Key)>,
    last_tid: u32,
    near: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Transactions {
    nodes: PerHost<Node>,
}

impl Checker for Transactions {
    fn name(&self) -> &'static str {
        "I3 transactions"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.at(what) else { return Ok(()) };
        match what {
            Happening::Born { dht, .. } => {
                (node.stats, node.due) = (dht.stats(), dht.poll_timeout());
                node.timeout = dht.config().map_or(Duration::MAX, |config| config.query_timeout);
                Ok(())
            }
            Happening::Asked { local, to, bytes, .. } => node.asked(*local, *to, bytes),
            Happening::Handled { local, from, bytes, dht, .. } => {
                node.handled(*local, *from, bytes, dht)
            }
            Happening::Drained { local, due, dht, .. } => node.drained(*local, *due, dht),
            _ => Ok(()),
        }
    }
}

impl Node {
    fn asked(&mut self, local: Instant, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let message = wire::decode(bytes).map_err(|e| format!("a broken query to {to}: {e}"))?;
        let Body::Query(_) = message.body else { return Err(format!("no query to {to}")) };
        let tid = <[u8; 4]>::try_from(message.tid).map(u32::from_be_bytes);
        let Ok(tid) = tid else { return Err("a transaction id is not 4 bytes long".to_owned()) };
        self.near = if tid.wrapping_sub(self.last_tid).wrapping_add(NEAR) <= 2 * NEAR {
            self.near + 1
        } else {
            0
        };
        self.last_tid = tid;
        demand(self.near < IN_A_ROW, || "transaction ids follow each other".to_owned())?;
        self.latest = self.latest.max(local);
        let key = (tid, to);
        self.sent.push_back((self.latest, key));
        let twice = self.live.insert(key, self.latest).is_some();
        demand(!twice, || format!("transaction id {tid:08x} is used twice at a time"))
    }

    fn handled(
        &mut self,
        local: Instant,
        from: SocketAddr,
        bytes: &[u8],
        dht: &Dht,
    ) -> Result<(), String> {
        self.latest = self.latest.max(local);
        let Ok(message) = wire::decode(bytes) else { return Ok(()) };
        if let Body::Query(_) = message.body {
            // BEP 43: who cannot be reached is listed by nobody.
            let now = if message.read_only { dht.stats().candidates } else { 0 };
            return demand(now <= self.stats.candidates, || {
                format!("{from} is read-only, and becomes a candidate")
            });
        }
        let before = core::mem::replace(&mut self.stats, dht.stats());
        let taken =
            self.stats.replies_in + self.stats.errors_in > before.replies_in + before.errors_in;
        let key = <[u8; 4]>::try_from(message.tid).map(|tid| (u32::from_be_bytes(tid), from));
        let live = key.ok().and_then(|key| self.live.remove(&key));
        demand(!taken || live.is_some(), || {
            format!("a reply from {from} counts, and answers no query of ours")
        })?;
        // Late timers mean a jump of time, which ends queries by itself.
        let in_time = self.due.is_none_or(|due| due >= self.latest);
        let fresh = live.is_some_and(|sent| self.latest < sent + self.timeout);
        demand(taken || !fresh || !in_time, || {
            format!("the reply from {from} to a live query does not count")
        })?;
        if taken || !in_time {
            return Ok(());
        }
        let mut expected = before;
        expected.datagrams_in += 1;
        expected.bytes_in += bytes.len() as u64;
        expected.unsorted += u64::from(message.unsorted);
        if from.port() != 0 && self.stats.bad_source == before.bad_source {
            expected.unsolicited += 1;
        } else {
            (expected.bad_source, expected.unsorted) = (before.bad_source + 1, before.unsorted);
        }
        demand(self.stats == expected, || {
            format!("a reply from {from} to nothing changes more than a counter: {:?}", self.stats)
        })
    }

    fn drained(&mut self, local: Instant, due: Option<Instant>, dht: &Dht) -> Result<(), String> {
        self.latest = self.latest.max(local);
        (self.stats, self.due) = (dht.stats(), due);
        while let Some((sent, key)) = self.sent.front() {
            if *sent + self.timeout > self.latest && self.live.contains_key(key) {
                break;
            }
            if self.live.get(key) == Some(sent) {
                self.live.remove(key);
            }
            self.sent.pop_front();
        }
        let in_flight = self.stats.in_flight;
        demand(in_flight <= self.live.len() as u64, || {
            format!("{in_flight} queries in flight, {} can be answered", self.live.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{ping, pong, read_only as mark, server};
    use crate::world::HostId;

    const NOW: Instant = Instant::from_secs(2);

    fn asked(checker: &mut Transactions, tid: u32) -> Result<(), String> {
        let (to, bytes) = ("1.2.3.4:5".parse().unwrap(), ping(&tid.to_be_bytes()));
        let (host, local) = (HostId(0), NOW);
        checker.happened(NOW, &Happening::Asked { host, local, to, bytes: &bytes })
    }

    fn handled(checker: &mut Transactions, dht: &Dht, tid: u32) -> Result<(), String> {
        let (host, from) = (HostId(0), "1.2.3.4:5".parse().unwrap());
        let bytes = pong(&tid.to_be_bytes());
        let what = Happening::Handled { host, local: NOW, from, bytes: &bytes, reply: None, dht };
        checker.happened(NOW, &what)
    }

    fn born(checker: &mut Transactions, dht: &Dht) {
        checker.happened(NOW, &Happening::Born { host: HostId(0), local: NOW, dht }).unwrap();
    }

    #[test]
    fn a_counter_for_transaction_ids_is_caught() {
        let mut checker = Transactions::default();
        let results: Vec<_> = (1_000_000..1_000_004).map(|i| asked(&mut checker, i)).collect();
        assert!(results[..3].iter().all(Result::is_ok) && results[3].is_err());
        let mut checker = Transactions::default();
        assert!((1..9).all(|i| asked(&mut checker, i * 0x0123_4567).is_ok()));
    }

    #[test]
    fn a_live_query_whose_reply_does_not_count_is_caught() {
        let (mut checker, dht) = (Transactions::default(), server());
        born(&mut checker, &dht);
        asked(&mut checker, 0x0123_4567).unwrap();
        // The node itself never asked, so it lets the reply fall.
        assert!(handled(&mut checker, &dht, 0x0123_4567).is_err());
    }

    #[test]
    fn a_stranger_s_reply_that_counts_or_changes_anything_is_caught() {
        let (mut checker, mut dht) = (Transactions::default(), server());
        born(&mut checker, &dht);
        let from = "1.2.3.4:5".parse().unwrap();
        let bytes = pong(&7_u32.to_be_bytes());
        let _ = dht.handle_datagram(NOW, from, &bytes, &mut [0; dht_proto::MAX_DATAGRAM]);
        assert_eq!(handled(&mut checker, &dht, 7), Ok(()), "counted as unsolicited");
        assert!(handled(&mut checker, &dht, 7).is_err(), "not counted at all");
        dht.add_contact(NOW, "1.2.3.5:5".parse().unwrap(), None);
        let _ = dht.handle_datagram(NOW, from, &bytes, &mut [0; dht_proto::MAX_DATAGRAM]);
        assert!(handled(&mut checker, &dht, 7).is_err(), "somebody became a candidate");
    }

    #[test]
    fn ids_used_twice_or_of_another_length_are_caught() {
        let mut checker = Transactions::default();
        assert_eq!(asked(&mut checker, 0x0123_4567), Ok(()));
        assert!(asked(&mut checker, 0x0123_4567).is_err());
        let (to, bytes) = ("1.2.3.4:5".parse().unwrap(), ping(b"abc"));
        let what = Happening::Asked { host: HostId(0), local: NOW, to, bytes: &bytes };
        assert!(checker.happened(NOW, &what).is_err());
    }

    #[test]
    fn a_second_copy_of_a_reply_that_counts_is_caught() {
        let (mut checker, mut dht) = (Transactions::default(), server());
        born(&mut checker, &dht);
        // Two queries, and only the first is told of: the second reply answers nothing known.
        let from = "1.2.3.4:5".parse().unwrap();
        let mut buf = [0; dht_proto::MAX_DATAGRAM];
        for told in [true, false] {
            dht.start(NOW, &dht_proto::request::Lookup::Ping { addr: from }).unwrap();
            let sent = dht.poll_transmit(NOW, &mut buf).unwrap();
            let query = buf[..sent.len].to_vec();
            let (host, local) = (HostId(0), NOW);
            if told {
                let what = Happening::Asked { host, local, to: from, bytes: &query };
                checker.happened(NOW, &what).unwrap();
            }
            let reply = pong(wire::decode(&query).unwrap().tid);
            let _ = dht.handle_datagram(NOW, from, &reply, &mut buf);
            let what =
                Happening::Handled { host, local, from, bytes: &reply, reply: None, dht: &dht };
            assert_eq!(checker.happened(NOW, &what).is_ok(), told);
        }
    }

    #[test]
    fn a_candidate_that_is_read_only_is_caught() {
        for read_only in [false, true] {
            let (mut checker, mut dht) = (Transactions::default(), server());
            born(&mut checker, &dht);
            let from = "1.2.3.4:5".parse().unwrap();
            let query = ping(b"abcd");
            let _ = dht.handle_datagram(NOW, from, &query, &mut [0; dht_proto::MAX_DATAGRAM]);
            assert_eq!(dht.stats().candidates, 1);
            // What the node took in was not read-only; what the checker is shown may be.
            let shown = if read_only { mark(&query) } else { query };
            let (host, local, bytes) = (HostId(0), NOW, &shown[..]);
            let what = Happening::Handled { host, local, from, bytes, reply: None, dht: &dht };
            assert_eq!(checker.happened(NOW, &what).is_err(), read_only);
        }
    }

    #[test]
    fn a_query_that_never_ends_is_caught() {
        let (mut checker, mut dht) = (Transactions::default(), server());
        born(&mut checker, &dht);
        let lookup = dht_proto::request::Lookup::Ping { addr: "1.2.3.4:5".parse().unwrap() };
        dht.start(NOW, &lookup).unwrap();
        let mut buf = [0; dht_proto::MAX_DATAGRAM];
        let sent = dht.poll_transmit(NOW, &mut buf).unwrap();
        let (host, bytes) = (HostId(0), &buf[..sent.len]);
        checker.happened(NOW, &Happening::Asked { host, local: NOW, to: sent.to, bytes }).unwrap();
        let drained = |at: u64| {
            let (local, due) = (NOW + Duration::from_secs(at), dht.poll_timeout());
            Happening::Drained { host, local, due, dht: &dht }
        };
        assert_eq!(checker.happened(NOW, &drained(9)), Ok(()));
        assert!(checker.happened(NOW, &drained(10)).is_err());
    }
}
