use core::cell::{Cell, RefCell};
use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicUsize, Ordering};
use std::rc::Rc;
use std::sync::Arc;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};
use dht_proto::health::Problem;
use dht_proto::id::InfoHash;
use dht_proto::request::{AnnouncePort, Ended, Lookup, Outcome, StartError};
use dht_proto::seed::Seed;

use super::*;
use crate::command::{Commands, MAX_COMMANDS, Ticket, commands};
use crate::io::{Outgoing, Sent};

type Datagram = (SocketAddr, Vec<u8>);

/// A socket and a clock without a system.
#[derive(Clone, Default)]
struct FakeIo {
    now: Rc<Cell<Instant>>,
    inbox: Rc<RefCell<VecDeque<Datagram>>>,
    sent: Rc<RefCell<Vec<Datagram>>>,
    /// What every send call returns, if anything stands in the way.
    send_fault: Rc<Cell<Option<Fault>>>,
    /// What stands in the way of IPv4 alone.
    v4_fault: Rc<Cell<Option<Fault>>>,
    /// What the next receive calls return.
    recv_faults: Rc<RefCell<VecDeque<Fault>>>,
    recv_calls: Rc<Cell<usize>>,
    /// Which of its addresses everything is sent to.
    local: Rc<Cell<Option<IpAddr>>>,
    /// Where what it sends shall come from.
    sent_from: Rc<RefCell<Vec<Option<IpAddr>>>>,
}

impl Io for FakeIo {
    fn now(&mut self) -> Instant {
        self.now.get()
    }

    fn recv_batch(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        self.recv_calls.set(self.recv_calls.get() + 1);
        if let Some(fault) = self.recv_faults.borrow_mut().pop_front() {
            return Err(fault);
        }
        let mut inbox = self.inbox.borrow_mut();
        let count = inbox.len().min(RECV_BATCH);
        for (i, (from, bytes)) in inbox.drain(..count).enumerate() {
            let len = bytes.len().min(RECV_LEN);
            buffers[i][..len].copy_from_slice(&bytes[..len]);
            incoming[i] = Incoming { from, local: self.local.get(), len };
        }
        if count == 0 { Err(Fault::WouldBlock) } else { Ok(count) }
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], transmits: &[Outgoing]) -> Sent {
        let v4 = transmits.iter().any(|transmit| transmit.to.is_ipv4());
        let v6 = transmits.iter().any(|transmit| transmit.to.is_ipv6());
        assert!(v4 != v6, "a batch goes to one family");
        if let Some(fault) = self.send_fault.get().or_else(|| self.v4_fault.get().filter(|_| v4)) {
            return Sent { taken: 0, fault: Some(fault) };
        }
        let bytes = transmits.iter().zip(buffers).map(|(t, b)| (t.to, b[..t.len].to_vec()));
        self.sent.borrow_mut().extend(bytes);
        self.sent_from.borrow_mut().extend(transmits.iter().map(|t| t.local));
        Sent { taken: transmits.len(), fault: None }
    }
}

/// What a subscriber heard.
#[derive(Default)]
struct Heard {
    events: usize,
    ends: Vec<Result<Box<Outcome>, StartError>>,
    dropped: bool,
}

struct Listener {
    heard: Rc<RefCell<Heard>>,
    answer: Delivery,
}

impl Subscriber for Listener {
    fn deliver(&mut self, _: Event) -> Delivery {
        self.heard.borrow_mut().events += 1;
        self.answer
    }

    fn finish(self, end: Result<Box<Outcome>, StartError>) {
        self.heard.borrow_mut().ends.push(end);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.heard.borrow_mut().dropped = true;
    }
}

struct Node {
    driver: Driver<FakeIo, Listener>,
    commands: Commands<Listener>,
    io: FakeIo,
    addr: SocketAddr,
    tickets: u64,
}

impl Node {
    fn new(index: u8, config: Config) -> Self {
        Self::on(Networks::V4, index, config)
    }

