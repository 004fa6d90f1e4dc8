//! Datagrams on their way.

use std::net::SocketAddr;

use crate::net::Damage;
use crate::world::HostId;

/// Where a datagram waits: an index into [`Packets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PacketId(u32);

/// One datagram.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Who was at `to` when it set out, unless something stands before them.
    pub(crate) hint: Option<HostId>,
    pub(crate) bytes: Vec<u8>,
}

/// All datagrams on their way. Places and buffers are used again, the latest first: they are warm.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    places: Vec<Packet>,
    free: Vec<u32>,
}

impl Packets {
    pub(crate) fn insert(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        hint: Option<HostId>,
        bytes: &[u8],
    ) -> PacketId {
        if let Some(index) = self.free.pop() {
            if let Some(packet) = self.places.get_mut(index as usize) {
                (packet.from, packet.to, packet.hint) = (from, to, hint);
                packet.bytes.clear();
                packet.bytes.extend_from_slice(bytes);
            }
            return PacketId(index);
        }
        self.places.push(Packet { from, to, hint, bytes: bytes.to_vec() });
        PacketId(self.places.len() as u32 - 1)
    }

    pub(crate) fn damage(&mut self, id: PacketId, damage: Damage) {
        if let Some(packet) = self.places.get_mut(id.0 as usize) {
            damage.apply(&mut packet.bytes);
        }
    }

    /// Takes a datagram out; give its buffer back with [`Packets::recycle`].
    pub(crate) fn take(&mut self, id: PacketId) -> Option<Packet> {
        let packet = self.places.get_mut(id.0 as usize)?;
        let bytes = core::mem::take(&mut packet.bytes);
        Some(Packet { bytes, ..*packet })
    }

    pub(crate) fn recycle(&mut self, id: PacketId, bytes: Vec<u8>) {
        if let Some(packet) = self.places.get_mut(id.0 as usize) {
            packet.bytes = bytes;
            self.free.push(id.0);
        }
    }

    /// How many are on their way.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}
