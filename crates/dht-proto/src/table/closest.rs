//! The contacts closest to a target, nearest first, without looking at the others.
//!
//! Contacts are sorted by distance from our own id, which makes the slice a binary trie: contacts
//! that share a prefix are neighbours, and the longer the prefix that they share with the target,
//! the closer they are. So the walk starts where the target itself would stand and takes blocks
//! from both sides, always the one that shares more bits with the target.
//!
//! Only the first 64 bits of a distance are looked at until two contacts agree in all of them.

use super::contact::Contact;
use crate::addr::Addr;
use crate::id::{Distance, ID_LEN, Target};

/// A block this small is sorted, a larger one is split in two by its first differing bit.
const SMALL: usize = 4;

/// Calls `visit` with contacts in order of distance from `target`, which would stand at `place`, until
/// it returns false.
pub(super) fn walk<A: Addr>(
    contacts: &[Contact<A>],
    place: usize,
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) {
    let key = |contact: &Contact<A>| contact.distance(target).high();
    let (mut below, mut above) = contacts.split_at(place.min(contacts.len()));
    loop {
        // Where the two first differ, a contact below has 0 and the target 1, and one above has 1
        // and the target 0, unless it agrees in all 64 bits. So the two sides never share equally
        // many bits with the target, and on each side the number falls with every step away.
        let (first, from_below) = match (below.last().map(key), above.first().map(key)) {
            (Some(low), Some(high)) => (low.min(high), low < high),
            (Some(low), None) => (low, true),
            (None, Some(high)) => (high, false),
            (None, None) => return,
        };
        let limit = u64::MAX.checked_shr(first.leading_zeros()).unwrap_or(0);
        let outside = |contact: &Contact<A>| key(contact) > limit;
        let block;
        if from_below {
            let probe = below.len().checked_sub(SMALL + 1).and_then(|i| below.get(i));
            let start = if probe.is_some_and(|contact| !outside(contact)) {
                below.partition_point(outside)
            } else {
                below.iter().rposition(outside).map_or(0, |i| i + 1)
            };
            (below, block) = below.split_at(start);
        } else {
            let end = if above.get(SMALL).is_some_and(|contact| !outside(contact)) {
                above.partition_point(|contact| !outside(contact))
            } else {
                above.iter().position(outside).unwrap_or(above.len())
            };
            (block, above) = above.split_at(end);
        }
        if !walk_block(block, target, visit) {
            return;
        }
    }
}

/// The compact nodes of a reply, as they are written.
pub(super) struct Records<'o> {
    rest: &'o mut [u8],
    /// How many are still asked for; there is room for as many.
    left: usize,
}

impl<'o> Records<'o> {
    /// Room for `n` nodes, or for as many as fit.
    pub(super) fn new<A: Addr>(n: usize, out: &'o mut [u8]) -> Self {
        Self { left: n.min(out.len() / A::NODE_LEN), rest: out }
    }

    /// How many may still be written.
    pub(super) const fn left(&self) -> usize {
        self.left
    }

    /// Writes those of these contacts that are handed out to others. Whether there is room for more.
    #[inline]
    fn write<A: Addr>(&mut self, contacts: &[Contact<A>]) -> bool {
        let (mut rest, mut left) = (core::mem::take(&mut self.rest), self.left);
        for contact in contacts.iter().filter(|contact| contact.is_good()) {
            let place = core::mem::take(&mut rest).split_at_mut_checked(A::NODE_LEN);
            let Some((record, after)) = place else { break };
            contact.write_node(record);
            (rest, left) = (after, left - 1);
        }
        (self.rest, self.left) = (rest, left);
        left > 0
    }

    /// Writes all contacts of a block in which each is nearer to the target than whoever is in another,
    /// or, if there is not room for all, the nearest ones. Whether there is room for more.
    #[inline]
    pub(super) fn write_block<A: Addr>(&mut self, block: &[Contact<A>], target: Target) -> bool {
        if block.len() > self.left { self.choose(block, target) } else { self.write(block) }
    }