    fn on(networks: Networks, index: u8, config: Config) -> Self {
        let io = FakeIo::default();
        io.now.set(Instant::from_secs(1));
        let seed = Seed::from_bytes([index; 32]);
        let dht = Dht::new(Arc::new(config), networks, &seed, io.now.get());
        let (commands, queue) = commands();
        let driver = Driver::new(dht, io.clone(), queue);
        let addr = SocketAddr::from(([127, 0, 0, index], 6881));
        Self { driver, commands, io, addr, tickets: 0 }
    }

    fn server(index: u8) -> Self {
        let mut config = Config::default();
        config.mode = Mode::Server;
        Self::new(index, config)
    }

    fn knowing(index: u8, bootstrap: &[SocketAddr]) -> Self {
        let mut config = Config::default();
        config.mode = Mode::Server;
        config.bootstrap = bootstrap.to_vec();
        Self::new(index, config)
    }

    fn start(&mut self, lookup: Lookup, answer: Delivery) -> (Ticket, Rc<RefCell<Heard>>) {
        let heard = Rc::default();
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let subscriber = Listener { heard: Rc::clone(&heard), answer };
        self.commands.send(Command::Start { ticket, lookup, subscriber }).unwrap();
        (ticket, heard)
    }

    /// `count` pings from as many addresses, so that no budget per source applies.
    fn flood(&self, count: u16) {
        let mut inbox = self.io.inbox.borrow_mut();
        for n in 0..count {
            let [high, low] = n.to_be_bytes();
            let mut ping = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaa..e1:q4:ping1:t2:aa1:y1:qe".to_vec();
            let id = ping.windows(2).position(|pair| pair == b"..").unwrap();
            (ping[id], ping[id + 1]) = (high, low);
            inbox.push_back((SocketAddr::from(([198, 18 + high, low, 1], 6881)), ping));
        }
    }

    fn advance(&self, by: Duration) {
        self.io.now.set(self.io.now.get() + by);
    }

    fn wait(&mut self) -> Wait {
        let wait = self.driver.pass();
        self.driver.check_invariants();
        self.driver.dht().check_invariants();
        wait
    }

    fn pass(&mut self) {
        let Wait { .. } = self.wait();
    }
}

/// Moves datagrams between nodes until none is left, then time to the next deadline, `rounds` times.
fn run(nodes: &mut [&mut Node], rounds: usize) {
    for _ in 0..rounds {
        let mut next = Instant::FAR_FUTURE;
        for node in &mut *nodes {
            node.driver.set_readable();
            let wait = node.wait();
            next = next.min(wait.deadline.unwrap_or(Instant::FAR_FUTURE));
        }
        let mut moved = false;
        for i in 0..nodes.len() {
            let from = nodes[i].addr;
            let sent = core::mem::take(&mut *nodes[i].io.sent.borrow_mut());
            for (to, bytes) in sent {
                if let Some(node) = nodes.iter().find(|node| node.addr == to) {
                    node.io.inbox.borrow_mut().push_back((from, bytes));
                    moved = true;
                }
            }
        }
        if !moved {
            for node in &mut *nodes {
                node.io.now.set(next.max(node.io.now.get() + Duration::from_millis(1)));
            }
        }
    }
}

fn find(byte: u8) -> Lookup {
    Lookup::GetPeers { info_hash: hash(byte), scrape: false, noseed: false }
}

fn hash(byte: u8) -> InfoHash {
    InfoHash::from_bytes([byte; 20])
}

#[test]
fn a_pass_takes_one_batch_and_says_that_there_may_be_more() {
    let mut node = Node::server(1);
    node.flood(RECV_BATCH as u16 + 5);
    let wait = node.wait();
    assert_eq!(node.io.inbox.borrow().len(), 5);
    assert_eq!(wait.deadline, Some(node.io.now.get()));
    let is_reply = |(_, bytes): &&Datagram| bytes.ends_with(b"1:y1:re");
    assert_eq!(node.io.sent.borrow().iter().filter(is_reply).count(), RECV_BATCH);
    node.pass();
    assert!(node.wait().readable);
    assert_eq!(node.driver.stats().received, RECV_BATCH as u64 + 5);
}

