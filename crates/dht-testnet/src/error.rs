//! Why a testnet does not run.

use core::fmt;
use core::net::SocketAddr;
use std::io;

use dht_sim::profile::UnknownProfile;

use crate::{Cidr, namespace};

/// Why a testnet does not run: what happened, and what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// More hosts than the range has addresses for.
    TooMany {
        /// Hosts, dead contacts included.
        hosts: u64,
        /// Addresses that the simulation may use.
        addresses: u64,
        /// The range.
        range: Cidr,
    },
    /// No profile has this name.
    UnknownProfile(UnknownProfile),
    /// A network of nobody.
    NoNodes,
    /// One address cannot stand for a range.
    NotWildcard(SocketAddr),
    /// The socket cannot be bound.
    Bind(SocketAddr, io::Error),
    /// The addresses of the range are not this machine's.
    NotLocal(Cidr, io::Error),
    /// No permission to make a network namespace.
    NoNamespace(io::Error),
    /// A command of the system failed.
    Command(String, String),
    /// The system refused something else.
    System(io::Error),
    /// The thread of the gateway has ended by a panic.
    Ended,
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::TooMany { .. } => "take fewer nodes, or a larger --range".to_owned(),
            Self::UnknownProfile(_) => "see dht testnet --help".to_owned(),
            Self::NoNodes => "take at least one node".to_owned(),
            Self::NotWildcard(addr) => format!(
                "one socket serves the whole range: use 0.0.0.0:{}, and --range to choose the \
                 addresses of the nodes",
                addr.port()
            ),
            Self::Bind(_, error) if error.kind() == io::ErrorKind::AddrInUse => {
                "use another port, or 0.0.0.0:0 to have the system pick one".to_owned()
            }
            Self::Bind(..) => "use 0.0.0.0:PORT".to_owned(),
            Self::NotLocal(range, _) => by_hand(*range),
            Self::NoNamespace(_) | Self::Command(..) => by_hand(Cidr::BENCHMARK),
            Self::System(_) => "see the system's limits".to_owned(),
            Self::Ended => "this is a bug".to_owned(),
        }
    }
}

/// How to make a network in which a range is local, without our help.
fn by_hand(range: Cidr) -> String {
    let [first, second, third] = namespace::commands(range);
    format!(
        "as root, run these three commands, and then dht testnet --range {range}:\n  {first}\n  \
         {second}\n  {third}"
    )
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { hosts, addresses, range } => write!(
                f,
                "{hosts} hosts, dead contacts included, are more than the {addresses} addresses \
                 that nodes may have in {range}"
            ),
            Self::UnknownProfile(error) => error.fmt(f),
            Self::NoNodes => f.write_str("a network without nodes"),
            Self::NotWildcard(addr) => write!(f, "{addr} is one address"),
            Self::Bind(addr, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "port {} is in use ({error})", addr.port())
            }
            Self::Bind(addr, error) => write!(f, "cannot listen on {addr} ({error})"),
            Self::NotLocal(range, error) => {
                write!(f, "the addresses of {range} are not this machine's ({error})")
            }
            Self::NoNamespace(error) => write!(f, "cannot make a network namespace ({error})"),
            Self::Command(command, error) => write!(f, "{command:?} failed: {error}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
            Self::Ended => f.write_str("the thread of the testnet has ended"),
        }
    }
}

impl core::error::Error for Error {}
