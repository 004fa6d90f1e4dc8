//! PKARR: DNS records signed by the key that is their name, as bytes and rules without I/O.
//!
//! A [`PublicKey`] is a top-level domain that nobody grants and nobody takes away. Whoever has the
//! secret key signs a DNS message of at most 996 bytes into a [`SignedPacket`] and stores it in the
//! Mainline DHT (BEP 44) or at relays; everybody can look it up and verify it.
//!
//! This crate does no I/O, reads no clock and draws no randomness: keys, packets and times go in and
//! come out. It stands on `dht-proto` alone.
//!
//! ```
//! use dht_pkarr::{Keypair, PublicKey, SignedPacket, Timestamp};
//!
//! // The owner of a key signs records ...
//! let keypair = Keypair::from_secret(&[7; 32]); // `Keypair::from_rng` in earnest
//! let packet = SignedPacket::builder()
//!     .address("@", "192.0.2.1".parse()?, 3600)
//!     .cname("www", "example.com".parse()?, 3600)
//!     .sign(&keypair, Timestamp::from_secs(1_700_000_000))?;
//! let item = packet.to_item()?; // what `put` of the DHT takes
//!
//! // ... and who knows the key finds them.
//! let key: PublicKey = format!("https://www.{}/", keypair.public_key()).parse()?;
//! assert_eq!(key.item_id(), item.id()); // what `get` of the DHT asks for
//! let packet = SignedPacket::from_item(&key, &item)?;
//! assert_eq!(packet.records_of("www")?.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//!
//! * [`PublicKey`], [`Keypair`]: text in z-base-32, keys of URLs, secrets.
//! * [`SignedPacket`], [`Builder`], [`CachedPacket`]: records in, bytes out, and the reverse.
//! * [`record`], [`Name`]: what a packet holds.
//! * [`dns`]: messages and answers, for servers.
//! * [`zone`]: records as text.
//! * [`Newest`]: the newest of many answers.
//! * [`resolve`]: what to ask for a key by which policy, and which answer counts.
//! * [`publish`]: whom to hand a packet to, and what their answers mean.
//! * [`cache`]: packets in memory, as many as there is room for.
//! * [`keep_alive`]: when to publish which key again.
//! * [`endpoint`]: where the service is that a name stands for.
//!
//! # Panics
//!
//! A panic is a bug and never depends on input.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod answer;
pub mod cache;
mod cached;
pub mod endpoint;
pub mod keep_alive;
mod key;
mod message;
mod name;
mod newest;
mod packet;
pub mod publish;
pub mod record;
pub mod resolve;
mod time;
mod ttl;
mod zbase32;
pub mod zone;

/// DNS messages, and what packets answer in them: for servers of names.
pub mod dns {
    pub use crate::answer::Answer;
    pub use crate::message::{Message, Question, flag};
}

pub use self::cached::CachedPacket;
pub use self::key::{KeyError, Keypair, PublicKey, host, key_bytes};
pub use self::message::DnsError;
pub use self::name::{Labels, Name, NameError};
pub use self::newest::Newest;
pub use self::packet::{
    BuildError, Builder, ItemError, MAX_DNS_LEN, MAX_DNS_LEN_READ, NotAPacket, PacketError,
    SignedPacket,
};
pub use self::time::Timestamp;
pub use self::ttl::TtlRange;

/// The examples of the guide run as doctests, so that they stay true.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/PKARR.md")]
struct Guide;