#[test]
fn an_empty_socket_is_not_read_again_until_it_is_readable() {
    let mut node = Node::server(1);
    node.pass();
    assert_eq!(node.io.recv_calls.get(), 1);
    node.pass();
    assert_eq!(node.io.recv_calls.get(), 1);
    node.driver.set_readable();
    node.pass();
    assert_eq!(node.io.recv_calls.get(), 2);
}

#[test]
fn commands_are_carried_out_during_a_flood() {
    let mut node = Node::server(1);
    node.flood(1_000);
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..=COMMAND_BUDGET {
        let done = Arc::clone(&done);
        let look = Box::new(move |view: View<'_>| {
            assert_eq!(view.now, Instant::from_secs(1));
            done.fetch_add(1, Ordering::Relaxed);
        });
        node.commands.send(Command::Inspect(look)).unwrap();
    }
    node.pass();
    assert_eq!(done.load(Ordering::Relaxed), COMMAND_BUDGET);
    node.pass();
    assert_eq!(done.load(Ordering::Relaxed), COMMAND_BUDGET + 1);
}

#[test]
fn commands_over_the_budget_are_not_slept_on() {
    let mut node = Node::server(1);
    for n in 0..=COMMAND_BUDGET as u64 {
        node.commands.send(Command::Cancel(Ticket(n))).unwrap();
    }
    assert_eq!(node.wait().deadline, Some(node.io.now.get()));
}

#[test]
fn with_the_socket_full_replies_are_dropped_but_datagrams_still_count() {
    let mut node = Node::server(1);
    node.io.send_fault.set(Some(Fault::WouldBlock));
    node.flood(500);
    for _ in 0..20 {
        let wait = node.wait();
        assert!(wait.writable_v4 && !wait.writable_v6);
    }
    assert_eq!(node.driver.dht().stats().datagrams_in, 500);
    assert!(node.driver.stats().replies_dropped >= 300, "{:?}", node.driver.stats());
    assert!(node.io.sent.borrow().is_empty());
    // What was in line goes out once there is room.
    node.io.send_fault.set(None);
    node.driver.set_writable(Family::V4);
    node.pass();
    assert!(!node.io.sent.borrow().is_empty());
}

#[test]
fn a_full_socket_does_not_make_the_loop_spin_and_no_query_is_built_for_it() {
    let mut node = Node::knowing(1, &[SocketAddr::from(([198, 18, 0, 1], 1))]);
    node.io.send_fault.set(Some(Fault::WouldBlock));
    for n in 0..50 {
        node.start(find(n), Delivery::Accepted);
    }
    node.pass();
    let built = node.driver.dht().stats().queries_out;
    let (mut passes, end) = (0, node.io.now.get() + Duration::from_secs(5));
    while node.io.now.get() < end {
        let wait = node.wait();
        let now = node.io.now.get();
        let deadline = wait.deadline.unwrap();
        // The first pass after a retry may have work left; standing still twice is spinning.
        passes += 1;
        assert!(passes < 1_000, "the loop spins");
        node.io.now.set(deadline.max(now));
    }
    assert!(node.driver.dht().stats().queries_out <= built + SEND_BUDGET as u64 * 3);
    assert!(node.io.sent.borrow().is_empty());
}

