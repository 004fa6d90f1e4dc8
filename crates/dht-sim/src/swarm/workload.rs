//! What users do: lookups for a few things that many want, and versions of a few items.

use std::sync::Arc;

use dht_proto::id::{InfoHash, ItemId, NodeId, Target};
use dht_proto::item::{Item, bencode_bytes};
use dht_proto::request::{AnnouncePort, Event, Lookup, LookupId};
use ed25519_dalek::SigningKey;

use super::trouble::weighted;
use crate::choices::About;
use crate::options::{Operation, Options};
use crate::world::{HostId, World};

/// Different infohashes, keys and values in use.
pub(super) const THINGS: u8 = 6;
/// Lookups remembered for cancelling.
const MAX_RUNNING: usize = 64;

/// What users have done so far.
#[derive(Debug, Default)]
pub(super) struct Workload {
    running: Vec<(HostId, LookupId)>,
    seq: u32,
}

impl Workload {
    /// One operation of one user.
    pub(super) fn act(&mut self, world: &mut World, nodes: &[HostId], options: &Options) {
        self.forget_ended(world);
        let Some(&host) = world.choices().pick(About::Workload, nodes) else { return };
        let op = weighted(&options.ops, |n| world.choices().below(About::Workload, n));
        let Some(op) = op else { return };
        if op == Operation::Cancel {
            let at = world.choices().below(About::Workload, self.running.len() as u32) as usize;
            if at < self.running.len() {
                let (host, id) = self.running.swap_remove(at);
                world.cancel(host, id);
            }
            return;
        }
        let Some(lookup) = self.lookup(world, nodes, op) else { return };
        if let Some(Ok(id)) = world.start(host, &lookup)
            && self.running.len() < MAX_RUNNING
        {
            self.running.push((host, id));
        }
    }

    fn forget_ended(&mut self, world: &mut World) {
        while let Some((host, event)) = world.next_event() {
            if let Event::Done { lookup, .. } = event {
                self.running.retain(|run| *run != (host, lookup));
            }
        }
    }

    fn lookup(&mut self, world: &mut World, nodes: &[HostId], op: Operation) -> Option<Lookup> {
        let thing = world.choices().below(About::Workload, u32::from(THINGS)) as u8;
        let coin = world.choices().below(About::Workload, 2) == 1;
        let info_hash = info_hash(thing);
        Some(match op {
            Operation::FindNode => {
                let first = world.choices().below(About::Workload, 1 << 16).to_be_bytes();
                let mut target = [thing; 20];
                target.iter_mut().zip(&first[2..]).for_each(|(byte, random)| *byte = *random);
                Lookup::FindNode { target: NodeId::from_bytes(target) }
            }
            Operation::GetPeers => Lookup::GetPeers { info_hash, scrape: coin, noseed: false },
            Operation::Announce => {
                let port = if coin { AnnouncePort::Implied } else { AnnouncePort::Explicit(1_000) };
                Lookup::Announce { info_hash, port, seed: thing == 0 }
            }
            Operation::PutImmutable => {
                let item = Item::immutable(&value(thing, 0)).ok()?;
                Lookup::PutItem { item: Box::new(item), cas: None }
            }
            Operation::PutMutable => {
                self.seq += 1;
                // Old versions come again, and the same version with another value.
                let back = world.choices().below(About::Workload, 4);
                let seq = self.seq.saturating_sub(back * back);
                let item = Item::sign(&key(thing), b"", i64::from(seq), &value(thing, self.seq));
                let cas = (back == 1).then_some(i64::from(seq) - 1);
                Lookup::PutItem { item: Box::new(item.ok()?), cas }
            }
            Operation::Get => {
                let target = if coin {
                    ItemId::of_immutable(&value(thing, 0))
                } else {
                    ItemId::of_mutable(&key(thing).verifying_key().to_bytes(), b"")
                };
                Lookup::GetItem { target, salt: Vec::new(), newer_than: None }
            }
            Operation::Sample | Operation::Ping => {
                let other = *world.choices().pick(About::Workload, nodes)?;
                let addr = world.addrs(other).iter().nth(usize::from(coin));
                let addr = addr.or_else(|| world.addrs(other).iter().next())?;
                if op == Operation::Ping {
                    Lookup::Ping { addr }
                } else {
                    let target = Target::from_bytes([thing; 20]);
                    Lookup::Sample { addr, target }
                }
            }
            Operation::Cancel => return None,
        })
    }
}

pub(super) const fn info_hash(thing: u8) -> InfoHash {
    InfoHash::from_bytes([thing.wrapping_mul(41); 20])
}

/// The keys of all users who sign.
pub(super) fn public_keys() -> Arc<[[u8; 32]]> {
    (0..THINGS).map(|thing| key(thing).verifying_key().to_bytes()).collect()
}

fn key(thing: u8) -> SigningKey {
    SigningKey::from_bytes(&[thing + 1; 32])
}

fn value(thing: u8, version: u32) -> Vec<u8> {
    bencode_bytes(&[&[thing][..], &version.to_be_bytes()].concat())
}
