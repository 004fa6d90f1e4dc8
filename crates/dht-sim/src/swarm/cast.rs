//! Who means harm in a run: hosts that everybody knows and somebody has taken over, and hosts that
//! came for it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use dht_proto::id::{NodeId, Target};
use dht_proto::request::NodeInfo;

use super::{Swarm, workload};
use crate::adversary::amplifier::Amplifier;
use crate::adversary::flooder::Flooder;
use crate::adversary::garbage::Garbage;
use crate::adversary::liar::{Liar, Lie};
use crate::adversary::poisoner::{Poison, Poisoner};
use crate::adversary::replayer::Replayer;
use crate::adversary::slow::Slow;
use crate::adversary::spoofer::{Forgery, Spoofer};
use crate::adversary::stray::Stray;
use crate::adversary::sybil::{self, Ring};
use crate::adversary::{Kind, Pace, contact, craft};
use crate::choices::{About, Ratio};
use crate::host::Actor;
use crate::population::FAMILIES;
use crate::world::HostId;

/// Of all nodes at most one in so many is taken over.
const SHARE: usize = 4;
/// What each of those who came for it sends.
const PACE: Pace = Pace { every: Duration::from_secs(1), burst: 1 };
/// What spoofers would have everybody believe in.
const PLANTED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(66, 6, 6, 6), 6_666);

impl Swarm {
    /// Has the adversaries of this run enter.
    pub(super) fn cast(&mut self) {
        for (kind, count) in self.options.adversaries.clone() {
            match kind {
                Kind::Liar | Kind::Sybil | Kind::Slow | Kind::Stray => self.turn(kind, count),
                Kind::Poisoner
                | Kind::Spoofer
                | Kind::Replayer
                | Kind::Amplifier
                | Kind::Flooder
                | Kind::Garbage => {
                    (0..count).for_each(|_| self.join(kind));
                }
            }
        }
    }

    /// Has nodes taken over that everybody knows.
    fn turn(&mut self, kind: Kind, count: u32) {
        let room = self.options.nodes as usize / SHARE;
        let room = room.saturating_sub(self.adversaries.len()).min(count as usize);
        let everybody = Ring::new(self.known());
        let mut hosts = Vec::new();
        for _ in 0..room {
            let mut others = self.nodes.clone();
            others.retain(|host| !self.introducers.contains(host));
            let Some(&host) = self.world.choices().pick(About::Adversary, &others) else { break };
            self.nodes.retain(|other| *other != host);
            hosts.push(host);
        }
        let infos: Vec<NodeInfo> = hosts.iter().filter_map(|host| self.info(*host)).collect();
        if kind == Kind::Sybil {
            sybil::turn(&mut self.world, &hosts);
        } else {
            for (host, info) in hosts.iter().zip(&infos) {
                let actor: Box<dyn Actor> = match kind {
                    Kind::Slow => Box::new(self.slow(info.id, &everybody)),
                    Kind::Stray => Box::new(Stray::new(info.id)),
                    Kind::Liar
                    | Kind::Sybil
                    | Kind::Poisoner
                    | Kind::Spoofer
                    | Kind::Replayer
                    | Kind::Amplifier
                    | Kind::Flooder
                    | Kind::Garbage => Box::new(self.liar(info.id, &infos)),
                };
                self.world.replace(*host, actor);
            }
        }
        self.adversaries.extend(hosts);
    }

    fn liar(&mut self, id: NodeId, friends: &[NodeInfo]) -> Liar {
        let lie = if self.world.choices().chance(About::Adversary, Ratio::percent(50)) {
            Lie::Friends(friends.into())
        } else {
            Lie::Nobody { bits: self.world.choices().below(About::Adversary, 40) }
        };
        Liar::new(id, lie).forging(workload::public_keys())
    }

    fn slow(&mut self, id: NodeId, everybody: &Ring) -> Slow {
        let millis = self.world.choices().between(About::Adversary, 500, 12_000);
        Slow::new(id, Duration::from_millis(u64::from(millis)), everybody.clone())
    }

    /// Has somebody enter who came for it.
    fn join(&mut self, kind: Kind) {
        if self.world.addresses_left() < 2 {
            return;
        }
        let id = NodeId::from_bytes(craft::random(self.world.choices()));
        let known: Arc<[SocketAddr]> = self
            .nodes
            .iter()
            .flat_map(|host| self.world.addrs(*host).iter().collect::<Vec<_>>())
            .collect();
        let networks = self.options.networks(0);
        let actor: Box<dyn Actor> = match kind {
            Kind::Poisoner => Box::new(self.poisoner()),
            Kind::Spoofer => Box::new(self.spoofer(known)),
            Kind::Replayer => {
                let late = 2 * self.options.config(0).token_rotation + Duration::from_secs(11);
                Box::new(Replayer::new(id, known, workload::info_hash(0), late, PACE))
            }
            Kind::Amplifier => {
                let victim = self.world.next_addrs(networks);
                self.adversaries.push(self.world.add_nobody(victim));
                let Some(victim) = victim.iter().next() else { return };
                let rich: Vec<Target> = (0..workload::THINGS)
                    .map(|thing| workload::info_hash(thing).target())
                    .collect();
                Box::new(Amplifier::new(id, victim, known, rich.into(), PACE))
            }
            Kind::Flooder => Box::new(Flooder::new(id, known, 900, 4, PACE)),
            Kind::Garbage | Kind::Liar | Kind::Sybil | Kind::Slow | Kind::Stray => {
                Box::new(Garbage::new(id, known, PACE))
            }
        };
        let addrs = self.world.next_addrs(networks);
        let host = self.world.add_actor(addrs, actor);
        self.adversaries.push(host);
    }

    fn poisoner(&mut self) -> Poisoner {
        let known = self.known();
        let bit = self.world.choices().below(About::Adversary, 160);
        let forged = Ratio::percent(50);
        let friends = known.iter().rev().copied().collect();
        Poisoner::new(Poison { victims: Ring::new(known), friends, bit, forged, pace: PACE })
    }

    fn spoofer(&self, victims: Arc<[SocketAddr]>) -> Spoofer {
        let asked = self.known().into();
        Spoofer::new(Forgery { victims, asked, tid_len: 4, planted: PLANTED, pace: PACE })
    }

    /// All honest nodes, on all networks.
    fn known(&self) -> Vec<NodeInfo> {
        let all = self.nodes.iter().flat_map(|host| FAMILIES.map(|family| (*host, family)));
        all.filter_map(|(host, family)| contact(&self.world, host, family)).collect()
    }

    fn info(&self, host: HostId) -> Option<NodeInfo> {
        FAMILIES.iter().find_map(|family| contact(&self.world, host, *family))
    }
}