/// The socket of one network is full: the other one asks and answers as if nothing were.
#[test]
fn a_full_socket_of_one_family_does_not_stop_the_other() {
    let mut config = Config::default();
    config.mode = Mode::Server;
    let (v4, v6) = ("198.18.0.1:1".parse().unwrap(), "[2600::1]:1".parse().unwrap());
    config.bootstrap = vec![v4, v6];
    let mut node = Node::on(Networks::Both, 1, config);
    node.io.v4_fault.set(Some(Fault::WouldBlock));
    for n in 0..20 {
        node.start(find(n), Delivery::Accepted);
    }
    node.flood(2 * SEND_BUDGET as u16);
    let mut ping = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe".to_vec();
    let stranger: SocketAddr = "[2600:1::1]:7".parse().unwrap();
    for n in 0..20 {
        ping[15] = b'a' + n;
        node.io.inbox.borrow_mut().push_back((stranger, ping.clone()));
    }
    let (mut passes, end) = (0, node.io.now.get() + Duration::from_secs(2));
    while node.io.now.get() < end {
        let wait = node.wait();
        assert!(wait.writable_v4 && !wait.writable_v6);
        let now = node.io.now.get();
        node.io.now.set(wait.deadline.unwrap().max(now));
        passes += 1;
        assert!(passes < 1_000, "the loop spins");
    }
    let sent = node.io.sent.borrow();
    assert!(sent.iter().all(|(to, _)| to.is_ipv6()));
    let is_reply = |(to, bytes): &&Datagram| *to == stranger && bytes.ends_with(b"1:y1:re");
    assert_eq!(sent.iter().filter(is_reply).count(), 20, "replies leave");
    let asked = sent.iter().filter(|(to, _)| *to == v6).count();
    assert!(asked >= 20, "every lookup asks: {asked}");
    drop(sent);
    node.io.v4_fault.set(None);
    node.driver.set_writable(Family::V4);
    node.pass();
    assert!(node.io.sent.borrow().iter().any(|(to, _)| *to == v4));
}

#[test]
fn truncated_datagrams_are_counted_and_dropped() {
    let mut node = Node::server(1);
    node.flood(1);
    let (from, ping) = node.io.inbox.borrow_mut().pop_front().unwrap();
    let mut long = ping.clone();
    long.resize(RECV_LEN, b'x');
    node.io.inbox.borrow_mut().extend([(from, long), (from, ping)]);
    node.pass();
    assert_eq!(node.driver.stats().truncated, 1);
    assert_eq!(node.driver.dht().stats().datagrams_in, 1);
}

#[test]
fn a_reply_comes_from_the_address_that_was_asked() {
    let mut node = Node::server(1);
    let asked = IpAddr::from([127, 0, 0, 2]);
    node.io.local.set(Some(asked));
    node.flood(2);
    node.pass();
    let sent_from = node.io.sent_from.borrow();
    let (replies, queries) = sent_from.split_at(2);
    assert_eq!(replies, [Some(asked); 2]);
    // Where a query of ours comes from is the system's choice.
    assert!(!queries.is_empty() && queries.iter().all(Option::is_none), "{queries:?}");
}

#[test]
fn many_icmp_messages_are_taken_in_one_pass_but_not_endlessly_many() {
    let mut node = Node::server(1);
    node.flood(1);
    node.io.recv_faults.borrow_mut().extend([Fault::Refused(None); RECV_BATCH + 3]);
    node.pass();
    assert_eq!(node.driver.stats().refused, RECV_BATCH as u64);
    assert_eq!(node.driver.stats().received, 0);
    node.pass();
    assert_eq!(node.driver.stats().received, 1);
}

#[test]
fn a_failing_receive_call_is_tried_again_after_a_pause() {
    let mut node = Node::server(1);
    node.flood(1);
    node.io.recv_faults.borrow_mut().push_back(Fault::Other(std::io::ErrorKind::Other));
    let wait = node.wait();
    assert_eq!(node.driver.stats().recv_errors, 1);
    assert!(wait.deadline.is_some_and(|due| due <= node.io.now.get() + RECV_PAUSE));
    node.pass();
    assert_eq!(node.io.recv_calls.get(), 1);
    node.advance(RECV_PAUSE);
    node.pass();
    assert_eq!(node.driver.stats().received, 1);
}

