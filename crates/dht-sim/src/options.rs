//! What one run of the swarm is made of.
//!
//! A seed draws a subset of the faults, the operations and the adversaries first, and weights for
//! those that are left after that: a run in which nothing is ever lost but everybody moves finds what
//! a run with a little of everything does not. All of it is one line of text, which is printed before
//! a run and read back to repeat it; each option can be given another value.

use std::time::Duration;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};

use crate::adversary;
use crate::choices::{About, Choices, Ratio};
use crate::faults;
use crate::kinds::kinds;
use crate::profile::{Mix, Profile, Turnover};
use crate::verify::verify_once;

mod text;

pub use text::ParseOptionsError;

kinds! {
    /// Something that users do.
    pub enum Operation {
        /// Looks for the nodes closest to an id.
        FindNode = "find-node",
        /// Looks for peers.
        GetPeers = "get-peers",
        /// Announces a peer.
        Announce = "announce",
        /// Puts an immutable item.
        PutImmutable = "put-immutable",
        /// Puts a version of a mutable item, at times an old one.
        PutMutable = "put-mutable",
        /// Gets an item.
        Get = "get",
        /// Asks for a sample of infohashes.
        Sample = "sample",
        /// Pings an address.
        Ping = "ping",
        /// Cancels a lookup that runs.
        Cancel = "cancel",
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Modes {
    /// Everybody.
    Server,
    /// Every fourth node is a client.
    Mixed,
    /// Every second node finds out whether it can.
    Adaptive,
}

/// Which networks nodes take part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stacks {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Everybody in both.
    Both,
    /// Every fourth node in both, two in IPv4 alone and one in IPv6 alone.
    Mixed,
}

/// How often each kind of a thing happens, compared with the others.
pub type Weights<T> = Vec<(T, u32)>;

/// The most nodes that a run can have.
pub const MAX_NODES: u32 = 100_000;
/// The name of the profile that has a loss and a delay of its own, and nothing else.
pub const SIMPLE: &str = "simple";

/// One run: see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The seed that everything follows from.
    pub seed: u64,
    /// Nodes.
    pub nodes: u32,
    /// Seconds of the first phase, in which things go wrong.
    pub secs: u32,
    /// Whether tables are full from the start, or nodes join one by one.
    pub warm: bool,
    /// Which networks nodes take part in.
    pub networks: Stacks,
    /// Who answers.
    pub modes: Modes,
    /// Contacts per bucket and copies per item.
    pub k: usize,
    /// Queries of a lookup in flight.
    pub alpha: usize,
    /// Whether far buckets are larger.
    pub extended: bool,
    /// Whether stores are small, and what is stored and its tokens live for minutes.
    pub small: bool,
    /// What the network is like: one of [`Profile::NAMES`] or [`SIMPLE`].
    pub profile: &'static str,
    /// Datagrams in a thousand that are lost, in the simple profile.
    pub loss: u32,
    /// Shortest and longest delay one way, in milliseconds, in the simple profile.
    pub delay: (u32, u32),
    /// Hosts in a hundred that are behind a NAT or firewall.
    pub hidden: u32,
    /// Contacts in a hundred that are dead in tables which are full from the start.
    pub dead: u32,
    /// Nodes come and go: the scale of the Weibull distribution of their sessions, in seconds. 0 if
    /// they stay.
    pub churn: u32,
    /// Seconds between faults, on average.
    pub fault_secs: u32,
    /// Milliseconds between operations, on average.
    pub op_millis: u32,
    /// Adversaries of each kind: hosts that were taken over, or came for it.
    pub adversaries: Weights<adversary::Kind>,
    /// What goes wrong.
    pub faults: Weights<faults::Kind>,
    /// What users do.
    pub ops: Weights<Operation>,
}

impl Options {
    /// Draws the options of a run.
    #[must_use]
    pub fn draw(choices: &mut Choices) -> Self {
        let about = About::Options;
        let faults = subset(choices, &faults::Kind::ALL, 100);
        let mut ops = subset(choices, &Operation::ALL, 100);
        if ops.is_empty() {
            ops.push((Operation::FindNode, 1));
        }
        let mut adversaries = subset(choices, &adversary::Kind::ALL, 2);
        // Half of all runs have none: what honest nodes do to each other is not to be drowned.
        if choices.below(about, 2) == 0 {
            adversaries.clear();
        }
        let networks = match choices.below(about, 8) {
            0..=4 => Stacks::V4,
            5 => Stacks::Both,
            6 => Stacks::Mixed,
            _ => Stacks::V6,
        };
        let modes = match choices.below(about, 4) {
            0 | 1 => Modes::Server,
            2 => Modes::Mixed,
            _ => Modes::Adaptive,
        };
        let shortest = choices.between(about, 1, 60);
        let pick = |choices: &mut Choices, from: &[u32]| {
            choices.pick(about, from).copied().unwrap_or_default()
        };
        let profiles = [&[SIMPLE; 4][..], &Profile::NAMES].concat();
        // Whether it was strangers who came is clear when the holes of the beginning have closed.
        let lengths: &[u32] = match modes {
            Modes::Adaptive => &[40, 120, 300],
            Modes::Server | Modes::Mixed => &[20, 40, 60, 120],
        };
        // A world should cost a tenth of a second: cold ones, long ones and large buckets are rare.
        Self {
            seed: choices.seed(),
            nodes: pick(choices, &[5, 12, 24, 40, 64]),
            secs: pick(choices, lengths),
            warm: choices.below(about, 8) != 0 && networks != Stacks::Mixed,
            networks,
            modes,
            k: pick(choices, &[8, 8, 8, 8, 8, 4, 4, 20]) as usize,
            alpha: pick(choices, &[4, 3, 1, 8]) as usize,
            extended: choices.below(about, 2) == 1,
            small: choices.below(about, 3) == 2,
            profile: choices.pick(about, &profiles).copied().unwrap_or(SIMPLE),
            loss: pick(choices, &[0, 0, 10, 50, 150]),
            delay: (shortest, shortest + pick(choices, &[0, 10, 60, 200])),
            hidden: pick(choices, &[0, 0, 0, 20, 55]),
            dead: pick(choices, &[10, 0, 30]),
            churn: pick(choices, &[0, 0, 0, 0, 400, 100]),
            fault_secs: pick(choices, &[10, 5, 3]),
            op_millis: pick(choices, &[4_000, 2_000, 1_000]),
            adversaries,
            faults,
            ops,
        }
    }

