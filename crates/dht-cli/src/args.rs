//! The command line: every command, flag and help text.

use core::net::{IpAddr, SocketAddr};
use core::num::NonZeroU32;
use core::time::Duration;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use dht_mio::proto::Networks;
use dht_mio::proto::config::{Config, Mode};
use dht_mio::proto::id::{InfoHash, ItemId, NodeId};

use crate::parse::{self, HexBytes};

pub(crate) mod pkarr;
mod serve;

pub(crate) use serve::{DnsArgs, QuotaArg, RelayArgs, ServeArgs};

/// Use and serve the BitTorrent Mainline DHT.
///
/// Finds and announces the peers of torrents, stores and reads small signed items, and runs a node
/// that serves others.
#[derive(Clone, Debug, Parser)]
#[command(name = "dht", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Exit status:
  0  found or stored
  1  not found, or nobody acknowledged
  2  usage or bad input
  3  no contact with any DHT

Examples:
  dht demo                                     see everything work on this machine
  dht get-peers 'magnet:?xt=urn:btih:...'      who shares this?
  dht node --data-dir ~/.dht                   take part in the DHT
  dht get-peers --help                         each command has examples of its own")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command, before or after its name.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Enter the DHT through this node; repeatable, replaces the well-known hosts
    #[arg(long, global = true, value_name = "HOST:PORT", value_parser = parse::host_port)]
    pub(crate) bootstrap: Vec<String>,
    /// Enter the DHT through nobody
    #[arg(long, global = true, conflicts_with = "bootstrap")]
    pub(crate) no_bootstrap: bool,
    /// Use this local UDP address, port 0 for any; repeatable, once for IPv4 and once for IPv6
    #[arg(long, global = true, value_name = "ADDR:PORT", value_parser = parse::bind_addr)]
    pub(crate) bind: Vec<SocketAddr>,
    /// Give a lookup this long, in seconds
    #[arg(long, global = true, value_name = "SECS", default_value = "30",
          value_parser = parse::seconds)]
    pub(crate) timeout: Duration,
    /// Print one JSON object per line, each with a "type"
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say more on standard error
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a local network on loopback and run everything through it
    Demo(DemoArgs),
    /// Run a node until SIGINT or SIGTERM
    Node(Box<NodeArgs>),
    /// Ask a node whether it is there
    Ping(PingArgs),
    /// Find the nodes closest to an id
    FindNode(FindNodeArgs),
    /// Find the peers of a torrent
    GetPeers(GetPeersArgs),
    /// Tell the DHT that we share a torrent
    Announce(AnnounceArgs),
    /// Make a key for mutable items
    Keygen(KeygenArgs),
    /// Store an item under the hash of its value
    PutImmutable(PutImmutableArgs),
    /// Store an item under a public key, or replace it by a newer version
    PutMutable(PutMutableArgs),
    /// Read an item
    Get(GetArgs),
    /// Publish and resolve DNS records under a key of one's own (PKARR)
    Pkarr(Box<pkarr::PkarrArgs>),
    /// Ask a node which infohashes it stores
    Sample(SampleArgs),
    /// Explain a datagram
    Inspect(InspectArgs),
    /// Run a simulated network on real sockets, for any client
    Testnet(TestnetArgs),
    /// Serve signed packets over HTTP, for those who cannot reach the DHT
    Relay(Box<RelayArgs>),
    /// Answer DNS for names that are keys
    Dns(Box<DnsArgs>),
}

impl Command {
    /// The file that the flags of a daemon are read from, with the name of the command.
    pub(crate) fn config_file(&self) -> Option<(&'static str, &Path)> {
        let (name, path) = match self {
            Self::Node(args) => ("node", &args.config),
            Self::Relay(args) => ("relay", &args.serve.config),
            Self::Dns(args) => ("dns", &args.serve.config),
            Self::Demo(_)
            | Self::Ping(_)
            | Self::FindNode(_)
            | Self::GetPeers(_)
            | Self::Announce(_)
            | Self::Keygen(_)
            | Self::PutImmutable(_)
            | Self::PutMutable(_)
            | Self::Get(_)
            | Self::Sample(_)
            | Self::Inspect(_)
            | Self::Testnet(_)
            | Self::Pkarr(_) => return None,
        };
        Some((name, path.as_deref()?))
    }
}

