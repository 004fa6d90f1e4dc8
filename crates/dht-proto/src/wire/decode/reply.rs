//! The body `r` of a reply.

use core::net::{SocketAddrV4, SocketAddrV6};

use super::super::bencode::{Order, Reader, SyntaxError};
use super::super::{Reply, Values};
use super::{Field, whole_records};
use crate::addr::Addr;
use crate::id::{ID_LEN, NodeId};

/// Every field of every reply: which query it answers is known elsewhere.
#[derive(Debug, Default)]
pub(super) struct ReplyFields<'a> {
    peers_filter: Field<&'a [u8; 256]>,
    seeds_filter: Field<&'a [u8; 256]>,
    id: Field<&'a [u8; ID_LEN]>,
    interval: Field<i64>,
    k: Field<&'a [u8; 32]>,
    nodes: Field<&'a [u8]>,
    nodes6: Field<&'a [u8]>,
    num: Field<i64>,
    samples: Field<&'a [u8]>,
    seq: Field<i64>,
    sig: Field<&'a [u8; 64]>,
    token: Field<&'a [u8]>,
    v: Field<&'a [u8]>,
    values: Field<Values<'a>>,
}

impl<'a> ReplyFields<'a> {
    /// Reads the rest of `r`, of which the reader has entered the dictionary.
    pub(super) fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), SyntaxError> {
        let mut order = Order::default();
        while let Some(key) = reader.key(&mut order)? {
            match key {
                b"BFpe" => self.peers_filter.fill(reader.array()?),
                // BEP 33 says `BFsd`; mldht sends `BFse`.
                b"BFsd" | b"BFse" => self.seeds_filter.fill(reader.array()?),
                b"id" => self.id.fill(reader.array()?),
                b"interval" => self.interval.fill(reader.int()?),
                b"k" => self.k.fill(reader.array()?),
                b"nodes" => self.nodes.fill(reader.bytes()?),
                b"nodes6" => self.nodes6.fill(reader.bytes()?),
                b"num" => self.num.fill(reader.int()?),
                b"samples" => self.samples.fill(reader.bytes()?),
                b"seq" => self.seq.fill(reader.int()?),
                b"sig" => self.sig.fill(reader.array()?),
                b"token" => self.token.fill(reader.bytes()?),
                b"v" => self.v.fill(Some(reader.raw()?)),
                b"values" => self.values.fill(Values::read(reader)?),
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    /// The reply; `None` without an id. Every other field is one that its sender may leave out.
    pub(super) fn reply(&self) -> Option<Reply<'a>> {
        let records = |field: &Field<&'a [u8]>, len| field.get().map(|it| whole_records(it, len));
        Some(Reply {
            id: NodeId::from_bytes(*self.id.get()?),
            nodes: records(&self.nodes, SocketAddrV4::NODE_LEN),
            nodes6: records(&self.nodes6, SocketAddrV6::NODE_LEN),
            token: self.token.get(),
            values: self.values.get(),
            v: self.v.get(),
            public_key: self.k.get(),
            signature: self.sig.get(),
            seq: self.seq.get(),
            seeds_filter: self.seeds_filter.get(),
            peers_filter: self.peers_filter.get(),
            samples: records(&self.samples, ID_LEN),
            num: self.num.get(),
            interval: self.interval.get(),
        })
    }
}
