//! What the demonstration does, one function per step.

use core::net::SocketAddr;
use core::time::Duration;

use dht_mio::Dht;
use dht_mio::proto::id::{InfoHash, ItemId, Target};
use dht_mio::proto::item::{Item, bencode_bytes};
use dht_mio::proto::request::{AnnouncePort, Lookup, Outcome};
use dht_mio::proto::wire::code;
use ed25519_dalek::SigningKey;

use super::StepError;
use super::network::Network;
use crate::commands::stored_words;
use crate::failure::Failure;
use crate::output::errors;
use crate::value;

type Step = fn(&mut World) -> Result<String, StepError>;

/// The steps, in order: later ones build on earlier ones.
pub(super) const STEPS: [(&str, Step); 14] = [
    ("announce a seed", announce_seed),
    ("announce a leech", announce_leech),
    ("get_peers", get_peers),
    ("scrape", scrape),
    ("sample_infohashes", sample),
    ("put immutable", put_immutable),
    ("get immutable", get_immutable),
    ("put mutable", put_mutable),
    ("get mutable", get_mutable),
    ("newer seq replaces", newer_seq),
    ("stale seq refused", stale_seq),
    ("cas mismatch refused", cas_mismatch),
    ("cas match replaces", cas_match),
    ("salted item", salted),
];

/// Where the two that announce listen for peers.
const PORTS: [u16; 2] = [51_413, 6_881];
const VALUE: &[u8] = b"Hello World!";
const SALT: &[u8] = b"foobar";

/// The network and its users.
#[derive(Debug)]
pub(super) struct World {
    nodes: Vec<SocketAddr>,
    /// They announce and put.
    writers: [Dht; 2],
    /// It finds what the writers left.
    reader: Dht,
    info_hash: InfoHash,
    key: SigningKey,
}

impl World {
    pub(super) fn new(network: &Network, timeout: Duration) -> Result<Self, Failure> {
        let mut random = [0; 52];
        getrandom::fill(&mut random).map_err(|error| {
            Failure::input(format!("cannot get random bytes from the system: {error}"), "try again")
        })?;
        let (info_hash, seed) = random.split_first_chunk().unwrap_or((&[0; 20], &[]));
        Ok(Self {
            nodes: network.addrs().to_vec(),
            writers: [network.client(0, timeout)?, network.client(1, timeout)?],
            reader: network.client(2, timeout)?,
            info_hash: InfoHash::from_bytes(*info_hash),
            key: SigningKey::from_bytes(seed.first_chunk().unwrap_or(&[0; 32])),
        })
    }

    fn peers(&self) -> Vec<SocketAddr> {
        let ports = self.writers.iter().zip(PORTS);
        let addrs = ports.flat_map(|(dht, port)| {
            dht.local_addrs().iter().map(move |addr| SocketAddr::new(addr.ip(), port))
        });
        let mut peers: Vec<_> = addrs.collect();
        peers.sort();
        peers
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn put(
        &self,
        salt: &[u8],
        seq: i64,
        value: &[u8],
        cas: Option<i64>,
    ) -> Result<Outcome, StepError> {
        let [writer, _] = &self.writers;
        let (_, outcome) = writer.put_mutable(&self.key, salt, seq, &bencode_bytes(value), cas)?;
        Ok(outcome)
    }

    /// Reads the mutable item and compares it with what should be there.
    fn expect(&self, salt: &[u8], seq: i64, value: &[u8]) -> Result<String, StepError> {
        let Some(item) = self.reader.get_mutable(&self.public_key(), salt)? else {
            return Err(StepError::Unexpected("not found".to_owned()));
        };
        let found = item.signed().map(|signed| signed.seq);
        let words = format!("found {}", describe(&item));
        if found == Some(seq) && item.value() == bencode_bytes(value) {
            Ok(words)
        } else {
            Err(StepError::Unexpected(words))
        }
    }
}

fn announce_seed(world: &mut World) -> Result<String, StepError> {
    announce(world, 0, true)
}

fn announce_leech(world: &mut World) -> Result<String, StepError> {
    announce(world, 1, false)
}

fn announce(world: &World, index: usize, seed: bool) -> Result<String, StepError> {
    let (Some(writer), Some(port)) = (world.writers.get(index), PORTS.get(index)) else {
        unreachable!("there are two writers and two ports");
    };
    let outcome = writer.announce(world.info_hash, AnnouncePort::Explicit(*port), seed)?;
    stored(&outcome)
}

fn get_peers(world: &mut World) -> Result<String, StepError> {
    let mut found: Vec<_> = world.reader.get_peers(world.info_hash)?.collect();
    found.sort();
    let words = found.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" and ");
    check(found == world.peers(), format!("found {words}"))
}