/// `dht demo`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Nothing leaves this machine: the well-known hosts are not contacted, and every address is 127.x.y.z.
The exit status is 0 only if every step worked.

Examples:
  dht demo
  dht demo --nodes 50
  dht demo --json | jq -r 'select(.type == \"step\") | .name'")]
pub(crate) struct DemoArgs {
    /// Size of the network; a hundred nodes need a while to find each other
    #[arg(long, value_name = "N", default_value = "20",
          value_parser = clap::value_parser!(u8).range(10..=100))]
    pub(crate) nodes: u8,
}

/// `dht node`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Once ready, the node prints a line for every address that it listens on, with its node id. Without
--bind, it listens on every address, on port 6881. If that is in use it takes another one, says so
and, with --data-dir, prefers that one from then on. SIGINT and SIGTERM save the state and end the
node with status 0; after a crash, what was stored up to two seconds before is still there.

The config file is TOML. Every long flag is a key, and the command line wins:
  data-dir = \"/var/lib/dht\"
  bind = [\"0.0.0.0:6881\", \"[::]:6881\"]
  metrics = \"127.0.0.1:9100\"

Examples:
  dht node --data-dir ~/.dht --bind 0.0.0.0:6881 --bind '[::]:6881'
  dht node --bind 0.0.0.0:6881 --mode server --public-ip 198.51.100.7
  dht node --config /etc/dht.toml --metrics 127.0.0.1:9100
  dht node --bind 127.0.0.1:6881 --mode server --no-bootstrap     first node of a private network")]
pub(crate) struct NodeArgs {
    /// Read further flags from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Serve Prometheus metrics here, over HTTP
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr)]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

/// How a daemon takes part in the DHT.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeOptions {
    /// Keep ids, contacts and stored items here, so that a restart is warm
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Save contacts this often, in seconds; items are saved within two seconds of a change
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = parse::seconds)]
    pub(crate) save_interval: Duration,
    /// Whether to answer queries
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: ModeArg,
    /// An address that others reach us at; repeatable, otherwise the node finds out
    #[arg(long, value_name = "IP")]
    pub(crate) public_ip: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// Bounds that an operator may want to move.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// Infohashes with stored peers [default: 2000]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_torrents: Option<usize>,
    /// Peers stored per infohash [default: 500]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_peers_per_torrent: Option<usize>,
    /// Peers that one /24 (IPv6: /64) may have stored at a time [default: 512]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_announces_per_subnet: Option<usize>,
    /// Stored items, immutable and mutable together [default: 2000]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_items: Option<usize>,
    /// Items that one /24 (IPv6: /64) may have stored at a time [default: 256]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) max_items_per_subnet: Option<usize>,
    /// Reply bytes per second that one /24 (IPv6: /64) can be sent [default: 32768]
    #[arg(long, value_name = "BYTES")]
    pub(crate) subnet_bytes_per_sec: Option<u32>,
    /// Reply bytes that one /24 (IPv6: /64) can be sent at once [default: 131072]
    #[arg(long, value_name = "BYTES")]
    pub(crate) subnet_burst_bytes: Option<u32>,
    /// Queries that one /24 (IPv6: /64) may have answered: number, r/s or r/m or r/h or r/d, and how
    /// many at once; or off [default: off]
    #[arg(long, value_name = "QUOTA", value_parser = serve::quota)]
    pub(crate) dht_quota: Option<QuotaArg>,
    /// Reply bytes per second to everybody [default: 20000000]
    #[arg(long, value_name = "BYTES")]
    pub(crate) total_bytes_per_sec: Option<u32>,
    /// Signatures checked per second for puts from strangers [default: 2000]
    #[arg(long, value_name = "N")]
    pub(crate) verifications_per_sec: Option<u32>,
}

impl Limits {
    /// Moves the bounds that were given.
    pub(crate) fn apply(&self, config: &mut Config) {
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            *to = from.unwrap_or(*to);
        }
        set(&mut config.max_torrents, self.max_torrents);
        set(&mut config.max_peers_per_torrent, self.max_peers_per_torrent);
        set(&mut config.max_announces_per_subnet, self.max_announces_per_subnet);
        set(&mut config.max_items, self.max_items);
        set(&mut config.max_items_per_subnet, self.max_items_per_subnet);
        set(&mut config.subnet_bytes_per_sec, self.subnet_bytes_per_sec);
        set(&mut config.subnet_burst_bytes, self.subnet_burst_bytes);
        if let Some(QuotaArg(Some(quota))) = self.dht_quota {
            config.subnet_query_interval = quota.interval();
            config.subnet_query_burst = quota.burst();
        }
        set(&mut config.total_bytes_per_sec, self.total_bytes_per_sec);
        set(&mut config.verifications_per_sec, self.verifications_per_sec);
    }
}

