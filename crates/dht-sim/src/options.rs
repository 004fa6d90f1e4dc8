//! What one run of the swarm is made of.
//!
//! A seed draws a subset of the faults and of the operations first, and weights for those that are
//! left after that: a run in which nothing is ever lost but everybody moves finds what a run with a
//! little of everything does not. All of it is one line of text, which is printed before a run and
//! read back to repeat it.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use dht_proto::Networks;
use dht_proto::config::{Config, Mode};

use crate::choices::{About, Choices, Ratio};
use crate::net::Profile;

/// Something that goes wrong now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultKind {
    /// The network loses much for a while.
    Loss,
    /// The network is slow for a while.
    Delay,
    /// A node ends, and starts anew without knowing anything.
    Crash,
    /// A node ends, and starts from a snapshot.
    Restart,
    /// A node is frozen for a while.
    Suspend,
    /// A node gets another address.
    Relocate,
    /// A node's clock jumps or drifts.
    Clock,
}

/// Something that users do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// Looks for the nodes closest to an id.
    FindNode,
    /// Looks for peers.
    GetPeers,
    /// Announces a peer.
    Announce,
    /// Puts an immutable item.
    PutImmutable,
    /// Puts a version of a mutable item, at times an old one.
    PutMutable,
    /// Gets an item.
    Get,
    /// Asks for a sample of infohashes.
    Sample,
    /// Pings an address.
    Ping,
    /// Cancels a lookup that runs.
    Cancel,
}

impl FaultKind {
    /// Every kind, with its name in text.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Loss, "loss"),
        (Self::Delay, "delay"),
        (Self::Crash, "crash"),
        (Self::Restart, "restart"),
        (Self::Suspend, "suspend"),
        (Self::Relocate, "relocate"),
        (Self::Clock, "clock"),
    ];
}

impl Operation {
    /// Every operation, with its name in text.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::FindNode, "find-node"),
        (Self::GetPeers, "get-peers"),
        (Self::Announce, "announce"),
        (Self::PutImmutable, "put-immutable"),
        (Self::PutMutable, "put-mutable"),
        (Self::Get, "get"),
        (Self::Sample, "sample"),
        (Self::Ping, "ping"),
        (Self::Cancel, "cancel"),
    ];
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

/// How often each kind of a thing happens, compared with the others.
pub type Weights<T> = Vec<(T, u32)>;

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
    /// Whether tables are full from the start (IPv4 only), or nodes join one by one.
    pub warm: bool,
    /// Which networks nodes take part in.
    pub networks: Networks,
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
    /// Datagrams in a thousand that are lost.
    pub loss: u32,
    /// Shortest and longest delay one way, in milliseconds.
    pub delay: (u32, u32),
    /// Nodes that meddle: they replay tokens, and answer from where they are not.
    pub meddlers: u32,
    /// Seconds between faults, on average.
    pub fault_secs: u32,
    /// Milliseconds between operations, on average.
    pub op_millis: u32,
    /// What goes wrong.
    pub faults: Weights<FaultKind>,
    /// What users do.
    pub ops: Weights<Operation>,
}

