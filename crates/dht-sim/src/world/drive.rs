//! How one thing that happens is carried out.

use std::net::SocketAddr;
use std::time::Duration;

use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM};

use super::book::At;
use super::{Datagram, HostId, What, World};
use crate::check::{Checker, Happening, Violation};
use crate::choices::{About, Ratio};
use crate::host::{Body, Stage};
use crate::net::Delivery;
use crate::packets::{Head, PacketId};
use crate::trace::{Record, Verb, digest};

/// Rounds of work at one time after which a node is taken to spin.
const MAX_ROUNDS: usize = 10_000;

impl World {
    /// Sends a datagram to an address, where that host may be: what becomes of it is decided now, so
    /// that nothing else shifts it.
    pub(super) fn send(
        &mut self,
        sender: Option<HostId>,
        from: SocketAddr,
        (to, hint): (SocketAddr, Option<HostId>),
        bytes: &[u8],
    ) {
        self.traffic.sent += 1;
        let outside = match sender {
            Some(host) => self.net.outgoing(self.now, host, from, to),
            None => Some(from),
        };
        let Some(from) = outside else {
            self.lose(from, to, 0);
            return;
        };
        let sent = Record { at: self.now, verb: Verb::Sent, from, to, bytes };
        self.trace.add(&sent, digest(bytes));
        // No two events have the same number, so the trace knows the datagram by it from now on.
        let mark = self.trace.events();
        self.check(|| Happening::Carried { from, to, bytes });
        let at = self.still_at(to, hint).or_else(|| self.book.find(to));
        let (receiver, hint) = match at {
            Some(At::Host(host)) => (Some(host), Some(host)),
            Some(At::Guard(host)) => (Some(host), None),
            Some(At::Site(site)) => (self.net.member(site, to.port()), None),
            None => (None, None),
        };
        let [first, second] =
            self.net.carry(self.now, sender, receiver, bytes.len(), &mut self.choices);
        let Some(first) = first else {
            self.lose(from, to, mark);
            return;
        };
        let head = Head { from, to, sender, mark };
        self.set_out(head, hint, bytes, &first);
        if let Some(second) = second {
            self.set_out(head, hint, bytes, &second);
        }
    }

    #[inline]
    fn set_out(&mut self, head: Head, to: Option<HostId>, bytes: &[u8], delivery: &Delivery) {
        let packet = self.packets.insert(head, bytes, delivery.damage);
        let at = Instant::from_micros(self.now.as_micros() + delivery.micros);
        self.queue.push(at, What::Arrival(packet, to));
    }

    fn lose(&mut self, from: SocketAddr, to: SocketAddr, mark: u64) {
        self.traffic.lost += 1;
        let lost = Record { at: self.now, verb: Verb::Lost, from, to, bytes: &[] };
        self.trace.add(&lost, mark);
    }

    /// Whoever was at an address, if they still are: cheaper than to look it up again.
    #[inline]
    fn still_at(&self, to: SocketAddr, hint: Option<HostId>) -> Option<At> {
        let host = hint?;
        let entry = self.hosts.get(host)?;
        let stays = !entry.guarded && self.hosts.addr_like(host, &to) == Some(to);
        stays.then_some(At::Host(host))
    }

    /// A datagram reaches its destination.
    pub(super) fn arrive(&mut self, packet: PacketId, hint: Option<HostId>) {
        let Some((head, bytes)) = self.packets.take(packet) else { return };
        self.deliver(&head, hint, &bytes);
        self.packets.recycle(packet, bytes);
    }

    fn deliver(&mut self, head: &Head, hint: Option<HostId>, bytes: &[u8]) {
        let now = self.now;
        let Head { from, to, mark, .. } = *head;
        let Some(at) = self.still_at(to, hint).or_else(|| self.book.find(to)) else {
            if self.max_outside > self.outside.len() && !self.book.is_ours(to) {
                self.trace.add(&Record { at: now, verb: Verb::Arrived, from, to, bytes }, mark);
                self.outside.push_back(Datagram { from, to, bytes: bytes.to_vec() });
            } else {
                self.nobody_at(head);
            }
            return;
        };
        let Some((host, to)) = self.let_in(at, from, to) else {
            self.nobody_at(head);
            return;
        };
        let local = self.local_time(host);
        let Some(entry) = self.hosts.get_mut(host) else { return };
        let mut buf = self.buf.take().unwrap_or_else(|| Box::new([0; MAX_DATAGRAM]));
        let reply = match &mut entry.body {
            Body::Node(dht) if !entry.suspended => {
                dht.handle_datagram(local, from, bytes, &mut buf)
            }
            Body::Actor(_) if !entry.suspended => {
                self.trace.add(&Record { at: now, verb: Verb::Arrived, from, to, bytes }, mark);
                self.traffic.delivered += 1;
                self.buf = Some(buf);
                self.act(host, Some((from, to, bytes)));
                return;
            }
            Body::Node(_) | Body::Actor(_) | Body::Nobody => {
                self.buf = Some(buf);
                self.nobody_at(head);
                return;
            }
        };
        self.look_ahead_later();
        self.traffic.delivered += 1;
        self.trace.add(&Record { at: now, verb: Verb::Arrived, from, to, bytes }, mark);
        let reply = reply.map(|sent| (sent.to, buf.get(..sent.len).unwrap_or_default()));
        self.check_node(host, |dht| Happening::Handled { host, local, from, bytes, reply, dht });
        if let Some((to_peer, reply)) = reply {
            self.send(Some(host), to, (to_peer, head.sender), reply);
        }
        self.buf = Some(buf);
        if !self.waits(host, local) {
            self.drive(host);
        }
    }

