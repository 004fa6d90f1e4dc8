//! How much heap containers take up, and how much full ones can, for the memory ceilings.
//!
//! All sums saturate: on a small machine a configuration may allow more than can be addressed.

/// Entries that the least filled node of a B-tree has, other than the root, and its room for them.
const BTREE_MIN: usize = 5;
const BTREE_MAX: usize = 11;
/// What a B-tree node holds beside its entries: a parent, its place there, its length.
const BTREE_HEAD: usize = 16;
/// What an inner node holds beside that: its children.
const BTREE_CHILDREN: usize = (BTREE_MAX + 1) * size_of::<usize>();

/// The most bytes of a list of at most `max` entries: one that grows doubles, and starts with a few.
pub(crate) const fn list<T>(max: usize) -> usize {
    let room = max.saturating_mul(2);
    (if room < 8 { 8 } else { room }).saturating_mul(size_of::<T>())
}

/// The most bytes of a B-tree of at most `max` entries: all its nodes are as empty as they may be. For
/// a set, `V` is `()`.
pub(crate) const fn btree<K, V>(max: usize) -> usize {
    let node = btree_node::<K, V>();
    // An inner node has one child more than entries.
    let inner = max / (BTREE_MIN * (BTREE_MIN + 1)) + 2;
    let nodes = max / BTREE_MIN + 2;
    nodes.saturating_mul(node).saturating_add(inner.saturating_mul(BTREE_CHILDREN))
}

const fn btree_node<K, V>() -> usize {
    BTREE_HEAD + align_of::<(K, V)>() + BTREE_MAX * (size_of::<K>() + size_of::<V>())
}

/// The bytes of the heap that a list with room for so many entries holds.
pub(crate) const fn room<T>(capacity: usize) -> usize {
    capacity * size_of::<T>()
}

/// Entries that a node of a B-tree has on average when they come in any order.
const BTREE_USUAL: usize = 7;

/// About how many bytes of the heap a B-tree of so many entries holds: it tells nobody.
pub(crate) const fn tree<K, V>(len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    let nodes = len.div_ceil(BTREE_USUAL);
    nodes * btree_node::<K, V>() + nodes / BTREE_USUAL * BTREE_CHILDREN
}

/// Panics if a part holds more bytes than its ceiling says, which is a bug.
pub(crate) fn check(part: &str, bytes: usize, ceiling: usize) {
    assert!(bytes <= ceiling, "the {part} takes up {bytes} B, and its ceiling is {ceiling} B");
}

/// The sum of the parts.
pub(crate) const fn sum(parts: &[usize]) -> usize {
    let (mut sum, mut rest) = (0_usize, parts);
    while let [first, tail @ ..] = rest {
        sum = sum.saturating_add(*first);
        rest = tail;
    }
    sum
}
