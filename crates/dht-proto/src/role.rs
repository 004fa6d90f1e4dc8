//! Whether we answer queries (BEP 43): always, never, or once others are seen to reach us.
//!
//! Adaptive mode starts as a read-only client. After joining it *probes*: it drops `ro`, answers,
//! and counts strangers, that is queries from addresses that we did not send to lately, so that no
//! hole of our own in a firewall let them in. Enough strangers prove that we are reachable. If
//! they do not come, it is a client again and probes later, less and less often.
//!
//! Strangers prove only what lies within their reach: while nodes on the internet answer us, hosts
//! of our local network prove nothing. Where nobody else answers, they do.
//!
//! Whom we sent to is remembered only while somebody might be a stranger: in a probe, and while a
//! proof gets old.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::addr::{Addr, Scope};
use crate::config::Mode;
use crate::seed::{Domain, PrfKey, Seed};
use crate::time::Instant;

/// Different strangers that prove reachability; one lost or forged datagram decides nothing.
const STRANGERS: usize = 3;
/// How long strangers are waited for.
const PROBE: Duration = Duration::from_secs(30 * 60);
/// The first pause after a probe in vain; doubles each time.
const PAUSE_MIN: Duration = Duration::from_secs(15 * 60);
const PAUSE_MAX: Duration = Duration::from_secs(2 * 60 * 60);
/// A proof that no stranger renewed for this long leads to another probe.
const PROOF_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// A proof that lasts for longer needs no renewal yet.
const RENEWAL: Duration = Duration::from_secs(30 * 60);
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
    reach: Reach,
    /// None while there is nothing that a stranger would prove.
    contacted: Option<Box<Contacted>>,
}

/// The widest scope that answered us lately.
#[derive(Clone, Copy, Debug)]
struct Reach {
    scope: Scope,
    seen: Instant,
}

impl Role {
    /// The most heap bytes that a role can take up.
    pub(crate) const MEMORY_CEILING: usize =
        size_of::<Contacted>() + 2 * STRANGERS * size_of::<u64>();

    /// The bytes of the heap that it takes up now.
    pub(crate) fn heap_bytes(&self) -> usize {
        let strangers = match &self.state {
            State::Probing { strangers, .. } => strangers.capacity() * size_of::<u64>(),
            State::Fixed { .. } | State::Client { .. } | State::Serving { .. } => 0,
        };
        strangers + self.contacted.as_ref().map_or(0, |_| size_of::<Contacted>())
    }

