//! What `dht pkarr` tells programs.

use core::fmt;

use serde::Serialize;

/// A signed packet.
#[derive(Debug, Serialize)]
pub(crate) struct Packet {
    pub(crate) key: String,
    /// The version, in microseconds since 1970.
    pub(crate) timestamp: u64,
    /// The same for people, in whole seconds.
    pub(crate) signed: String,
    /// When it was last seen, in microseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen: Option<u64>,
    /// For how many seconds it may be kept.
    pub(crate) ttl: u32,
    /// For how many more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_in: Option<u32>,
    /// `cache`, `dht` or `relay`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) relay: Option<String>,
    /// Bytes of the DNS message.
    pub(crate) dns_bytes: usize,
    /// The whole packet, as hex.
    #[serde(rename = "packet")]
    pub(crate) whole: String,
}

/// A record.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// Without a dot at the end.
    pub(crate) name: String,
    pub(crate) ttl: u32,
    pub(crate) class: u16,
    /// As zone files have it.
    pub(crate) kind: String,
    /// As zone files have it.
    pub(crate) data: String,
}

/// How all packets that are kept alive are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Keeping {
    pub(crate) keys: u64,
    /// Those that as many nodes have as should.
    pub(crate) published: u64,
    /// Those that had too few copies, or none, when last tried.
    pub(crate) failing: u64,
    /// Those that were not tried yet.
    pub(crate) waiting: u64,
}

impl fmt::Display for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, published, failing, waiting } = self;
        write!(f, "{keys} {}: {published} published", if *keys == 1 { "key" } else { "keys" })?;
        if *failing > 0 {
            write!(f, ", {failing} failing and tried again")?;
        }
        if *waiting > 0 {
            write!(f, ", {waiting} to come")?;
        }
        Ok(())
    }
}

/// What became of a packet that is kept alive.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Kept {
    pub(crate) what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Nodes that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// What a relay answered.
#[derive(Debug, Serialize)]
pub(crate) struct Relay {
    pub(crate) url: String,
    /// How many nodes stored the packet, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// A node that did not store a packet.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    addr: String,
    id: String,
    /// The error code (BEP 5, BEP 44).
    code: i64,
}

impl Refusal {
    pub(crate) fn of(refusal: &dht_mio::proto::request::Refusal) -> Self {
        let (addr, id) = (refusal.node.addr.to_string(), refusal.node.id.to_string());
        Self { addr, id, code: refusal.code }
    }
}

/// What the last line has besides.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<u64>,
    /// How many records were printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) records: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) relays: Vec<Relay>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) refusals: Vec<Refusal>,
}
