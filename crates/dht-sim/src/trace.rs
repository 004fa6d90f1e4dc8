//! What a run leaves behind: a hash over everything that happened, and on request every event.

use core::fmt;
use std::net::{IpAddr, SocketAddr};

use dht_proto::time::Instant;

use crate::address::mix;

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

    pub(crate) fn add(&mut self, record: &Record<'_>) {
        self.events += 1;
        let fold = |hash: u64, word: u64| mix(hash.rotate_left(5) ^ word);
        let mut hash = fold(self.hash, record.at.as_micros() << 3 | u64::from(record.verb as u8));
        hash = fold(hash, word_of(record.from));
        hash = fold(hash, word_of(record.to));
        let mut chunks = record.bytes.chunks_exact(8);
        // Order matters, and a multiplication per word is all that a million events a second allow.
        let mut body = record.bytes.len() as u64;
        for chunk in chunks.by_ref() {
            let word = chunk.try_into().map_or(0, u64::from_le_bytes);
            body = (body.rotate_left(23) ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        }
        let rest = chunks.remainder().iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        self.hash = fold(hash, body ^ rest.rotate_left(32));
        if let Some(recorder) = &mut self.recorder {
            recorder.record(record);
        }
    }
}

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