/// `--mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// A client until others are seen to reach us, then a server
    #[default]
    Adaptive,
    /// Answer queries at once
    Server,
    /// Never answer queries
    Client,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Adaptive => Self::Adaptive,
            ModeArg::Server => Self::Server,
            ModeArg::Client => Self::Client,
        }
    }
}

/// `dht ping`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dht ping router.example.org:6881
  dht ping 127.0.0.1:6881 --timeout 2")]
pub(crate) struct PingArgs {
    /// Whom to ask
    #[arg(value_name = "HOST:PORT", value_parser = parse::host_port)]
    pub(crate) host: String,
}

/// `dht find-node`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  dht find-node 5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401
  dht find-node 5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401 --bootstrap 127.0.0.1:6881 --json")]
pub(crate) struct FindNodeArgs {
    /// 40 hexadecimal digits
    #[arg(value_name = "ID", value_parser = parse::node_id)]
    pub(crate) id: NodeId,
}

/// `dht get-peers`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
An infohash is 40 hexadecimal digits, 32 base32 characters, 64 hexadecimal digits (version 2), or a
magnet link. Trackers in a magnet link are not used. Peers are printed as they arrive.

Examples:
  dht get-peers 9a0364b9e99bb480dd25e1f0284c8555d2a2ab03
  dht get-peers 'magnet:?xt=urn:btih:9a0364b9e99bb480dd25e1f0284c8555d2a2ab03&dn=example'
  dht get-peers 9a0364b9e99bb480dd25e1f0284c8555d2a2ab03 --scrape
  dht get-peers 9a0364b9e99bb480dd25e1f0284c8555d2a2ab03 --json | jq -r 'select(.addr).addr'")]
pub(crate) struct GetPeersArgs {
    /// What they share
    #[arg(value_name = "INFOHASH|MAGNET", value_parser = parse::info_hash)]
    pub(crate) info_hash: InfoHash,
    /// Also estimate how many seeds and downloaders there are (BEP 33)
    #[arg(long)]
    pub(crate) scrape: bool,
}

/// `dht announce`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The announce is stored for the address that it comes from, see --bind, with the port given by --port
or, without it, the port that it comes from. It is forgotten after about half an hour.

Examples:
  dht announce 9a0364b9e99bb480dd25e1f0284c8555d2a2ab03 --port 6881
  dht announce 9a0364b9e99bb480dd25e1f0284c8555d2a2ab03 --port 6881 --seed
  dht announce 9a0364b9e99bb480dd25e1f0284c8555d2a2ab03 --implied-port --bind 0.0.0.0:6881")]
pub(crate) struct AnnounceArgs {
    /// What we share
    #[arg(value_name = "INFOHASH|MAGNET", value_parser = parse::info_hash)]
    pub(crate) info_hash: InfoHash,
    /// Where we listen for peers
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// We listen for peers on the port that this announce is seen to come from; the default
    #[arg(long, conflicts_with = "port")]
    pub(crate) implied_port: bool,
    /// We have everything (BEP 33)
    #[arg(long)]
    pub(crate) seed: bool,
}

/// `dht keygen`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The file holds a 32-byte ed25519 seed as hexadecimal digits, readable by you alone. An existing file
is never overwritten. Who has the file can replace the items stored under its key.

Example:
  dht keygen my.key")]
