//! Buckets: how many contacts share a prefix with us, and who yields when there are too many.

use core::ops::Range;

use super::contact::Contact;
use crate::addr::Addr;
use crate::config::Config;
use crate::id::{Distance, ID_LEN, NodeId, Target, bep42};
use crate::seed::Stream;

/// Number of buckets. Bucket i holds the contacts that share exactly i leading bits with our id;
/// the last one holds all that share more.
///
/// 2^31 k nodes are needed to fill them honestly, and whoever forges ids beside ours gets no more.
pub(super) const BUCKETS: usize = 32;

/// Sizes of the first buckets of an extended table (libtorrent `dht_extended_routing_table`).
const EXTENDED: [usize; 4] = [128, 64, 32, 16];

/// A newcomer must be this much faster, as a ratio 5:2 (mldht's 2.5, "to prevent fibrillation").
const FASTER: (u32, u32) = (5, 2);
/// Round trips below this count as this, in milliseconds: nobody is replaced for less.
const RTT_FLOOR: u32 = 20;

/// The bucket of an id.
pub(super) fn index(own: NodeId, id: NodeId) -> usize {
    at(&own.distance(id.target()))
}

/// The bucket at a distance.
pub(super) fn at(distance: &Distance) -> usize {
    (distance.leading_zeros() as usize).min(BUCKETS - 1)
}

/// How many contacts a bucket may hold.
pub(super) fn capacity(bucket: usize, config: &Config) -> usize {
    match EXTENDED.get(bucket) {
        Some(&size) if config.extended_buckets => size.max(config.k),
        _ => config.k,
    }
}

/// A random point of a bucket.
pub(super) fn random_target(own: NodeId, bucket: usize, stream: &mut Stream) -> Target {
    let mut bytes = [0; ID_LEN];
    rand_core::Rng::fill_bytes(stream, &mut bytes);
    for (i, (byte, own)) in bytes.iter_mut().zip(own.as_bytes()).enumerate() {
        // The bits before the bucket's are ours, the bucket's bit is not, the rest is random.
        let shared = bucket.saturating_sub(8 * i).min(8) as u32;
        let ours = !0xff_u8.checked_shr(shared).unwrap_or(0);
        *byte = (own & ours) | (*byte & !ours);
        if bucket / 8 == i {
            let bit = 0x80 >> (bucket % 8);
            *byte = (*byte & !bit) | (!own & bit);
        }
    }
    NodeId::from_bytes(bytes).target()
}

/// The part of its bucket that an id falls in, by the bits behind the bucket's own.
///
/// A bucket whose contacts fall in different parts cuts the distance of a lookup by more than one
/// bit, as many as its size has (libtorrent `classify_prefix`).
pub(super) fn slot(id: NodeId, bucket: usize, capacity: usize) -> u32 {
    let skip = slot_start(bucket);
    let window = id.as_bytes().get(skip / 8..).and_then(|rest| rest.first_chunk());
    let bits = u32::from_be_bytes(*window.unwrap_or(&[0; 4])) << (skip % 8);
    bits.checked_shr(32 - slot_width(capacity)).unwrap_or(0)
}

/// The first of the bits that tell the slots of a bucket apart.
const fn slot_start(bucket: usize) -> usize {
    // In the last bucket the bucket's own bit still tells contacts apart.
    if bucket == BUCKETS - 1 { bucket } else { bucket + 1 }
}

/// How many bits do.
fn slot_width(capacity: usize) -> u32 {
    capacity.next_power_of_two().trailing_zeros().min(16)
}

/// A node that just answered and is no contact.
#[derive(Clone, Copy)]
pub(super) struct Newcomer<A: Addr> {
    pub(super) id: NodeId,
    pub(super) addr: A,
    /// In milliseconds.
    pub(super) rtt: u16,
}

impl<A: Addr> Newcomer<A> {
    /// Whether the id fits the address (BEP 42).
    fn has_valid_id(&self) -> bool {
        bep42::is_valid(self.id, self.addr.ip())
    }
}

/// Which contact of a full bucket in which nobody fails yields to a newcomer: its place in `contacts`.
///
/// If nobody covers the newcomer's slot, somebody from the most crowded slot. Otherwise the newcomer
/// competes with those in its slot: a valid id (BEP 42) beats an invalid one, and then it takes a
/// clearly better round trip, because contacts that have been alive for long stay alive and cannot be
/// flushed out by an attacker. Nobody with an invalid id replaces a live contact with a valid one.
pub(super) fn victim<A: Addr>(
    contacts: &[Contact<A>],
    newcomer: &Newcomer<A>,
    own: NodeId,
    bucket: usize,
) -> Option<usize> {
    let mut rivals = neighbours(contacts, newcomer.id, own, bucket);
    let mut spreads = false;
    if rivals.is_empty() {
        let crowd = crowd(contacts, bucket);
        spreads = crowd.len() > 1;
        rivals = if spreads { crowd } else { 0..contacts.len() };
    }
    let first = rivals.start;
    let rank = |contact: &Contact<A>| {
        u32::from(!contact.has_valid_id()) << u16::BITS | u32::from(contact.rtt_millis())
    };
    let (offset, worst) =
        contacts.get(rivals)?.iter().enumerate().max_by_key(|(_, contact)| rank(contact))?;
    // What is cheap to find out comes first: most who answer are not faster.
    let better = spreads || is_clearly_faster(newcomer.rtt, worst);
    let yields = if worst.has_valid_id() {
        better && newcomer.has_valid_id()
    } else {
        better || newcomer.has_valid_id()
    };
    yields.then_some(first + offset)
}

/// The contacts of a bucket that fall in the same slot as an id. Sorted by distance, they stand together.
pub(super) fn neighbours<A: Addr>(
    contacts: &[Contact<A>],
    id: NodeId,
    own: NodeId,
    bucket: usize,
) -> Range<usize> {
    let own = own.target();
    let high = id.distance(own).high();
    let place = contacts.partition_point(|contact| contact.distance(own).high() < high);
    let shift = u64::BITS - slot_start(bucket) as u32 - slot_width(contacts.len());
    let alike = |contact: &&Contact<A>| (contact.distance(own).high() ^ high) >> shift == 0;
    let (nearer, farther) = contacts.split_at(place);
    let nearer = nearer.iter().rev().take_while(alike).count();
    place - nearer..place + farther.iter().take_while(alike).count()
}

/// The contacts of the most crowded slot of a bucket.
fn crowd<A: Addr>(contacts: &[Contact<A>], bucket: usize) -> Range<usize> {
    let part = |contact: &Contact<A>| slot(contact.id(), bucket, contacts.len());
    let (mut start, mut crowd) = (0, 0..0);
    for group in contacts.chunk_by(|a, b| part(a) == part(b)) {
        if group.len() > crowd.len() {
            crowd = start..start + group.len();
        }
        start += group.len();
    }
    crowd
}

/// Who fails most, and of those who was heard longest ago: the first to yield.
pub(super) fn most_failing<A: Addr>(contacts: &[Contact<A>]) -> Option<usize> {
    let failing = contacts.iter().enumerate().filter(|(_, contact)| contact.fails() > 0);
    let rank = |contact: &Contact<A>| (contact.fails(), core::cmp::Reverse(contact.heard()));
    failing.max_by_key(|(_, contact)| rank(contact)).map(|(i, _)| i)
}

fn is_clearly_faster<A: Addr>(rtt: u16, old: &Contact<A>) -> bool {
    let rtt = u32::from(rtt).max(RTT_FLOOR);
    rtt * FASTER.0 < u32::from(old.rtt_millis()) * FASTER.1
}
