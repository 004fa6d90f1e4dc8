//! What cannot work between two implementations because of the limits of one of them.
//!
//! `docs/INTEROP.md` explains each reason; a test keeps the two together.

use super::Kind;
use super::scenario::{Cell, Operation};

/// Every reason of [`limit`], for the test that looks for them in the documentation.
pub const REASONS: [&str; 0] = [];

/// Why an operation cannot work, or `None` if it must.
#[must_use]
pub const fn limit(cell: &Cell) -> Option<&'static str> {
    let _ = (cell.swarm, Kind::Mainline, Operation::Peers);
    None
}
