//! How one thing that happens is carried out.

use std::net::SocketAddr;

use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM};

use super::book::At;
use super::{Datagram, HostId, What, World};
use crate::check::{Checker, Happening, Violation};
use crate::choices::{About, Ratio};
use crate::host::{Body, Stage};
use crate::net::Damage;
use crate::packets::PacketId;
use crate::trace::{Record, Verb};

/// Rounds of work at one time after which a node is taken to spin.
const MAX_ROUNDS: usize = 10_000;

impl World {
    /// Sends a datagram: what becomes of it is decided now, so that nothing else shifts it.
    pub(super) fn send(
        &mut self,
        sender: Option<HostId>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        self.traffic.sent += 1;
        let outside = match sender {
            Some(host) => self.net.outgoing(self.now, host, from, to),
            None => Some(from),
        };
        let Some(from) = outside else {
            self.lose(from, to);
            return;
        };
        self.trace.add(&Record { at: self.now, verb: Verb::Sent, from, to, bytes });
        self.check(&Happening::Carried { from, to, bytes });
        let at = self.book.find(to);
        let (receiver, hint) = match at {
            Some(At::Host(host)) => (Some(host), Some(host)),
            Some(At::Guard(host)) => (Some(host), None),
            Some(At::Site(site)) => (self.net.member(site, to.port()), None),
            None => (None, None),
        };
        let fates = self.net.carry(self.now, sender, receiver, bytes.len(), &mut self.choices);
        if fates.iter().all(Option::is_none) {
            self.lose(from, to);
        }
        for delivery in fates.into_iter().flatten() {
            let packet = self.packets.insert(from, to, hint, bytes);
            if delivery.damage != Damage::None {
                self.packets.damage(packet, delivery.damage);
            }
            self.queue.push(self.now + delivery.after, What::Arrival(packet));
        }
    }

    fn lose(&mut self, from: SocketAddr, to: SocketAddr) {
        self.traffic.lost += 1;
        self.trace.add(&Record { at: self.now, verb: Verb::Lost, from, to, bytes: &[] });
    }

    /// Whoever was at an address, if they still are: cheaper than to look it up again.
    #[inline]
    fn still_at(&self, to: SocketAddr, hint: Option<HostId>) -> Option<At> {
        let host = hint?;
        let entry = self.hosts.get(host.index())?;
        let stays = !entry.guarded && entry.addrs.like(&to) == Some(to);
        stays.then_some(At::Host(host))
    }