    /// Whether a node that was just given its input has nothing to say, so that its timer is all that
    /// is to be set. While anybody watches it is asked for its output all the same, or nobody would
    /// notice one that keeps it back; so is one on two networks, which take turns with every asking.
    fn waits(&mut self, host: HostId, local: Instant) -> bool {
        if !self.checkers.is_empty() || self.shuffles_polls {
            return false;
        }
        let Some(entry) = self.hosts.get(host).filter(|entry| !entry.is_dual()) else {
            return false;
        };
        let Body::Node(dht) = &entry.body else { return false };
        let due = dht.poll_timeout();
        let waits = due.is_none_or(|due| due > local);
        if waits {
            self.arm(host, due);
        }
        waits
    }

    /// The host that a datagram is for and its own address, if whatever stands before it lets it in.
    #[inline]
    fn let_in(&mut self, at: At, from: SocketAddr, to: SocketAddr) -> Option<(HostId, SocketAddr)> {
        let host = match at {
            At::Host(host) => return Some((host, to)),
            At::Guard(host) => host,
            At::Site(site) => self.net.member(site, to.port())?,
        };
        Some((host, self.net.incoming(self.now, host, from, to)?))
    }

    fn nobody_at(&mut self, head: &Head) {
        self.traffic.nobody += 1;
        let (from, to) = (head.from, head.to);
        let lost = Record { at: self.now, verb: Verb::Lost, from, to, bytes: &[] };
        self.trace.add(&lost, head.mark);
    }

    /// A host's timer goes off, unless it was set anew since.
    pub(super) fn wake(&mut self, host: HostId, at: Instant) {
        let now = self.now;
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.armed != at || entry.suspended {
            self.traffic.stale += 1;
            return;
        }
        self.traffic.timers += 1;
        let later = at + Duration::from_micros(u64::from(entry.later));
        entry.disarm();
        if later > now {
            // Most deadlines have moved on meanwhile: what was waited for has come.
            entry.armed = later;
            self.queue.push(later, What::Timer(host));
            self.traffic.put_off += 1;
            return;
        }
        self.look_ahead_later();
        let Some(entry) = self.hosts.get(host) else { return };
        match &entry.body {
            Body::Node(_) => {
                if let Some(addr) = self.hosts.addrs(host).iter().next() {
                    let (at, verb) = (now, Verb::Woke);
                    self.trace.add(&Record { at, verb, from: addr, to: addr, bytes: &[] }, 0);
                }
                self.drive(host);
            }
            Body::Actor(_) => self.act(host, None),
            Body::Nobody => {}
        }
    }

    /// Lets a node do all that it can now, as `dht-driver` does after its input (what is due, queries,
    /// events), and sets its timer.
    pub(super) fn drive(&mut self, host: HostId) {
        if self.hosts.get(host).is_none_or(|entry| entry.suspended) {
            return;
        }
        let local = self.local_time(host);
        let is_watched = !self.checkers.is_empty();
        for _ in 0..MAX_ROUNDS {
            let Some(dht) = self.node_mut(host) else { return };
            dht.handle_due(local);
            let promised = if is_watched { dht.poll_timeout() } else { None };
            let yielded = self.drain(host, local);
            self.check(|| Happening::Polled { host, local, promised, yielded });
            let Some(dht) = self.node_mut(host) else { return };
            let due = dht.poll_timeout();
            if due.is_none_or(|due| due > local) {
                self.arm(host, due);
                self.check_node(host, |dht| Happening::Drained { host, local, due, dht });
                return;
            }
        }
        self.violate(
            crate::check::drain::NAME,
            Some(host),
            "a drained node always has more to do".to_owned(),
        );
    }

    /// Takes all queries and then all events of a node; whether there were any.
    fn drain(&mut self, host: HostId, local: Instant) -> bool {
        let mut yielded = false;
        if self.shuffles_polls {
            while self.take_either(host, local) {
                yielded = true;
            }
            return yielded;
        }
        while self.take_query(host, local) {
            yielded = true;
        }
        while self.take_event(host) {
            yielded = true;
        }
        yielded
    }

    /// Takes a query or an event, whichever chance asks for first.
    fn take_either(&mut self, host: HostId, local: Instant) -> bool {
        let is_query_first = self.choices.chance(About::Order, Ratio { num: 1, den: 2 });
        is_query_first && self.take_query(host, local)
            || self.take_event(host)
            || self.take_query(host, local)
    }

