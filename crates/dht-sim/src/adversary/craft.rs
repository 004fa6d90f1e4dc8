//! What all adversaries need: to read a query, and to write queries and answers.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use dht_proto::addr::Addr;
use dht_proto::id::{NodeId, Target};
use dht_proto::request::NodeInfo;
use dht_proto::wire::{self, Body, Message, Method, Query, Reply, Want};

use crate::choices::{About, Choices};

/// The transaction id of all queries of adversaries: they need not tell replies apart.
const TID: &[u8] = b"advr";
/// Nodes in an answer, of each family.
pub(crate) const NAMED: usize = 8;

/// The query in a datagram, and its transaction id.
pub(crate) fn query_in(bytes: &[u8]) -> Option<(&[u8], Query<'_>)> {
    let message = wire::decode(bytes).ok()?;
    match message.body {
        Body::Query(query) => Some((message.tid, query)),
        Body::Reply(_) | Body::Error(_) => None,
    }
}

/// The reply in a datagram.
pub(crate) fn reply_in(bytes: &[u8]) -> Option<Reply<'_>> {
    match wire::decode(bytes).ok()?.body {
        Body::Reply(reply) => Some(reply),
        Body::Query(_) | Body::Error(_) => None,
    }
}

/// What a query that is answered with nodes is about.
pub(crate) fn target_of(method: &Method<'_>) -> Option<Target> {
    match method {
        Method::FindNode { target } | Method::SampleInfohashes { target } => Some(*target),
        Method::GetPeers { info_hash, .. } => Some(info_hash.target()),
        Method::Get { target, .. } => Some(target.target()),
        Method::Unknown { target, .. } => *target,
        Method::Ping | Method::AnnouncePeer { .. } | Method::Put(_) | _ => None,
    }
}

/// Encodes a message.
pub(crate) fn encode(tid: &[u8], body: Body<'_>) -> Vec<u8> {
    let message = Message { tid, version: None, ip: None, read_only: false, unsorted: false, body };
    let mut out = vec![0; message.encoded_len()];
    let len = message.encode(&mut out).unwrap_or(0);
    out.truncate(len);
    out
}

/// A query.
pub(crate) fn query(id: NodeId, method: Method<'_>) -> Vec<u8> {
    encode(TID, Body::Query(Query { id, want: Want::default(), method }))
}

/// An answer in good form that holds nothing but these nodes, and a token where one is expected:
/// values are denied, and whatever is to be stored is acknowledged and forgotten.
pub(crate) fn answer(tid: &[u8], query: &Query<'_>, me: NodeId, named: &[NodeInfo]) -> Vec<u8> {
    answer_with(tid, query, Reply::new(me), named)
}

/// The same, of a reply that holds something already.
pub(crate) fn answer_with(
    tid: &[u8],
    query: &Query<'_>,
    reply: Reply<'_>,
    named: &[NodeInfo],
) -> Vec<u8> {
    let (nodes, nodes6) = (compact::<SocketAddrV4>(named), compact::<SocketAddrV6>(named));
    let mut reply = reply;
    if target_of(&query.method).is_some() {
        let wants_other = query.want.n6 || nodes.is_empty();
        reply.nodes = (!nodes.is_empty()).then_some(&nodes[..]);
        reply.nodes6 = (wants_other && !nodes6.is_empty()).then_some(&nodes6[..]);
    }
    if let Method::GetPeers { .. } | Method::Get { .. } = query.method {
        reply.token = Some(b"token");
    }
    encode(tid, Body::Reply(reply))
}

fn compact<A: Addr>(named: &[NodeInfo]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in named.iter().filter_map(|node| Some((node.id, A::from_socket_addr(node.addr)?))) {
        let mut record = [0; SocketAddrV6::NODE_LEN];
        if let Some(len) = wire::write_node(node.0, node.1, &mut record) {
            out.extend(record.iter().take(len));
        }
    }
    out
}

/// The first nodes that a reply names.
pub(crate) fn named_in(reply: &Reply<'_>) -> impl Iterator<Item = NodeInfo> {
    let v4 = wire::nodes::<SocketAddrV4>(reply.nodes.unwrap_or_default())
        .map(|(id, addr)| NodeInfo { id, addr: addr.into() });
    let v6 = wire::nodes::<SocketAddrV6>(reply.nodes6.unwrap_or_default())
        .map(|(id, addr)| NodeInfo { id, addr: addr.into() });
    v4.chain(v6)
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const N: usize>(choices: &mut Choices) -> [u8; N] {
    core::array::from_fn(|_| choices.below(About::Adversary, 256) as u8)
}

/// An id that agrees with another in its first `bits` bits and is random after them.
pub(crate) fn near(target: &[u8; 20], bits: u32, choices: &mut Choices) -> NodeId {
    let mut id: [u8; 20] = random(choices);
    for (at, (byte, same)) in id.iter_mut().zip(target).enumerate() {
        let kept = bits.saturating_sub(8 * at as u32).min(8);
        let mask = !(0xff_u16 >> kept) as u8;
        *byte = (same & mask) | (*byte & !mask);
    }
    NodeId::from_bytes(id)
}

/// Some public address of the same family, with any port.
pub(crate) fn anywhere(like: &SocketAddr, choices: &mut Choices) -> SocketAddr {
    let mut addr = *like;
    match addr.ip() {
        IpAddr::V4(_) => {
            let [_, b, c, d]: [u8; 4] = random(choices);
            let first = choices.between(About::Adversary, 11, 99) as u8;
            addr.set_ip(IpAddr::from([first, b, c, d]));
        }
        IpAddr::V6(_) => {
            let mut ip: [u8; 16] = random(choices);
            ip.iter_mut().zip([0x26, 0]).for_each(|(byte, first)| *byte = first);
            addr.set_ip(IpAddr::from(ip));
        }
    }
    addr.set_port(choices.between(About::Adversary, 1_025, 65_000) as u16);
    addr
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_proto::id::InfoHash;

    #[test]
    fn near_ids_agree_in_so_many_bits() {
        let mut choices = Choices::seeded(1);
        let target: [u8; 20] = random(&mut choices);
        for bits in [0, 1, 7, 8, 9, 40, 159, 160] {
            let id = near(&target, bits, &mut choices);
            let zeros = id.distance(NodeId::from_bytes(target).target()).leading_zeros();
            assert!(zeros >= bits, "{zeros} {bits}");
        }
    }

    #[test]
    fn an_answer_is_read_as_one_by_who_asked() {
        let mut choices = Choices::seeded(2);
        let me = NodeId::from_bytes(random(&mut choices));
        let named: Vec<NodeInfo> = (0..NAMED)
            .map(|_| {
                let id = NodeId::from_bytes(random(&mut choices));
                NodeInfo { id, addr: anywhere(&"1.2.3.4:5".parse().unwrap(), &mut choices) }
            })
            .collect();
        let info_hash = InfoHash::from_bytes([3; 20]);
        let asked = query(me, Method::GetPeers { info_hash, noseed: false, scrape: false });
        let (tid, query) = query_in(&asked).unwrap();
        let answer = answer(tid, &query, me, &named);
        let reply = reply_in(&answer).unwrap();
        assert_eq!(named_in(&reply).collect::<Vec<_>>(), named);
        assert!(reply.token.is_some() && reply.values.is_none());
    }
}
