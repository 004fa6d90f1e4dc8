//! Honest tables: whom a node knows after years of running.

use core::ops::Range;
use std::time::Duration;

use dht_proto::addr::{Addr, Family, Scope};
use dht_proto::config::Config;
use dht_proto::id::NodeId;
use dht_proto::table::bucket_capacity;
use dht_proto::{Acquaintance, Dht};

use super::{Ids, SETTLED};
use crate::choices::{About, Choices};
use crate::oracle::{bit_of, first_bits};
use crate::world::{HostId, World};

/// Somebody who may be in a table, with what a table keeps of them, so that whoever chooses contacts
/// looks nowhere else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<A> {
    pub(super) id: NodeId,
    pub(super) host: HostId,
    addr: A,
}

impl<A: Addr> Listed<A> {
    /// A host as one network sees it, if it is there.
    pub(super) fn of(host: HostId, own: &Ids, addr: Option<A>) -> Option<Self> {
        Some(Self { id: id_in::<A>(own)?, host, addr: addr? })
    }
}

/// The id in the network of these addresses.
fn id_in<A: Addr>(own: &Ids) -> Option<NodeId> {
    let [v4, v6] = *own;
    match A::FAMILY {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// Everybody in order of their ids.
pub(super) struct Directory<A> {
    all: Vec<Listed<A>>,
    /// Where ids begin whose first `bits` bits are these, and one more for the end: most buckets are
    /// found here, without a search.
    starts: Vec<u32>,
    bits: u32,
}

impl<A: Addr> Directory<A> {
    pub(super) fn new(mut all: Vec<Listed<A>>) -> Self {
        all.sort_unstable_by_key(|listed| (listed.id, listed.host));
        // A few share their first bits.
        let bits = all.len().max(1).ilog2().saturating_sub(2).min(24);
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (index, listed) in all.iter().enumerate() {
            let prefix = first_bits(listed.id, bits);
            starts.resize((prefix + 1).max(starts.len()), index as u32);
        }
        starts.resize((1 << bits) + 1, all.len() as u32);
        Self { all, starts, bits }
    }

    /// Calls `visit` with each bucket of a table, from the farthest to the nearest that anybody is in.
    fn buckets(&self, own: NodeId, mut visit: impl FnMut(usize, Range<usize>)) {
        let start = |prefix: usize| self.starts.get(prefix).map_or(0, |start| *start as usize);
        let cell = first_bits(own, self.bits);
        for bit in 0..self.bits {
            let width = self.bits - 1 - bit;
            let prefix = cell >> width ^ 1;
            visit(bit as usize, start(prefix << width)..start((prefix + 1) << width));
        }
        let mut near = start(cell)..start(cell + 1);
        for bit in self.bits as usize..160 {
            if near.len() <= 1 {
                break;
            }
            let all = self.all.get(near.clone()).unwrap_or_default();
            let middle = near.start + all.partition_point(|listed| !bit_of(listed.id, bit));
            let (zeros, ones) = (near.start..middle, middle..near.end);
            let (bucket, rest) = if bit_of(own, bit) { (zeros, ones) } else { (ones, zeros) };
            visit(bit, bucket);
            near = rest;
        }
    }
}

/// Fills the tables of one network, one after the other.
pub(super) struct Tables<'a, A> {
    all: &'a Directory<A>,
    config: &'a Config,
    /// Places of those who were chosen, bucket by bucket, and how many are chosen where each bucket
    /// ends.
    places: Vec<u32>,
    ends: Vec<usize>,
    chosen: Vec<Listed<A>>,
    known: Vec<Acquaintance>,
    /// Networks of the contacts of the present bucket.
    subnets: Vec<u64>,
}

impl<'a, A: Addr> Tables<'a, A> {
    pub(super) const fn new(all: &'a Directory<A>, config: &'a Config) -> Self {
        Self {
            all,
            config,
            places: Vec::new(),
            ends: Vec::new(),
            chosen: Vec::new(),
            known: Vec::new(),
            subnets: Vec::new(),
        }
    }

    /// Puts a node where it would be after a long time, if it takes part in this network.
    pub(super) fn settle(&mut self, world: &mut World, dht: &mut Dht, me: HostId, own: Ids) {
        let Some(id) = id_in::<A>(&own) else { return };
        self.choose(id, world.choices());
        self.meet(me, id, world);
        dht.settle(SETTLED, A::FAMILY, id, world.external(me, A::FAMILY), &self.known);
    }

    /// Chooses at most as many as there is room for from each bucket.
    fn choose(&mut self, own: NodeId, choices: &mut Choices) {
        let Self { all, config, places, ends, chosen, .. } = self;
        places.clear();
        ends.clear();
        all.buckets(own, |bit, bucket| {
            let room = bucket_capacity(bit, config);
            if bucket.len() <= room {
                places.extend(bucket.map(|place| place as u32));
            } else {
                sample(&bucket, room, places, choices);
            }
            ends.push(places.len());
        });
        // They are all over memory; reads that follow each other closely are served together.
        let at = |place: &u32| all.all.get(*place as usize).copied();
        chosen.clear();
        chosen.extend(places.iter().filter_map(at));
    }

    /// Admits whom a table would: rarely do two nodes of one network meet in a bucket. The nearest come
    /// first, as a table has them, so that it finds them sorted.
    fn meet(&mut self, me: HostId, own: NodeId, world: &mut World) {
        let most = self.config.max_per_subnet_in_bucket.max(1);
        // Whoever is silent for longer may be due to be pinged: a table would have pinged him.
        let silence = self.config.ping_after / 4 * 3;
        let period = u64::try_from(silence.as_micros()).unwrap_or(u64::MAX);
        self.known.clear();
        while self.ends.pop().is_some() {
            let start = self.ends.last().copied().unwrap_or_default();
            self.subnets.clear();
            let bucket = self.chosen.get_mut(start..).unwrap_or_default();
            bucket.sort_unstable_by_key(|listed| listed.id.distance(own.target()));
            for listed in &*bucket {
                if listed.addr.scope() == Scope::Global {
                    let subnet = listed.addr.subnet();
                    let same = self.subnets.iter().filter(|other| **other == subnet).count();
                    if same >= most {
                        continue;
                    }
                    self.subnets.push(subnet);
                }
                let rtt = world.net().round_trip(me, listed.host);
                // Any part of the period: it may be longer than 2^32 microseconds.
                let part = u64::from(world.choices().below(About::Topology, u32::MAX));
                let ago = (u128::from(period) * u128::from(part)) >> u32::BITS;
                let heard = SETTLED - Duration::from_micros(ago as u64);
                let addr = listed.addr.socket_addr();
                self.known.push(Acquaintance { id: listed.id, addr, rtt, heard });
            }
            self.chosen.truncate(start);
        }
    }
}

/// Floyd's sampling: each subset of a range is as likely as any other.
fn sample(range: &Range<usize>, room: usize, places: &mut Vec<u32>, choices: &mut Choices) {
    let first = places.len();
    for last in range.len().saturating_sub(room)..range.len() {
        let place = |pick: u32| range.start as u32 + pick;
        let pick = place(choices.below(About::Topology, last as u32 + 1));
        let is_taken = places.get(first..).is_some_and(|taken| taken.contains(&pick));
        places.push(if is_taken { place(last as u32) } else { pick });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_proto::seed::Domain;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn listed(n: u32) -> Vec<Listed<SocketAddrV4>> {
        let mut stream = Choices::seeded(8).node_seed(0).stream(Domain::NodeId);
        (0..n)
            .map(|i| {
                let mut bytes = [0; 20];
                rand_core::Rng::fill_bytes(&mut stream, &mut bytes);
                let addr = SocketAddrV4::new(Ipv4Addr::from(0x0500_0000 + (i << 8)), 6881);
                Listed { id: NodeId::from_bytes(bytes), host: HostId(i), addr }
            })
            .collect()
    }

    /// Sorting everybody by the first bit in which they differ is the oracle.
    #[test]
    fn buckets_hold_everybody_who_belongs_there() {
        for n in [0, 1, 2, 7, 300, 3_000] {
            let directory = Directory::new(listed(n));
            for own in listed(3_100).iter().skip(3_000 - 40) {
                let mut seen = 0;
                directory.buckets(own.id, |bit, bucket| {
                    seen += bucket.len();
                    for other in &directory.all[bucket] {
                        let first = (0..160).find(|i| bit_of(other.id, *i) != bit_of(own.id, *i));
                        assert_eq!(first, Some(bit));
                    }
                });
                // What is left is at most the node nearest to the id.
                assert!((n as usize).saturating_sub(1) <= seen && seen <= n as usize, "{seen} {n}");
            }
        }
    }

    #[test]
    fn a_sample_has_no_place_twice_and_reaches_every_place() {
        let mut choices = Choices::seeded(3);
        let mut counts = [0; 20];
        for _ in 0..2_000 {
            let mut places = vec![7];
            sample(&(100..120), 8, &mut places, &mut choices);
            let mut sorted = places[1..].to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 8);
            for place in sorted {
                counts[place as usize - 100] += 1;
            }
        }
        assert!(counts.iter().all(|count| (700..900).contains(count)), "{counts:?}");
    }

    /// A period of more than 2^32 microseconds is used whole.
    #[test]
    fn contacts_were_heard_at_any_time_of_a_long_period() {
        let mut config = Config::default();
        config.ping_after = Duration::from_secs(4 * 60 * 60);
        let directory = Directory::new(listed(2_000));
        let mut tables = Tables::new(&directory, &config);
        let mut world = World::new(crate::Setup::default(), Choices::seeded(1));
        let mut minutes = Vec::new();
        for own in listed(20) {
            tables.choose(own.id, world.choices());
            tables.meet(own.host, own.id, &mut world);
            let distance = |known: &Acquaintance| known.id.distance(own.id.target());
            assert!(tables.known.is_sorted_by_key(distance));
            let ago = tables.known.iter().map(|known| SETTLED.since(known.heard).as_secs() / 60);
            minutes.extend(ago);
        }
        let late = minutes.iter().filter(|minutes| **minutes >= 90).count();
        assert!(minutes.iter().all(|minutes| *minutes < 180), "{minutes:?}");
        assert!((minutes.len() * 45 / 100..minutes.len() * 55 / 100).contains(&late), "{late}");
    }
}
