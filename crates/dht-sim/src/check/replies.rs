//! I1: at most one reply per datagram, to its source, under its transaction id, no longer than a
//! datagram may be, and within the byte budget of the requester's network. A client replies to nobody,
//! and its queries say so; those of a server do not (BEP 43).

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use dht_proto::Dht;
use dht_proto::addr::{Addr, Family};
use dht_proto::config::Mode;
use dht_proto::time::Instant;
use dht_proto::wire::{self, Body, DecodeError};

use super::{Checker, Happening, PerHost, demand};

/// Networks remembered for each node before those that owe nothing are forgotten.
const MAX_NETWORKS: usize = 4_096;

/// A /24 or /64.
type Network = (Family, u64);

#[derive(Debug, Default)]
struct Node {
    /// When what each network was sent will have been earned back, in nanoseconds.
    owed: BTreeMap<Network, u64>,
    /// The latest time that the node was told, in nanoseconds: a clock that is set back stands still
    /// for it.
    latest: u64,
    mode: Option<Mode>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Replies {
    nodes: PerHost<Node>,
}

impl Checker for Replies {
    fn name(&self) -> &'static str {
        "I1 replies"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(node) = self.nodes.at(what) else { return Ok(()) };
        let local = what.local().map_or(0, |local| local.as_micros().saturating_mul(1_000));
        node.latest = node.latest.max(local);
        match what {
            Happening::Born { dht, .. } => {
                node.mode = dht.config().map(|config| config.mode);
                Ok(())
            }
            Happening::Asked { to, bytes, .. } => node.check_mark(*to, bytes),
            Happening::Handled { from, bytes, reply: Some((to, reply)), dht, .. } => {
                check_form(*from, bytes, *to, reply)?;
                demand(node.mode != Some(Mode::Client), || format!("a client answers {from}"))?;
                node.charge(*from, reply.len(), dht)
            }
            _ => Ok(()),
        }
    }
}

fn check_form(from: SocketAddr, query: &[u8], to: SocketAddr, reply: &[u8]) -> Result<(), String> {
    demand(to == from, || format!("a query from {from} is answered to {to}"))?;
    let limit = match to {
        SocketAddr::V4(_) => SocketAddrV4::MAX_DATAGRAM,
        SocketAddr::V6(_) => SocketAddrV6::MAX_DATAGRAM,
    };
    demand(reply.len() <= limit, || format!("a reply of {} bytes to {to}", reply.len()))?;
    let asked = match wire::decode(query) {
        Ok(message) if matches!(message.body, Body::Query(_)) => message.tid,
        Err(DecodeError::BadQuery { tid, .. }) => tid,
        Ok(_) | Err(_) => return Err(format!("what {from} sent is no query, and is answered")),
    };
    let answer = wire::decode(reply).map_err(|e| format!("the reply to {from} is broken: {e}"))?;
    demand(!matches!(answer.body, Body::Query(_)), || format!("{from} is answered by a query"))?;
    demand(answer.tid == asked, || format!("{from} is answered under another transaction id"))
}

impl Node {
    /// Who does not answer says so.
    fn check_mark(&self, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let is_client = match self.mode {
            Some(Mode::Client) => true,
            Some(Mode::Server) => false,
            Some(_) | None => return Ok(()),
        };
        let Ok(message) = wire::decode(bytes) else { return Ok(()) };
        let (is, not) = if is_client { ("client", "not ") } else { ("server", "") };
        demand(message.read_only == is_client, || {
            format!("a {is}'s query to {to} is {not}marked as read-only")
        })
    }

    /// Whoever forges sources must not be able to send a victim more than the budget.
    fn charge(&mut self, to: SocketAddr, len: usize, dht: &Dht) -> Result<(), String> {
        let Some(config) = dht.config() else { return Ok(()) };
        let rate = u64::from(config.subnet_bytes_per_sec).max(1);
        let worth = |bytes: u64| bytes.saturating_mul(1_000_000_000) / rate;
        let now = self.latest;
        if self.owed.len() > MAX_NETWORKS {
            self.owed.retain(|_, until| *until > now);
        }
        let owed = self.owed.entry(network(to)).or_insert(now);
        *owed = (*owed).max(now);
        let burst = worth(u64::from(config.subnet_burst_bytes));
        let in_budget = *owed - now < burst;
        *owed = owed.saturating_add(worth(len as u64));
        demand(in_budget, || format!("the network of {to} is sent more than its budget"))
    }
}