#[test]
fn an_interrupted_receive_call_is_tried_again_at_once() {
    let mut node = Node::server(1);
    node.flood(1);
    node.io.recv_faults.borrow_mut().push_back(Fault::Interrupted);
    assert_eq!(node.wait().deadline, Some(node.io.now.get()));
    node.pass();
    assert_eq!(node.driver.stats().received, 1);
}

#[test]
fn an_icmp_message_ends_the_query_to_that_address_and_an_anonymous_one_ends_none() {
    let nobody = SocketAddr::from(([127, 0, 0, 9], 9));
    let mut node = Node::server(1);
    let (_, heard) = node.start(Lookup::Ping { addr: nobody }, Delivery::Accepted);
    node.pass();
    assert_eq!(node.io.sent.borrow().len(), 1);
    node.io.recv_faults.borrow_mut().push_back(Fault::Refused(None));
    node.driver.set_readable();
    node.pass();
    assert_eq!(node.driver.dht().stats().unreachable, 0);
    node.io.recv_faults.borrow_mut().push_back(Fault::Refused(Some(nobody)));
    node.driver.set_readable();
    node.pass();
    assert_eq!(node.driver.dht().stats().unreachable, 1);
    node.pass();
    assert_eq!(heard.borrow().ends.len(), 1, "long before the query would time out");
}

#[test]
fn an_address_that_the_system_cannot_reach_ends_the_query_to_it() {
    let mut node = Node::server(1);
    node.io.send_fault.set(Some(Fault::Unreachable));
    let lookup = Lookup::Ping { addr: SocketAddr::from(([127, 0, 0, 9], 9)) };
    let (_, heard) = node.start(lookup, Delivery::Accepted);
    node.pass();
    node.pass();
    assert_eq!(node.driver.stats().unreachable, 1);
    let heard = heard.borrow();
    assert!(heard.ends[0].as_ref().is_ok_and(|outcome| outcome.ended == Ended::NoAnswer));
}

#[test]
fn a_machine_that_slept_is_noticed() {
    let mut node = Node::server(1);
    node.start(Lookup::Ping { addr: SocketAddr::from(([127, 0, 0, 9], 9)) }, Delivery::Accepted);
    node.pass();
    node.advance(Duration::from_secs(3_600));
    node.pass();
    assert_eq!(node.driver.stats().clock_jumps, 1);
}

#[test]
fn an_idle_node_sleeps() {
    let mut b = Node::server(2);
    let mut a = Node::knowing(1, &[b.addr]);
    run(&mut [&mut a, &mut b], 100);
    let end = a.io.now.get() + Duration::from_secs(600);
    let mut passes = 0;
    while a.io.now.get() < end {
        let now = a.io.now.get();
        // A deadline in the past asks for another pass at once, which must get somewhere.
        let deadline = a.wait().deadline;
        a.io.now.set(deadline.map_or(end, |due| due.max(now)));
        passes += 1;
        assert!(passes < 1_000, "the loop spins");
    }
}

#[test]
fn a_lookup_ends_exactly_once() {
    let mut b = Node::server(2);
    let mut a = Node::knowing(1, &[b.addr]);
    let (_, heard) = a.start(Lookup::Ping { addr: b.addr }, Delivery::Accepted);
    run(&mut [&mut a, &mut b], 50);
    let heard = heard.borrow();
    assert_eq!(heard.ends.len(), 1);
    let outcome = heard.ends[0].as_ref().unwrap();
    assert_eq!(outcome.closest[0].addr, b.addr);
}