pub(crate) struct KeygenArgs {
    /// The file to create
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// What to store.
#[derive(Args, Clone, Debug)]
pub(crate) struct ValueArg {
    /// What to store: a text, or - to read bytes from standard input; at most 1000 bytes bencoded
    #[arg(value_name = "VALUE|-")]
    pub(crate) value: String,
    /// The value is bencode already
    #[arg(long)]
    pub(crate) bencode: bool,
}

/// `dht put-immutable`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The target that is printed is the item's address. Nodes forget items after two hours unless they are
put again.

Examples:
  dht put-immutable 'Hello World!'
  dht put-immutable - < notes.txt
  dht put-immutable --bencode 'd3:agei42ee'")]
pub(crate) struct PutImmutableArgs {
    #[command(flatten)]
    pub(crate) value: ValueArg,
}

/// `--salt` and `--salt-hex`
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SaltArg {
    /// Tells items of one key apart; at most 64 bytes
    #[arg(long, value_name = "TEXT")]
    salt: Option<String>,
    /// The same, as hexadecimal digits
    #[arg(long, value_name = "HEX", conflicts_with = "salt", value_parser = parse::hex_bytes)]
    salt_hex: Option<HexBytes>,
}

impl SaltArg {
    /// The salt; empty for none.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match (&self.salt, &self.salt_hex) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(HexBytes(bytes))) => bytes.clone(),
            (None, None) => Vec::new(),
        }
    }
}

/// `dht put-mutable`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Without --seq, the newest version is looked up first and the next number used; the first version has
number 1. With --cas, only nodes whose version has that number take the new one.

Examples:
  dht keygen my.key
  dht put-mutable --key my.key 'first version'
  dht put-mutable --key my.key --salt blog 'another item of the same key'
  dht put-mutable --key my.key --seq 7 --cas 6 'only if nobody was faster'")]
pub(crate) struct PutMutableArgs {
    /// The file made by dht keygen
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) salt: SaltArg,
    /// Number of this version [default: one more than the newest found]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) seq: Option<i64>,
    /// Replace only the version with this number
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) cas: Option<i64>,
    #[command(flatten)]
    pub(crate) value: ValueArg,
}

/// `dht get`
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("what").required(true).args(["target", "public_key"]))]
#[command(after_help = "\
The value is printed as text if it is a text, otherwise as bencode in hexadecimal digits. A target
alone is enough unless the item is mutable and has a salt, which nodes do not return.

Examples:
  dht get e5f96f6f38320f0f33959cb4d3d656452117aadb
  dht get --public-key 77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548
  dht get --public-key 77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548 \\
          --salt foobar --json")]
pub(crate) struct GetArgs {
    /// The target that a put printed
    #[arg(value_parser = parse::item_id)]
    pub(crate) target: Option<ItemId>,
    /// Read the mutable item of this key, as 64 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = parse::public_key)]
    pub(crate) public_key: Option<[u8; 32]>,
    #[command(flatten)]
    pub(crate) salt: SaltArg,
}

/// `dht sample`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Nodes without BEP 51 answer like find-node, with no sample; then the exit status is 1.

Examples:
  dht sample 127.0.0.1:6881
  dht sample 127.0.0.1:6881 --json | jq -r 'select(.info_hash).info_hash'")]
pub(crate) struct SampleArgs {
    /// Whom to ask
    #[arg(value_name = "HOST:PORT", value_parser = parse::host_port)]
    pub(crate) host: String,
    /// The node also names nodes near this id [default: a random one]
    #[arg(long, value_name = "ID", value_parser = parse::node_id)]
    pub(crate) target: Option<NodeId>,
}

/// `dht inspect`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Shows the bencode of a DHT datagram as a tree, what each part means, and everything that is wrong
with it. Exit status 1 if it is no valid message. Nothing is sent.

Examples:
  dht inspect 64313a71343a70696e67313a74323a6161313a79313a7165
  printf 'd1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe' | dht inspect -
  tshark -r dht.pcap -Y udp.port==6881 -T fields -e udp.payload | head -1 | dht inspect -")]
pub(crate) struct InspectArgs {
    /// The datagram as hexadecimal digits, or - to read digits or raw bytes from standard input
    #[arg(value_name = "HEX|-")]
    pub(crate) datagram: String,
}

/// `dht testnet`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Every node has an address of its own, and all have one port. Give any DHT client one of the printed
addresses to start from. The same seed makes the same network. Addresses in the first 256th of the
range are left to clients, and nothing is sent to addresses outside of the ranges and of loopback.
SIGINT and SIGTERM end the network with status 0.

Profiles:
  internet   round trips of 110 ms (median) to 800 ms, 1 % lost, one contact in five dead,
             most nodes behind NATs and firewalls
  mobile     slower, and worse in everything
  lossy      the internet on a bad day: 10 % lost, others twice, late or damaged
  ideal      50 ms one way, always, and nothing lost
  lan        a fraction of a millisecond, and nothing lost

