//! One attacker with many ids: a ring whose members name each other and deny every value.

use std::net::SocketAddr;
use std::sync::Arc;

use dht_proto::Networks;
use dht_proto::id::{NodeId, Target, bep42};
use dht_proto::request::NodeInfo;
use dht_proto::seed::Domain;

use super::{Pace, contact, craft};
use crate::choices::{About, Choices};
use crate::host::{Actor, Addrs, Stage};
use crate::population::FAMILIES;
use crate::world::{HostId, World};

/// Honest nodes nearest to itself that a member remembers and courts.
const COURTED: usize = 32;
/// Ids tried for an address: by BEP 42 it allows eight prefixes.
const IDS_PER_ADDRESS: u32 = 24;

/// The members, known to each other.
#[derive(Clone, Debug)]
pub struct Ring(Arc<[NodeInfo]>);

impl Ring {
    /// A ring of these.
    #[must_use]
    pub fn new(members: Vec<NodeInfo>) -> Self {
        Self(members.into())
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[NodeInfo] {
        &self.0
    }

    /// Those closest to a target, nearest first.
    #[must_use]
    pub fn closest(&self, target: Target, count: usize) -> Vec<NodeInfo> {
        let mut near: Vec<NodeInfo> = Vec::with_capacity(count + 1);
        for member in self.0.iter() {
            let distance = member.id.distance(target);
            let at = near.partition_point(|other| other.id.distance(target) <= distance);
            if at < count {
                near.insert(at, *member);
                near.truncate(count);
            }
        }
        near
    }
}

/// Where the ids of a ring lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// Anywhere, like those of honest nodes.
    Spread,
    /// Around a target, nearer than any honest node.
    Packed {
        /// The target.
        target: Target,
        /// Leading bits in which they agree with it.
        bits: u32,
    },
    /// Around a target, as far from it as the closest nodes of an honest network would be: who
    /// counts nodes by distance sees nothing.
    Matched {
        /// The target.
        target: Target,
        /// Nodes of that network.
        nodes: u32,
    },
}

impl Placement {
    /// The id that the `index`-th member would like.
    fn wish(self, index: u32, choices: &mut Choices) -> NodeId {
        match self {
            Self::Spread => NodeId::from_bytes(craft::random(choices)),
            Self::Packed { target, bits } => craft::near(target.as_bytes(), bits, choices),
            Self::Matched { target, nodes } => {
                let part = u128::from(choices.below(About::Adversary, 1 << 16)) << 48;
                let distance = ((u128::from(index) << 64) | part) / u128::from(nodes.max(1));
                let distance = u64::try_from(distance).unwrap_or(u64::MAX);
                let mut id: [u8; 20] = craft::random(choices);
                let close = distance.to_be_bytes().into_iter().zip(target.as_bytes());
                id.iter_mut().zip(close).for_each(|(byte, (far, same))| *byte = far ^ same);
                NodeId::from_bytes(id)
            }
        }
    }
}

/// How a ring comes to be.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever makes a ring")]
pub struct Founding {
    /// How many.
    pub members: u32,
    /// Where.
    pub placement: Placement,
    /// Ids are what BEP 42 allows at the members' addresses: each member takes the best of so many
    /// addresses. 0: ids are what they like.
    pub addresses: u32,
    /// How eagerly each member makes itself known.
    pub pace: Pace,
}

/// Adds a ring of new IPv4 hosts, which make themselves known from `known` on.
///
/// # Panics
/// If the world's range of addresses is used up.
pub fn found(world: &mut World, founding: &Founding, known: &Arc<[SocketAddr]>) -> Vec<HostId> {
    let places: Vec<(Addrs, NodeInfo)> =
        (0..founding.members).filter_map(|index| settle(world, founding, index)).collect();
    let ring = Ring::new(places.iter().map(|(_, node)| *node).collect());
    let join = |(addrs, node): (Addrs, NodeInfo)| {
        let sybil = Sybil::new(node.id, ring.clone()).courting(known.clone(), founding.pace);
        world.add_actor(addrs, Box::new(sybil))
    };
    places.into_iter().map(join).collect()
}

/// Turns nodes that everybody knows into a ring, under the ids that they have.
pub fn turn(world: &mut World, hosts: &[HostId]) -> Ring {
    let members = hosts.iter().filter_map(|host| member(world, *host)).collect();
    let ring = Ring::new(members);
    for host in hosts {
        if let Some(node) = member(world, *host) {
            world.replace(*host, Box::new(Sybil::new(node.id, ring.clone())));
        }
    }
    ring
}

fn member(world: &World, host: HostId) -> Option<NodeInfo> {
    FAMILIES.iter().find_map(|family| contact(world, host, *family))
}

/// An address and an id for one member.
fn settle(world: &mut World, founding: &Founding, index: u32) -> Option<(Addrs, NodeInfo)> {
    let wish = founding.placement.wish(index, world.choices());
    let mut best: Option<(Addrs, NodeInfo)> = None;
    let mut ids = world.choices().node_seed(u64::MAX - 1 - u64::from(index)).stream(Domain::NodeId);
    for _ in 0..founding.addresses.max(1) {
        let addrs = world.next_addrs(Networks::V4);
        let addr = SocketAddr::V4(addrs.v4?);
        if founding.addresses == 0 {
            return Some((addrs, NodeInfo { id: wish, addr }));
        }
        for _ in 0..IDS_PER_ADDRESS {
            let id = bound(bep42::derive(addr.ip(), &mut ids), wish);
            let nearer = best.as_ref().is_none_or(|(_, node)| {
                id.distance(wish.target()) < node.id.distance(wish.target())
            });
            if nearer {
                best = Some((addrs, NodeInfo { id, addr }));
            }
        }
    }
    best
}