#[test]
fn a_lookup_waits_for_the_first_bootstrap_name_to_have_an_address() {
    let mut b = Node::server(2);
    let mut a = Node::server(1);
    a.commands.send(Command::Names(Names::Pending)).unwrap();
    let (_, heard) = a.start(find(7), Delivery::Accepted);
    // Whoever names an address has somebody to ask.
    let (_, pinged) = a.start(Lookup::Ping { addr: b.addr }, Delivery::Accepted);
    let (ticket, cancelled) = a.start(find(8), Delivery::Accepted);
    a.commands.send(Command::Cancel(ticket)).unwrap();
    a.pass();
    assert!(heard.borrow().ends.is_empty() && !heard.borrow().dropped);
    assert!(cancelled.borrow().ends.is_empty() && cancelled.borrow().dropped);
    assert!(a.driver.dht().stats().lookups == 1, "the ping alone has started");
    let mut c = Node::server(3);
    a.commands.send(Command::AddBootstrap(vec![c.addr])).unwrap();
    run(&mut [&mut a, &mut b, &mut c], 100);
    assert!(pinged.borrow().ends[0].is_ok());
    let heard = heard.borrow();
    assert_eq!(heard.ends[0].as_ref().unwrap().ended, Ended::Completed);
}

#[test]
fn a_lookup_does_not_wait_for_names_that_have_no_address() {
    let mut node = Node::server(1);
    node.commands.send(Command::Names(Names::Pending)).unwrap();
    let (_, heard) = node.start(find(7), Delivery::Accepted);
    node.pass();
    node.commands.send(Command::Names(Names::Failed)).unwrap();
    node.pass();
    assert_eq!(heard.borrow().ends[0].as_ref().unwrap().ended, Ended::NoContacts);
    let health = node.driver.dht().health(node.io.now.get());
    assert_eq!(health.v4.unwrap().problem, Some(Problem::Unresolved));
}

#[test]
fn a_lookup_does_not_wait_for_names_if_somebody_is_known() {
    let b = Node::server(2);
    let mut a = Node::server(1);
    a.commands.send(Command::Names(Names::Pending)).unwrap();
    let (_, waits) = a.start(find(7), Delivery::Accepted);
    a.pass();
    assert_eq!(a.driver.dht().stats().lookups, 0);
    a.commands.send(Command::AddContact { addr: b.addr, id: None }).unwrap();
    a.pass();
    assert_eq!(a.driver.dht().stats().lookups, 1);
    assert!(waits.borrow().ends.is_empty());
}

#[test]
fn lookups_that_wait_are_bounded_and_end_with_the_loop() {
    let mut node = Node::server(1);
    node.commands.send(Command::Names(Names::Pending)).unwrap();
    let mut all = Vec::new();
    for _ in 0..MAX_COMMANDS + 5 {
        all.push(node.start(find(7), Delivery::Accepted).1);
        node.pass();
    }
    let refused = all.iter().filter(|heard| {
        heard.borrow().ends.first().is_some_and(|end| *end == Err(StartError::AtCapacity))
    });
    assert_eq!(refused.count(), 5);
    node.commands.send(Command::Shutdown).unwrap();
    node.pass();
    assert!(all.iter().all(|heard| heard.borrow().dropped));
}

#[test]
fn a_lookup_that_cannot_start_is_told_why() {
    let mut node = Node::server(1);
    let lookup = Lookup::Ping { addr: SocketAddr::from(([127, 0, 0, 9], 0)) };
    let (_, heard) = node.start(lookup, Delivery::Accepted);
    node.pass();
    assert_eq!(heard.borrow().ends, [Err(StartError::BadPort)]);
}

#[test]
fn a_cancelled_lookup_is_never_heard_of_again() {
    let mut b = Node::server(2);
    let mut a = Node::knowing(1, &[b.addr]);
    let (ticket, heard) = a.start(find(7), Delivery::Accepted);
    a.commands.send(Command::Cancel(ticket)).unwrap();
    a.commands.send(Command::Cancel(ticket)).unwrap();
    run(&mut [&mut a, &mut b], 50);
    let heard = heard.borrow();
    assert!(heard.dropped && heard.ends.is_empty() && heard.events == 0);
}

