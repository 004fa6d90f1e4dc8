//! Signed packets: DNS records, signed by the key under which they stand.

use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use dht_proto::ed25519_dalek::{Signature, VerifyingKey};
use dht_proto::item::{self, Item, Signed, Version};

use crate::key::{KeyError, Keypair, PublicKey};
use crate::message::{self, DnsError};
use crate::name::{Name, NameError};
use crate::record::Record;
use crate::time::Timestamp;
use crate::ttl::TtlRange;

mod builder;
#[cfg(test)]
mod tests;

pub use self::builder::Builder;

/// Bytes of the key, with which a packet begins.
const KEY_LEN: usize = 32;
/// Where the timestamp begins, behind key and signature.
const TIMESTAMP_AT: usize = KEY_LEN + 64;
/// Where the DNS message begins.
const DNS_AT: usize = TIMESTAMP_AT + 8;
/// The longest DNS message that is read. The reference implementation makes ones of this length.
pub const MAX_DNS_LEN_READ: usize = 1_000;
/// The longest DNS message that is made: bencoded it takes four bytes more, and other nodes of the
/// DHT store values of at most 1,000 bytes.
pub const MAX_DNS_LEN: usize = item::MAX_VALUE_LEN - 4;

/// Why records do not become a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// A name is none.
    Name(NameError),
    /// The DNS message would take `len` bytes, more than [`MAX_DNS_LEN`].
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// A single record is too large for any DNS message, or there are too many.
    NoMessage,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::TooLarge { len } => write!(
                f,
                "the records take {len} bytes; nodes of the DHT store no more than {MAX_DNS_LEN}"
            ),
            Self::NoMessage => f.write_str("the records fit no DNS message"),
        }
    }
}

impl core::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Name(error) => Some(error),
            Self::TooLarge { .. } | Self::NoMessage => None,
        }
    }
}

impl From<NameError> for BuildError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// They end before the DNS message begins.
    TooShort,
    /// The DNS message is longer than [`MAX_DNS_LEN_READ`].
    TooLong,
    /// The key is none.
    Key(KeyError),
    /// The timestamp is no `seq` of the DHT.
    Timestamp,
    /// The signature does not match.
    Signature,
    /// The signed bytes are no DNS message.
    Dns(DnsError),
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => f.write_str("the packet is too short"),
            Self::TooLong => write!(f, "the DNS message is over {MAX_DNS_LEN_READ} bytes"),
            Self::Key(error) => error.fmt(f),
            Self::Timestamp => f.write_str("the timestamp is beyond what the DHT can store"),
            Self::Signature => f.write_str("the signature does not match"),
            Self::Dns(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PacketError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Key(error) => Some(error),
            Self::Dns(error) => Some(error),
            Self::TooShort | Self::TooLong | Self::Timestamp | Self::Signature => None,
        }
    }
}

impl From<DnsError> for PacketError {
    fn from(error: DnsError) -> Self {
        Self::Dns(error)
    }
}

/// Why an item of the DHT is not the packet of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemError {
    /// It is another key's, salted, or immutable: it has nothing to do with the key asked for.
    Unrelated,
    /// It is what the key's owner stored, but no packet.
    NotAPacket {
        /// Its version.
        seq: i64,
        /// What is wrong with it.
        reason: NotAPacket,
    },
}

/// What is wrong with an item that stands where a packet should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAPacket {
    /// Its version is negative.
    NegativeSeq,
    /// Its value is no byte string.
    NotAByteString,
    /// Its value is no DNS message.
    Dns(DnsError),
}

impl fmt::Display for ItemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrelated => f.write_str("the item is not of the key that was asked for"),
            Self::NotAPacket { seq, reason } => {
                write!(f, "the newest item of the key (seq {seq}) is no packet: {reason}")
            }
        }
    }
}

impl fmt::Display for NotAPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeSeq => f.write_str("its seq is negative"),
            Self::NotAByteString => f.write_str("its value is no byte string"),
            Self::Dns(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ItemError {}

/// DNS records signed by a key, with the time of signing: complete, verified, and ready to be
/// stored or sent as they are.
///
/// ```
/// use dht_pkarr::{Keypair, SignedPacket, Timestamp};
///
/// let keypair = Keypair::from_secret(&[7; 32]);
/// let packet = SignedPacket::builder()
///     .address(".", "192.0.2.1".parse()?, 3600)
///     .txt("_service", "v=1", 60)
///     .sign(&keypair, Timestamp::from_secs(1_700_000_000))?;
///
/// // To a relay, and back.
/// let payload = packet.relay_payload();
/// let read = SignedPacket::from_relay_payload(&keypair.public_key(), payload)?;
/// assert_eq!(read, packet);
/// assert_eq!(read.records_of("_service")?.len(), 1);
///
/// // To the DHT, and back: the signature of an `Item` was checked, and is not checked again.
/// let item = packet.to_item()?;
/// assert_eq!(SignedPacket::from_item(&keypair.public_key(), &item)?, packet);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SignedPacket {
    /// Key, signature, timestamp, DNS message; the signature holds, and the message reads.
    bytes: Vec<u8>,
    /// The smallest of all records, if there is any.
    ttl: Option<u32>,
}

