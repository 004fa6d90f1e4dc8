//! The contacts closest to a target, nearest first, without looking at the others.
//!
//! Contacts are sorted by distance from our own id, which makes the slice a binary trie: contacts
//! that share a prefix are neighbours, and the longer the prefix that they share with the target,
//! the closer they are. So the walk starts where the target itself would stand and takes blocks
//! alternately from both sides, always the one that shares more bits with the target.

use super::contact::Contact;
use crate::addr::Addr;
use crate::id::{Distance, NodeId, Target};

/// A block this small is sorted, a larger one is split in two by its first differing bit.
const SMALL: usize = 8;

/// Calls `visit` with contacts in order of distance from `target` until it returns false.
pub(super) fn walk<A: Addr>(
    contacts: &[Contact<A>],
    own: NodeId,
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) {
    let goal = own.distance(target);
    let own = own.target();
    let shared = |contact: &Contact<A>| contact.id().distance(target).leading_zeros();
    let place = contacts.partition_point(|contact| contact.id().distance(own) < goal);
    let (mut below, mut above) = contacts.split_at(place);
    loop {
        // Where the two first differ, a contact below has 0 and the target 1, and one above has 1
        // and the target 0. So the shared lengths of the two sides are never equal, and on each
        // side they fall with every step away from the target.
        let (low, high) = (below.last().map(shared), above.first().map(shared));
        let block;
        if low > high {
            let block_start = match below.len().checked_sub(SMALL + 1).and_then(|i| below.get(i)) {
                Some(contact) if Some(shared(contact)) == low => {
                    below.partition_point(|contact| Some(shared(contact)) < low)
                }
                _ => {
                    let same = |contact: &&Contact<A>| Some(shared(contact)) == low;
                    below.len() - below.iter().rev().take_while(same).count()
                }
            };
            (below, block) = below.split_at(block_start);
        } else if high.is_some() {
            let block_end = match above.get(SMALL) {
                Some(contact) if Some(shared(contact)) == high => {
                    above.partition_point(|contact| Some(shared(contact)) == high)
                }
                _ => above.iter().take_while(|contact| Some(shared(contact)) == high).count(),
            };
            (block, above) = above.split_at(block_end);
        } else {
            return;
        }
        if !walk_block(block, target, visit) {
            return;
        }
    }
}

/// Visits a block of contacts that share a prefix. Whether to go on.
///
/// Each call splits at a later bit than its caller, so there are at most 160 inside each other.
fn walk_block<A: Addr>(
    block: &[Contact<A>],
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) -> bool {
    if block.len() <= SMALL {
        return walk_small(block, target, visit);
    }
    let (Some(first), Some(last)) = (block.first(), block.last()) else { return true };
    let split = first.id().distance(last.id().target()).leading_zeros();
    let side = |id: &[u8; 20]| {
        id.get(split as usize / 8).is_some_and(|byte| byte & (0x80 >> (split % 8)) != 0)
    };
    let first_side = side(first.id().as_bytes());
    let middle = block.partition_point(|contact| side(contact.id().as_bytes()) == first_side);
    let (mut near, mut far) = block.split_at(middle);
    if side(target.node_id().as_bytes()) != first_side {
        (near, far) = (far, near);
    }
    walk_block(near, target, visit) && walk_block(far, target, visit)
}

fn walk_small<A: Addr>(
    block: &[Contact<A>],
    target: Target,
    visit: &mut impl FnMut(&Contact<A>) -> bool,
) -> bool {
    if let [contact] = block {
        return visit(contact);
    }
    let mut order = [(Distance::MAX, 0_u8); SMALL];
    for ((place, contact), i) in order.iter_mut().zip(block).zip(0..) {
        *place = (contact.id().distance(target), i);
    }
    let order = order.get_mut(..block.len()).unwrap_or_default();
    order.sort_unstable();
    order.iter().all(|&(_, i)| block.get(usize::from(i)).is_none_or(&mut *visit))
}
