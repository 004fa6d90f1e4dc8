//! I10, while it lasts: nobody tells that it is a server before three hosts have asked it something to
//! which it had sent nothing for two minutes, this life or the last one. Others may have come through a
//! hole that it made itself, so none of them counts: it is caught when it counts the first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use dht_proto::Dht;
use dht_proto::addr::Family;
use dht_proto::config::Mode;
use dht_proto::health::FamilyHealth;
use dht_proto::request::Event;
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body};

use super::{Checker, Happening, PerHost, demand};

/// How long NATs and firewalls keep holes (RFC 4787, REQ-5: at least this long).
const HOLE: Duration = Duration::from_secs(2 * 60);
/// Who proves that a node can be reached.
const ENOUGH: usize = 3;
/// Addresses remembered for one node.
const MEMORY: usize = 1 << 12;

#[derive(Debug, Default)]
struct Node {
    is_adaptive: bool,
    /// The latest time that it was told: a clock that is set back stands still for it.
    latest: Instant,
    sent: BTreeMap<IpAddr, Instant>,
    strangers: BTreeSet<IpAddr>,
    /// What it takes itself for, on IPv4 and IPv6.
    standing: [Standing; 2],
}

/// How far a node is with the proof that strangers reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    is_server: bool,
    strangers: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Strangers {
    nodes: PerHost<Node>,
}

impl Checker for Strangers {
    fn name(&self) -> &'static str {
        "I10 strangers"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(host) = what.host() else { return Ok(()) };
        let node = self.nodes.of(host);
        match what {
            Happening::Born { local, dht, .. } => {
                let mode = dht.config().map(|config| config.mode);
                node.is_adaptive = mode == Some(Mode::Adaptive);
                node.born(*local);
                node.standing = standing(dht, *local);
            }
            _ if !node.is_adaptive => {}
            Happening::Handled { local, from, bytes, reply, dht, .. } => {
                node.latest = node.latest.max(*local);
                let message = wire::decode(bytes);
                let is_query = message.is_ok_and(|message| matches!(message.body, Body::Query(_)));
                let fair = !is_query || node.asked_by(from.ip(), standing(dht, *local));
                if let Some((to, _)) = reply {
                    node.sent_to(to.ip());
                }
                return demand(fair, || {
                    format!("{from} passes for a stranger, and was sent to within {HOLE:?}")
                });
            }
            Happening::Drained { local, dht, .. } => node.standing = standing(dht, *local),
            Happening::Asked { local, to, .. } => {
                node.latest = node.latest.max(*local);
                node.sent_to(to.ip());
            }
            Happening::Told { event: Event::Serving { family, serving }, .. } => {
                return node.told(*family, *serving);
            }
            _ => {}
        }
        Ok(())
    }
}

fn standing(dht: &Dht, local: Instant) -> [Standing; 2] {
    let health = dht.health(local);
    [health.v4, health.v6].map(|health| {
        let told = |h: FamilyHealth| Standing { is_server: h.server, strangers: h.strangers };
        health.map_or_else(Standing::default, told)
    })
}

impl Node {
    /// Whom the host sent to before its node began counts still, by its clock.
    fn born(&mut self, local: Instant) {
        self.latest = local;
        self.sent.values_mut().for_each(|at| *at = local.min(*at));
        self.strangers.clear();
    }

    fn sent_to(&mut self, to: IpAddr) {
        let latest = self.latest;
        if self.sent.len() >= MEMORY {
            self.sent.retain(|_, at| *at + HOLE > latest);
        }
        self.sent.insert(to, latest);
    }

    /// Whether it was right of the node to take the asker for what it did.
    fn asked_by(&mut self, from: IpAddr, standing: [Standing; 2]) -> bool {
        let sent_lately = self.sent.get(&from).is_some_and(|at| *at + HOLE > self.latest);
        if !sent_lately && self.strangers.len() < MEMORY {
            self.strangers.insert(from);
        }
        let before = core::mem::replace(&mut self.standing, standing);
        let counted = before.iter().zip(&standing).any(|(before, after)| before < after);
        !(counted && sent_lately)
    }

