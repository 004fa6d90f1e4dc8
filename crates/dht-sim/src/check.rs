//! What checkers see, and what they say; and the checkers that watch every simulated test.
//!
//! | module | invariant |
//! |---|---|
//! | [`replies`] | I1: at most one reply, to the source, within size and budget |
//! | [`drain`] | I2: a node never sleeps on queued work and never spins |
//! | [`transactions`] | I3: replies match exactly one live query; queries end in time |
//! | [`table`] | I4: every contact in its bucket, once, within the limits of networks |
//! | [`lookups`] | I5: each lookup ends once and in time, with sorted results |
//! | [`storage`] | I6: nothing is stored without a token, nor against seq, signature or time |
//! | [`lifetime`] | I6: what is stored is found until it expires, and not after that |
//! | [`bounds`] | I7: all that memory ceilings add up stays within its bound |
//! | [`order`] | I8: the order of polling changes nothing |
//! | [`replay`] | I9: one seed, one run |
//! | [`liveness`] | I10: after faults end, lookups find the truly closest, gets find what was put |
//! | [`strangers`] | I10: nobody takes itself for a server whom no stranger has reached |
//! | [`traffic`] | I11: nodes stay quiet, and lookups take few hops |
//! | [`rhythm`] | I11: nodes stay out of step |
//! | [`codec`] | I12: what crosses the wire encodes as it decodes |

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a checker looks at some happenings and passes over the rest"
)]

pub(crate) mod authentic;
pub mod bounds;
pub mod codec;
pub mod drain;
pub mod lifetime;
pub mod liveness;
pub mod lookups;
pub mod order;
pub mod replay;
pub mod replies;
pub mod rhythm;
pub mod storage;
pub mod strangers;
pub mod table;
pub mod traffic;
pub mod transactions;

use core::fmt;
use std::net::SocketAddr;

use dht_proto::Dht;
use dht_proto::request::{Event, Lookup, LookupId};
use dht_proto::time::Instant;

use crate::world::HostId;

/// Something that happened in a world.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Happening<'a> {
    /// A datagram set out, from whomever to whomever.
    Carried {
        /// The source address it bears.
        from: SocketAddr,
        /// Where it goes.
        to: SocketAddr,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A node took a datagram in.
    Handled {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// Where the datagram came from.
        from: SocketAddr,
        /// The datagram.
        bytes: &'a [u8],
        /// Where the reply goes, and the reply.
        reply: Option<(SocketAddr, &'a [u8])>,
        /// The node's state after it.
        dht: &'a Dht,
    },
    /// A node sent a query.
    Asked {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// Whom it asks.
        to: SocketAddr,
        /// The query.
        bytes: &'a [u8],
    },
    /// A node told its user something.
    Told {
        /// The node.
        host: HostId,
        /// What.
        event: &'a Event,
    },
    /// A user started a lookup.
    Started {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// The lookup.
        id: LookupId,
        /// What it is for.
        lookup: &'a Lookup,
    },
    /// A user cancelled a lookup that was running.
    Cancelled {
        /// The node.
        host: HostId,
        /// The lookup.
        id: LookupId,
    },
    /// A node was asked for all its output.
    Polled {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// What its `poll_timeout` said before.
        promised: Option<Instant>,
        /// Whether there was any output.
        yielded: bool,
    },
    /// A node was given its input and drained: it sleeps until its timeout.
    Drained {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// Its timeout.
        due: Option<Instant>,
        /// Its state.
        dht: &'a Dht,
    },
    /// A node began, anew if there was one at this host before.
    Born {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// Its state.
        dht: &'a Dht,
    },
    /// A node ended without a word.
    Died {
        /// The node.
        host: HostId,
    },
}

impl Happening<'_> {
    /// The node it happened to, if to one.
    #[must_use]
    pub const fn host(&self) -> Option<HostId> {
        match self {
            Self::Carried { .. } => None,
            Self::Handled { host, .. }
            | Self::Asked { host, .. }
            | Self::Polled { host, .. }
            | Self::Told { host, .. }
            | Self::Started { host, .. }
            | Self::Cancelled { host, .. }
            | Self::Drained { host, .. }
            | Self::Born { host, .. }
            | Self::Died { host } => Some(*host),
        }
    }

    /// The time on the node's own clock, if it was told one.
    #[must_use]
    pub const fn local(&self) -> Option<Instant> {
        match self {
            Self::Handled { local, .. }
            | Self::Asked { local, .. }
            | Self::Started { local, .. }
            | Self::Polled { local, .. }
            | Self::Drained { local, .. }
            | Self::Born { local, .. } => Some(*local),
            Self::Carried { .. }
            | Self::Told { .. }
            | Self::Cancelled { .. }
            | Self::Died { .. } => None,
        }
    }
}

/// Watches everything that happens, for one invariant.
pub trait Checker: fmt::Debug + Send {
    /// The invariant, in a few words.
    fn name(&self) -> &'static str;

    /// Looks at what happened.
    ///
    /// # Errors
    /// What broke the invariant, in words.
    fn happened(&mut self, now: Instant, what: &Happening<'_>) -> Result<(), String>;
}

/// One of each checker that watches a world from inside. I8, I9, I10, the end of I6 and the rhythm of
/// I11 need a run of their own: [`order`], [`replay`], [`liveness`], [`lifetime`], [`rhythm`].
#[must_use]
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(replies::Replies::default()),
        Box::new(drain::Drain::default()),
        Box::new(transactions::Transactions::default()),
        Box::new(table::Tables::default()),
        Box::new(lookups::Lookups::default()),
        Box::new(storage::Storage::default()),
        Box::new(strangers::Strangers::default()),
        Box::new(bounds::Bounds::default()),
        Box::new(traffic::Traffic::default()),
        Box::new(codec::Codec::default()),
    ]
}

/// Something kept for each host, from the birth of its node on.
#[derive(Clone, Debug)]
pub(crate) struct PerHost<T>(Vec<T>);

impl<T> Default for PerHost<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerHost<T> {
    /// What is kept for a host.
    #[expect(clippy::indexing_slicing, reason = "the line before makes room")]
    fn of(&mut self, host: HostId) -> &mut T {
        if self.0.len() <= host.index() {
            self.0.resize_with(host.index() + 1, T::default);
        }
        &mut self.0[host.index()]
    }

    /// What is kept for the host that something happened to: nothing yet where a node begins.
    pub(crate) fn at(&mut self, what: &Happening<'_>) -> Option<&mut T> {
        let kept = self.of(what.host()?);
        if matches!(what, Happening::Born { .. }) {
            *kept = T::default();
        }
        Some(kept)
    }
}

/// `Err` with these words unless the condition holds.
pub(crate) fn demand(holds: bool, words: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(words()) }
}

#[cfg(test)]
pub(crate) mod testing;

/// An invariant was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which one.
    pub invariant: &'static str,
    /// When.
    pub at: Instant,
    /// How many events of the trace came before.
    pub event: u64,
    /// At which node, if at one.
    pub host: Option<HostId>,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}\n  at {:?}, event {}", self.invariant, self.at, self.event)?;
        if let Some(host) = self.host {
            write!(f, ", node {host}")?;
        }
        write!(f, "\n  {}", self.what)
    }
}
