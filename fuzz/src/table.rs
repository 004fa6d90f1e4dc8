//! The routing table under anything that a network can do to it, against a plain model.

mod model;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use dht_proto::addr::Addr;
use dht_proto::config::Config;
use dht_proto::id::{ID_LEN, NodeId, bep42};
use dht_proto::seed::{Domain, Seed, Stream};
use dht_proto::table::Table;
use dht_proto::time::Instant;

use self::model::{Facts, View};
use crate::draw::Draw;

/// Longer inputs only repeat themselves.
const MAX_INPUT: usize = 1_024;

/// Drives a table by the input. After each step it must be what the model allows, and what
/// `check_invariants` demands.
///
/// # Panics
/// If it is not.
pub fn table(data: &[u8]) {
    let mut draw = Draw::new(data.get(..MAX_INPUT).unwrap_or(data));
    if draw.flag() { run::<SocketAddrV6>(draw) } else { run::<SocketAddrV4>(draw) }
}

fn run<A: Addr>(draw: Draw) {
    let mut run = Run::<A>::new(draw);
    while !run.draw.ended() {
        run.step();
        run.table.check_invariants(&run.config);
        let view = View::of(&run.table);
        view.check(&run.facts, &run.config);
        run.facts.forget_strangers(&view);
    }
    for target in [run.table.own_id(), id_of(0, run.table.own_id()), id_of(0x50ff, id_of(0, ZERO))]
    {
        View::of(&run.table).check_closest(&run.table, target.target(), 8);
    }
    run.drain_pings();
    run.drain_refreshes();
}

const ZERO: NodeId = NodeId::from_bytes([0; ID_LEN]);

struct Run<A: Addr> {
    draw: Draw,
    config: Config,
    table: Table<A>,
    facts: Facts<A>,
    now: Instant,
    /// Where refreshes go is none of the model's business.
    targets: Stream,
}

impl<A: Addr> Run<A> {
    fn new(mut draw: Draw) -> Self {
        let mut config = Config::default();
        config.k = draw.pick(&[8, 1, 2, 3]).unwrap_or(8);
        config.extended_buckets = draw.flag();
        config.max_candidates = draw.pick(&[12, 0, 2, 5]).unwrap_or(12);
        config.max_per_subnet_in_bucket = 1 + draw.index(3);
        config.max_per_allocation = draw.pick(&[32, 1, 4, 8]).unwrap_or(32);
        config.max_fails = draw.pick(&[5, 1, 2, 3]).unwrap_or(5);
        let targets = Seed::from_bytes([7; 32]).stream(Domain::RefreshTarget);
        let (table, facts) = (Table::new(ZERO), Facts::default());
        Self { draw, config, table, facts, now: Instant::from_secs(1_000), targets }
    }

    fn step(&mut self) {
        match self.draw.below(16) {
            0 => self.wait(),
            1..=4 => {
                let (addr, id) = self.node();
                self.replied(id, addr);
            }
            5 | 6 => {
                if let Some((id, addr)) = self.contact() {
                    self.replied(id, addr);
                }
            }
            7 | 8 => {
                if let Some((id, addr)) = self.contact() {
                    let (id, offline) =
                        (Some(id).filter(|_| self.draw.flag()), self.draw.seldom(8));
                    self.failed(id, addr, offline);
                }
            }
            9 => {
                let (addr, id) = self.node();
                self.failed(Some(id), addr, false);
            }
            10 => {
                let (addr, id) = self.node();
                let (id, addr) = self.contact().filter(|_| self.draw.flag()).unwrap_or((id, addr));
                self.heard_query(id, addr);
            }
            11 => {
                let (addr, id) = self.node();
                let id = Some(id).filter(|_| !self.draw.seldom(4));
                self.offer(id, addr);
            }
            12 => drop(self.ping()),
            13 => drop(self.refresh()),
            14 => {
                let id = self.id();
                self.move_to(id);
            }
            _ => {
                let (target, n) = (self.id().target(), self.draw.index(20));
                View::of(&self.table).check_closest(&self.table, target, n);
            }
        }
    }

    /// A contact of the table.
    fn contact(&mut self) -> Option<(NodeId, A)> {
        let index = self.draw.index(self.table.len());
        self.table.contacts().get(index).map(|contact| (contact.id(), contact.addr()))
    }

    fn node(&mut self) -> (A, NodeId) {
        let addr = addr_of::<A>(self.draw.byte());
        let id = if self.draw.seldom(4) {
            let mut stream = Seed::from_bytes([self.draw.byte(); 32]).stream(Domain::NodeId);
            bep42::derive(addr.ip(), &mut stream)
        } else {
            self.id()
        };
        (addr, id)
    }

    fn id(&mut self) -> NodeId {
        let choice = self.draw.below(0x1_0000) as u16;
        id_of(choice, self.table.own_id())
    }

    fn wait(&mut self) {
        let pauses = [100, 5_000, 60_000, 90_000, 600_000, 900_000, 3_600_000, 70_000_000];
        let millis = self.draw.pick(&pauses).unwrap_or_default();
        self.now = self.now + Duration::from_millis(millis);
    }

    fn replied(&mut self, id: NodeId, addr: A) {
        let rtt = Duration::from_millis(self.draw.pick(&[100, 10, 300, 2_000]).unwrap_or(100));
        let before = View::of(&self.table);
        let expected = before.verdict(id, addr, &self.config);
        let verdict = self.table.replied(self.now, id, addr, rtt, &self.config);
        let own = self.table.own_id();
        self.facts.answered(self.now, (id, addr), own, verdict, &self.config);
        let after = View::of(&self.table);
        before.check_replied(&after, (id, addr), (expected, verdict), self.now);
    }