    /// The options of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        Self::draw(&mut Choices::seeded(seed))
    }

    /// A world of few nodes and short life, in which everything happens.
    #[must_use]
    pub fn tiny(seed: u64) -> Self {
        let mut options = Self::of_seed(seed);
        (options.nodes, options.secs) = (8, 60);
        (options.warm, options.networks, options.modes) = (false, Stacks::V4, Modes::Server);
        (options.profile, options.hidden, options.churn) = (SIMPLE, 20, 100);
        (options.fault_secs, options.op_millis) = (5, 1_000);
        options.adversaries = adversary::Kind::ALL.map(|(kind, _)| (kind, 1)).to_vec();
        options.faults = faults::Kind::ALL.map(|(kind, _)| (kind, 1)).to_vec();
        options.ops = Operation::ALL.map(|(op, _)| (op, 1)).to_vec();
        options
    }

    /// What a node runs with.
    #[must_use]
    pub fn config(&self, index: u32) -> Config {
        let mut config = Config::default();
        config.mode = match self.modes {
            Modes::Mixed if index % 4 == 3 => Mode::Client,
            Modes::Adaptive if index % 2 == 1 => Mode::Adaptive,
            Modes::Server | Modes::Mixed | Modes::Adaptive => Mode::Server,
        };
        (config.k, config.alpha) = (self.k, self.alpha);
        config.extended_buckets = self.extended;
        config.verify = verify_once;
        if self.small {
            (config.max_torrents, config.max_peers_per_torrent) = (4, 4);
            (config.max_items, config.max_lookups, config.max_events) = (3, 8, 8);
            (config.max_candidates, config.max_transactions) = (16, 40);
            config.peer_lifetime = Duration::from_secs(60);
            config.item_lifetime = Duration::from_secs(60);
            config.token_rotation = Duration::from_secs(20);
        }
        config
    }

    /// Which networks a node takes part in. The first one is in all that there are.
    #[must_use]
    pub const fn networks(&self, index: u32) -> Networks {
        match (self.networks, index % 4) {
            (Stacks::V4, _) | (Stacks::Mixed, 1 | 2) => Networks::V4,
            (Stacks::V6, _) | (Stacks::Mixed, 3) => Networks::V6,
            (Stacks::Both | Stacks::Mixed, _) => Networks::Both,
        }
    }

    /// What the network is like when nothing is wrong with it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let (low, high) = self.delay;
        let delay = (Duration::from_millis(u64::from(low)), Duration::from_millis(u64::from(high)));
        let simple = Profile::simple(delay, Ratio::per_mille(self.loss));
        let mut profile = Profile::named(self.profile).unwrap_or(simple);
        // What hosts are behind is as on the internet, for another share of them.
        let Mix { mut behind, read_only } = Profile::internet().mix;
        let all = behind.iter().fold(0, |all, (share, _)| all + share.num).max(1);
        for (share, _) in &mut behind {
            *share = Ratio { num: share.num * self.hidden, den: 100 * all };
        }
        profile.mix = Mix { behind, read_only };
        profile.dead = Ratio::percent(self.dead);
        profile.turnover.scale = Duration::from_secs(u64::from(self.churn));
        profile
    }

    /// How nodes come and go, if they do.
    #[must_use]
    pub fn turnover(&self) -> Option<Turnover> {
        (self.churn > 0).then(|| self.profile().turnover)
    }
}

/// Half of all kinds, each with a weight from 1 to `most`.
fn subset<T: Copy>(choices: &mut Choices, all: &[(T, &str)], most: u32) -> Weights<T> {
    let about = About::Options;
    let chosen: Vec<T> =
        all.iter().filter(|_| choices.below(about, 2) == 1).map(|(kind, _)| *kind).collect();
    chosen.into_iter().map(|kind| (kind, choices.between(about, 1, most))).collect()
}
