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
    /// Reads the value of `r`; `None` if it is no dictionary.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, SyntaxError> {
        if !reader.dict()? {
            return Ok(None);
        }
        let mut fields = Self::default();
        let mut order = Order::default();
        while let Some(key) = reader.key(&mut order)? {
            match key {
                b"BFpe" => fields.peers_filter.fill(reader.array()?),
                // BEP 33 says `BFsd`; mldht sends `BFse`.
                b"BFsd" | b"BFse" => fields.seeds_filter.fill(reader.array()?),
                b"id" => fields.id.fill(reader.array()?),
                b"interval" => fields.interval.fill(reader.int()?),
                b"k" => fields.k.fill(reader.array()?),
                b"nodes" => fields.nodes.fill(reader.bytes()?),
                b"nodes6" => fields.nodes6.fill(reader.bytes()?),
                b"num" => fields.num.fill(reader.int()?),
                b"samples" => fields.samples.fill(reader.bytes()?),
                b"seq" => fields.seq.fill(reader.int()?),
                b"sig" => fields.sig.fill(reader.array()?),
                b"token" => fields.token.fill(reader.bytes()?),
                b"v" => fields.v.fill(Some(reader.raw()?)),
                b"values" => fields.values.fill(Values::read(reader)?),
                _ => reader.skip()?,
            }
        }
        Ok(Some(fields))
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
