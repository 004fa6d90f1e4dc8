//! Whether we answer queries (BEP 43): always, never, or once others are seen to reach us.
//!
//! Adaptive mode starts as a read-only client. After joining it *probes*: it drops `ro`, answers,
//! and counts strangers, that is queries from addresses that we did not send to lately, so that no
//! hole of our own in a firewall let them in. Enough strangers prove that we are reachable. If
//! they do not come, it is a client again and probes later, less and less often.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::{Addr, Scope};
use crate::config::Mode;
use crate::seed::PrfKey;
use crate::time::Instant;

/// Different strangers that prove reachability; one lost or forged datagram decides nothing.
const STRANGERS: usize = 3;
/// How long strangers are waited for.
const PROBE: Duration = Duration::from_secs(30 * 60);
/// The first pause after a probe in vain; doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(15 * 60);
const PAUSE_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// A server that no stranger reached for this long probes again.
const PROOF_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Addresses that we sent to are remembered for one to two of these: NATs and firewalls keep
/// holes for 30 s to 2 min, and RFC 4787 (REQ-5) asks for at least the latter.
const MEMORY: Duration = Duration::from_secs(2 * 60);
/// Bits of one generation of that memory.
const MEMORY_BITS: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Fixed by the configuration.
    Fixed { serving: bool },
    /// Read-only; waits for the first join (`None`) or the next probe.
    Client { probe_at: Option<Instant> },
    /// Answers, and waits for strangers.
    Probing { until: Instant, strangers: Vec<u64> },
    /// Proven reachable; the proof gets old.
    Serving { proof_until: Instant },
}

/// The role of one node.
#[derive(Debug)]
pub(crate) struct Role {
    state: State,
    pause: Duration,
    contacted: Option<Box<Contacted>>,
}

impl Role {
    /// The most heap bytes that a role can take up.
    pub(crate) const MEMORY_CEILING: usize =
        size_of::<Contacted>() + 2 * STRANGERS * size_of::<u64>();

    pub(crate) fn new(mode: Mode, key: PrfKey) -> Self {
        let state = match mode {
            Mode::Server => State::Fixed { serving: true },
            Mode::Client => State::Fixed { serving: false },
            Mode::Adaptive => State::Client { probe_at: None },
        };
        let contacted = matches!(mode, Mode::Adaptive).then(|| Box::new(Contacted::new(key)));
        Self { state, pause: PAUSE_MIN, contacted }
    }

    /// Whether queries are answered; if not, ours carry `ro`.
    pub(crate) const fn answers(&self) -> bool {
        match self.state {
            State::Fixed { serving } => serving,
            State::Client { .. } => false,
            State::Probing { .. } | State::Serving { .. } => true,
        }
    }

    /// Whether we count as a server: by configuration or by proof.
    pub(crate) const fn is_server(&self) -> bool {
        matches!(self.state, State::Fixed { serving: true } | State::Serving { .. })
    }

    /// The node has joined the network: time to find out whether it can be reached.
    pub(crate) fn on_joined(&mut self, now: Instant) {
        if self.state == (State::Client { probe_at: None }) {
            self.probe(now);
        }
    }

    /// A datagram leaves for this address.
    pub(crate) fn on_sent<A: Addr>(&mut self, now: Instant, to: A) {
        if let Some(contacted) = &mut self.contacted {
            contacted.insert(now, to);
        }
    }

    /// A query arrived from this address.
    #[inline]
    pub(crate) fn on_query<A: Addr>(&mut self, now: Instant, from: A) {
        let Some(contacted) = &mut self.contacted else { return };
        if contacted.contains(now, from) {
            return;
        }
        match &mut self.state {
            State::Probing { strangers, .. } => {
                let stranger = operator(from);
                if !strangers.contains(&stranger) {
                    strangers.push(stranger);
                }
                if strangers.len() >= STRANGERS {
                    self.pause = PAUSE_MIN;
                    self.state = State::Serving { proof_until: now + PROOF_LIFETIME };
                }
            }
            State::Serving { proof_until } => *proof_until = now + PROOF_LIFETIME,
            State::Fixed { .. } | State::Client { .. } => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Client { probe_at: Some(at) } if at <= now => self.probe(now),
            State::Serving { proof_until } if proof_until <= now => self.probe(now),
            State::Probing { until, .. } if until <= now => {
                self.state = State::Client { probe_at: Some(now + self.pause) };
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
            State::Fixed { .. }
            | State::Client { .. }
            | State::Probing { .. }
            | State::Serving { .. } => {}
        }
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Fixed { .. } => None,
            State::Client { probe_at } => probe_at,
            State::Probing { until, .. } => Some(until),
            State::Serving { proof_until } => Some(proof_until),
        }
    }

    fn probe(&mut self, now: Instant) {
        self.state = State::Probing { until: now + PROBE, strangers: Vec::new() };
    }
}

