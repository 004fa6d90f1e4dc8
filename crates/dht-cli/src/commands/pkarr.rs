//! `dht pkarr`: names that are keys.

mod inspect;
mod keep_alive;
mod keygen;
mod publish;
mod resolve;
#[cfg(feature = "https")]
mod trust;

use std::fs;
use std::path::Path;

use dht_pkarr::resolve::ResolveError;
use dht_pkarr::{MAX_DNS_LEN, PublicKey, SignedPacket, TtlRange, zone};
use dht_pkarr_client::{Origin, PacketCache, mio, now};

use crate::args::Global;
use crate::args::pkarr::{PkarrArgs, PkarrCommand, Through};
use crate::client::{Client, GRACE};
use crate::commands::Ended;
use crate::failure::{Failure, Status};
use crate::output::{Line, Output, pkarr};
use crate::parse::to_hex;

/// Packets in the file of a cache: more than one user has names to look up.
const MAX_CACHED: usize = 100_000;
/// Packets of these in memory, for commands that go on for long.
const MAX_IN_MEMORY: usize = 1_000;

pub(super) fn run(args: &PkarrArgs, global: &Global, out: &Output) -> Ended {
    match &args.command {
        PkarrCommand::Keygen(args) => keygen::run(args, out),
        PkarrCommand::Publish(args) => publish::run(args, global, out),
        PkarrCommand::Resolve(args) => resolve::run(args, global, out),
        PkarrCommand::KeepAlive(args) => keep_alive::run(args, global, out),
        PkarrCommand::Inspect(args) => inspect::run(args, out),
    }
}

/// Whoever is asked or told, for the time of one command.
struct Session<'a> {
    /// The node, if the DHT is used.
    node: Option<Client<'a>>,
    client: mio::Client,
    out: &'a Output,
}

impl<'a> Session<'a> {
    fn start(through: &Through, global: &Global, out: &'a Output) -> Result<Self, Failure> {
        let node = (!through.no_dht).then(|| Client::start(global, out)).transpose()?;
        Self::with(node, through, global, out)
    }

    /// With this node, if the DHT is used.
    fn with(
        node: Option<Client<'a>>,
        through: &Through,
        global: &Global,
        out: &'a Output,
    ) -> Result<Self, Failure> {
        // A lookup says how it ended when its own time is up.
        let mut builder = mio::Client::builder().timeout(global.timeout + GRACE);
        if let Some(file) = &through.cache {
            builder = builder.cache(PacketCache::open(file, MAX_CACHED, MAX_IN_MEMORY)?);
        }
        for url in &through.relay {
            builder = builder.relay(url);
        }
        #[cfg(feature = "https")]
        if let Some(path) = &through.relay_ca {
            builder = trust::those_in(path, builder)?;
        }
        if let Some(node) = &node {
            builder = builder.dht(node.dht().clone());
        }
        let client = builder.build().map_err(|error| {
            let hint = if cfg!(feature = "https") {
                "give, for example, --relay https://relay.example or --relay http://127.0.0.1:6881"
            } else {
                "give, for example, --relay http://127.0.0.1:6881, or build dht with default features"
            };
            Failure::input(error.to_string(), hint)
        })?;
        Ok(Self { node, client, out })
    }

    /// Runs something that takes a while.
    fn run<T>(&self, what: &str, work: impl FnOnce(&mio::Client) -> T) -> T {
        let _progress = self.node.as_ref().map(|node| node.progress(what));
        let result = work(&self.client);
        if let Some(node) = &self.node {
            node.tell_notices();
        }
        self.save_cache();
        result
    }

    /// Sees to it that what was found is in the file of the cache; without, it is found again.
    fn save_cache(&self) {
        if let Err(error) = self.client.cache().flush() {
            self.out.warn(format_args!("warning: {error}; {}", error.hint));
        }
    }

    /// Why nobody answered.
    fn nobody_answered(&self, error: &str) -> Failure {
        let mut failure = match &self.node {
            Some(node) => node.nobody_answered(),
            None => Failure::no_contact(
                String::new(),
                "see that the relay is up, and who vouches for it if it is one by https \
                 (--relay-ca), or leave out --no-dht",
            ),
        };
        failure.message = if failure.message.is_empty() {
            error.to_owned()
        } else {
            format!("{error}: {}", failure.message)
        };
        failure
    }

