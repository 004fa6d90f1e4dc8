//! Memory: what is needed next, and how much of it there is.

use dht_proto::request::Event;
use dht_proto::{Dht, ReadAhead};
use prefetch_index::prefetch_index;

use super::{HostId, What, World};
use crate::host::Body;
use crate::packets::PacketId;

/// Every so many events an event that comes takes a step: in that time memory answers.
const PACE: usize = 4;
/// The steps: the datagram and the host that it is for; its bytes; those of the node.
const STEPS: usize = 2 + Dht::READ_AHEAD_STEPS as usize;
/// A world of fewer hosts than this stays in the caches by itself.
const LARGE: usize = 500;
/// A datagram up to this long is read in two lines, a longer one in five.
const SHORT: usize = 128;

/// Has the processor fetch lines of memory.
struct Fetch;

impl ReadAhead for Fetch {
    #[inline]
    fn line<T>(&mut self, of: &T) {
        prefetch_index(core::slice::from_ref(of), 0);
    }
}

/// Has memory that the next events need fetched while the present one is handled: a million nodes are
/// far larger than any cache, and who is next is anybody. One thing leads to another, so each event takes
/// several steps before its turn. A processor that has some two dozen lines under way forgets further
/// ones, so half of the steps are taken before an event and half in its middle.
impl World {
    #[inline]
    pub(super) fn look_ahead(&self) {
        if self.hosts.len() < LARGE {
            return;
        }
        if let Some(what) = self.upcoming(0) {
            self.read_ahead_envelope(what);
        }
        if let Some(What::Arrival(packet, _)) = self.upcoming(1) {
            self.read_ahead_bytes(packet);
        }
        self.read_ahead_node(2);
    }

    #[inline]
    pub(super) fn look_ahead_later(&self) {
        if self.hosts.len() < LARGE {
            return;
        }
        for step in 3..STEPS {
            self.read_ahead_node(step);
        }
    }

    /// The event whose turn it is to take this step.
    #[inline]
    fn upcoming(&self, step: usize) -> Option<What> {
        self.queue.upcoming(PACE * (STEPS - step))
    }

    #[inline]
    fn read_ahead_envelope(&self, what: What) {
        let host = match what {
            What::Timer(host) => Some(host),
            What::Arrival(packet, host) => {
                self.packets.read_ahead(packet, &mut Fetch);
                host
            }
        };
        if let Some(host) = host {
            self.read_ahead_host(host);
        }
    }

    #[inline]
    fn read_ahead_bytes(&self, packet: PacketId) {
        let Some((head, bytes)) = self.packets.get(packet) else { return };
        if bytes.len() > SHORT {
            Fetch.lines::<_, 5>(bytes);
            return;
        }
        Fetch.lines::<_, 2>(bytes);
        // Its answer goes back there.
        if let Some(back) = head.sender {
            self.read_ahead_host(back);
        }
    }

    #[inline]
    fn read_ahead_host(&self, host: HostId) {
        if let Some(entry) = self.hosts.get(host) {
            Fetch.line(entry);
        }
        self.net.read_ahead(host, &mut Fetch);
    }

    #[inline]
    fn read_ahead_node(&self, step: usize) {
        let Some(what) = self.upcoming(step) else { return };
        let (What::Timer(host) | What::Arrival(_, Some(host))) = what else { return };
        let Some(entry) = self.hosts.get(host) else { return };
        let Body::Node(dht) = &entry.body else { return };
        let coming = match what {
            // One that was put off concerns the host alone.
            What::Timer(_) if entry.later > 0 => return,
            What::Arrival(packet, _) if step == 3 => {
                self.packets.get(packet).map(|(head, bytes)| (head.from, bytes))
            }
            What::Timer(_) | What::Arrival(..) => None,
        };
        dht.read_ahead((step - 2) as u32, coming, &mut Fetch);
    }
}

impl World {
    /// The bytes that the world takes up beside its nodes, actors and checkers: hosts, their links
    /// and addresses, what waits in the queue and what is on its way.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.hosts.memory()
            + self.book.memory()
            + self.net.memory()
            + self.queue.memory()
            + self.packets.memory()
            + self.events.capacity() * size_of::<(HostId, Event)>()
            + self.outside.iter().map(|datagram| datagram.bytes.capacity()).sum::<usize>()
    }
}
