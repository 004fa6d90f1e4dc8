//! What checkers see, and what they say.

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
    /// A node was given its input and drained: it sleeps until its timeout.
    Drained {
        /// The node.
        host: HostId,
        /// The time on its own clock.
        local: Instant,
        /// Its state.
        dht: &'a Dht,
    },
    /// A node began, anew if there was one at this host before.
    Born {
        /// The node.
        host: HostId,
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
            | Self::Told { host, .. }
            | Self::Started { host, .. }
            | Self::Cancelled { host, .. }
            | Self::Drained { host, .. }
            | Self::Born { host, .. }
            | Self::Died { host } => Some(*host),
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
