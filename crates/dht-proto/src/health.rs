//! Why there are no nodes, in words that a person can act on.

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use crate::addr::Family;

/// Something that only the runtime can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// None of the bootstrap host names could be resolved.
    Unresolved,
    /// The socket refuses to send or receive.
    Socket,
}

/// The state of one family's node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FamilyHealth {
    /// Which network.
    pub family: Family,
    /// Contacts that answered us.
    pub contacts: usize,
    /// Estimated nodes in the network; 0 if unknown.
    pub network_size: u64,
    /// The address that others see us at, once they agree.
    pub external: Option<IpAddr>,
    /// Whether we answer queries.
    pub answers: bool,
    /// Whether we are a server: configured to be one, or proven reachable.
    pub server: bool,
    /// How many strangers have asked us something since we began to look out for them; three prove
    /// that we can be reached, and then nobody is counted any more.
    pub strangers: usize,
    /// What is wrong, if anything is.
    pub problem: Option<Problem>,
}

/// Why a node has no contacts, or lost touch with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// Nothing was sent yet.
    Starting,
    /// There are no bootstrap addresses and no known nodes to start from.
    NobodyToAsk,
    /// No bootstrap host name could be resolved.
    Unresolved,
    /// The socket refuses to send or receive.
    Socket,
    /// Queries went out and nothing came back.
    NothingAnswered {
        /// How many were sent.
        queries: u64,
    },
    /// Only private addresses were told to us, by nodes elsewhere.
    OnlyPrivate,
    /// Somebody answered, but nobody who can be a contact: with errors, or from our own address.
    NobodyUsable,
    /// There were contacts, and all of them stopped answering.
    AllLost,
    /// Contacts are known, but nobody answered for a while although we asked.
    Offline {
        /// For how long.
        silence: Duration,
    },
    /// Time jumped: the machine slept, or the process was stopped.
    ClockJumped {
        /// By how much.
        by: Duration,
    },
}

/// The state of both networks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The IPv4 node, if there is one.
    pub v4: Option<FamilyHealth>,
    /// The IPv6 node, if there is one.
    pub v6: Option<FamilyHealth>,
}

impl Health {
    /// Whether at least one network has contacts and no problem.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        [&self.v4, &self.v6].into_iter().flatten().any(|f| f.contacts > 0 && f.problem.is_none())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: nothing was sent yet"),
            Self::NobodyToAsk => f.write_str(
                "nobody to ask: no bootstrap address and no saved node; give --bootstrap HOST:PORT",
            ),
            Self::Unresolved => f.write_str(
                "no bootstrap host name could be resolved; check DNS, or give an IP address",
            ),
            Self::Socket => {
                f.write_str("the socket refuses to send; check the network and the firewall")
            }
            Self::NothingAnswered { queries } => write!(
                f,
                "{queries} queries sent, nothing answered; UDP may be blocked, or the bootstrap \
                 nodes are down"
            ),
            Self::OnlyPrivate => f.write_str(
                "only private addresses were told to us; the bootstrap node is on another network",
            ),
            Self::NobodyUsable => f.write_str(
                "whoever answered is no DHT node, or this node itself; check the bootstrap \
                 addresses",
            ),
            Self::AllLost => f.write_str(
                "every contact stopped answering; check the network and the firewall, or give \
                 another --bootstrap HOST:PORT",
            ),
            Self::Offline { silence } => write!(
                f,
                "offline: no answer for {} s although we ask; contacts are kept",
                silence.as_secs()
            ),
            Self::ClockJumped { by } => {
                write!(f, "time jumped by {} s (sleep?); reconnecting", by.as_secs())
            }
        }
    }
}

impl fmt::Display for FamilyHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} nodes", self.family, self.contacts)?;
        if self.network_size > 0 {
            write!(f, " of about {}", self.network_size)?;
        }
        if let Some(ip) = self.external {
            write!(f, ", seen as {ip}")?;
        }
        f.write_str(match (self.server, self.answers) {
            (true, _) => ", server",
            (false, true) => ", answering, reachability not proven",
            (false, false) => ", read-only",
        })?;
        self.problem.map_or(Ok(()), |problem| write!(f, "; {problem}"))
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for family in [&self.v4, &self.v6].into_iter().flatten() {
            if !first {
                f.write_str("\n")?;
            }
            first = false;
            family.fmt(f)?;
        }
        Ok(())
    }
}
