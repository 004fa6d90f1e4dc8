//! What cannot work between two implementations because of the limits of one of them.
//!
//! `docs/INTEROP.md` explains each reason; a test keeps the two together.

use super::Kind;
use super::address::Network;
use super::scenario::{Cell, Operation};

const FOUR_BYTES: &str = "mainline answers only four-byte transaction ids";
const OWN_SEQ: &str = "libtorrent writes one more than the newest seq it finds";
const NO_CAS: &str = "libtorrent never sends cas";
const NO_SEED: &str = "its announces have no seed flag";
const NO_SCRAPE: &str = "its client never asks for a scrape";
const NO_SAMPLE: &str = "its client has no sample_infohashes";

const NO_SAMPLE_V6: &str = "libtorrent sends no sample_infohashes over IPv6";

/// Every reason of [`limit`].
pub const REASONS: [&str; 7] =
    [FOUR_BYTES, OWN_SEQ, NO_CAS, NO_SEED, NO_SCRAPE, NO_SAMPLE, NO_SAMPLE_V6];

/// Why an operation cannot work, or `None` if it must.
#[must_use]
pub const fn limit(cell: &Cell) -> Option<&'static str> {
    let (writer, reader) = (cell.writer, cell.reader);
    if matches!(cell.swarm, Kind::Mainline)
        && !(sends_four_bytes(writer) && sends_four_bytes(reader))
    {
        return Some(FOUR_BYTES);
    }
    match cell.operation {
        Operation::Stale if matches!(writer, Kind::Libtorrent) => Some(OWN_SEQ),
        Operation::Cas if matches!(writer, Kind::Libtorrent) => Some(NO_CAS),
        Operation::Scrape if !announces_seeds(writer) => Some(NO_SEED),
        Operation::Scrape if !reader.is_ours() => Some(NO_SCRAPE),
        Operation::Sample if !samples(reader) => Some(NO_SAMPLE),
        Operation::Sample
            if matches!(reader, Kind::Libtorrent) && matches!(cell.network, Network::V6) =>
        {
            Some(NO_SAMPLE_V6)
        }
        Operation::Peers
        | Operation::Immutable
        | Operation::Mutable
        | Operation::Salted
        | Operation::Newer
        | Operation::Stale
        | Operation::Cas
        | Operation::Scrape
        | Operation::Sample => None,
    }
}

const fn sends_four_bytes(kind: Kind) -> bool {
    matches!(kind, Kind::Mainline) || kind.is_ours()
}

const fn announces_seeds(writer: Kind) -> bool {
    matches!(writer, Kind::Libtorrent) || writer.is_ours()
}

const fn samples(reader: Kind) -> bool {
    matches!(reader, Kind::Libtorrent) || reader.is_ours()
}
