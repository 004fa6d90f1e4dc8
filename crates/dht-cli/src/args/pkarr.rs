//! The command line of `dht pkarr`.

use core::time::Duration;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use dht_pkarr::PublicKey;
use dht_pkarr_client::Policy;

use crate::parse;

/// `dht pkarr`
#[derive(Args, Clone, Debug)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
A key is a name: 52 characters of z-base-32, used as a top-level domain. Whoever has its secret
signs DNS records for it, at most 996 bytes of them, and stores them in the DHT; everybody else
finds and verifies them there. Nobody grants such a name or takes it away.

Examples:
  dht pkarr keygen my.key
  dht pkarr publish --key my.key '@ A 192.0.2.1' 'www CNAME example.com.'
  dht pkarr resolve o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy
  dht pkarr publish --help                     each command has examples of its own")]
pub(crate) struct PkarrArgs {
    #[command(subcommand)]
    pub(crate) command: PkarrCommand,
}

/// What to do with names that are keys.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PkarrCommand {
    /// Make a key, which is a name
    Keygen(PkarrKeygenArgs),
    /// Sign records and store them, in place of those before
    Publish(PublishArgs),
    /// Find the records of a key
    Resolve(ResolveArgs),
    /// Publish packets again and again, until SIGINT or SIGTERM
    KeepAlive(KeepAliveArgs),
    /// Explain a signed packet
    Inspect(PkarrInspectArgs),
}

/// `dht pkarr keygen`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The file holds the secret, 64 hexadecimal digits, readable by you alone. An existing file is never
overwritten. Who has the file owns the name, and without it nobody does: keep a copy. The files of
dht keygen will do, too.

Example:
  dht pkarr keygen my.key")]
pub(crate) struct PkarrKeygenArgs {
    /// The file to create
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Whom to ask or tell.
#[derive(Args, Clone, Debug)]
pub(crate) struct Through {
    /// Also use this relay, for example http://127.0.0.1:6881; repeatable
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Vec<String>,
    /// Trust relays by https if a certificate in this PEM file vouches for them, and nobody else
    #[cfg(feature = "https")]
    #[arg(long, value_name = "FILE", requires = "relay")]
    pub(crate) relay_ca: Option<PathBuf>,
    /// Use relays only
    #[arg(long, requires = "relay")]
    pub(crate) no_dht: bool,
    /// Remember packets in this file, which is made if it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) cache: Option<PathBuf>,
}

/// `dht pkarr publish`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A record is a line of a zone file: NAME [TTL] [IN] TYPE DATA. Types are A, AAAA, CNAME, NS, TXT,
HTTPS, SVCB, and any other as TYPE123 \\# LENGTH HEX. @ is the key itself. Names stand below the
key; one outside ends in a dot. A zone file may have comments (;), $TTL, $ORIGIN, parentheses
over several lines, and lines that begin with a blank and so have the name of the line before:

  $TTL 1h
  @     A      192.0.2.1
        HTTPS  1 . alpn=h2 port=8443
  www   CNAME  example.com.
  _note TXT    \"any text\"

All records of a name are signed at once: what is left out is gone. Nodes forget what they store
after two hours.

Examples:
  dht pkarr publish --key my.key '@ A 192.0.2.1' '@ HTTPS 1 . port=8443'
  dht pkarr publish --key my.key --zone my.zone
  dht pkarr publish --key my.key --zone - --relay http://127.0.0.1:6881 < my.zone
  dht pkarr publish --key my.key --zone my.zone --dry-run --save my.packet")]
pub(crate) struct PublishArgs {
    /// The file made by dht pkarr keygen
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Read records from this zone file, or - from standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) zone: Option<PathBuf>,
    /// Records, each a line of a zone file; they come after those of --zone
    #[arg(value_name = "RECORD", required_unless_present = "zone")]
    pub(crate) records: Vec<String>,
    /// Sign with this time, in microseconds since 1970, which is the version [default: now]
    #[arg(long, value_name = "MICROS", value_parser = parse::timestamp)]
    pub(crate) timestamp: Option<dht_pkarr::Timestamp>,
    /// Replace only the packet of this time (BEP 44 cas); relays of today do not heed it
    #[arg(long, value_name = "MICROS", value_parser = parse::timestamp)]
    pub(crate) cas: Option<dht_pkarr::Timestamp>,
    /// Also write the packet to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Sign and show, but publish nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) through: Through,
}