/// A node that knows where peers of `hash(7)` are announced, and where they are.
fn with_peers() -> (Node, Node) {
    let mut b = Node::server(2);
    let mut a = Node::knowing(1, &[b.addr]);
    let announce =
        Lookup::Announce { info_hash: hash(7), port: AnnouncePort::Explicit(99), seed: false };
    let (_, heard) = a.start(announce, Delivery::Accepted);
    run(&mut [&mut a, &mut b], 100);
    assert_eq!(heard.borrow().ends[0].as_ref().unwrap().stored, 1);
    (a, b)
}

#[test]
fn a_slow_consumer_loses_values_but_not_the_end() {
    let (mut a, mut b) = with_peers();
    let (_, heard) = a.start(find(7), Delivery::Full);
    run(&mut [&mut a, &mut b], 100);
    let heard = heard.borrow();
    assert_eq!((heard.events, heard.ends.len()), (1, 1));
    assert_eq!(a.driver.stats().values_dropped, 1);
}

#[test]
fn a_lookup_that_nobody_listens_to_is_cancelled() {
    let (mut a, mut b) = with_peers();
    let (_, heard) = a.start(find(7), Delivery::Gone);
    run(&mut [&mut a, &mut b], 100);
    let heard = heard.borrow();
    assert!(heard.dropped && heard.ends.is_empty());
    assert_eq!(heard.events, 1);
}

#[test]
fn shutdown_drops_the_subscribers_and_stops_the_traffic() {
    let mut node = Node::knowing(1, &[SocketAddr::from(([198, 18, 0, 1], 1))]);
    let (_, heard) = node.start(find(7), Delivery::Accepted);
    node.pass();
    node.io.sent.borrow_mut().clear();
    node.commands.send(Command::Shutdown).unwrap();
    node.flood(3);
    node.driver.set_readable();
    node.pass();
    assert!(node.driver.is_shut_down());
    assert!(heard.borrow().dropped && heard.borrow().ends.is_empty());
    assert!(node.io.sent.borrow().is_empty());
}

#[test]
fn losing_every_sender_of_commands_shuts_down() {
    let mut node = Node::server(1);
    let (closed, _) = commands();
    drop(core::mem::replace(&mut node.commands, closed));
    node.pass();
    assert!(node.driver.is_shut_down());
}

#[test]
fn a_lookup_that_is_finished_tells_what_it_has_come_to() {
    let mut b = Node::server(2);
    // Nobody is at the other address, so that the announce has to wait.
    let mut a = Node::knowing(1, &[b.addr, SocketAddr::from(([198, 18, 0, 9], 1))]);
    let announce =
        Lookup::Announce { info_hash: hash(7), port: AnnouncePort::Explicit(99), seed: false };
    let (ticket, heard) = a.start(announce, Delivery::Accepted);
    a.pass();
    assert!(heard.borrow().ends.is_empty());
    a.commands.send(Command::Finish(ticket)).unwrap();
    a.commands.send(Command::Finish(ticket)).unwrap();
    run(&mut [&mut a, &mut b], 20);
    let ended = heard.borrow().ends[0].as_ref().unwrap().clone();
    assert_eq!((ended.ended, heard.borrow().ends.len()), (Ended::TimedOut, 1));
    assert!(ended.queries > 0, "{ended:?}");
    assert_eq!(a.driver.dht().stats().lookups, 1);
    // One that has not started, as the names of bootstrap hosts are being resolved.
    let mut c = Node::server(3);
    c.commands.send(Command::Names(Names::Pending)).unwrap();
    let (ticket, heard) = c.start(find(8), Delivery::Accepted);
    c.pass();
    c.commands.send(Command::Finish(ticket)).unwrap();
    c.pass();
    assert_eq!(heard.borrow().ends[0].as_ref().unwrap().ended, Ended::TimedOut);
}