impl Options {
    /// Draws the options of a run.
    #[must_use]
    pub fn draw(choices: &mut Choices) -> Self {
        let about = About::Options;
        let faults = subset(choices, &FaultKind::ALL);
        let mut ops = subset(choices, &Operation::ALL);
        if ops.is_empty() {
            ops.push((Operation::FindNode, 1));
        }
        let networks = match choices.below(about, 8) {
            0..=4 => Networks::V4,
            5 | 6 => Networks::Both,
            _ => Networks::V6,
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
        Self {
            seed: choices.seed(),
            nodes: pick(choices, &[5, 12, 24, 40, 64]),
            secs: pick(choices, &[60, 120, 240, 480]),
            warm: choices.below(about, 2) == 1 && networks == Networks::V4,
            networks,
            modes,
            k: pick(choices, &[8, 8, 8, 4, 20]) as usize,
            alpha: pick(choices, &[4, 3, 1, 8]) as usize,
            extended: choices.below(about, 2) == 1,
            small: choices.below(about, 3) == 2,
            loss: pick(choices, &[0, 0, 10, 50, 150]),
            delay: (shortest, shortest + pick(choices, &[0, 10, 60, 200])),
            meddlers: pick(choices, &[0, 1, 3]),
            fault_secs: pick(choices, &[30, 15, 5]),
            op_millis: pick(choices, &[2_000, 1_000, 500]),
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
        (options.nodes, options.secs) = (6, 60);
        (options.warm, options.networks, options.modes) = (false, Networks::V4, Modes::Server);
        (options.fault_secs, options.op_millis) = (10, 1_000);
        options.faults = FaultKind::ALL.map(|(kind, _)| (kind, 1)).to_vec();
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
        if self.small {
            (config.max_torrents, config.max_peers_per_torrent) = (4, 4);
            (config.max_items, config.max_lookups, config.max_events) = (6, 8, 8);
            (config.max_candidates, config.max_transactions) = (16, 40);
            config.peer_lifetime = Duration::from_secs(60);
            config.item_lifetime = Duration::from_secs(60);
            config.token_rotation = Duration::from_secs(20);
        }
        config
    }

    /// What a network does to datagrams when nothing is wrong with it.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let mut profile = Profile::default();
        let (low, high) = self.delay;
        profile.delay =
            (Duration::from_millis(u64::from(low)), Duration::from_millis(u64::from(high)));
        profile.loss = Ratio::per_mille(self.loss);
        profile
    }

    /// The node that all others start from runs with this; the others add its address.
    #[must_use]
    pub fn first_config(&self) -> Arc<Config> {
        Arc::new(self.config(0))
    }
}

/// Half of all kinds, each with a weight from 1 to 100.
fn subset<T: Copy>(choices: &mut Choices, all: &[(T, &str)]) -> Weights<T> {
    let about = About::Options;
    let chosen: Vec<T> =
        all.iter().filter(|_| choices.below(about, 2) == 1).map(|(kind, _)| *kind).collect();
    chosen.into_iter().map(|kind| (kind, choices.between(about, 1, 100))).collect()
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = match self.networks {
            Networks::V4 => "v4",
            Networks::V6 => "v6",
            Networks::Both => "both",
        };
        let modes = match self.modes {
            Modes::Server => "server",
            Modes::Mixed => "mixed",
            Modes::Adaptive => "adaptive",
        };
        write!(f, "seed={} nodes={} secs={} ", self.seed, self.nodes, self.secs)?;
        write!(f, "warm={} networks={networks} modes={modes} ", u8::from(self.warm))?;
        write!(f, "k={} alpha={} ", self.k, self.alpha)?;
        write!(f, "extended={} small={} ", u8::from(self.extended), u8::from(self.small))?;
        write!(f, "loss={} delay={}..{} ", self.loss, self.delay.0, self.delay.1)?;
        write!(f, "meddlers={} fault-secs={} ", self.meddlers, self.fault_secs)?;
        write!(f, "op-millis={} faults=", self.op_millis)?;
        write_weights(f, &self.faults, &FaultKind::ALL)?;
        f.write_str(" ops=")?;
        write_weights(f, &self.ops, &Operation::ALL)
    }
}

fn write_weights<T: Copy + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    weights: &[(T, u32)],
    names: &[(T, &str)],
) -> fmt::Result {
    if weights.is_empty() {
        return f.write_str("none");
    }
    for (i, (kind, weight)) in weights.iter().enumerate() {
        let name = names.iter().find(|(other, _)| other == kind).map_or("?", |(_, name)| name);
        let comma = if i > 0 { "," } else { "" };
        write!(f, "{comma}{name}:{weight}")?;
    }
    Ok(())
}

/// Text that is no options, and what would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseOptionsError(String);

impl fmt::Display for ParseOptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; options look like: {}", self.0, Options::tiny(1))
    }
}

impl core::error::Error for ParseOptionsError {}

impl FromStr for Options {
    type Err = ParseOptionsError;

