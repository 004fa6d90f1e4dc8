//! Memory: what is needed next, and how much of it there is.

use core::hint::black_box;

use dht_proto::Dht;
use dht_proto::request::Event;

use super::{HostId, What, World};
use crate::host::Body;
use crate::packets::Head;

/// Events whose memory is looked at together.
const BATCH: usize = 16;
/// A world of fewer hosts than this stays in the caches by itself.
const LARGE: usize = 500;

impl World {
    /// Reads a little of what the next events will need, so that it is on its way from memory while
    /// the present one is handled: a million nodes are far larger than any cache, and who is next is
    /// anybody. Reads that do not wait for each other are served at the same time, so all events of a
    /// batch take a step together: the datagram and whom it is for, the host, its node.
    #[inline]
    pub(super) fn look_ahead(&mut self) {
        // The last of a batch is looked at with the next, so that none is left out.
        if self.seen_ahead > 1 {
            self.seen_ahead -= 1;
        } else if self.hosts.len() >= LARGE {
            self.seen_ahead = self.look_at_batch();
        }
    }

    #[inline(never)]
    fn look_at_batch(&self) -> usize {
        let mut read = 0;
        let mut len = 0;
        for what in self.queue.upcoming().take(BATCH) {
            len += 1;
            if let What::Arrival(packet) = what {
                read ^= self.packets.preview(packet).map_or(0, |(head, _)| head.mark);
            }
        }
        for what in self.queue.upcoming().take(BATCH) {
            let host = match what {
                What::Timer(host) => Some(host),
                What::Arrival(packet) => self.packets.preview(packet).and_then(|(head, bytes)| {
                    read ^= bytes.iter().step_by(64).fold(0, |read, byte| read ^ u64::from(*byte));
                    head.hint
                }),
            };
            if let Some(host) = host {
                read ^= self.hosts.preview(host) ^ self.net.preview(host);
            }
        }
        let mut nodes = [None; BATCH];
        let mut known = 0;
        for what in self.queue.upcoming().take(BATCH) {
            let (host, coming) = match what {
                What::Timer(host) => (Some(host), None),
                What::Arrival(packet) => match self.packets.preview(packet) {
                    Some((head, bytes)) => {
                        read ^= self.preview_way_back(head, bytes);
                        (head.hint, Some((head.from, bytes)))
                    }
                    None => continue,
                },
            };
            // A timer that was put off concerns the host alone.
            let entry = host.and_then(|host| self.hosts.get(host));
            let entry = entry.filter(|entry| coming.is_some() || entry.later == 0);
            if let (Some(Body::Node(dht)), Some(place)) =
                (entry.map(|entry| &entry.body), nodes.get_mut(known))
            {
                *place = Some((dht, coming));
                known += 1;
            }
        }
        for step in 0..Dht::READ_AHEAD_STEPS {
            for (dht, coming) in nodes.iter().take(known).flatten() {
                read ^= dht.read_ahead(step, *coming);
            }
        }
        black_box(read);
        len
    }

    /// Reads what the way of the answer to a query needs.
    #[inline]
    fn preview_way_back(&self, head: &Head, bytes: &[u8]) -> u64 {
        let is_query = bytes.get(3) == Some(&b'a');
        let Some(back) = head.sender.filter(|_| is_query) else { return 0 };
        u64::from(self.book.find(head.from).is_some()) ^ self.net.preview(back)
    }

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
