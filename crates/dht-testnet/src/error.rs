//! Why a testnet does not run.

use core::fmt;
use core::net::SocketAddr;
use std::io;

use dht_proto::Networks;
use dht_sim::profile::UnknownProfile;

use crate::{Cidr, Listen, namespace};

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
    /// More hosts than there is memory for.
    TooLarge {
        /// Bytes that they take.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// No profile has this name.
    UnknownProfile(UnknownProfile),
    /// A network of nobody.
    NoNodes,
    /// A port of a socket cannot be bound.
    Bind(SocketAddr, io::Error),
    /// The port leaves no room for as many as are needed.
    TooHigh {
        /// The first.
        port: u16,
        /// How many are needed.
        ports: u16,
    },
    /// So many free ports in a row were not found.
    NoPorts(u16),
    /// The addresses of the ranges are not this machine's.
    NotLocal {
        /// The ranges.
        listen: Listen,
        /// What the system said.
        error: io::Error,
    },
    /// No permission to make a network namespace.
    NoNamespace {
        /// What it would be for.
        listen: Listen,
        /// What the system said.
        error: io::Error,
    },
    /// A command of the system failed.
    Command {
        /// What it was for.
        listen: Listen,
        /// The command.
        command: String,
        /// What it said.
        why: String,
    },
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
            Self::TooLarge { .. } => "take fewer nodes".to_owned(),
            Self::UnknownProfile(_) => "see dht testnet --help".to_owned(),
            Self::NoNodes => "take at least one node".to_owned(),
            Self::Bind(_, error) if error.kind() == io::ErrorKind::AddrInUse => {
                "use another port, or 0.0.0.0:0 to have a free one picked".to_owned()
            }
            Self::Bind(..) => "use 0.0.0.0:PORT".to_owned(),
            Self::TooHigh { ports, .. } => {
                format!("use a port up to {}", u16::MAX - ports.saturating_sub(1))
            }
            Self::NoPorts(_) => "name the first of them: 0.0.0.0:PORT".to_owned(),
            Self::NotLocal { listen, .. }
            | Self::NoNamespace { listen, .. }
            | Self::Command { listen, .. } => by_hand(listen),
            Self::System(_) => "see the system's limits".to_owned(),
            Self::Ended => "this is a bug".to_owned(),
        }
    }
}

/// How to make a network in which the ranges are local.
fn by_hand(listen: &Listen) -> String {
    let mut listen = listen.clone();
    if listen.range == Cidr::LOOPBACK {
        // That stays where it is: programs know it.
        listen.range = Cidr::BENCHMARK;
    }
    let flags = match listen.networks {
        Networks::V4 => format!("--range {}", listen.range),
        Networks::V6 => "--family v6".to_owned(),
        Networks::Both => format!("--family both --range {}", listen.range),
    };
    let commands = namespace::commands(&listen).join("\n  ");
    format!(
        "add --netns and run it as root; or, as root, run these commands, and then dht testnet \
         {flags}:\n  {commands}"
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
            Self::TooLarge { needed, free } => write!(
                f,
                "so many nodes take about {} MB of memory, and {} MB are free",
                needed >> 20,
                free >> 20
            ),
            Self::UnknownProfile(error) => error.fmt(f),
            Self::NoNodes => f.write_str("a network without nodes"),
            Self::Bind(addr, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "port {} is in use ({error})", addr.port())
            }
            Self::Bind(addr, error) => write!(f, "cannot listen on {addr} ({error})"),
            Self::TooHigh { port, ports } => {
                write!(f, "from port {port} on there are no {ports} ports for NATs to map to")
            }
            Self::NoPorts(ports) => {
                write!(f, "no {ports} ports in a row are free for NATs to map to")
            }
            Self::NotLocal { listen, error } => {
                write!(f, "the addresses of {} are not this machine's ({error})", listen.ranges())
            }
            Self::NoNamespace { error, .. } => {
                write!(f, "cannot make a network namespace ({error})")
            }
            Self::Command { command, why, .. } => write!(f, "{command:?} failed: {why}"),
            Self::System(error) => write!(f, "the system refused: {error}"),
            Self::Ended => f.write_str("the thread of the testnet has ended"),
        }
    }
}

impl core::error::Error for Error {}