fn network(addr: SocketAddr) -> Network {
    let subnet = match addr {
        SocketAddr::V4(addr) => addr.subnet(),
        SocketAddr::V6(addr) => addr.subnet(),
    };
    (Family::of(&addr), subnet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{node, ping, pong, read_only as mark, server};
    use crate::world::HostId;

    fn handled(from: &str, to: &str, query: &[u8], reply: &[u8]) -> Result<(), String> {
        handled_by(&server(), from, to, query, reply)
    }

    fn handled_by(
        dht: &Dht,
        from: &str,
        to: &str,
        query: &[u8],
        reply: &[u8],
    ) -> Result<(), String> {
        let mut checker = Replies::default();
        let (host, local) = (HostId(0), Instant::ZERO);
        checker.happened(local, &Happening::Born { host, local, dht }).unwrap();
        let what = Happening::Handled {
            host: HostId(0),
            local: Instant::from_secs(1),
            from: from.parse().unwrap(),
            bytes: query,
            reply: Some((to.parse().unwrap(), reply)),
            dht,
        };
        (0..2).try_for_each(|_| checker.happened(Instant::ZERO, &what))
    }

    #[test]
    fn a_proper_reply_passes() {
        assert_eq!(handled("1.2.3.4:5", "1.2.3.4:5", &ping(b"aa"), &pong(b"aa")), Ok(()));
    }

    #[test]
    fn replies_elsewhere_or_to_no_query_or_under_another_id_are_caught() {
        assert!(handled("1.2.3.4:5", "1.2.3.5:5", &ping(b"aa"), &pong(b"aa")).is_err());
        assert!(handled("1.2.3.4:5", "1.2.3.4:6", &ping(b"aa"), &pong(b"aa")).is_err());
        assert!(handled("1.2.3.4:5", "1.2.3.4:5", &ping(b"aa"), &pong(b"ab")).is_err());
        assert!(handled("1.2.3.4:5", "1.2.3.4:5", &pong(b"aa"), &pong(b"aa")).is_err());
        assert!(handled("1.2.3.4:5", "1.2.3.4:5", &ping(b"aa"), &ping(b"aa")).is_err());
        let words = handled("1.2.3.4:5", "1.2.3.4:5", &ping(b"aa"), &[0; 1_401]).unwrap_err();
        assert!(words.contains("1401 bytes"), "{words}");
    }

    #[test]
    fn a_client_that_answers_is_caught() {
        let client = node(Mode::Client);
        let words = handled_by(&client, "1.2.3.4:5", "1.2.3.4:5", &ping(b"aa"), &pong(b"aa"));
        assert!(words.unwrap_err().contains("client"));
    }

    #[test]
    fn a_client_that_does_not_say_so_and_a_server_that_does_are_caught() {
        for (mode, marked) in [(Mode::Client, true), (Mode::Server, false)] {
            let (mut checker, dht) = (Replies::default(), node(mode));
            let (host, local) = (HostId(0), Instant::from_secs(1));
            checker.happened(local, &Happening::Born { host, local, dht: &dht }).unwrap();
            let mut asked = |is_marked| {
                let (query, to) = (ping(b"abcd"), "1.2.3.4:5".parse().unwrap());
                let bytes = if is_marked { &mark(&query) } else { &query };
                checker.happened(local, &Happening::Asked { host, local, to, bytes })
            };
            assert_eq!(asked(marked), Ok(()));
            assert!(asked(!marked).is_err());
        }
    }

    #[test]
    fn more_than_the_budget_of_a_network_is_caught() {
        let (mut checker, dht) = (Replies::default(), server());
        let (query, reply) = (ping(b"aa"), pong(b"aa"));
        let burst = dht.config().unwrap().subnet_burst_bytes as usize;
        let mut served = 0;
        let refused = (0..burst).find(|i| {
            let from = SocketAddr::from(([9, 9, 9, (i % 200) as u8], 7));
            let what = Happening::Handled {
                host: HostId(3),
                local: Instant::from_secs(5),
                from,
                bytes: &query,
                reply: Some((from, &reply)),
                dht: &dht,
            };
            served += reply.len();
            checker.happened(Instant::ZERO, &what).is_err()
        });
        assert!(refused.is_some() && served <= burst + 2 * reply.len(), "{served}");
    }

    #[test]
    fn what_was_earned_before_the_clock_was_set_back_counts() {
        for slept in [false, true] {
            let (mut checker, dht, host) = (Replies::default(), server(), HostId(3));
            let (query, reply) = (ping(b"aa"), pong(b"aa"));
            let from = SocketAddr::from(([9, 9, 9, 9], 7));
            let local = Instant::from_secs(5);
            let what = Happening::Handled {
                host,
                local,
                from,
                bytes: &query,
                reply: Some((from, &reply)),
                dht: &dht,
            };
            let mut served = || checker.happened(local, &what).is_ok();
            while served() {}
            if slept {
                // It earned something until then, though nobody was answered.
                let local = Instant::from_secs(600);
                checker
                    .happened(local, &Happening::Drained { host, local, due: None, dht: &dht })
                    .unwrap();
            }
            assert_eq!(checker.happened(local, &what).is_ok(), slept);
        }
    }
}
