//! Buckets: how many contacts share a prefix with us, and who yields when there are too many.

use super::contact::Contact;
use crate::addr::Addr;
use crate::config::Config;
use crate::id::{Distance, ID_LEN, NodeId, Target};
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
    // In the last bucket the bucket's own bit still tells contacts apart.
    let skip = if bucket == BUCKETS - 1 { bucket } else { bucket + 1 };
    let width = capacity.next_power_of_two().trailing_zeros().min(16);
    let window = id.as_bytes().get(skip / 8..).and_then(|rest| rest.first_chunk());
    let bits = u32::from_be_bytes(*window.unwrap_or(&[0; 4])) << (skip % 8);
    bits.checked_shr(32 - width).unwrap_or(0)
}

/// Which contact of a full bucket yields to a newcomer that just answered: its place in `contacts`.
///
/// First who failed to answer. Then, if nobody covers the newcomer's slot, somebody from the most
/// crowded slot. Otherwise the newcomer competes with those in its slot: a valid id (BEP 42) beats
/// an invalid one, and then it takes a clearly better round trip, because contacts that have been
/// alive for long stay alive and cannot be flushed out by an attacker. Nobody with an invalid id
/// replaces a live contact with a valid one.
pub(super) fn victim<A: Addr>(
    contacts: &[Contact<A>],
    newcomer: &Contact<A>,
    bucket: usize,
) -> Option<usize> {
    if let Some(failing) = most_failing(contacts) {
        return Some(failing);
    }
    let part = |contact: &Contact<A>| slot(contact.id(), bucket, contacts.len());
    let own_slot = part(newcomer);
    let mut start = 0;
    let (mut rivals, mut crowd) = (0..0, 0..0);
    // Sorted by distance, the contacts of one slot are neighbours.
    for group in contacts.chunk_by(|a, b| part(a) == part(b)) {
        let range = start..start + group.len();
        start = range.end;
        if group.first().map(part) == Some(own_slot) {
            rivals = range;
        } else if range.len() > crowd.len() {
            crowd = range;
        }
    }
    let mut spreads = false;
    if rivals.is_empty() {
        spreads = crowd.len() > 1;
        rivals = if spreads { crowd } else { 0..contacts.len() };
    }
    let first = rivals.start;
    let rank = |contact: &Contact<A>| (!contact.has_valid_id(), contact.rtt_millis());
    let (offset, worst) =
        contacts.get(rivals)?.iter().enumerate().max_by_key(|(_, contact)| rank(contact))?;
    let yields = match (newcomer.has_valid_id(), worst.has_valid_id()) {
        (false, true) => false,
        (true, false) => true,
        _ => spreads || is_clearly_faster(newcomer, worst),
    };
    yields.then_some(first + offset)
}

fn most_failing<A: Addr>(contacts: &[Contact<A>]) -> Option<usize> {
    let failing = contacts.iter().enumerate().filter(|(_, contact)| contact.fails() > 0);
    let rank = |contact: &Contact<A>| (contact.fails(), core::cmp::Reverse(contact.heard()));
    failing.max_by_key(|(_, contact)| rank(contact)).map(|(i, _)| i)
}

fn is_clearly_faster<A: Addr>(newcomer: &Contact<A>, old: &Contact<A>) -> bool {
    let rtt = u32::from(newcomer.rtt_millis()).max(RTT_FLOOR);
    rtt * FASTER.0 < u32::from(old.rtt_millis()) * FASTER.1
}
