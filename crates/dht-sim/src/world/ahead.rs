//! Memory: what is needed next, and how much of it there is.

use core::hint::black_box;

use dht_proto::addr::Family;
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
        let mut hosts = [None; BATCH];
        let mut read = 0;
        let mut len = 0;
        for (place, what) in hosts.iter_mut().zip(self.queue.upcoming()) {
            len += 1;
            *place = match what {
                What::Timer(host) => {
                    read ^= self.net.preview(host);
                    Some((host, true))
                }
                What::Arrival(packet) => self.packets.preview(packet).and_then(|(head, bytes)| {
                    read ^= self.preview(head, bytes);
                    Some((head.hint?, false))
                }),
            };
        }
        let mut nodes = [None; BATCH];
        for (place, (host, is_timer)) in nodes.iter_mut().zip(hosts.iter().flatten()) {
            // A timer that was put off concerns the host alone.
            let entry = self.hosts.get(*host).filter(|entry| !is_timer || entry.later == 0);
            *place = entry.and_then(|entry| match &entry.body {
                Body::Node(dht) => Some(dht),
                Body::Actor(_) | Body::Nobody => None,
            });
        }
        // First where they are, then what they are.
        for dht in nodes.iter().flatten() {
            read ^= dht.node_id(Family::V4).map_or(0, |id| u64::from(id.as_bytes()[0]));
        }
        read ^= nodes.iter().flatten().fold(0, |read, dht| read ^ dht.read_ahead());
        black_box(read);
        len
    }

    /// Reads a datagram, and what the way to its receiver needs; of a query, what the way back needs.
    #[inline]
    fn preview(&self, head: &Head, bytes: &[u8]) -> u64 {
        let read = bytes.iter().step_by(64).fold(head.mark, |read, byte| read ^ u64::from(*byte));
        let is_query = bytes.get(3) == Some(&b'a');
        let back = head.sender.filter(|_| is_query);
        let known = back.is_some() && self.book.find(head.from).is_some();
        let ends = [head.hint, back].into_iter().flatten();
        ends.fold(read ^ u64::from(known), |read, host| read ^ self.net.preview(host))
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