fn scrape(world: &mut World) -> Result<String, StepError> {
    let lookup = Lookup::GetPeers { info_hash: world.info_hash, scrape: true, noseed: false };
    let outcome = world.reader.start(lookup)?.outcome()?;
    let Some(scrape) = outcome.scrape else {
        return Err(StepError::Unexpected("no node answered the scrape".to_owned()));
    };
    let (seeds, downloaders) = (scrape.seeds.round(), scrape.downloaders.round());
    let exact = (seeds - 1.0).abs() < 0.5 && (downloaders - 1.0).abs() < 0.5;
    check(exact, format!("about {seeds} seeds and {downloaders} downloaders"))
}

fn sample(world: &mut World) -> Result<String, StepError> {
    let mut holders = 0;
    let target = Target::from_bytes(*world.info_hash.as_bytes());
    for addr in &world.nodes {
        let sample = world.reader.sample(*addr, target)?;
        holders += u32::from(sample.samples.contains(&world.info_hash));
    }
    let nodes = world.nodes.len();
    check(holders > 0, format!("{holders} of {nodes} nodes name the infohash"))
}

fn put_immutable(world: &mut World) -> Result<String, StepError> {
    let [writer, _] = &world.writers;
    let (_, outcome) = writer.put_immutable(&bencode_bytes(VALUE))?;
    stored(&outcome)
}

fn get_immutable(world: &mut World) -> Result<String, StepError> {
    let value = bencode_bytes(VALUE);
    match world.reader.get_immutable(ItemId::of_immutable(&value))? {
        Some(item) => check(item.value() == value, format!("found {}", describe(&item))),
        None => Err(StepError::Unexpected("not found".to_owned())),
    }
}

fn put_mutable(world: &mut World) -> Result<String, StepError> {
    stored(&world.put(b"", 1, b"first version", None)?)
}

fn get_mutable(world: &mut World) -> Result<String, StepError> {
    world.expect(b"", 1, b"first version")
}

fn newer_seq(world: &mut World) -> Result<String, StepError> {
    stored(&world.put(b"", 2, b"second version", None)?)?;
    world.expect(b"", 2, b"second version")
}

fn stale_seq(world: &mut World) -> Result<String, StepError> {
    refused(&world.put(b"", 1, b"old news", None)?, code::SEQ_TOO_OLD)?;
    world.expect(b"", 2, b"second version").map(|words| format!("refused with 302, still {words}"))
}

fn cas_mismatch(world: &mut World) -> Result<String, StepError> {
    refused(&world.put(b"", 3, b"third version", Some(1))?, code::CAS_MISMATCH)?;
    world.expect(b"", 2, b"second version").map(|words| format!("refused with 301, still {words}"))
}

fn cas_match(world: &mut World) -> Result<String, StepError> {
    stored(&world.put(b"", 3, b"third version", Some(2))?)?;
    world.expect(b"", 3, b"third version")
}

fn salted(world: &mut World) -> Result<String, StepError> {
    stored(&world.put(SALT, 1, VALUE, None)?)?;
    world.expect(SALT, 1, VALUE)?;
    // The item without salt is another one.
    world.expect(b"", 3, b"third version")?;
    world.expect(SALT, 1, VALUE).map(|words| format!("{words} under salt foobar"))
}

fn stored(outcome: &Outcome) -> Result<String, StepError> {
    check(outcome.stored > 0 && outcome.refusals.is_empty(), stored_words(outcome))
}

/// Expects that nobody stored, and that refusals came with this code.
fn refused(outcome: &Outcome, code: i64) -> Result<String, StepError> {
    let only = errors(outcome).into_keys().eq([code]);
    check(outcome.stored == 0 && only, stored_words(outcome))
}

fn check(as_expected: bool, words: String) -> Result<String, StepError> {
    if as_expected { Ok(words) } else { Err(StepError::Unexpected(words)) }
}

fn describe(item: &Item) -> String {
    let text = value::text(item).unwrap_or_default();
    match item.signed() {
        Some(signed) => format!("{text:?}, seq {}", signed.seq),
        None => format!("{text:?}"),
    }
}