impl SignedPacket {
    /// The longest packet that is read.
    pub const MAX_LEN: usize = DNS_AT + MAX_DNS_LEN_READ;

    /// A packet without records, to be filled and signed.
    #[must_use]
    pub const fn builder() -> Builder {
        Builder::new()
    }

    /// Signs records.
    ///
    /// # Errors
    /// If they take more than [`MAX_DNS_LEN`] bytes, or a name too many with the key behind it.
    pub fn sign(
        keypair: &Keypair,
        timestamp: Timestamp,
        mut records: Vec<Record>,
    ) -> Result<Self, BuildError> {
        let key = keypair.public_key();
        for record in &mut records {
            record.name = record.name.rebased(&key)?;
        }
        let dns = message::write(&records).ok_or(BuildError::NoMessage)?;
        if dns.len() > MAX_DNS_LEN {
            return Err(BuildError::TooLarge { len: dns.len() });
        }
        let signature = keypair.sign(&signable(timestamp, &dns));
        Ok(Self::assemble(&key, &signature.to_bytes(), timestamp, &dns, ttl(&records)))
    }

    /// Reads a packet and verifies it.
    ///
    /// # Errors
    /// Whatever [`PacketError`] applies, the cheapest check first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PacketError> {
        let (key, payload) = bytes.split_first_chunk().ok_or(PacketError::TooShort)?;
        let packet = Self::from_parts(key, payload)?;
        packet.check_signature()?;
        Ok(packet)
    }

    /// Reads what relays exchange, a packet without its key, and verifies it.
    ///
    /// # Errors
    /// Whatever [`PacketError`] applies, the cheapest check first.
    pub fn from_relay_payload(key: &PublicKey, payload: &[u8]) -> Result<Self, PacketError> {
        let packet = Self::from_parts(key.as_bytes(), payload)?;
        packet.check_signature()?;
        Ok(packet)
    }

    /// Reads a packet whose signature was verified before it came to where it comes from.
    ///
    /// # Errors
    /// All but [`PacketError::Signature`] and [`PacketError::Key`].
    pub fn from_trusted_bytes(bytes: &[u8]) -> Result<Self, PacketError> {
        let (key, payload) = bytes.split_first_chunk().ok_or(PacketError::TooShort)?;
        Self::from_parts(key, payload)
    }

    /// Takes the packet out of an item that a lookup for `key` found.
    ///
    /// An [`Item`] was verified when it was made, so the signature is not checked again.
    ///
    /// # Errors
    /// If the item is not this key's, or no packet.
    pub fn from_item(key: &PublicKey, item: &Item) -> Result<Self, ItemError> {
        let signed = item.signed().ok_or(ItemError::Unrelated)?;
        if signed.public_key != *key.as_bytes() || !signed.salt.is_empty() {
            return Err(ItemError::Unrelated);
        }
        let not = |reason| ItemError::NotAPacket { seq: signed.seq, reason };
        let timestamp =
            Timestamp::from_seq(signed.seq).ok_or_else(|| not(NotAPacket::NegativeSeq))?;
        let dns = item::byte_string(item.value()).ok_or_else(|| not(NotAPacket::NotAByteString))?;
        let records = message::read(dns).map_err(|error| not(NotAPacket::Dns(error)))?;
        Ok(Self::assemble(key, &signed.signature, timestamp, dns, ttl(&records)))
    }

    /// The mutable item that carries this packet in the DHT, without a second look at its signature.
    ///
    /// # Errors
    /// If the packet was made elsewhere and is longer than what nodes of the DHT store.
    pub fn to_item(&self) -> Result<Item, item::ItemError> {
        let value = item::bencode_bytes(self.dns());
        let seq = self.timestamp().as_seq();
        let signed = Signed::new(*self.public_key().as_bytes(), Vec::new(), seq, *self.signature());
        Item::verified(&value, signed, |_, _, _| true)
    }

    /// The whole packet.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The packet without its key, as relays exchange it.
    #[must_use]
    pub fn relay_payload(&self) -> &[u8] {
        self.part(KEY_LEN, self.bytes.len())
    }

    /// The DNS message.
    #[must_use]
    pub fn dns(&self) -> &[u8] {
        self.part(DNS_AT, self.bytes.len())
    }

    /// Whose packet it is.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from_checked(*self.chunk(0))
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        self.chunk(KEY_LEN)
    }

    /// When it was signed, as its signer has it; among the packets of a key, its version.
    ///
    /// It may lie in the future. What was *seen* when is for the receiver to remember.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(u64::from_be_bytes(*self.chunk(TIMESTAMP_AT))).unwrap_or_default()
    }

    /// All records.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        match message::read(self.dns()) {
            Ok(records) => records,
            Err(error) => unreachable!("the message was read when the packet was made: {error}"),
        }
    }

    /// The records of a name within the zone of the key, see [`Name::within`]. A first label `*`
    /// stands for any one label.
    ///
    /// # Errors
    /// If the text is no name.
    pub fn records_of(&self, name: &str) -> Result<Vec<Record>, NameError> {
        let name = Name::within(&self.public_key(), name)?;
        let mut records = self.records();
        records.retain(|record| record.name.is_matched_by(&name));
        Ok(records)
    }

    /// For how many seconds the packet may be kept: as long as its most short-lived record, but
    /// within a range; without records for the shortest time of the range.
    #[must_use]
    pub fn ttl(&self, range: TtlRange) -> u32 {
        self.ttl.map_or_else(|| range.min(), |ttl| range.clamp(ttl))
    }

    /// Whether this is the newer of two packets of a key: the one with the later timestamp, and of
    /// two with the same the one whose message has the larger bytes, so that everybody who sees both
    /// chooses alike.
    #[must_use]
    pub fn more_recent_than(&self, other: &Self) -> bool {
        self.version() > other.version()
    }

    /// What packets of one key are ordered by.
    pub(crate) fn version(&self) -> Version<'_> {
        Version::of_bytes(self.timestamp().as_seq(), self.dns())
    }

    /// A packet from its parts, all but the signature checked.
    fn from_parts(key: &[u8; KEY_LEN], payload: &[u8]) -> Result<Self, PacketError> {
        let (_, behind) = payload.split_first_chunk::<64>().ok_or(PacketError::TooShort)?;
        let (timestamp, dns) = behind.split_first_chunk().ok_or(PacketError::TooShort)?;
        if dns.len() > MAX_DNS_LEN_READ {
            return Err(PacketError::TooLong);
        }
        Timestamp::from_micros(u64::from_be_bytes(*timestamp)).ok_or(PacketError::Timestamp)?;
        let records = message::read(dns)?;
        let mut bytes = Vec::with_capacity(KEY_LEN + payload.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(payload);
        Ok(Self { bytes, ttl: ttl(&records) })
    }

    fn assemble(
        key: &PublicKey,
        signature: &[u8; 64],
        timestamp: Timestamp,
        dns: &[u8],
        ttl: Option<u32>,
    ) -> Self {
        let mut bytes = Vec::with_capacity(DNS_AT + dns.len());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(signature);
        bytes.extend_from_slice(&timestamp.as_micros().to_be_bytes());
        bytes.extend_from_slice(dns);
        Self { bytes, ttl }
    }

    fn check_signature(&self) -> Result<(), PacketError> {
        let key = VerifyingKey::from_bytes(self.chunk(0))
            .map_err(|_| PacketError::Key(KeyError::NotAPoint))?;
        let text = signable(self.timestamp(), self.dns());
        // Strict, as for items of the DHT: under weak keys anyone can forge.
        key.verify_strict(&text, &Signature::from_bytes(self.signature()))
            .map_err(|_| PacketError::Signature)
    }

    fn part(&self, from: usize, to: usize) -> &[u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    fn chunk<const N: usize>(&self, at: usize) -> &[u8; N] {
        match self.bytes.get(at..).and_then(|behind| behind.first_chunk()) {
            Some(chunk) => chunk,
            None => unreachable!("packets are never shorter than their head"),
        }
    }
}

impl fmt::Debug for SignedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedPacket")
            .field("public_key", &self.public_key())
            .field("timestamp", &self.timestamp())
            .field("records", &self.records())
            .finish_non_exhaustive()
    }
}

/// What is signed: what BEP 44 signs for an item without salt.
fn signable(timestamp: Timestamp, dns: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(48 + dns.len());
    text.extend_from_slice(format!("3:seqi{timestamp}e1:v{}:", dns.len()).as_bytes());
    text.extend_from_slice(dns);
    text
}

fn ttl(records: &[Record]) -> Option<u32> {
    records.iter().map(|record| record.ttl).min()
}