    pub(crate) fn new(mode: Mode, seed: &Seed, now: Instant) -> Self {
        let state = match mode {
            Mode::Server => State::Fixed { serving: true },
            Mode::Client => State::Fixed { serving: false },
            Mode::Adaptive => State::Client { probe_at: None },
        };
        let reach = Reach { scope: Scope::Invalid, seen: Instant::ZERO };
        let mut role = Self { state, pause: PAUSE_MIN, reach, contacted: None };
        if matches!(mode, Mode::Adaptive) {
            // An earlier run may have sent to anybody until now, and its holes are still open.
            role.watch(now + MEMORY, seed);
        }
        role
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

    /// Strangers that asked so far in this probe.
    pub(crate) const fn strangers(&self) -> usize {
        match &self.state {
            State::Probing { strangers, .. } => strangers.len(),
            State::Fixed { .. } | State::Client { .. } | State::Serving { .. } => 0,
        }
    }

    /// The node has joined the network: time to find out whether it can be reached.
    pub(crate) fn on_joined(&mut self, now: Instant, seed: &Seed) {
        if self.state == (State::Client { probe_at: None }) {
            self.probe(now, seed);
        }
    }

    /// A datagram leaves for this address.
    pub(crate) fn on_sent<A: Addr>(&mut self, now: Instant, to: A) {
        if let Some(contacted) = &mut self.contacted {
            contacted.insert(now, to);
        }
    }

    /// A node at this address answered a query of ours. What was proven to a narrower scope is
    /// proven no more.
    pub(crate) fn on_answer<A: Addr>(&mut self, now: Instant, from: A, seed: &Seed) {
        let (scope, reach) = (from.scope(), self.reach);
        if scope < reach.scope && now.since(reach.seen) < PROOF_LIFETIME {
            return;
        }
        self.reach = Reach { scope, seen: now };
        let wider = scope > reach.scope;
        if wider && matches!(self.state, State::Probing { .. } | State::Serving { .. }) {
            self.probe(now, seed);
        }
    }

    /// A query arrived from this address.
    #[inline]
    pub(crate) fn on_query<A: Addr>(&mut self, now: Instant, from: A) {
        let Some(contacted) = &mut self.contacted else { return };
        if from.scope() < self.reach.scope || contacted.contains(now, from) {
            return;
        }
        match &mut self.state {
            State::Probing { strangers, .. } => {
                let stranger = from.operator();
                if !strangers.contains(&stranger) {
                    strangers.push(stranger);
                }
                if strangers.len() < STRANGERS {
                    return;
                }
                self.pause = PAUSE_MIN;
            }
            State::Serving { .. } => {}
            State::Fixed { .. } | State::Client { .. } => return,
        }
        self.state = State::Serving { proof_until: now + PROOF_LIFETIME };
        self.contacted = None;
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, seed: &Seed) {
        match self.state {
            State::Client { probe_at: Some(at) } if at <= now => self.probe(now, seed),
            State::Serving { proof_until } if proof_until <= now => self.probe(now, seed),
            State::Serving { proof_until } if proof_until <= now + RENEWAL => {
                self.watch(now + MEMORY, seed);
            }
            State::Probing { until, .. } if until <= now => {
                self.state = State::Client { probe_at: Some(now + self.pause) };
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                self.contacted = None;
            }
            State::Fixed { .. }
            | State::Client { .. }
            | State::Probing { .. }
            | State::Serving { .. } => {}
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Fixed { .. } => None,
            State::Client { probe_at } => probe_at,
            State::Probing { until, .. } => Some(until),
            State::Serving { proof_until } if self.contacted.is_none() => {
                Some(proof_until.before(RENEWAL))
            }
            State::Serving { proof_until } => Some(proof_until),
        }
    }

    fn probe(&mut self, now: Instant, seed: &Seed) {
        self.state = State::Probing { until: now + PROBE, strangers: Vec::new() };
        self.watch(now + MEMORY, seed);
    }

    /// Remembers from now on whom we send to. Who was sent to before may pass for a stranger until
    /// `complete_at`.
    fn watch(&mut self, complete_at: Instant, seed: &Seed) {
        let new = || Box::new(Contacted::new(seed.key(Domain::Contacted), complete_at));
        self.contacted.get_or_insert_with(new);
    }
}

/// Addresses that we sent to lately, as two generations of a hashed set.
#[derive(Debug)]
struct Contacted {
    key: PrfKey,
    young: Generation,
    old: Generation,
    rotate_at: Instant,
    /// Before this there may be others.
    complete_at: Instant,
}

type Generation = [u64; MEMORY_BITS / 64];

impl Contacted {
    const fn new(key: PrfKey, complete_at: Instant) -> Self {
        let empty = [0; MEMORY_BITS / 64];
        Self { key, young: empty, old: empty, rotate_at: Instant::ZERO, complete_at }
    }

