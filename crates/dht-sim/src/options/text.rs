//! Options as one line of text.

use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;

use super::{MAX_NODES, Modes, Operation, Options, SIMPLE, Stacks, Weights};
use crate::adversary;
use crate::faults;
use crate::profile::Profile;

const STACKS: [(Stacks, &str); 4] =
    [(Stacks::V4, "v4"), (Stacks::V6, "v6"), (Stacks::Both, "both"), (Stacks::Mixed, "mixed")];
const MODES: [(Modes, &str); 3] =
    [(Modes::Server, "server"), (Modes::Mixed, "mixed"), (Modes::Adaptive, "adaptive")];
/// Of adversaries, faults and operations.
const MAX_WEIGHT: u32 = 10_000;

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (networks, modes) = (name(&STACKS, &self.networks), name(&MODES, &self.modes));
        write!(f, "seed={} nodes={} secs={} ", self.seed, self.nodes, self.secs)?;
        write!(f, "warm={} networks={networks} modes={modes} ", u8::from(self.warm))?;
        write!(f, "k={} alpha={} ", self.k, self.alpha)?;
        write!(f, "extended={} small={} ", u8::from(self.extended), u8::from(self.small))?;
        write!(f, "profile={} loss={} ", self.profile, self.loss)?;
        write!(f, "delay={}..{} hidden={} ", self.delay.0, self.delay.1, self.hidden)?;
        write!(f, "dead={} churn={} ", self.dead, self.churn)?;
        write!(f, "fault-secs={} op-millis={} ", self.fault_secs, self.op_millis)?;
        f.write_str("adversaries=")?;
        write_weights(f, &self.adversaries, &adversary::Kind::ALL)?;
        f.write_str(" faults=")?;
        write_weights(f, &self.faults, &faults::Kind::ALL)?;
        f.write_str(" ops=")?;
        write_weights(f, &self.ops, &Operation::ALL)
    }
}

