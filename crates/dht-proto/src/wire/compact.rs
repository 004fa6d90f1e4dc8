//! Compact nodes and peers: iterators over borrowed bytes (BEP 5 "Contact Encoding", BEP 32).

use core::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use super::bencode::{Reader, SyntaxError};
use crate::addr::Addr;
use crate::id::{ID_LEN, NodeId};

/// Peers of a `values` list, in whichever form they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values<'a>(Form<'a>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    /// The inside of a bencoded list of strings, already checked for syntax.
    List(&'a [u8]),
    /// Concatenated compact peers of one length, 6 or 18.
    Compact { bytes: &'a [u8], len: usize },
    /// Concatenated bencoded strings, each of them a compact peer.
    Strings(&'a [u8]),
}

impl<'a> Values<'a> {
    /// Peers from concatenated compact forms of one family.
    #[must_use]
    pub const fn of<A: Addr>(bytes: &'a [u8]) -> Self {
        Self(Form::Compact { bytes, len: A::COMPACT_LEN })
    }

    /// Peers from a concatenation of what [`write_value`] wrote for one family.
    pub(crate) const fn of_strings(bencoded: &'a [u8]) -> Self {
        Self(Form::Strings(bencoded))
    }

    /// The inside of the list that encodes these peers, if that is how they are kept.
    pub(crate) const fn bencoded(self) -> Option<&'a [u8]> {
        match self.0 {
            Form::Strings(bencoded) => Some(bencoded),
            Form::List(_) | Form::Compact { .. } => None,
        }
    }

    /// The peers. Those with port 0 cannot be reached by anyone and are left out.
    pub fn iter(self) -> impl Iterator<Item = SocketAddr> + 'a {
        self.records().filter_map(|record| {
            let peer = match SocketAddrV4::read_compact(record) {
                Some(peer) => peer.socket_addr(),
                None => SocketAddrV6::read_compact(record)?.socket_addr(),
            };
            (peer.port() != 0).then_some(peer)
        })
    }

    /// Reads the value of `values`; `None` if it is neither a list nor a string.
    ///
    /// BEP 5 has one string for each peer. The original mainline client sent one string with all
    /// peers concatenated, v4 only, bare or as the only one of a list.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, SyntaxError> {
        if !reader.is_list() {
            return Ok(reader.bytes()?.map(Self::mainline));
        }
        let start = *reader;
        reader.list()?;
        while !reader.end()? {
            reader.bytes()?;
        }
        // Without the `l` and the `e`.
        let inside = match reader.since(start) {
            [_, inside @ .., _] => inside,
            _ => &[],
        };
        Ok(Some(match lone_string(inside) {
            Some(peers) if peers.len() % 6 == 0 && !is_record(peers) => Self::mainline(peers),
            Some(_) | None => Self(Form::List(inside)),
        }))
    }

    /// The compact forms of peers, each 6 or 18 bytes, whatever their ports.
    pub(super) fn records(self) -> impl Iterator<Item = &'a [u8]> {
        let (mut list, compact) = match self.0 {
            Form::List(inside) | Form::Strings(inside) => (Reader::new(inside), None),
            Form::Compact { bytes, len } => (Reader::new(&[]), Some(bytes.chunks_exact(len))),
        };
        // What is no string, or of no compact length, stands for no peer.
        let listed =
            core::iter::from_fn(move || if list.is_empty() { None } else { list.bytes().ok() })
                .flatten()
                .filter(|string| is_record(string));
        listed.chain(compact.into_iter().flatten())
    }

    const fn mainline(bytes: &'a [u8]) -> Self {
        Self::of::<SocketAddrV4>(bytes)
    }
}

/// Reads compact nodes of one family. A tail that is no whole record is ignored.
pub fn nodes<A: Addr>(bytes: &[u8]) -> impl Iterator<Item = (NodeId, A)> + '_ {
    bytes.chunks_exact(A::NODE_LEN).filter_map(|record| {
        let (id, addr) = record.split_at_checked(ID_LEN)?;
        Some((NodeId::from_slice(id)?, A::read_compact(addr)?))
    })
}

/// Writes one compact node into the start of `out` and returns its length, [`Addr::NODE_LEN`];
/// `None` if it does not fit.
#[must_use]
pub fn write_node<A: Addr>(id: NodeId, addr: A, out: &mut [u8]) -> Option<usize> {
    let (to_id, to_addr) = out.get_mut(..A::NODE_LEN)?.split_at_mut_checked(ID_LEN)?;
    to_id.copy_from_slice(id.as_bytes());
    to_addr.copy_from_slice(addr.compact().as_ref());
    Some(A::NODE_LEN)
}

/// Length of a peer in a `values` list: a compact form as a bencoded string.
pub(crate) const fn value_len<A: Addr>() -> usize {
    A::COMPACT_PREFIX.len() + A::COMPACT_LEN
}

/// Writes a peer of a `values` list into the start of `out` and returns what is left of it; `None`
/// if it does not fit.
#[inline]
pub(crate) fn write_value<'o, A: Addr>(
    peer: &A::Compact,
    out: &'o mut [u8],
) -> Option<&'o mut [u8]> {
    let (value, rest) = out.split_at_mut_checked(value_len::<A>())?;
    let (prefix, compact) = value.split_at_mut_checked(A::COMPACT_PREFIX.len())?;
    prefix.copy_from_slice(A::COMPACT_PREFIX);
    compact.copy_from_slice(peer.as_ref());
    Some(rest)
}

/// The content of a list that holds exactly one string.
fn lone_string(inside: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(inside);
    let string = reader.bytes().ok()??;
    reader.is_empty().then_some(string)
}

const fn is_record(bytes: &[u8]) -> bool {
    matches!(bytes.len(), SocketAddrV4::COMPACT_LEN | SocketAddrV6::COMPACT_LEN)
}

#[cfg(test)]
mod tests;
