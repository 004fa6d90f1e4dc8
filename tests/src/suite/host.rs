//! The suite through the driver in virtual time, among faults of the system.
//!
//! Our nodes are outside the simulated world, as behind a gateway, but nothing of this is real: a
//! [`Driver`] on a [`SimIo`] makes its passes when a socket, a timer or a user gives it reason to,
//! and everything follows from the seed.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dht_driver::{
    Command, Commands, Driver, IoStats, Next, Receiver, Sender, Ticket, channel, commands,
};
use dht_proto::addr::Family;
use dht_proto::health::Health;
use dht_proto::id::NodeId;
use dht_proto::request::Lookup;
use dht_proto::snapshot::Snapshot;
use dht_proto::stats::Stats;
use dht_proto::time::Instant;
use dht_proto::{Dht, Networks};
use dht_sim::{About, Choices, World};

use super::io::{Faults, FaultyIo, Injected, Port, SimIo};
use super::{Found, Places, Recipe, Setting, Subject, Terrain};

/// Virtual time after which a lookup counts as one that never ends.
const PATIENCE: Duration = Duration::from_secs(600);
/// Passes at one time after which a loop is taken to spin.
const MAX_PASSES: u32 = 10_000;
/// Virtual time in which everything is back to normal once the faults are over.
const RECOVERY: Duration = Duration::from_secs(180);

/// A simulated world, and loops beside it.
#[derive(Clone, Debug)]
pub struct Hosted {
    harbour: Rc<RefCell<Harbour>>,
    places: Places,
}

/// A node run by one of the loops.
#[derive(Debug)]
pub struct Guest {
    harbour: Rc<RefCell<Harbour>>,
    berth: usize,
    number: u8,
}

/// A lookup of such a node.
#[derive(Debug)]
pub struct GuestLookup {
    ticket: Ticket,
    receiver: Receiver,
}

#[derive(Debug)]
struct Harbour {
    world: World,
    berths: Vec<Berth>,
    faults: Faults,
    tickets: u64,
}

/// One loop, and what it waits for.
#[derive(Debug)]
struct Berth {
    addr: SocketAddr,
    port: Rc<RefCell<Port>>,
    driver: Driver<FaultyIo<SimIo>, Sender>,
    commands: Commands<Sender>,
    wake: Option<Instant>,
    /// When the system reports datagrams, and room, that a failed call did not find.
    readable: Option<Instant>,
    writable: Option<Instant>,
    /// Datagrams that reached the socket.
    arrived: u64,
    /// Passes at the present time.
    passes: (Instant, u32),
}

impl Hosted {
    /// Builds the network; the loops beside it suffer from `faults`.
    #[must_use]
    pub fn with_faults(terrain: &Terrain, faults: Faults) -> Self {
        let (world, places) = terrain.build_inside();
        let harbour = Harbour { world, berths: Vec::new(), faults, tickets: 0 };
        Self { harbour: Rc::new(RefCell::new(harbour)), places }
    }

    /// Ends all faults, gives everybody time to recover, and checks that nothing was lost on its
    /// way through the loops but what they counted.
    ///
    /// # Panics
    /// If something was.
    pub fn heal(&self) {
        let mut harbour = self.harbour.borrow_mut();
        harbour.faults = Faults::NONE;
        for berth in &mut harbour.berths {
            berth.driver.io_mut().faults = Faults::NONE;
        }
        let end = harbour.world.now() + RECOVERY;
        while harbour.step(end) {}
        harbour.berths.iter_mut().for_each(Berth::check_balance);
    }

    /// The hash over all that happened, and how many faults there were.
    #[must_use]
    pub fn trace(&self) -> (u64, Injected) {
        let mut harbour = self.harbour.borrow_mut();
        let mut all = Injected::default();
        for berth in &mut harbour.berths {
            let some = berth.driver.io_mut().injected;
            all.send += some.send;
            all.recv += some.recv;
            all.cut += some.cut;
            all.leaps += some.leaps;
        }
        (harbour.world.trace().hash(), all)
    }

    fn guest(&self, berth: usize, number: u8) -> Guest {
        Guest { harbour: Rc::clone(&self.harbour), berth, number }
    }
}

