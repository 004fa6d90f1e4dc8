//! What the operator of a node may want to log, and what is wrong at the moment.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dht_proto::addr::Family;
use dht_proto::request::Event;

/// Something that happened to the node, worth a line in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Enough nodes agree on the address that they see us at.
    ExternalAddress(IpAddr),
    /// The node of this family began or ceased to answer queries.
    Serving {
        /// Which network.
        family: Family,
        /// Whether it answers.
        serving: bool,
    },
    /// A bootstrap host has these addresses.
    Resolved {
        /// The host, as it was given.
        host: String,
        /// Its addresses.
        addrs: Vec<SocketAddr>,
    },
    /// A bootstrap host could not be resolved.
    NotResolved {
        /// The host, as it was given.
        host: String,
        /// What the resolver said.
        error: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The state file was damaged and has been renamed; the node starts afresh.
    StateDamaged {
        /// Where it is now.
        kept_as: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The state was not saved; it is tried again.
    StateNotSaved {
        /// What the system said.
        error: String,
    },
    /// An IPv6 socket could not be opened; the node goes on with IPv4 alone.
    NoIpv6 {
        /// What the system said.
        error: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalAddress(ip) => write!(f, "others see us at {ip}"),
            Self::Serving { family, serving: true } => write!(f, "answering queries over {family}"),
            Self::Serving { family, serving: false } => {
                write!(f, "no longer answering queries over {family}")
            }
            Self::Resolved { host, addrs } => write!(f, "{host} has {} addresses", addrs.len()),
            Self::NotResolved { host, error, retry_in } => {
                write!(f, "cannot resolve {host}: {error}; next try in {} s", retry_in.as_secs())
            }
            Self::StateDamaged { kept_as, error } => {
                write!(
                    f,
                    "the state file is damaged ({error}); it is kept as {}",
                    kept_as.display()
                )
            }
            Self::StateNotSaved { error } => write!(f, "cannot save the state: {error}"),
            Self::NoIpv6 { error } => write!(f, "no IPv6: {error}"),
        }
    }
}

/// Who hears the notices, and what is remembered of them for [`Health`](crate::Health).
#[derive(Clone, Default)]
pub struct Notices {
    callback: Option<Arc<dyn Fn(Notice) + Send + Sync>>,
    problems: Arc<Mutex<Problems>>,
}

/// What is wrong at the moment. One line per bootstrap host, and one per other cause.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems {
    pub(crate) dns: BTreeMap<String, String>,
    pub(crate) state: Option<String>,
    pub(crate) ipv6: Option<String>,
}

impl Notices {
    pub(crate) fn new(callback: Option<Arc<dyn Fn(Notice) + Send + Sync>>) -> Self {
        Self { callback, problems: Arc::default() }
    }

    /// Remembers a notice, and tells whoever wants to hear it.
    pub fn tell(&self, notice: Notice) {
        self.remember(&notice);
        if let Some(callback) = &self.callback {
            callback(notice);
        }
    }

    /// These hosts have no address so far.
    pub(crate) fn resolving(&self, hosts: impl Iterator<Item = String>) {
        let dns = &mut self.lock().dns;
        dns.extend(hosts.map(|host| (host, "the resolver has not answered yet".to_owned())));
    }

    /// Tells what the protocol noticed by itself; events of lookups are none of that.
    pub fn tell_event(&self, event: &Event) {
        match *event {
            Event::ExternalAddress(ip) => self.tell(Notice::ExternalAddress(ip)),
            Event::Serving { family, serving } => self.tell(Notice::Serving { family, serving }),
            Event::Peers { .. }
            | Event::Item { .. }
            | Event::Samples { .. }
            | Event::Done { .. }
            | _ => {}
        }
    }

    pub(crate) fn state_saved(&self) {
        self.lock().state = None;
    }

    pub(crate) fn problems(&self) -> Problems {
        self.lock().clone()
    }

    fn remember(&self, notice: &Notice) {
        let mut problems = self.lock();
        match notice {
            Notice::Resolved { host, .. } => {
                problems.dns.remove(host);
            }
            Notice::NotResolved { host, error, .. } => {
                problems.dns.insert(host.clone(), error.clone());
            }
            Notice::StateNotSaved { error } => problems.state = Some(error.clone()),
            Notice::NoIpv6 { error } => problems.ipv6 = Some(error.clone()),
            Notice::ExternalAddress(_) | Notice::Serving { .. } | Notice::StateDamaged { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Problems> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notices(..)")
    }
}