    fn insert<A: Addr>(&mut self, now: Instant, addr: A) {
        self.rotate(now);
        let (word, bit) = self.place(addr);
        if let Some(word) = self.young.get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether this address was sent to lately, as far as can be told.
    fn contains<A: Addr>(&mut self, now: Instant, addr: A) -> bool {
        if now < self.complete_at {
            return true;
        }
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

    fn seed() -> Seed {
        Seed::from_bytes([5; 32])
    }

    /// One that has run for longer than anything before it counts.
    fn adaptive() -> Role {
        let mut role = Role::new(Mode::Adaptive, &seed(), Instant::ZERO);
        role.contacted.as_mut().unwrap().complete_at = Instant::ZERO;
        role
    }

    /// Lets pass what is due next, and returns when that was.
    fn wait(role: &mut Role) -> Instant {
        let now = role.poll_timeout().unwrap();
        role.handle_timeout(now, &seed());
        now
    }

    fn addr(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    fn probing() -> Role {
        let mut role = adaptive();
        assert!(!role.answers());
        role.on_joined(Instant::from_secs(10), &seed());
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
    fn holes_that_an_earlier_run_made_prove_nothing() {
        let began = Instant::from_secs(100);
        let mut role = Role::new(Mode::Adaptive, &seed(), began);
        role.on_joined(Instant::from_secs(101), &seed());
        let strangers = ["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"];
        visits(&mut role, 100 + MEMORY.as_secs() - 1, &strangers);
        assert!(!role.is_server());
        visits(&mut role, 100 + MEMORY.as_secs(), &strangers);
        assert!(role.is_server());
    }

    fn visits(role: &mut Role, at: u64, from: &[&str]) {
        for from in from {
            role.on_query(Instant::from_secs(at), addr(from));
        }
    }

    const LOCALS: [&str; 3] = ["192.168.0.1:1", "192.168.0.2:1", "192.168.0.3:1"];

    #[test]
    fn hosts_of_the_local_network_prove_nothing_to_the_internet() {
        let mut role = probing();
        role.on_answer(Instant::from_secs(12), addr("8.8.8.8:1"), &seed());
        // An answer from the local network does not hide that there is more.
        role.on_answer(Instant::from_secs(13), addr("192.168.0.9:1"), &seed());
        visits(&mut role, 20, &LOCALS);
        assert!(!role.is_server());
        visits(&mut role, 21, &["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"]);
        assert!(role.is_server());
        // Nor do they keep the proof alive.
        let until = role.poll_timeout();
        visits(&mut role, 500, &LOCALS);
        assert_eq!(role.poll_timeout(), until);
    }

    #[test]
    fn where_there_is_only_a_local_network_its_hosts_prove_reachability() {
        let mut role = probing();
        role.on_answer(Instant::from_secs(12), addr("192.168.0.9:1"), &seed());
        visits(&mut role, 20, &["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"]);
        assert!(!role.is_server(), "this machine proves nothing to the others");
        visits(&mut role, 20, &["192.168.0.1:1", "192.168.0.1:2", "192.168.0.1:3"]);
        assert!(!role.is_server(), "one host counts once, whatever its ports");
        visits(&mut role, 21, &LOCALS);
        assert!(role.is_server());
    }

    #[test]
    fn local_ipv6_hosts_are_told_apart_by_their_whole_address() {
        let mut role = probing();
        for host in ["[fd00::1]:1", "[fd00::1]:2", "[fd00::1:0:0:1]:1", "[fd00::2:0:0:1]:1"] {
            assert!(!role.is_server(), "three hosts are needed");
            let host: core::net::SocketAddrV6 = host.parse().unwrap();
            role.on_query(Instant::from_secs(20), host);
        }
        assert!(role.is_server());
    }

    #[test]
    fn local_proof_ends_when_the_internet_answers_and_counts_again_long_after_it_ceased() {
        let mut role = probing();
        role.on_answer(Instant::from_secs(12), addr("192.168.0.9:1"), &seed());
        visits(&mut role, 20, &LOCALS);
        assert!(role.is_server());
        role.on_answer(Instant::from_secs(30), addr("8.8.8.8:1"), &seed());
        assert!(role.answers() && !role.is_server(), "a new question, a new probe");
        visits(&mut role, 31, &LOCALS);
        assert!(!role.is_server());
        // The way to the internet is gone.
        let later = 31 + PROOF_LIFETIME.as_secs();
        role.probe(Instant::from_secs(later), &seed());
        role.on_answer(Instant::from_secs(later), addr("192.168.0.9:1"), &seed());
        visits(&mut role, later + 1, &LOCALS);
        assert!(role.is_server());
    }

    #[test]
    fn a_probe_in_vain_is_repeated_ever_less_often() {
        let mut role = probing();
        let mut pauses = Vec::new();
        let mut now = Instant::from_secs(10);
        for _ in 0..6 {
            now = wait(&mut role);
            assert!(!role.answers(), "client again");
            assert!(role.contacted.is_none(), "nothing to prove");
            let probe_at = wait(&mut role);
            pauses.push(probe_at.since(now).as_secs() / 60);
            now = probe_at;
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
        assert_eq!(
            wait(&mut role),
            Instant::from_secs(20) + PROOF_LIFETIME.saturating_sub(RENEWAL)
        );
        assert!(role.is_server(), "the proof may be renewed still");
        assert_eq!(wait(&mut role), Instant::from_secs(20) + PROOF_LIFETIME);
        assert!(role.answers() && !role.is_server());
    }

    #[test]
    fn a_stranger_renews_an_old_proof_once_it_is_clear_that_he_is_one() {
        let mut role = probing();
        visits(&mut role, 20, &["1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"]);
        assert!(role.is_server() && role.contacted.is_none(), "a fresh proof needs no watch");
        role.on_sent(Instant::from_secs(1810), addr("4.4.4.4:4"));
        let watched = wait(&mut role).as_micros() / 1_000_000;
        role.on_sent(Instant::from_secs(watched), addr("5.5.5.5:5"));
        visits(&mut role, watched + 1, &["4.4.4.4:4"]);
        visits(&mut role, watched + 120, &["5.5.5.5:5"]);
        assert!(role.contacted.is_some(), "both may have been let in by a hole of ours");
        visits(&mut role, watched + 121, &["4.4.4.4:4"]);
        assert!(role.is_server() && role.contacted.is_none());
        let fresh = Instant::from_secs(watched + 121) + PROOF_LIFETIME.saturating_sub(RENEWAL);
        assert_eq!(role.poll_timeout(), Some(fresh));
    }

    #[test]
    fn fixed_modes_stay() {
        let [server, client] =
            [Mode::Server, Mode::Client].map(|mode| Role::new(mode, &seed(), Instant::ZERO));
        assert!(server.answers() && server.is_server() && server.poll_timeout().is_none());
        assert!(!client.answers() && client.poll_timeout().is_none());
    }
}
