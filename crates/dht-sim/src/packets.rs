//! Datagrams on their way.

use std::net::SocketAddr;

use dht_proto::ReadAhead;

use crate::address::mix;
use crate::net::Damage;
use crate::world::HostId;

/// Where a datagram waits: an index into [`Packets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketId(u32);

/// What is known of a datagram beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Who sent it, if that is a host of the world.
    pub(crate) sender: Option<HostId>,
    /// Which datagram it is, and what was done to it: what the trace knows it by.
    pub(crate) mark: u64,
}

/// One datagram.
#[derive(Debug)]
struct Packet {
    head: Head,
    bytes: Vec<u8>,
}

/// All datagrams on their way. Places and buffers are used again, the latest first: they are warm.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    places: Vec<Packet>,
    free: Vec<u32>,
}

impl Packets {
    pub(crate) fn insert(&mut self, head: Head, bytes: &[u8], damage: Damage) -> PacketId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Packet { head, bytes: Vec::new() });
            self.places.len() as u32 - 1
        });
        if let Some(packet) = self.places.get_mut(index as usize) {
            packet.head = head;
            packet.bytes.clear();
            packet.bytes.extend_from_slice(bytes);
            if damage != Damage::None {
                damage.apply(&mut packet.bytes);
                packet.head.mark ^= mix(damage.code());
            }
        }
        PacketId(index)
    }

    /// Takes a datagram out; give its buffer back with [`Packets::recycle`].
    pub(crate) fn take(&mut self, id: PacketId) -> Option<(Head, Vec<u8>)> {
        let packet = self.places.get_mut(id.0 as usize)?;
        Some((packet.head, core::mem::take(&mut packet.bytes)))
    }

    /// What is known of it, and its bytes.
    #[inline]
    pub(crate) fn get(&self, id: PacketId) -> Option<(&Head, &[u8])> {
        self.places.get(id.0 as usize).map(|packet| (&packet.head, packet.bytes.as_slice()))
    }

    /// Says that it is next.
    #[inline]
    pub(crate) fn read_ahead(&self, id: PacketId, ahead: &mut impl ReadAhead) {
        if let Some(packet) = self.places.get(id.0 as usize) {
            ahead.line(&packet.head.from);
            ahead.line(&packet.head.mark);
            ahead.line(&packet.bytes);
        }
    }

    pub(crate) fn recycle(&mut self, id: PacketId, bytes: Vec<u8>) {
        if let Some(packet) = self.places.get_mut(id.0 as usize) {
            packet.bytes = bytes;
            self.free.push(id.0);
        }
    }

    /// The heap that they take up, places that are free included.
    pub(crate) fn memory(&self) -> usize {
        let bytes = self.places.iter().map(|packet| packet.bytes.capacity()).sum::<usize>();
        bytes
            + self.places.capacity() * size_of::<Packet>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// How many are on their way.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