/// What an address allows, with all that it leaves free as wished.
fn bound(allowed: NodeId, wish: NodeId) -> NodeId {
    let mut id = *wish.as_bytes();
    for (at, (byte, fixed)) in id.iter_mut().zip(allowed.as_bytes()).enumerate() {
        let mask = match at {
            0 | 1 => 0xff,
            2 => 0xf8,
            19 => 0x07,
            _ => 0,
        };
        *byte = (fixed & mask) | (*byte & !mask);
    }
    NodeId::from_bytes(id)
}

/// One member.
#[derive(Debug)]
pub struct Sybil {
    id: NodeId,
    ring: Ring,
    courtship: Option<(Arc<[SocketAddr]>, Pace)>,
    /// Honest nodes nearest to itself, nearest first.
    courted: Vec<NodeInfo>,
}

impl Sybil {
    /// A member that is known already and waits to be asked.
    #[must_use]
    pub const fn new(id: NodeId, ring: Ring) -> Self {
        Self { id, ring, courtship: None, courted: Vec::new() }
    }

    /// The same, but it makes itself known to the honest nodes nearest to it, found through `known`.
    #[must_use]
    pub fn courting(mut self, known: Arc<[SocketAddr]>, pace: Pace) -> Self {
        self.courtship = Some((known, pace));
        self
    }

    fn meet(&mut self, node: NodeInfo) {
        if self.ring.members().iter().any(|member| member.addr == node.addr) {
            return;
        }
        let own = self.id.target();
        let distance = node.id.distance(own);
        let at = self.courted.partition_point(|other| other.id.distance(own) < distance);
        if self.courted.get(at).is_none_or(|other| other.id != node.id) {
            self.courted.insert(at, node);
            self.courted.truncate(COURTED);
        }
    }
}

impl Actor for Sybil {
    fn on_datagram(
        &mut self,
        stage: &mut Stage<'_>,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        if let Some((tid, query)) = craft::query_in(bytes) {
            let named = match craft::target_of(&query.method) {
                Some(target) => self.ring.closest(target, craft::NAMED),
                None => Vec::new(),
            };
            stage.send(to, from, craft::answer(tid, &query, self.id, &named));
        } else if let Some(reply) = craft::reply_in(bytes) {
            self.meet(NodeInfo { id: reply.id, addr: from });
            craft::named_in(&reply).for_each(|node| self.meet(node));
        }
    }

    fn on_wake(&mut self, stage: &mut Stage<'_>) {
        let Some((known, pace)) = &self.courtship else { return };
        for _ in pace.turns(stage) {
            let near = stage.choices.pick(About::Adversary, &self.courted).map(|node| node.addr);
            // Now and then somebody else: the first ones may have been far away.
            let stray = near.is_none() || stage.choices.below(About::Adversary, 8) == 7;
            let to =
                if stray { stage.choices.pick(About::Adversary, known).copied() } else { near };
            let Some(to) = to else { return };
            let Some(me) = stage.addrs.like(&to) else { return };
            let target = self.id.target();
            let method = dht_proto::wire::Method::FindNode { target };
            stage.send(me, to, craft::query(self.id, method));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Setup;

    fn places(placement: Placement, addresses: u32) -> Vec<NodeInfo> {
        let mut world = World::new(Setup::default(), Choices::seeded(3));
        let pace = Pace::per_second(1);
        let founding = Founding { members: 16, placement, addresses, pace };
        (0..16).map(|i| settle(&mut world, &founding, i).unwrap().1).collect()
    }

    #[test]
    fn a_ring_lies_where_it_was_told_to() {
        let target = Target::from_bytes([0x5a; 20]);
        for node in places(Placement::Packed { target, bits: 40 }, 0) {
            assert!(node.id.distance(target).leading_zeros() >= 40);
        }
        // The i-th of a network of 1,000 is about i thousandths away.
        for (i, node) in (0_u32..).zip(places(Placement::Matched { target, nodes: 1_000 }, 0)) {
            let expected = f64::from(i) / 1_000.0;
            let is = node.id.distance(target).fraction();
            assert!((expected..=expected + 0.001).contains(&is), "{i} {is}");
        }
    }

    #[test]
    fn ids_are_allowed_where_that_is_asked_for() {
        let target = Target::from_bytes([0xc3; 20]);
        for placement in [Placement::Spread, Placement::Packed { target, bits: 160 }] {
            assert!(
                places(placement, 32).iter().all(|node| bep42::is_valid(node.id, node.addr.ip()))
            );
        }
        let packed = places(Placement::Packed { target, bits: 160 }, 32);
        let bits: u32 =
            packed.iter().map(|node| node.id.distance(target).leading_zeros()).sum::<u32>() / 16;
        // 32 addresses of eight prefixes each.
        assert!((7..=12).contains(&bits), "{bits}");
    }

    #[test]
    fn the_closest_members_come_first() {
        let members = places(Placement::Spread, 0);
        let (ring, target) = (Ring::new(members.clone()), Target::from_bytes([9; 20]));
        let mut sorted = members;
        sorted.sort_by_key(|node| node.id.distance(target));
        assert_eq!(ring.closest(target, 8), sorted[..8]);
    }
}
