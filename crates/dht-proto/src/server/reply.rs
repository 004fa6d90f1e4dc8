//! Replies that fit into one datagram.

use core::marker::PhantomData;

use crate::MAX_DATAGRAM;
use crate::addr::Addr;
use crate::config::Config;
use crate::id::ID_LEN;
use crate::wire::{ErrorReply, Head, Part, Reply, Values, value_len};

/// Nodes in one list, at most, whatever k is: jech/dht ignores lists of over sixteen only, but an
/// overlay may have a k of twenty.
pub(super) const MAX_NODES: usize = 20;
const NODE_LEN_V4: usize = ID_LEN + 6;
const NODE_LEN_V6: usize = ID_LEN + 18;
/// BEP 32: a node "must not send UDP datagrams with a payload larger than 1024 octets". Only what
/// cannot be left out goes beyond: a stored item (BEP 44), and a transaction id as long as that.
const MAX_USUAL: usize = 1_024;
/// What `5:nodes` or `6:nodes6` and the length of the string take, at most.
const LIST_OVERHEAD: usize = 12;

/// The default of [`Config::k`].
pub(super) const USUAL_K: usize = 8;
/// Room for the nodes of one family.
pub(super) const ROOM_V4: usize = room_v4(MAX_NODES);
pub(super) const ROOM_V6: usize = room_v6(MAX_NODES);

/// What so many nodes of one family take up.
pub(super) const fn room_v4(nodes: usize) -> usize {
    nodes * NODE_LEN_V4
}

pub(super) const fn room_v6(nodes: usize) -> usize {
    nodes * NODE_LEN_V6
}

/// What every reply to one query carries, and how long it may be.
#[derive(Clone, Copy)]
pub(super) struct Envelope<'a, A> {
    head: Head<'a>,
    family: PhantomData<A>,
}

impl<'a, A: Addr> Envelope<'a, A> {
    pub(super) fn new(tid: &'a [u8], requester: A, config: &'a Config) -> Self {
        // BEP 42: replies carry the requester's address, with the port, at the top level.
        let ip = Some((requester.ip(), Some(requester.port())));
        let head = Head { tid, version: Some(&config.version), ip, read_only: false };
        Self { head, family: PhantomData }
    }

    /// Encodes a reply if all of it fits.
    #[inline]
    pub(super) fn reply(&self, reply: &Reply<'_>, out: &mut [u8]) -> Option<usize> {
        let out = room::<A>(out);
        let longest = longest::<A>(reply, out);
        self.head.encode(Part::Reply(reply), out.get_mut(..longest).unwrap_or_default())
    }

    /// Encodes a reply from which nothing can be left out.
    ///
    /// `None` if not even that fits, which takes a transaction id of over a thousand bytes.
    #[inline]
    pub(super) fn least(&self, reply: &Reply<'_>, out: &mut [u8]) -> Option<usize> {
        self.head.encode(Part::Reply(reply), room::<A>(out))
    }

    /// Leaves out of a reply that is too long what does not fit: nodes first, then values. Which
    /// nodes go is up to the caller: the far ones.
    pub(super) fn shorten(&self, reply: &mut Reply<'_>, out: &mut [u8]) {
        let longest = longest::<A>(reply, room::<A>(out));
        let (nodes, nodes6) = (reply.nodes.take(), reply.nodes6.take());
        let left = loop {
            match longest.checked_sub(self.head.encoded_len(Part::Reply(reply))) {
                Some(left) => break left,
                // Everything in a reply is halved or dropped, so this ends after a few turns.
                None if shorten::<A>(reply).is_none() => break 0,
                None => {}
            }
        };
        (reply.nodes, reply.nodes6) = fill(left, nodes, nodes6);
    }

    /// Encodes an error; `None` if it does not fit.
    pub(super) fn error(&self, code: i64, text: &str, out: &mut [u8]) -> Option<usize> {
        let error = ErrorReply { code, message: text.as_bytes() };
        self.head.encode(Part::Error(&error), room::<A>(out))
    }
}

/// How long a reply may be.
fn longest<A: Addr>(reply: &Reply<'_>, room: &[u8]) -> usize {
    if reply.v.is_some() { A::MAX_DATAGRAM } else { MAX_USUAL }.min(room.len())
}

/// The part of `out` that one datagram may take.
fn room<A: Addr>(out: &mut [u8]) -> &mut [u8] {
    let limit = out.len().min(A::MAX_DATAGRAM).min(MAX_DATAGRAM);
    out.get_mut(..limit).unwrap_or_default()
}

/// Makes a reply without nodes shorter; `None` if there is nothing left to take away.
fn shorten<A: Addr>(reply: &mut Reply<'_>) -> Option<()> {
    if let Some(values) = reply.values.take() {
        let shorter = values.bencoded().and_then(|values| half(values, value_len::<A>()));
        reply.values = shorter.filter(|values| !values.is_empty()).map(Values::of_strings);
    } else if let Some(shorter) = reply.samples.and_then(|samples| half(samples, ID_LEN)) {
        reply.samples = Some(shorter);
    } else if reply.seeds_filter.take().is_some() {
        reply.peers_filter = None;
    } else {
        reply.token.take()?;
    }
    Some(())
}

/// The first half of the records, rounded down; `None` if there are none.
fn half(records: &[u8], len: usize) -> Option<&[u8]> {
    if records.is_empty() { None } else { records.get(..records.len() / len / 2 * len) }
}

/// As many nodes of both lists as fit into `room`, in turns.
fn fill<'n>(
    room: usize,
    nodes: Option<&'n [u8]>,
    nodes6: Option<&'n [u8]>,
) -> (Option<&'n [u8]>, Option<&'n [u8]>) {
    let lists = [(nodes, NODE_LEN_V4), (nodes6, NODE_LEN_V6)];
    let asked = lists.iter().filter(|(list, _)| list.is_some()).count();
    let Some(mut room) = room.checked_sub(asked * LIST_OVERHEAD) else { return (None, None) };
    let mut taken = [0, 0];
    for _ in 0..MAX_NODES {
        for ((list, record), taken) in lists.iter().zip(&mut taken) {
            let more = list.is_some_and(|list| *taken + record <= list.len());
            if more && *record <= room {
                *taken += record;
                room -= record;
            }
        }
    }
    let [v4, v6] = taken;
    (nodes.and_then(|list| list.get(..v4)), nodes6.and_then(|list| list.get(..v6)))
}