    fn heard_query(&mut self, id: NodeId, addr: A) {
        let before = View::of(&self.table);
        self.table.heard_query(self.now, id, addr, &self.config);
        let extended = self.facts.asked_us(self.now, id, addr, &before);
        before.check_heard(&View::of(&self.table), addr, extended, self.now);
    }

    fn offer(&mut self, id: Option<NodeId>, addr: A) {
        let before = View::of(&self.table);
        self.table.offer(self.now, id, addr, &self.config);
        before.check_offered(&View::of(&self.table), id, addr, &self.config);
    }

    fn failed(&mut self, id: Option<NodeId>, addr: A, offline: bool) {
        let before = View::of(&self.table);
        let evicted = self.table.failed(self.now, id, addr, offline, &self.config);
        let doubtful = self.facts.may_be_doubtful(addr);
        let after = View::of(&self.table);
        if offline {
            assert!(!evicted && before.same_as(&after), "silence while we are offline counted");
        } else {
            before.check_failed(&after, addr, evicted, doubtful, &self.config);
        }
    }

    /// Asks for a ping; whom it names was due, and so was the table.
    fn ping(&mut self) -> bool {
        let (due, before) = (self.table.ping_due(), View::of(&self.table));
        let Some((id, addr)) = self.table.next_ping(self.now, &self.config) else {
            return false;
        };
        assert!(due.is_some_and(|due| due <= self.now), "pinged before it was due");
        let to_contact = before.check_ping(id, addr, self.now, &self.config);
        self.facts.pinged(self.now, to_contact, &self.config);
        assert!(before.same_members(&View::of(&self.table)), "a ping changes no contact");
        true
    }

    fn drain_pings(&mut self) {
        while self.ping() {}
        assert!(self.table.ping_due().is_none_or(|due| due > self.now), "a ping was left undone");
    }

    fn refresh(&mut self) -> bool {
        if self.draw.seldom(4) {
            self.table.explore(self.now, &self.config);
            self.facts.explored();
        }
        let due = self.table.refresh_due();
        let target = self.table.stale_bucket(self.now, &mut self.targets, &self.config);
        let Some(target) = target else { return false };
        assert!(due.is_some_and(|due| due <= self.now), "refreshed before it was due");
        let bucket = View::of(&self.table).check_refresh(target);
        self.facts.refreshed(self.now, bucket, &self.config);
        true
    }

    fn drain_refreshes(&mut self) {
        while self.refresh() {}
        assert!(self.table.refresh_due().is_none_or(|due| due > self.now), "a refresh was left");
    }

    fn move_to(&mut self, id: NodeId) {
        let before = View::of(&self.table);
        self.table.set_own_id(self.now, id, &self.config);
        before.check_moved(&View::of(&self.table), id, &self.config);
        // Its buckets are others now.
        self.facts.explored();
    }
}

/// Few enough ids that they repeat, at all depths, and some beside our own.
fn id_of(choice: u16, own: NodeId) -> NodeId {
    let [kind, byte] = choice.to_be_bytes();
    let mut id = [0; ID_LEN];
    let at = match kind % 8 {
        0 | 1 => 0,
        2 => 1,
        3 => 3,
        4 => ID_LEN - 1,
        5 => {
            id = *own.as_bytes();
            ID_LEN - 1
        }
        6 => {
            id = *own.as_bytes();
            7
        }
        _ => {
            id = [kind ^ byte; ID_LEN];
            2
        }
    };
    if let Some(place) = id.get_mut(at) {
        *place ^= byte;
    }
    NodeId::from_bytes(id)
}

/// Addresses in local, crowded and sparse networks, several on one host, and some that are nobody's.
fn addr_of<A: Addr>(choice: u8) -> A {
    let (kind, n) = (choice >> 5, u16::from(choice & 31));
    let port = 6_881 + n % 2;
    let host = (n / 2) as u8;
    let v4 = match kind {
        0 => (Ipv4Addr::LOCALHOST, 1 + n),
        1 => (Ipv4Addr::new(10, 0, 0, host), port),
        2 => (Ipv4Addr::new(8, 8, host / 4, host), port),
        3 => (Ipv4Addr::new(224, 0, 0, 1), if n == 0 { 0 } else { port }),
        4 => (Ipv4Addr::new(9, host, 0, 1), n % 3),
        _ => (Ipv4Addr::new(20 + kind, host, 1, 1), port),
    };
    let segment = u16::from(host);
    let v6 = match kind {
        0 => (Ipv6Addr::LOCALHOST, 1 + n),
        1 => (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, segment), port),
        2 => (Ipv6Addr::new(0x2600, 1, 1, segment / 4, 0, 0, 0, segment), port),
        3 => (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), if n == 0 { 0 } else { port }),
        4 => (Ipv6Addr::new(0x2600, 1, segment, 0, 0, 0, 0, 1), n % 3),
        _ => (Ipv6Addr::new(0x2600 + u16::from(kind), segment, 0, 0, 0, 0, 0, 1), port),
    };
    let (v4, v6) = (SocketAddrV4::new(v4.0, v4.1), SocketAddrV6::new(v6.0, v6.1, 0, 0));
    let both = [SocketAddr::V4(v4), SocketAddr::V6(v6)];
    let Some(addr) = both.into_iter().find_map(A::from_socket_addr) else {
        unreachable!("one of the two is of this family")
    };
    addr
}