    /// Takes the next query of a node and sends it, if there is one.
    #[inline]
    fn take_query(&mut self, host: HostId, local: Instant) -> bool {
        let mut buf = self.take_buf();
        let sent = self.node_mut(host).and_then(|dht| dht.poll_transmit(local, &mut buf));
        if let Some(sent) = sent {
            let from = self.hosts.addr_like(host, &sent.to);
            let query = buf.get(..sent.len).unwrap_or_default();
            self.check(|| Happening::Asked { host, local, to: sent.to, bytes: query });
            if let Some(from) = from {
                self.send(Some(host), from, (sent.to, None), query);
            }
        }
        self.buf = Some(buf);
        sent.is_some()
    }

    /// Takes the next event of a node, if there is one.
    #[inline]
    fn take_event(&mut self, host: HostId) -> bool {
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        let Body::Node(dht) = &mut entry.body else { return false };
        let Some(event) = dht.poll_event() else { return false };
        entry.add_event();
        self.check(|| Happening::Told { host, event: &event });
        self.events.push_back((host, event));
        true
    }

    /// Sets a node's timer. The queue gets a new entry only if it is earlier than the one it has:
    /// an entry that comes too early sets the timer again.
    fn arm(&mut self, host: HostId, due: Option<Instant>) {
        let due = due.filter(|due| *due != Instant::FAR_FUTURE);
        let at = due.map(|due| self.hosts.clock(host).real(due).max(self.now));
        let Some(entry) = self.hosts.get_mut(host) else { return };
        match at {
            Some(at) if at >= entry.armed => {
                let later = at.as_micros() - entry.armed.as_micros();
                entry.later = u32::try_from(later).unwrap_or(u32::MAX);
            }
            Some(at) => self.arm_by(host, at),
            None => entry.later = 0,
        }
    }

    /// Has a host wake at this time, or sooner if that was asked for already.
    fn arm_by(&mut self, host: HostId, at: Instant) {
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if at < entry.armed {
            (entry.armed, entry.later) = (at, 0);
            self.queue.push(at, What::Timer(host));
        }
    }

    /// Lets an actor act, and sends what it sends.
    pub(super) fn act(&mut self, host: HostId, input: Option<(SocketAddr, SocketAddr, &[u8])>) {
        let addrs = self.hosts.addrs(host);
        let Some(entry) = self.hosts.get_mut(host) else { return };
        let Body::Actor(actor) = &mut entry.body else { return };
        let mut sent = core::mem::take(&mut self.acts);
        let mut stage = Stage {
            now: self.now,
            me: host,
            addrs,
            choices: &mut self.choices,
            sent: &mut sent,
            wake: Instant::FAR_FUTURE,
        };
        match input {
            Some((from, to, bytes)) => actor.on_datagram(&mut stage, from, to, bytes),
            None => actor.on_wake(&mut stage),
        }
        let wake = stage.wake.max(self.now);
        self.arm_by(host, wake);
        for (from, to, bytes) in sent.drain(..) {
            self.send(Some(host), from, (to, None), &bytes);
        }
        self.acts = sent;
    }

    pub(super) fn announce_birth(&mut self, host: HostId) {
        let local = self.local_time(host);
        self.check_node(host, |dht| Happening::Born { host, local, dht });
    }

    /// Shows the checkers what happened.
    #[inline]
    pub(super) fn check<'a>(&mut self, what: impl FnOnce() -> Happening<'a>) {
        if self.checkers.is_empty() || self.violation.is_some() {
            return;
        }
        let what = what();
        if let Some((invariant, how)) = ask(&mut self.checkers, self.now, &what) {
            self.violate(invariant, what.host(), how);
        }
    }

    /// The same for what shows the node itself.
    #[inline]
    fn check_node<'a>(&'a mut self, host: HostId, what: impl FnOnce(&'a Dht) -> Happening<'a>) {
        if self.violation.is_some() || self.checkers.is_empty() {
            return;
        }
        let Some(entry) = self.hosts.get(host) else { return };
        let Body::Node(dht) = &entry.body else { return };
        if let Some((invariant, what)) = ask(&mut self.checkers, self.now, &what(dht)) {
            let (at, event) = (self.now, self.trace.events());
            self.violation = Some(Violation { invariant, at, event, host: Some(host), what });
        }
    }

    fn violate(&mut self, invariant: &'static str, host: Option<HostId>, what: String) {
        let (at, event) = (self.now, self.trace.events());
        self.violation.get_or_insert(Violation { invariant, at, event, host, what });
    }

    fn node_mut(&mut self, host: HostId) -> Option<&mut Dht> {
        match &mut self.hosts.get_mut(host)?.body {
            Body::Node(dht) => Some(dht),
            Body::Actor(_) | Body::Nobody => None,
        }
    }

    fn take_buf(&mut self) -> Box<[u8; MAX_DATAGRAM]> {
        self.buf.take().unwrap_or_else(|| Box::new([0; MAX_DATAGRAM]))
    }
}

/// The first invariant that what happened breaks, and how.
fn ask(
    checkers: &mut [Box<dyn Checker>],
    now: Instant,
    what: &Happening<'_>,
) -> Option<(&'static str, String)> {
    checkers.iter_mut().find_map(|checker| {
        let how = checker.happened(now, what).err()?;
        Some((checker.name(), how))
    })
}