NATs of a profile that do not keep the port of the node map to the 64 ports that begin with --bind's.

Nodes stay unless --churn is given: then they come and go as the profile says, or so many times
faster. Half of the new nodes of \"internet\" stay for less than 200 minutes, and with --churn 60 for
less than 200 seconds.

With --netns the network lives in a network namespace of its own, at 198.18.0.0/15, which is
connected to nothing. Clients that are started in it need no special settings: to them the addresses
are public ones. It needs root; without, the commands to do it by hand are printed. IPv6 nodes
(--family v6, or both) are at 3fff::/20 and need such a network, too: without it, IPv6 has just one
loopback address.

Examples:
  dht testnet
  dht testnet --nodes 100000 --profile lan
  dht testnet --bind 0.0.0.0:7000 --seed 42 --duration 60 --json
  dht testnet --churn 60
  sudo dht testnet --nodes 100000 --netns
  sudo dht testnet --netns --family both")]
pub(crate) struct TestnetArgs {
    /// Nodes that run; how many of them are behind NATs is the profile's choice
    #[arg(long, value_name = "N", default_value = "1000",
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) nodes: u32,
    /// What the network does to datagrams
    #[arg(long, value_name = "NAME", default_value = "internet")]
    pub(crate) profile: String,
    /// What addresses, ids, tables and faults follow from: a number
    #[arg(long, value_name = "SEED", default_value = "1")]
    pub(crate) seed: u64,
    /// Have nodes leave and others come, N times faster than in the profile [default: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1",
          value_parser = churn)]
    pub(crate) churn: Option<NonZeroU32>,
    /// Where the nodes are; IPv6 needs a network that has their addresses, see --netns
    #[arg(long, value_enum, default_value_t)]
    pub(crate) family: FamilyArg,
    /// IPv4 addresses of the nodes [default: 127.0.0.0/8, with --netns 198.18.0.0/15]
    #[arg(long, value_name = "CIDR")]
    pub(crate) range: Option<String>,
    /// Make network namespaces for the nodes and for clients; takes root
    #[arg(long)]
    pub(crate) netns: bool,
    /// End after so many seconds
    #[arg(long, value_name = "SECS", value_parser = parse::seconds)]
    pub(crate) duration: Option<Duration>,
}

/// `--family`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyArg {
    /// In the IPv4 network
    #[default]
    V4,
    /// In the IPv6 network
    V6,
    /// In both, each node with an address of either kind
    Both,
}

impl From<FamilyArg> for Networks {
    fn from(family: FamilyArg) -> Self {
        match family {
            FamilyArg::V4 => Self::V4,
            FamilyArg::V6 => Self::V6,
            FamilyArg::Both => Self::Both,
        }
    }
}

/// Reads how much faster nodes come and go.
fn churn(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|times: &NonZeroU32| times.get() <= 100_000)
        .ok_or_else(|| "expected a number from 1 to 100000".to_owned())
}

/// Reads a count of things that a node stores. The bound keeps a typing error from reserving all
/// memory.
fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=10_000_000).contains(count))
        .ok_or_else(|| "expected a number from 1 to 10000000".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn limits_say_the_defaults_of_the_core() {
        let config = Config::default();
        let help =
            Cli::command().find_subcommand_mut("node").unwrap().render_long_help().to_string();
        for (flag, default) in [
            ("--max-torrents", config.max_torrents),
            ("--max-peers-per-torrent", config.max_peers_per_torrent),
            ("--max-announces-per-subnet", config.max_announces_per_subnet),
            ("--max-items ", config.max_items),
            ("--max-items-per-subnet", config.max_items_per_subnet),
            ("--subnet-bytes-per-sec", config.subnet_bytes_per_sec as usize),
            ("--subnet-burst-bytes", config.subnet_burst_bytes as usize),
            ("--total-bytes-per-sec", config.total_bytes_per_sec as usize),
            ("--verifications-per-sec", config.verifications_per_sec as usize),
        ] {
            let (_, after) = help.split_once(flag).unwrap();
            let (text, _) = after.split_once("[default: ").unwrap().1.split_once(']').unwrap();
            assert_eq!(text, default.to_string(), "{flag}");
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["dht --json --timeout 2 demo", "dht demo --json --timeout 2"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.timeout, Duration::from_secs(2));
        }
    }
}