/// Who holds the address: strangers of one operator count once. Local hosts count one by one.
fn operator<A: Addr>(addr: A) -> u64 {
    if addr.scope() == Scope::Global {
        return addr.subnet();
    }
    addr.compact().as_ref().iter().fold(1, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Addresses that we sent to lately, as two generations of a hashed set.
#[derive(Debug)]
struct Contacted {
    key: PrfKey,
    young: Generation,
    old: Generation,
    rotate_at: Instant,
}

type Generation = [u64; MEMORY_BITS / 64];

impl Contacted {
    const fn new(key: PrfKey) -> Self {
        let empty = [0; MEMORY_BITS / 64];
        Self { key, young: empty, old: empty, rotate_at: Instant::ZERO }
    }

    fn insert<A: Addr>(&mut self, now: Instant, addr: A) {
        self.rotate(now);
        let (word, bit) = self.place(addr);
        if let Some(word) = self.young.get_mut(word) {
            *word |= bit;
        }
    }

    fn contains<A: Addr>(&mut self, now: Instant, addr: A) -> bool {
        self.rotate(now);
        let (word, bit) = self.place(addr);
        let hit = |set: &Generation| set.get(word).is_some_and(|word| word & bit != 0);
        hit(&self.young) || hit(&self.old)
    }

    fn rotate(&mut self, now: Instant) {
        if now < self.rotate_at {
            return;
        }
        let idle = now.since(self.rotate_at) > MEMORY;
        self.old = if idle { [0; MEMORY_BITS / 64] } else { self.young };
        self.young = [0; MEMORY_BITS / 64];
        self.rotate_at = now + MEMORY;
    }

    /// A hole in a firewall is for an IP address, whatever the port.
    fn place<A: Addr>(&self, addr: A) -> (usize, u64) {
        let hash = self.key.hash(&[addr.with_port(0).compact().as_ref()]) as usize % MEMORY_BITS;
        (hash / 64, 1 << (hash % 64))
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddrV4;

    use super::*;
    use crate::seed::{Domain, Seed};

    fn adaptive() -> Role {
        Role::new(Mode::Adaptive, Seed::from_bytes([5; 32]).key(Domain::Table))
    }

    fn addr(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn probing() -> Role {
        let mut role = adaptive();
        assert!(!role.answers());
        role.on_joined(Instant::from_secs(10));
        assert!(role.answers() && !role.is_server());
        role
    }

    #[test]
    fn strangers_from_different_networks_prove_reachability() {
        let mut role = probing();
        let now = Instant::from_secs(20);
        for from in ["1.1.1.1:1", "1.1.1.2:1", "1.1.1.1:9", "2.2.2.2:2"] {
            role.on_query(now, addr(from));
        }
        assert!(!role.is_server(), "one operator counts once");
        role.on_query(now, addr("3.3.3.3:3"));
        assert!(role.is_server());
    }

    #[test]
    fn nodes_that_we_sent_to_are_no_strangers() {
        let mut role = probing();
        for (i, to) in ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "4.4.4.4:4"].iter().enumerate() {
            let now = Instant::from_secs(20 + i as u64);
            role.on_sent(now, addr(to));
            role.on_query(now, addr(to).with_port(77));
        }
        assert!(!role.is_server());
        // Long after the hole has closed, the same nodes count.
        for from in ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"] {
            role.on_query(Instant::from_secs(24) + 2 * MEMORY, addr(from));
        }
        assert!(role.is_server());
    }

    #[test]
    fn a_probe_in_vain_is_repeated_ever_less_often() {
        let mut role = probing();
        let mut pauses = Vec::new();
        let mut now = Instant::from_secs(10);
        for _ in 0..6 {
            now = role.poll_timeout().unwrap();
            role.handle_timeout(now);
            assert!(!role.answers(), "client again");
            let probe_at = role.poll_timeout().unwrap();
            pauses.push(probe_at.since(now).as_secs() / 60);
            now = probe_at;
            role.handle_timeout(now);
            assert!(role.answers(), "never stuck");
        }
        assert_eq!(pauses, [15, 30, 60, 120, 120, 120]);
        assert!(now > Instant::ZERO);
    }

    #[test]
    fn old_proof_leads_to_a_new_probe_without_silence() {
        let mut role = probing();
        for from in ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"] {
            role.on_query(Instant::from_secs(20), addr(from));
        }
        let now = role.poll_timeout().unwrap();
        role.handle_timeout(now);
        assert!(role.answers() && !role.is_server());
    }

    #[test]
    fn fixed_modes_stay() {
        let key = Seed::from_bytes([5; 32]).key(Domain::Table);
        let (server, client) = (Role::new(Mode::Server, key), Role::new(Mode::Client, key));
        assert!(server.answers() && server.is_server() && server.poll_timeout().is_none());
        assert!(!client.answers() && client.poll_timeout().is_none());
    }
}