impl Setting for Hosted {
    type Subject = Guest;

    fn open(terrain: &Terrain) -> Self {
        Self::with_faults(terrain, Faults::OFTEN)
    }

    fn places(&self) -> &Places {
        &self.places
    }

    fn start(&self, recipe: &Recipe) -> Guest {
        let mut harbour = self.harbour.borrow_mut();
        let berth = harbour.moor(recipe, None);
        harbour.berths.push(berth);
        let last = harbour.berths.len() - 1;
        harbour.pass(last);
        self.guest(last, recipe.number)
    }

    fn restart(&self, subject: Guest) -> Guest {
        let mut harbour = self.harbour.borrow_mut();
        let snapshot = harbour.berths[subject.berth].driver.dht().snapshot();
        let recipe = Recipe { number: subject.number, bootstrap: Vec::new() };
        harbour.berths[subject.berth] = harbour.moor(&recipe, Some(&snapshot));
        harbour.pass(subject.berth);
        drop(harbour);
        subject
    }

    fn close(self) {
        let (_, injected) = self.trace();
        assert!(injected.send > 0 && injected.recv > 0, "no faults at all: {injected:?}");
        self.heal();
    }
}

impl Harbour {
    fn moor(&mut self, recipe: &Recipe, snapshot: Option<&Snapshot>) -> Berth {
        let now = self.world.now();
        self.tickets += 1;
        let life = u64::from(recipe.number) << 32 | self.tickets;
        let seed = self.world.choices().node_seed(life);
        let config = Arc::new(recipe.config());
        let dht = match snapshot {
            Some(snapshot) => Dht::restore(config, Networks::V4, &seed, now, snapshot),
            None => Dht::new(config, Networks::V4, &seed, now),
        };
        let port = Rc::new(RefCell::new(Port { now, ..Port::default() }));
        let choices = Choices::seeded(self.world.choices().seed() ^ life.rotate_left(24));
        let io = FaultyIo::new(SimIo(Rc::clone(&port)), choices, self.faults);
        let (commands, queue) = commands();
        Berth {
            addr: Terrain::client_addr(recipe.number),
            port,
            driver: Driver::new(dht, io, queue),
            commands,
            wake: Some(now),
            readable: None,
            writable: None,
            arrived: 0,
            passes: (now, 0),
        }
    }

    /// Lets one thing happen: in the world, or a pass of a loop. `false` if nothing does before
    /// `end`.
    fn step(&mut self, end: Instant) -> bool {
        let due = self.berths.iter().enumerate();
        let due = due.filter_map(|(i, berth)| Some((berth.due()?, i))).min();
        let next = self.world.next_at();
        if let Some((at, berth)) = due.filter(|(at, _)| next.is_none_or(|next| *at < next)) {
            if at > end {
                return false;
            }
            self.world.run_until(at);
            self.pass(berth);
            return true;
        }
        let happened = self.world.step(end);
        assert!(self.world.violation().is_none(), "{:?}", self.world.violation());
        let now = self.world.now();
        while let Some(datagram) = self.world.take_outside() {
            let to = |berth: &&mut Berth| berth.addr == datagram.to;
            let Some(berth) = self.berths.iter_mut().find(to) else { continue };
            berth.arrived += 1;
            berth.port.borrow_mut().inbox.push_back((datagram.from, datagram.bytes));
            berth.readable = Some(now);
        }
        happened
    }

    /// One pass of a loop, at the present time.
    fn pass(&mut self, berth: usize) {
        let now = self.world.now();
        let berth = &mut self.berths[berth];
        berth.pass(now, self.world.choices());
        for (to, bytes) in berth.port.borrow_mut().outbox.drain(..) {
            self.world.post(berth.addr, to, &bytes);
        }
    }
}

impl Berth {
    fn due(&self) -> Option<Instant> {
        [self.wake, self.readable, self.writable].into_iter().flatten().min()
    }