    #[inline(never)]
    fn choose<A: Addr>(&mut self, block: &[Contact<A>], target: Target) -> bool {
        match block {
            [first, .., last] if block.len() > SMALL => {
                let (near, far) = halves(block, first, last, target);
                self.write_block(near, target) && self.write_block(far, target)
            }
            _ => walk_small(block, target, &mut |contact| {
                self.left > 0 && self.write(core::slice::from_ref(contact))
            }),
        }
    }
}

/// Visits a block of contacts that share a prefix, nearest to the target first. Whether to go on.
#[inline]
fn walk_block<A: Addr>(
    block: &[Contact<A>],
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) -> bool {
    match block {
        [first, .., last] if block.len() > SMALL => split(block, first, last, target, visit),
        _ => walk_small(block, target, visit),
    }
}

/// Visits first the half of a block that shares more bits with the target, then the other.
///
/// Each call splits at a later bit than its caller, so there are at most 160 inside each other.
fn split<A: Addr>(
    block: &[Contact<A>],
    first: &Contact<A>,
    last: &Contact<A>,
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) -> bool {
    let (near, far) = halves(block, first, last, target);
    walk_block(near, target, visit) && walk_block(far, target, visit)
}

/// The two parts of a block that differ in the first bit in which any of it do; first the one that agrees
/// with the target in it, which is nearer.
fn halves<'c, A: Addr>(
    block: &'c [Contact<A>],
    first: &Contact<A>,
    last: &Contact<A>,
    target: Target,
) -> (&'c [Contact<A>], &'c [Contact<A>]) {
    let bit = first.distance(last.id().target()).leading_zeros() as usize;
    let (byte, mask) = (bit / 8, 0x80 >> (bit % 8));
    let side = |id: &[u8; ID_LEN]| id.get(byte).is_some_and(|byte| byte & mask != 0);
    let first_side = side(first.id().as_bytes());
    let middle = block.partition_point(|contact| side(contact.id().as_bytes()) == first_side);
    let (near, far) = block.split_at(middle);
    if side(target.node_id().as_bytes()) == first_side { (near, far) } else { (far, near) }
}

/// Visits at most [`SMALL`] contacts, sorted by their keys in a network of five comparisons.
#[inline]
fn walk_small<A: Addr>(
    block: &[Contact<A>],
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) -> bool {
    // The last two bits of a key tell which contact it belongs to. Unused places come last.
    let mut keys = [u64::MAX; SMALL];
    for ((key, contact), i) in keys.iter_mut().zip(block).zip(0..) {
        *key = (contact.distance(target).high() & !INDEX) | i;
    }
    let order = |a: u64, b: u64| (a.min(b), a.max(b));
    if block.len() > 1 {
        let [a, b, c, d] = keys;
        let ((a, b), (c, d)) = (order(a, b), order(c, d));
        let ((a, c), (b, d)) = (order(a, c), order(b, d));
        let (b, c) = order(b, c);
        keys = [a, b, c, d];
        let alike = |a: u64, b: u64| a ^ b <= INDEX;
        if alike(a, b) || (block.len() > 2 && (alike(b, c) || (block.len() > 3 && alike(c, d)))) {
            return walk_neighbours(block, target, visit);
        }
    }
    let keys = keys.get(..block.len()).unwrap_or_default();
    keys.iter().all(|key| block.get((key & INDEX) as usize).is_none_or(&mut *visit))
}

/// The bits of a key that are an index in a small block.
const INDEX: u64 = SMALL as u64 - 1;

/// Like [`walk_small`], for ids that share all bits of their keys: somebody has made them.
#[cold]
fn walk_neighbours<A: Addr>(
    block: &[Contact<A>],
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) -> bool {
    let mut order = [(Distance::MAX, 0_usize); SMALL];
    for (place, (i, contact)) in order.iter_mut().zip(block.iter().enumerate()) {
        *place = (contact.distance(target), i);
    }
    let order = order.get_mut(..block.len()).unwrap_or_default();
    order.sort_unstable();
    order.iter().all(|&(_, i)| block.get(i).is_none_or(&mut *visit))
}