    fn not_resolved(&self, key: &PublicKey, error: &dht_pkarr_client::ResolveError) -> Failure {
        let hint = match error.reason {
            ResolveError::NoAnswer | ResolveError::NoSource => {
                return self.nobody_answered(&error.to_string());
            }
            ResolveError::NotFound => {
                "nodes forget packets after two hours: has its owner published it lately?"
                    .to_owned()
            }
            ResolveError::Item(_) | ResolveError::NotAPacket { .. } | _ => {
                let hex = to_hex(key.as_bytes());
                format!("its owner stored something else; see it with dht get --public-key {hex}")
            }
        };
        Failure { status: Status::NotFound, message: error.to_string(), hint }
    }
}

/// A packet, for both kinds of reader: a zone file with comments.
fn show(
    out: &Output,
    packet: &SignedPacket,
    seen: Option<(dht_pkarr::Timestamp, &Origin)>,
    below: Option<&str>,
) -> Result<usize, Failure> {
    let key = packet.public_key();
    let range = TtlRange::default();
    let signed = dht_pkarr_client::http_date(packet.timestamp().as_secs());
    let ttl = packet.ttl(range);
    let expires_in = seen.map(|(last_seen, _)| {
        ttl.saturating_sub(u32::try_from(now().secs_since(last_seen)).unwrap_or(u32::MAX))
    });
    out.words(format_args!("; key      {key}"));
    out.words(format_args!("; signed   {signed}, {}", age(packet)));
    if let (Some((_, origin)), Some(left)) = (seen, expires_in) {
        out.words(format_args!("; from     {origin}, good for {left} s"));
    }
    out.words(format_args!("; size     {} of {MAX_DNS_LEN} bytes", packet.dns().len()));
    let (origin, relay) = match seen.map(|(_, origin)| origin) {
        Some(Origin::Relay(url)) => (Some("relay"), Some(url.clone())),
        Some(Origin::Dht) => (Some("dht"), None),
        Some(_) => (Some("cache"), None),
        None => (None, None),
    };
    out.json(&Line::Packet(pkarr::Packet {
        key: key.to_string(),
        timestamp: packet.timestamp().as_micros(),
        signed,
        last_seen: seen.map(|(last_seen, _)| last_seen.as_micros()),
        ttl,
        expires_in,
        origin,
        relay,
        dns_bytes: packet.dns().len(),
        whole: to_hex(packet.as_bytes()),
    }));
    let records = match below {
        Some(name) => packet
            .records_of(name)
            .map_err(|error| Failure::input(error.to_string(), "give a key or a name below it"))?,
        None => packet.records(),
    };
    for record in &records {
        out.result(
            zone::line(record, &key),
            &Line::Record(pkarr::Record {
                name: record.name.to_string(),
                ttl: record.ttl,
                class: record.class,
                kind: dht_pkarr::record::kind::Named(record.data.kind()).to_string(),
                data: record.data.to_string(),
            }),
        );
    }
    Ok(records.len())
}

/// How long ago a packet was signed.
fn age(packet: &SignedPacket) -> String {
    let (now, signed) = (now(), packet.timestamp());
    if signed > now {
        return format!("{} s in the future", signed.secs_since(now));
    }
    let secs = now.secs_since(signed);
    match secs {
        0..120 => format!("{secs} s ago"),
        120..7_200 => format!("{} minutes ago", secs / 60),
        7_200..172_800 => format!("{} hours ago", secs / 3_600),
        _ => format!("{} days ago", secs / 86_400),
    }
}

/// Writes a packet to a file.
fn save(path: Option<&Path>, packet: &SignedPacket) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, packet.as_bytes()).map_err(|error| {
        Failure::input(
            format!("cannot write {}: {error}", path.display()),
            "give a file in a directory that exists and is writable",
        )
    })
}

/// The last line's part for a key.
fn done(key: &PublicKey) -> pkarr::Done {
    pkarr::Done { key: key.to_string(), ..pkarr::Done::default() }
}