    fn pass(&mut self, now: Instant, choices: &mut Choices) {
        self.passes = if self.passes.0 == now { (now, self.passes.1 + 1) } else { (now, 0) };
        assert!(self.passes.1 < MAX_PASSES, "the loop spins: {:?}", self.driver.stats());
        self.port.borrow_mut().now = now;
        if self.readable.take_if(|at| *at <= now).is_some() {
            self.driver.set_readable();
        }
        if self.writable.take_if(|at| *at <= now).is_some() {
            self.driver.set_writable(Family::V4);
        }
        let wait = self.driver.pass();
        self.driver.check_invariants();
        self.driver.dht().check_invariants();
        let mut later = |most: u32| {
            now + Duration::from_micros(u64::from(choices.between(About::Fault, 1, most)))
        };
        if wait.readable && !self.port.borrow().inbox.is_empty() {
            self.readable.get_or_insert_with(|| later(1_000));
        }
        if wait.writable_v4 {
            self.writable.get_or_insert_with(|| later(100_000));
        }
        let io = self.driver.io_mut();
        self.wake = wait.deadline.map(|at| io.inner_time(at).max(now));
        if io.wakes_for_nothing() {
            let nothing = later(1_000_000);
            self.wake = Some(self.wake.map_or(nothing, |wake| wake.min(nothing)));
        }
    }

    /// What the node sent is what left, but for what was counted as lost; the same for what came.
    fn check_balance(&mut self) {
        let (node, io): (Stats, IoStats) = (self.driver.dht().stats(), self.driver.stats());
        let sent = node.queries_out + node.replies_out + node.errors_out;
        let lost = io.too_big + io.unreachable + io.send_errors + io.no_buffers_dropped;
        assert_eq!(sent, io.sent + lost + io.replies_dropped, "{io:?} {node:?}");
        let waiting = self.port.borrow().inbox.len() as u64;
        assert_eq!((waiting, self.arrived), (0, io.received), "{io:?}");
        assert_eq!(io.received, node.datagrams_in + io.truncated, "{io:?} {node:?}");
        assert_eq!(io.truncated, self.driver.io_mut().injected.cut, "what was cut is not read");
    }
}

impl Guest {
    fn send(&self, command: Command<Sender>) {
        let mut harbour = self.harbour.borrow_mut();
        assert!(harbour.berths[self.berth].commands.send(command).is_ok(), "room for a command");
        harbour.pass(self.berth);
    }

    fn dht<T>(&self, look: impl FnOnce(&Dht, Instant) -> T) -> T {
        let harbour = self.harbour.borrow();
        look(harbour.berths[self.berth].driver.dht(), harbour.world.now())
    }
}

impl Subject for Guest {
    type Running = GuestLookup;

    fn begin(&self, lookup: Lookup) -> GuestLookup {
        let ticket = {
            let mut harbour = self.harbour.borrow_mut();
            harbour.tickets += 1;
            Ticket(harbour.tickets)
        };
        let (subscriber, receiver) = channel();
        self.send(Command::Start { ticket, lookup, subscriber });
        GuestLookup { ticket, receiver }
    }

    fn finish(&self, mut running: GuestLookup) -> Found {
        let mut harbour = self.harbour.borrow_mut();
        let end = harbour.world.now() + PATIENCE;
        let mut cx = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        loop {
            match running.receiver.poll_next(&mut cx) {
                Poll::Ready(Next::Event(event)) => events.push(event),
                Poll::Ready(Next::Finished(outcome)) => {
                    let outcome = *outcome.expect("room for a lookup");
                    let after = running.receiver.poll_next(&mut cx);
                    assert!(matches!(after, Poll::Ready(Next::Stopped)), "an end is told once");
                    return Found { events, outcome };
                }
                Poll::Ready(Next::Stopped) => panic!("the lookup has no end"),
                Poll::Pending => assert!(harbour.step(end), "the lookup never ended"),
            }
        }
    }

    fn cancel(&self, running: GuestLookup) {
        self.send(Command::Cancel(running.ticket));
    }

    fn addr(&self) -> SocketAddr {
        Terrain::client_addr(self.number)
    }

    fn node_id(&self) -> NodeId {
        self.dht(|dht, _| dht.node_id(Family::V4)).expect("it speaks IPv4")
    }

    fn stats(&self) -> Stats {
        self.dht(|dht, _| dht.stats())
    }

    fn health(&self) -> Health {
        self.dht(Dht::health)
    }
}