    /// Reads options back. What is not named is as the seed draws it.
    fn from_str(text: &str) -> Result<Self, ParseOptionsError> {
        let fail = |words: String| ParseOptionsError(words);
        let pairs: Vec<(&str, &str)> = text
            .split_whitespace()
            .map(|word| word.split_once('=').ok_or_else(|| fail(format!("{word:?} has no '='"))))
            .collect::<Result<_, _>>()?;
        let seed = pairs.iter().find(|(key, _)| *key == "seed");
        let (_, seed) = seed.ok_or_else(|| fail("there is no seed=NUMBER".to_owned()))?;
        let mut options = Self::of_seed(number("seed", seed)?);
        pairs.into_iter().try_for_each(|(key, value)| options.set(key, value))?;
        Ok(options)
    }
}

impl Options {
    fn set(&mut self, key: &str, value: &str) -> Result<(), ParseOptionsError> {
        let wrong = || ParseOptionsError(format!("{key}={value} means nothing"));
        match key {
            "seed" => self.seed = number(key, value)?,
            "nodes" => self.nodes = number(key, value)?,
            "secs" => self.secs = number(key, value)?,
            "warm" => self.warm = number::<u8>(key, value)? != 0,
            "k" => self.k = number(key, value)?,
            "alpha" => self.alpha = number(key, value)?,
            "extended" => self.extended = number::<u8>(key, value)? != 0,
            "small" => self.small = number::<u8>(key, value)? != 0,
            "loss" => self.loss = number(key, value)?,
            "meddlers" => self.meddlers = number(key, value)?,
            "fault-secs" => self.fault_secs = number(key, value)?,
            "op-millis" => self.op_millis = number(key, value)?,
            "faults" => self.faults = weights(key, value, &FaultKind::ALL)?,
            "ops" => self.ops = weights(key, value, &Operation::ALL)?,
            "delay" => {
                let (low, high) = value.split_once("..").ok_or_else(wrong)?;
                self.delay = (number(key, low)?, number(key, high)?);
            }
            "networks" => {
                self.networks = match value {
                    "v4" => Networks::V4,
                    "v6" => Networks::V6,
                    "both" => Networks::Both,
                    _ => return Err(wrong()),
                };
            }
            "modes" => {
                self.modes = match value {
                    "server" => Modes::Server,
                    "mixed" => Modes::Mixed,
                    "adaptive" => Modes::Adaptive,
                    _ => return Err(wrong()),
                };
            }
            _ => return Err(ParseOptionsError(format!("there is no option {key}"))),
        }
        Ok(())
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, ParseOptionsError> {
    value.parse().map_err(|_| ParseOptionsError(format!("{key}={value} is no number in range")))
}

fn weights<T: Copy>(
    key: &str,
    value: &str,
    names: &[(T, &str)],
) -> Result<Weights<T>, ParseOptionsError> {
    if value == "none" {
        return Ok(Vec::new());
    }
    let one = |word: &str| {
        let (name, weight) = word.split_once(':').unwrap_or((word, "1"));
        let kind = names.iter().find(|(_, other)| *other == name).map(|(kind, _)| *kind);
        let kind = kind.ok_or_else(|| {
            let known: Vec<_> = names.iter().map(|(_, name)| *name).collect();
            ParseOptionsError(format!("{key} knows no {name}, but {}", known.join(", ")))
        })?;
        Ok((kind, number(key, weight)?))
    };
    value.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_back_as_they_were_written() {
        let mut faults = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let options = Options::of_seed(seed);
            assert_eq!(options.to_string().parse(), Ok(options.clone()));
            faults.insert(options.faults.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
        }
        assert!(faults.len() > 60, "each seed has a subset of its own: {}", faults.len());
    }

    #[test]
    fn what_is_not_named_is_as_drawn_and_what_is_wrong_is_named() {
        let options: Options = "seed=7 nodes=9".parse().unwrap();
        assert_eq!(
            Options { nodes: Options::of_seed(7).nodes, ..options.clone() },
            Options::of_seed(7)
        );
        assert_eq!(options.nodes, 9);
        for (text, words) in [
            ("nodes=9", "no seed"),
            ("seed=x", "seed=x"),
            ("seed=1 nodes", "'='"),
            ("seed=1 colour=red", "colour"),
            ("seed=1 faults=fire:3", "fire"),
            ("seed=1 delay=7", "delay=7"),
        ] {
            let error = text.parse::<Options>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("options look like"), "{error}");
        }
    }
}