    /// A datagram reaches its destination.
    pub(super) fn arrive(&mut self, packet: PacketId) {
        let Some(taken) = self.packets.take(packet) else { return };
        self.deliver(taken.from, taken.to, taken.hint, &taken.bytes);
        self.packets.recycle(packet, taken.bytes);
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, hint: Option<HostId>, bytes: &[u8]) {
        let now = self.now;
        let Some(at) = self.still_at(to, hint).or_else(|| self.book.find(to)) else {
            if self.max_outside > self.outside.len() && !self.book.is_ours(to) {
                self.trace.add(&Record { at: now, verb: Verb::Arrived, from, to, bytes });
                self.outside.push_back(Datagram { from, to, bytes: bytes.to_vec() });
            } else {
                self.nobody_at(from, to);
            }
            return;
        };
        let Some((host, to)) = self.let_in(at, from, to) else {
            self.nobody_at(from, to);
            return;
        };
        let Some(entry) = self.hosts.get_mut(host.index()) else { return };
        let local = entry.clock.local(now);
        let mut buf = self.buf.take().unwrap_or_else(|| Box::new([0; MAX_DATAGRAM]));
        let reply = match &mut entry.body {
            Body::Node(dht) if !entry.suspended => {
                dht.handle_datagram(local, from, bytes, &mut buf)
            }
            Body::Actor(_) if !entry.suspended => {
                self.trace.add(&Record { at: now, verb: Verb::Arrived, from, to, bytes });
                self.traffic.delivered += 1;
                self.act(host, Some((from, to, bytes)));
                return;
            }
            Body::Node(_) | Body::Actor(_) | Body::Nobody => {
                self.nobody_at(from, to);
                return;
            }
        };
        self.traffic.delivered += 1;
        self.trace.add(&Record { at: now, verb: Verb::Arrived, from, to, bytes });
        let reply = reply.map(|sent| (sent.to, buf.get(..sent.len).unwrap_or_default()));
        self.check_node(host, |dht| Happening::Handled { host, local, from, bytes, reply, dht });
        if let Some((to_peer, reply)) = reply {
            self.send(Some(host), to, to_peer, reply);
        }
        self.buf = Some(buf);
        self.drive(host);
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

    fn nobody_at(&mut self, from: SocketAddr, to: SocketAddr) {
        self.traffic.nobody += 1;
        self.trace.add(&Record { at: self.now, verb: Verb::Lost, from, to, bytes: &[] });
    }

    /// A host's timer goes off, unless it was set anew since.
    pub(super) fn wake(&mut self, host: HostId, at: Instant) {
        let Some(entry) = self.hosts.get_mut(host.index()) else { return };
        if entry.armed != at || entry.suspended {
            return;
        }
        entry.armed = Instant::FAR_FUTURE;
        self.traffic.timers += 1;
        if let Body::Node(dht) = &entry.body {
            // Most deadlines have moved on meanwhile: what was waited for has come.
            let due = dht.poll_timeout();
            if due.is_none_or(|due| due > entry.clock.local(self.now)) {
                self.arm(host, due);
                return;
            }
        }
        match &entry.body {
            Body::Node(_) => {
                let addr = entry.addrs.iter().next();
                if let Some(addr) = addr {
                    let (from, to) = (addr, addr);
                    self.trace.add(&Record {
                        at: self.now,
                        verb: Verb::Woke,
                        from,
                        to,
                        bytes: &[],
                    });
                }
                self.drive(host);
            }
            Body::Actor(_) => self.act(host, None),
            Body::Nobody => {}
        }
    }

    /// Lets a node do all that it can now, and sets its timer.
    pub(super) fn drive(&mut self, host: HostId) {
        let Some(entry) = self.hosts.get_mut(host.index()) else { return };
        if entry.suspended {
            return;
        }
        let local = entry.clock.local(self.now);
        for _ in 0..MAX_ROUNDS {
            let Some(dht) = self.node_mut(host) else { return };
            let promised = dht.poll_timeout();
            let yielded = self.drain(host, local);
            self.check(&Happening::Polled { host, local, promised, yielded });
            let Some(dht) = self.node_mut(host) else { return };
            match dht.poll_timeout() {
                Some(due) if due <= local => dht.handle_timeout(local),
                due => {
                    self.arm(host, due);
                    self.check_node(host, |dht| Happening::Drained { host, local, due, dht });
                    return;
                }
            }
        }
        self.violate(
            crate::check::drain::NAME,
            Some(host),
            "a drained node always has more to do".to_owned(),
        );
    }

    /// Takes all events and queries of a node; whether there were any.
    fn drain(&mut self, host: HostId, local: Instant) -> bool {
        let mut buf = self.take_buf();
        let mut yielded = false;
        loop {
            let shuffled =
                self.shuffles_polls && self.choices.chance(About::Order, Ratio { num: 1, den: 2 });
            let Some(entry) = self.hosts.get_mut(host.index()) else { break };
            let Body::Node(dht) = &mut entry.body else { break };
            let event = if shuffled { None } else { dht.poll_event() };
            if let Some(event) = event {
                yielded = true;
                self.check(&Happening::Told { host, event: &event });
                self.events.push_back((host, event));
                continue;
            }
            let Some(sent) = dht.poll_transmit(local, &mut buf) else {
                if shuffled {
                    continue;
                }
                break;
            };
            yielded = true;
            let from = entry.addrs.like(&sent.to);
            let query = buf.get(..sent.len).unwrap_or_default();
            self.check(&Happening::Asked { host, local, to: sent.to, bytes: query });
            if let Some(from) = from {
                self.send(Some(host), from, sent.to, query);
            }
        }
        self.buf = Some(buf);
        yielded
    }

    /// Sets a host's timer. The queue gets a new entry only if it is earlier than the one it has:
    /// an entry that comes too early sets the timer again.
    fn arm(&mut self, host: HostId, due: Option<Instant>) {
        let Some(entry) = self.hosts.get_mut(host.index()) else { return };
        let Some(due) = due.filter(|due| *due != Instant::FAR_FUTURE) else { return };
        let at = entry.clock.real(due).max(self.now);
        if at < entry.armed {
            entry.armed = at;
            self.queue.push(at, What::Timer(host));
        }
    }

    /// Lets an actor act, and sends what it sends.
    pub(super) fn act(&mut self, host: HostId, input: Option<(SocketAddr, SocketAddr, &[u8])>) {
        let Some(entry) = self.hosts.get_mut(host.index()) else { return };
        let Body::Actor(actor) = &mut entry.body else { return };
        let mut sent = core::mem::take(&mut self.acts);
        let mut stage = Stage {
            now: self.now,
            me: host,
            addrs: entry.addrs,
            choices: &mut self.choices,
            sent: &mut sent,
            wake: Instant::FAR_FUTURE,
        };
        match input {
            Some((from, to, bytes)) => actor.on_datagram(&mut stage, from, to, bytes),
            None => actor.on_wake(&mut stage),
        }
        let wake = stage.wake;
        self.arm(host, Some(wake));
        for (from, to, bytes) in sent.drain(..) {
            self.send(Some(host), from, to, &bytes);
        }
        self.acts = sent;
    }

    pub(super) fn announce_birth(&mut self, host: HostId) {
        self.check_node(host, |dht| Happening::Born { host, dht });
    }

    /// Shows the checkers what happened.
    pub(super) fn check(&mut self, what: &Happening<'_>) {
        if self.violation.is_none()
            && let Some((invariant, how)) = ask(&mut self.checkers, self.now, what)
        {
            self.violate(invariant, what.host(), how);
        }
    }

    /// The same for what shows the node itself.
    fn check_node<'a>(&'a mut self, host: HostId, what: impl FnOnce(&'a Dht) -> Happening<'a>) {
        if self.violation.is_some() || self.checkers.is_empty() {
            return;
        }
        let Some(entry) = self.hosts.get(host.index()) else { return };
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
        match &mut self.hosts.get_mut(host.index())?.body {
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