fn name<T: PartialEq>(names: &[(T, &'static str)], value: &T) -> &'static str {
    names.iter().find(|(other, _)| other == value).map_or("?", |(_, name)| name)
}

fn write_weights<T: Copy + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    weights: &[(T, u32)],
    names: &[(T, &'static str)],
) -> fmt::Result {
    if weights.is_empty() {
        return f.write_str("none");
    }
    for (i, (kind, weight)) in weights.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(f, "{comma}{}:{weight}", name(names, kind))?;
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
        let pairs: Vec<(&str, &str)> =
            text.split_whitespace().map(pair).collect::<Result<_, _>>()?;
        let seed = pairs.iter().find(|(key, _)| *key == "seed");
        let none = || ParseOptionsError("there is no seed=NUMBER".to_owned());
        let (_, seed) = seed.ok_or_else(none)?;
        let mut options = Self::of_seed(number("seed", seed, 0..=u64::MAX)?);
        pairs.into_iter().try_for_each(|(key, value)| options.set(key, value))?;
        Ok(options)
    }
}

/// One option: its name and value.
fn pair(word: &str) -> Result<(&str, &str), ParseOptionsError> {
    word.split_once('=').ok_or_else(|| ParseOptionsError(format!("{word:?} has no '='")))
}

impl Options {
    /// Gives one option, `NAME=VALUE`, another value.
    ///
    /// # Errors
    /// [`ParseOptionsError`] if there is no such option, or it cannot have that value.
    pub fn change(&mut self, word: &str) -> Result<(), ParseOptionsError> {
        let (key, value) = pair(word)?;
        self.set(key, value)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ParseOptionsError> {
        match key {
            "seed" => self.seed = number(key, value, 0..=u64::MAX)?,
            "nodes" => self.nodes = number(key, value, 1..=MAX_NODES)?,
            "secs" => self.secs = number(key, value, 0..=1_000_000)?,
            "warm" => self.warm = number(key, value, 0..=1_u8)? != 0,
            "k" => self.k = number(key, value, 1..=64)?,
            "alpha" => self.alpha = number(key, value, 1..=64)?,
            "extended" => self.extended = number(key, value, 0..=1_u8)? != 0,
            "small" => self.small = number(key, value, 0..=1_u8)? != 0,
            "loss" => self.loss = number(key, value, 0..=1_000)?,
            "hidden" => self.hidden = number(key, value, 0..=100)?,
            "dead" => self.dead = number(key, value, 0..=90)?,
            "churn" => self.churn = number(key, value, 0..=1_000_000)?,
            "fault-secs" => self.fault_secs = number(key, value, 1..=1_000_000)?,
            "op-millis" => self.op_millis = number(key, value, 1..=1_000_000_000)?,
            "adversaries" => self.adversaries = weights(key, value, &adversary::Kind::ALL)?,
            "faults" => self.faults = weights(key, value, &faults::Kind::ALL)?,
            "ops" => self.ops = weights(key, value, &Operation::ALL)?,
            "networks" => self.networks = one_of(key, value, &STACKS)?,
            "modes" => self.modes = one_of(key, value, &MODES)?,
            "profile" => {
                let names = [&[SIMPLE][..], &Profile::NAMES].concat();
                let names: Vec<_> = names.into_iter().map(|name| (name, name)).collect();
                self.profile = one_of(key, value, &names)?;
            }
            "delay" => {
                let (low, high) = value.split_once("..").unwrap_or((value, value));
                let low = number(key, low, 0..=60_000)?;
                self.delay = (low, number(key, high, low..=60_000)?);
            }
            _ => return Err(ParseOptionsError(format!("there is no option {key}"))),
        }
        Ok(())
    }
}

fn number<T: FromStr + PartialOrd + fmt::Display>(
    key: &str,
    value: &str,
    range: RangeInclusive<T>,
) -> Result<T, ParseOptionsError> {
    let fitting = value.parse().ok().filter(|number| range.contains(number));
    fitting.ok_or_else(|| {
        let (low, high) = (range.start(), range.end());
        ParseOptionsError(format!("{key}={value} is no number from {low} to {high}"))
    })
}

fn one_of<T: Copy>(
    key: &str,
    value: &str,
    names: &[(T, &'static str)],
) -> Result<T, ParseOptionsError> {
    let known = names.iter().find(|(_, name)| *name == value).map(|(kind, _)| *kind);
    known.ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(_, name)| *name).collect();
        ParseOptionsError(format!("{key} knows no {value}, but {}", known.join(", ")))
    })
}

fn weights<T: Copy>(
    key: &str,
    value: &str,
    names: &[(T, &'static str)],
) -> Result<Weights<T>, ParseOptionsError> {
    if value == "none" {
        return Ok(Vec::new());
    }
    let one = |word: &str| {
        let (name, weight) = word.split_once(':').unwrap_or((word, "1"));
        Ok((one_of(key, name, names)?, number(key, weight, 1..=MAX_WEIGHT)?))
    };
    value.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_back_as_they_were_written() {
        let mut faults = std::collections::BTreeSet::new();
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let options = Options::of_seed(seed);
            assert_eq!(options.to_string().parse(), Ok(options.clone()));
            faults.insert(options.faults.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
            kinds.extend(options.faults.iter().map(|(kind, _)| kind.to_string()));
            kinds.extend(options.adversaries.iter().map(|(kind, _)| format!("{kind:?}")));
            kinds.extend(options.ops.iter().map(|(kind, _)| format!("{kind:?}")));
            kinds.extend([options.profile.to_owned(), format!("churn {}", options.churn)]);
            kinds.insert(format!("{:?}", options.networks));
        }
        assert!(faults.len() > 150, "each seed has a subset of its own: {}", faults.len());
        // Whatever there is is drawn: 6 profiles, 3 sorts of churn, 4 sorts of networks.
        let all = faults::Kind::ALL.len() + adversary::Kind::ALL.len() + Operation::ALL.len();
        assert_eq!(kinds.len(), all + 6 + 3 + 4, "{kinds:?}");
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
            ("seed=1 adversaries=saint", "no saint, but liar"),
            ("seed=1 profile=moon", "no moon, but simple, ideal"),
            ("seed=1 delay=7..3", "delay=3 is no number from 7"),
            ("seed=1 nodes=0", "from 1 to 100000"),
            ("seed=1 nodes=100001", "from 1 to 100000"),
            ("seed=1 ops=ping:x", "ops=x"),
            ("seed=1 warm=2", "warm=2"),
        ] {
            let error = text.parse::<Options>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("options look like"), "{error}");
        }
    }
}