/// `dht pkarr resolve`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The key may stand alone, in a host name or in a URL; of a host name below the key, only that
name's records are printed. What is printed is a zone file, with where it comes from in
comments.

With --policy newest, the default, all who are asked are waited for. With --policy first, the
first fresh answer will do, that of our own --cache before all others; with --policy cache, our
own and relays answer with what they have, and the DHT is not asked.

Examples:
  dht pkarr resolve o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy
  dht pkarr resolve https://www.o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy/
  dht pkarr resolve o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy --json |
    jq -r 'select(.kind == \"A\").data'")]
pub(crate) struct ResolveArgs {
    /// A key, or a host name or URL whose top-level domain is one
    #[arg(value_name = "KEY|NAME|URL", value_parser = parse::pkarr_name)]
    pub(crate) name: PkarrName,
    /// Which answer counts
    #[arg(long, value_enum, default_value_t)]
    pub(crate) policy: PolicyArg,
    /// Also write the packet to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) through: Through,
}

/// `dht pkarr keep-alive`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Nodes forget packets after two hours, and leave. This publishes them again, hourly and a few at
a time, counts their copies in between, and tries again where they are too few. It takes no
secret: anybody can keep anybody's packet alive. When its owner publishes a newer one elsewhere,
that one is kept alive instead. With --state, all keys are known after a restart, and when each
is due: give keys and packets once, and the file alone from then on. Only one process may have
such a file. What goes wrong is printed as it happens, what goes well with -v or --json; how all
are doing, every few minutes.

Examples:
  dht pkarr keep-alive o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy
  dht pkarr keep-alive --packet my.packet --state ~/.dht/kept
  dht pkarr keep-alive --packet packets/ --state ~/.dht/kept
  dht pkarr keep-alive --keys keys.txt --state ~/.dht/kept
  dht pkarr keep-alive --state ~/.dht/kept --json | jq -r 'select(.what == \"failed\")'")]
pub(crate) struct KeepAliveArgs {
    /// Keys whose packets are looked up first
    #[arg(value_name = "KEY", value_parser = parse::pkarr_name)]
    pub(crate) keys: Vec<PkarrName>,
    /// Look the keys in this file up, too: one on each line; - for standard input
    #[arg(long = "keys", value_name = "FILE|-")]
    pub(crate) keys_from: Option<PathBuf>,
    /// A file with a packet, as --save writes it, or a directory of such files; repeatable
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) packet: Vec<PathBuf>,
    /// Keep packets, and how they are doing, in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// Publish each this often, in seconds
    #[arg(long, value_name = "SECS", default_value = "3600", value_parser = parse::seconds)]
    pub(crate) interval: Duration,
    /// Nodes that should have each
    #[arg(long, value_name = "N", default_value = "8",
          value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) copies: u32,
    #[command(flatten)]
    pub(crate) through: Through,
}

/// A name whose top-level domain is a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PkarrName {
    pub(crate) key: PublicKey,
    /// The whole name, if it is not the key alone.
    pub(crate) below: Option<String>,
}

/// `--policy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArg {
    /// The newest packet of all
    #[default]
    Newest,
    /// The first packet that is fresh
    First,
    /// What the cache has, or relays have in theirs, fresh or not
    #[value(alias = "relay-cache")]
    Cache,
}

impl From<PolicyArg> for Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Newest => Self::NetworkOnly,
            PolicyArg::First => Self::CacheFirst,
            PolicyArg::Cache => Self::CacheOnly,
        }
    }
}

/// `dht pkarr inspect`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
A packet is its key, a signature, the time of signing and a DNS message. Relays leave the key
out, so that --key must name it; caches put the time last seen in front, which is recognised.
Exit status 2 if it is no packet, or the signature does not match. Nothing is sent.

Examples:
  dht pkarr inspect my.packet
  curl -s http://127.0.0.1:6881/$KEY | dht pkarr inspect - --key $KEY")]
pub(crate) struct PkarrInspectArgs {
    /// A file with the packet, - for standard input, or the packet itself as hexadecimal digits
    #[arg(value_name = "FILE|-|HEX")]
    pub(crate) packet: String,
    /// The packet is what relays have of this key
    #[arg(long, value_name = "KEY", value_parser = parse::pkarr_key)]
    pub(crate) key: Option<PublicKey>,
}
