//! How the node is doing, in numbers and in words.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use dht_driver::{External, IoStats, View};

use crate::notice::Notices;

/// Counters of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What the protocol counted.
    pub node: dht_proto::stats::Stats,
    /// What the loop and the sockets counted.
    pub io: IoStats,
}

/// The address that the network sees us at, per family, once enough nodes agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalAddr {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl From<&View<'_>> for Stats {
    fn from(view: &View<'_>) -> Self {
        Self { node: view.dht.stats(), io: view.io }
    }
}

impl From<External> for ExternalAddr {
    fn from(external: External) -> Self {
        Self { v4: external.v4, v6: external.v6 }
    }
}

/// How the node is doing; `Display` says it in words a person can act on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// What the protocol sees, per network.
    pub node: dht_proto::health::Health,
    /// What else is wrong or was, one sentence each: host names, state file, sockets.
    pub problems: Vec<String>,
}

impl Health {
    /// Puts together what the protocol, the loop and the rest of the node know.
    #[must_use]
    pub fn new(node: dht_proto::health::Health, io: &IoStats, notices: &Notices) -> Self {
        let problems = notices.problems();
        let mut lines = Vec::new();
        for (host, error) in problems.dns {
            lines.push(format!("bootstrap host {host} has no address: {error}"));
        }
        lines.extend(problems.state.map(|error| format!("the state cannot be saved: {error}")));
        lines.extend(problems.ipv6.map(|error| format!("there is no IPv6: {error}")));
        for (count, what) in [
            (io.unreachable, "datagrams could not be sent: no route, or a firewall forbids it"),
            (io.send_errors, "datagrams were refused by the system"),
            (io.recv_errors, "receive calls failed"),
            (io.no_buffers_dropped, "datagrams found no buffer in the system"),
            (io.clock_jumps, "times the machine slept or had no CPU for seconds"),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        Self { node, problems: lines }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}