    fn told(&mut self, family: Family, serving: bool) -> Result<(), String> {
        let of_family = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        if !serving {
            self.strangers.retain(|ip| !of_family(ip));
            return Ok(());
        }
        let count = self.strangers.iter().filter(|ip| of_family(ip)).count();
        demand(count >= ENOUGH, || {
            format!("it takes itself for a server on {family}, and {count} strangers asked it")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::craft;
    use crate::check::testing::{node, ping, pong, read_only};
    use crate::choices::Choices;
    use crate::host::{Actor, Stage};
    use crate::profile::Nat;
    use crate::world::{HostId, Setup, World};
    use dht_proto::Networks;
    use dht_proto::config::Config;
    use dht_proto::id::NodeId;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    const HOST: HostId = HostId(0);

    struct Test {
        checker: Strangers,
        dht: Dht,
    }

    impl Test {
        fn new(mode: Mode) -> Self {
            let mut test = Self { checker: Strangers::default(), dht: node(mode) };
            test.born(1_000);
            test
        }

        fn happened(&mut self, secs: u64, what: &Happening<'_>) -> Result<(), String> {
            self.checker.happened(Instant::from_secs(secs), what)
        }

        fn born(&mut self, secs: u64) {
            let (host, local, dht) = (HOST, Instant::from_secs(secs), &self.dht);
            let what = Happening::Born { host, local, dht };
            self.checker.happened(local, &what).unwrap();
        }

        fn ask(&mut self, secs: u64, to: &str) {
            let (local, to) = (Instant::from_secs(secs), to.parse().unwrap());
            self.happened(secs, &Happening::Asked { host: HOST, local, to, bytes: &[] }).unwrap();
        }

        fn asked_by(&mut self, secs: u64, from: &[&str], answered: bool) {
            for from in from {
                let (host, local, from) = (HOST, Instant::from_secs(secs), from.parse().unwrap());
                let (bytes, reply) = (ping(b"aa"), pong(b"aa"));
                let reply = answered.then_some((from, &reply[..]));
                let dht = &self.dht;
                let what = Happening::Handled { host, local, from, bytes: &bytes, reply, dht };
                self.checker.happened(local, &what).unwrap();
            }
        }

        fn claims(&mut self, serving: bool) -> Result<(), String> {
            let event = Event::Serving { family: Family::V4, serving };
            self.happened(9_999, &Happening::Told { host: HOST, event: &event })
        }
    }

    const THREE: [&str; 3] = ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"];

    #[test]
    fn three_strangers_are_enough_and_less_are_caught() {
        let mut test = Test::new(Mode::Adaptive);
        assert!(test.claims(true).is_err());
        test.asked_by(1_001, &THREE[..2], false);
        test.asked_by(1_001, &["2.2.2.2:9"], false);
        assert!(test.claims(true).is_err());
        test.asked_by(1_001, &THREE, false);
        assert_eq!(test.claims(true), Ok(()));
        test.claims(false).unwrap();
        assert!(test.claims(true).is_err(), "it begins anew");
        assert_eq!(Test::new(Mode::Server).claims(true), Ok(()), "by configuration");
    }

    #[test]
    fn whoever_was_asked_or_answered_lately_is_no_stranger() {
        for answered in [false, true] {
            let mut test = Test::new(Mode::Adaptive);
            for to in THREE {
                test.ask(1_001, to);
            }
            test.asked_by(1_060, &THREE, answered);
            assert!(test.claims(true).is_err());
            test.asked_by(1_130, &THREE, false);
            assert_eq!(test.claims(true).is_ok(), !answered, "a reply keeps a hole open, too");
        }
    }

    #[test]
    fn the_first_whom_a_hole_let_in_is_caught_when_he_is_counted() {
        let mut test = Test::new(Mode::Adaptive);
        let counted = |is_server, strangers| [Standing { is_server, strangers }; 2];
        for to in THREE {
            test.ask(1_001, to);
        }
        let node = test.checker.nodes.of(HOST);
        let [first, second, ..] = THREE.map(|addr| addr.parse::<SocketAddr>().unwrap().ip());
        assert!(node.asked_by(first, counted(false, 0)), "he was not counted");
        assert!(!node.asked_by(first, counted(false, 1)));
        assert!(node.asked_by(second, counted(false, 0)), "a new probe");
        assert!(!node.asked_by(second, counted(true, 0)), "he was the third");
        assert!(node.asked_by("4.4.4.4".parse().unwrap(), counted(true, 0)));
    }

    #[test]
    fn holes_outlive_the_node() {
        let mut test = Test::new(Mode::Adaptive);
        for to in THREE {
            test.ask(1_100, to);
        }
        test.born(1_110);
        test.asked_by(1_200, &THREE, false);
        assert!(test.claims(true).is_err());
        test.born(1_050);
        test.asked_by(1_171, &THREE, false);
        assert_eq!(test.claims(true), Ok(()), "its clock was set back before it began");
    }

    /// Answers, and asks whoever asked it before, three times a minute.
    #[derive(Debug)]
    struct Caller {
        id: NodeId,
        callee: Option<(SocketAddr, SocketAddr)>,
        answers: Arc<Mutex<u32>>,
    }

    impl Actor for Caller {
        fn on_datagram(
            &mut self,
            stage: &mut Stage<'_>,
            from: SocketAddr,
            to: SocketAddr,
            bytes: &[u8],
        ) {
            if let Some((tid, query)) = craft::query_in(bytes) {
                self.callee = Some((to, from));
                stage.send(to, from, craft::answer(tid, &query, self.id, &[]));
            } else {
                *self.answers.lock().unwrap() += 1;
            }
        }

        fn on_wake(&mut self, stage: &mut Stage<'_>) {
            stage.wake_at(stage.now + Duration::from_secs(20));
            if let Some((me, callee)) = self.callee {
                stage.send(me, callee, read_only(&ping(b"aa")));
            }
        }
    }

    /// Its own queries make the holes, its replies keep them open for longer than it remembers queries.
    #[test]
    fn callers_whom_replies_let_in_make_nobody_a_server() {
        let mut world = World::new(Setup::default(), Choices::seeded(3));
        world.watch(Box::new(Strangers::default()));
        let answers = Arc::new(Mutex::new(0));
        let mut config = Config::default();
        (config.mode, config.k) = (Mode::Adaptive, 3);
        for byte in 1..=3 {
            let addrs = world.next_addrs(Networks::V4);
            let id = NodeId::from_bytes([byte * 80; 20]);
            let caller = Caller { id, callee: None, answers: answers.clone() };
            world.add_actor(addrs, Box::new(caller));
            config.bootstrap.extend(addrs.iter());
        }
        let host = world.add_node(&Arc::new(config), Networks::V4);
        world.put_behind(host, &Nat::firewall());
        world.run_for(Duration::from_secs(45 * 60));
        assert_eq!(world.violation(), None);
        let answers = *answers.lock().unwrap();
        assert!(answers > 200, "holes were kept open: {answers}");
    }
}
