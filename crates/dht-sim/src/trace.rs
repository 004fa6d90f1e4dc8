//! What a run leaves behind: a hash over everything that happened, and on request every event.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

use dht_proto::time::Instant;

mod only;
mod pcap;
mod text;

pub use only::Only;
pub use pcap::Pcap;
pub use text::Text;

/// What is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Verb {
    /// A datagram set out.
    Sent = 1,
    /// A datagram arrived at a host.
    Arrived = 2,
    /// A datagram was lost on its way, or nobody was there.
    Lost = 3,
    /// A host's timer went off.
    Woke = 4,
}

/// One event of a trace.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Record<'a> {
    /// When.
    pub at: Instant,
    /// What.
    pub verb: Verb,
    /// The source, or the host that woke.
    pub from: SocketAddr,
    /// The destination, or the host that woke.
    pub to: SocketAddr,
    /// The datagram.
    pub bytes: &'a [u8],
}

/// Takes the events of a trace, for a text or a capture file.
pub trait Recorder: fmt::Debug + Send {
    /// An event.
    fn record(&mut self, record: &Record<'_>);
}

/// The hash over all events so far, and whoever wants to see them.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    recorder: Option<Box<dyn Recorder>>,
}

impl Trace {
    /// The hash: equal for equal runs.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of events.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Has every further event recorded.
    pub fn set_recorder(&mut self, recorder: Option<Box<dyn Recorder>>) {
        self.recorder = recorder;
    }

    /// Adds an event. `content` stands for the datagram: its [`digest`] when it sets out, afterwards
    /// which one it is, so that no byte is read twice.
    pub(crate) fn add(&mut self, record: &Record<'_>, content: u64) {
        self.events += 1;
        let when = record.at.as_micros() << 3 | u64::from(record.verb as u8);
        let hash = fold(self.hash ^ when ^ SALTS[0], word_of(record.from) ^ SALTS[1]);
        self.hash = fold(hash ^ word_of(record.to) ^ SALTS[2], content ^ SALTS[3]);
        if let Some(recorder) = &mut self.recorder {
            recorder.record(record);
        }
    }
}

/// Four odd words of random bits: the fraction of pi.
const SALTS: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

/// Mixes two words into one: both halves of their product (as wyhash does).
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product >> 64) as u64 ^ product as u64
}

/// A hash of a datagram's bytes: one multiplication for sixteen of them.
#[inline]
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, block: [u8; 16]| {
        let block = u128::from_le_bytes(block);
        fold(hash ^ block as u64 ^ SALTS[0], (block >> 64) as u64 ^ SALTS[3])
    };
    let (blocks, rest) = bytes.as_chunks::<16>();
    let hash = (bytes.len() as u64).wrapping_mul(SALTS[1]);
    let hash = blocks.iter().fold(hash, |hash, block| mix(hash, *block));
    // The last block once more from the end on, or all there is.
    let last = bytes.last_chunk().copied().unwrap_or_else(|| {
        let mut short = [0; 16];
        short.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        short
    });
    mix(hash, last)
}

#[inline]
fn word_of(addr: SocketAddr) -> u64 {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => {
            let bits = u128::from(ip);
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
        }
    };
    ip << 16 | u64::from(addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every bit and the length of a datagram count.
    #[test]
    fn datagrams_that_differ_have_different_digests() {
        for len in [1_u32, 7, 8, 15, 16, 17, 32, 100] {
            let mut bytes: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
            let mut seen = BTreeSet::from([digest(&bytes)]);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(digest(&bytes)), "bit {bit} of {len} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            bytes.push(0);
            assert!(seen.insert(digest(&bytes)), "{len} bytes and a zero");
        }
    }

    #[test]
    fn every_part_of_an_event_and_their_order_count() {
        let (a, b): (SocketAddr, SocketAddr) =
            ("1.2.3.4:5".parse().unwrap(), "[2600::1]:5".parse().unwrap());
        let hash = |events: &[(u64, Verb, SocketAddr, SocketAddr, u64)]| {
            let mut trace = Trace::default();
            for (at, verb, from, to, content) in events.iter().copied() {
                let at = Instant::from_micros(at);
                trace.add(&Record { at, verb, from, to, bytes: &[] }, content);
            }
            trace.hash()
        };
        let (one, other) = ((1, Verb::Sent, a, b, 7), (1, Verb::Sent, a, b, 8));
        let hashes = BTreeSet::from([
            hash(&[one]),
            hash(&[other]),
            hash(&[(2, Verb::Sent, a, b, 7)]),
            hash(&[(1, Verb::Lost, a, b, 7)]),
            hash(&[(1, Verb::Sent, b, a, 7)]),
            hash(&[(1, Verb::Sent, b, b, 7)]),
            hash(&[one, other]),
            hash(&[other, one]),
        ]);
        assert_eq!(hashes.len(), 8);
    }
}
