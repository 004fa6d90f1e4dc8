//! Compact nodes and peers: iterators over borrowed bytes (BEP 5 "Contact Encoding", BEP 32).

use core::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

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
}

impl<'a> Values<'a> {
    /// Peers from concatenated compact forms of one family.
    #[must_use]
    pub const fn of<A: Addr>(bytes: &'a [u8]) -> Self {
        Self(Form::Compact { bytes, len: A::COMPACT_LEN })
    }
}

/// Reads compact nodes of one family. A tail that is no whole record is ignored.
pub fn nodes<A: Addr>(bytes: &[u8]) -> impl Iterator<Item = (NodeId, A)> + '_ {
    bytes.chunks_exact(A::NODE_LEN).filter_map(|record| {
        let (id, addr) = record.split_at_checked(ID_LEN)?;
        Some((NodeId::from_slice(id)?, A::read_compact(addr)?))
    })
}
