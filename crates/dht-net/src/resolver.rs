//! Finds the addresses of bootstrap hosts.

use core::net::SocketAddr;
use core::time::Duration;
use core::{fmt, mem};
use std::io;
use std::net::ToSocketAddrs;
use std::time::Instant;

use dht_driver::{Command, Names, Rejected, Sender};

use crate::error::{Error, ErrorKind};
use crate::notice::{Notice, Notices};

/// Pause after the first failure; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_secs(2);
/// Longest pause between tries.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Addresses taken from one host, at most.
const MAX_ADDRS: usize = 16;

/// A bootstrap host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address: nothing to resolve.
    Addr(SocketAddr),
    /// A name, and the text it came from.
    Name { text: String, name: String, port: u16 },
}

impl Host {
    /// Reads `host:port`, `1.2.3.4:port` or `[v6]:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "{text:?} is not HOST:PORT; for example router.example.org:6881 or [2001:db8::1]:6881"
                ),
            )
        };
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(bad()) } else { Ok(Self::Addr(addr)) };
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let plausible = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.len() > 253 || !name.chars().all(plausible) {
            return Err(bad());
        }
        Ok(Self::Name { text: text.to_owned(), name: name.to_owned(), port })
    }
}

/// How names become addresses; tests supply their own.
type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send;

/// Where a resolver sends what it finds out: the command queue of the loop.
pub type Post<'a> = dyn Fn(Command<Sender>) -> Result<(), Rejected> + 'a;

/// The system's resolver.
fn system(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (name, port).to_socket_addrs().map(|addrs| addrs.take(MAX_ADDRS).collect())
}

/// Finds the addresses of bootstrap hosts, and again until it works.
///
/// A runtime waits until [`Resolver::due`] and then calls [`Resolver::turn`] where blocking harms
/// nobody.
pub struct Resolver {
    /// Some name has addresses, or there are bootstrap addresses without a name.
    resolved: bool,
    pending: Vec<Pending>,
    notices: Notices,
    resolve: Box<Resolve>,
}

/// A name that has no addresses yet.
struct Pending {
    text: String,
    name: String,
    port: u16,
    due: Instant,
    backoff: Duration,
}

impl Pending {
    fn new(host: Host) -> Option<Self> {
        match host {
            Host::Addr(_) => None,
            Host::Name { text, name, port } => {
                Some(Self { text, name, port, due: Instant::now(), backoff: BACKOFF_MIN })
            }
        }
    }
}

impl Resolver {
    /// A resolver for those hosts that have names.
    pub(crate) fn new(hosts: Vec<Host>, notices: Notices) -> Self {
        let resolved = hosts.iter().any(|host| matches!(host, Host::Addr(_)));
        let pending: Vec<_> = hosts.into_iter().filter_map(Pending::new).collect();
        notices.resolving(pending.iter().map(|host| host.text.clone()));
        Self { resolved, pending, notices, resolve: Box::new(system) }
    }

    /// When the next name is to be tried; `None` if there are no more.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.due).min()
    }

    /// Tries the names that are due. The system's resolver may block for half a minute each.
    pub fn turn(&mut self, post: &Post<'_>) {
        let mut pending = mem::take(&mut self.pending);
        let names = pending.len();
        pending.retain_mut(|host| host.due > Instant::now() || !self.try_one(host, post));
        self.resolved |= pending.len() < names;
        self.pending = pending;
        // Told again after every try, so one that is lost does no harm.
        let names = if self.resolved { Names::Known } else { Names::Failed };
        post(Command::Names(names)).ok();
    }

    /// Returns whether the host is done with.
    fn try_one(&self, host: &mut Pending, post: &Post<'_>) -> bool {
        let error = match (self.resolve)(&host.name, host.port) {
            Ok(addrs) if addrs.is_empty() => "the name has no addresses".to_owned(),
            Ok(addrs) => return self.found(host, addrs, post),
            Err(error) => error.to_string(),
        };
        let retry_in = host.backoff;
        host.due = Instant::now() + retry_in;
        host.backoff = (host.backoff * 2).min(BACKOFF_MAX);
        self.notices.tell(Notice::NotResolved { host: host.text.clone(), error, retry_in });
        false
    }

    fn found(&self, host: &mut Pending, addrs: Vec<SocketAddr>, post: &Post<'_>) -> bool {
        match post(Command::AddBootstrap(addrs.clone())) {
            Ok(()) => {
                self.notices.tell(Notice::Resolved { host: host.text.clone(), addrs });
                true
            }
            Err(Rejected::Closed) => true,
            Err(Rejected::Full) => {
                // The queue has room again in a moment.
                host.due = Instant::now() + BACKOFF_MIN;
                false
            }
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        let addr = |text: &str| Host::Addr(text.parse().unwrap());
        assert_eq!(Host::parse("1.2.3.4:5").unwrap(), addr("1.2.3.4:5"));
        assert_eq!(Host::parse("[2001:db8::1]:6881").unwrap(), addr("[2001:db8::1]:6881"));
        assert!(matches!(
            Host::parse("router.example.org:6881").unwrap(),
            Host::Name { name, port: 6881, .. } if name == "router.example.org"
        ));
        for bad in [
            "",
            ":1",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "1.2.3.4:0",
            "2001:db8::1",
            "::1:6881",
            "[2001:db8::1]",
            "[host]:1",
            "ho st:1",
            "http://host:1",
            "host:1/",
        ] {
            let error = Host::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
            assert!(error.to_string().contains("HOST:PORT"), "{error}");
        }
        assert!(Host::parse(&format!("{}:1", "a".repeat(254))).is_err());
    }

    #[test]
    fn literals_need_no_resolver() {
        assert!(Pending::new(Host::parse("[::1]:1").unwrap()).is_none());
    }

    #[test]
    fn failures_are_told_and_tried_again_later_and_later() {
        let (told, hears) = mpsc::channel();
        let notices = Notices::new(Some(Arc::new(move |notice| told.send(notice).unwrap())));
        let mut resolver = Resolver::new(Vec::new(), notices.clone());
        resolver.resolve = Box::new(|_, _| Err(io::Error::other("no network")));
        let mut host = Pending::new(Host::parse("nowhere.invalid:1").unwrap()).unwrap();
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            assert!(!resolver.try_one(&mut host, &|_| Ok(())));
            let Ok(Notice::NotResolved { host, error, retry_in }) = hears.try_recv() else {
                panic!("nobody was told")
            };
            assert_eq!((host.as_str(), error.as_str()), ("nowhere.invalid:1", "no network"));
            assert!(retry_in > last || retry_in == BACKOFF_MAX);
            last = retry_in;
        }
        assert_eq!(last, BACKOFF_MAX);
        assert_eq!(notices.problems().dns.len(), 1, "one line per host");
    }

    #[test]
    fn a_name_without_addresses_is_a_failure() {
        let mut resolver = Resolver::new(Vec::new(), Notices::default());
        resolver.resolve = Box::new(|_, _| Ok(Vec::new()));
        let mut host = Pending::new(Host::parse("empty.invalid:1").unwrap()).unwrap();
        assert!(!resolver.try_one(&mut host, &|_| Ok(())));
    }

    #[test]
    fn what_is_found_is_posted_and_a_full_queue_is_tried_again() {
        let hosts = vec![Host::parse("a.invalid:1").unwrap(), Host::parse("b.invalid:2").unwrap()];
        let mut resolver = Resolver::new(hosts, Notices::default());
        resolver.resolve = Box::new(|name, port| match name {
            "a.invalid" => Ok(vec![([127, 0, 0, 1], port).into()]),
            _ => Err(io::Error::other("no network")),
        });
        let first_due = resolver.due().unwrap();
        resolver.turn(&|_| Err(Rejected::Full));
        assert_eq!(resolver.pending.len(), 2);
        let posted = Arc::new(Mutex::new(Vec::new()));
        for host in &mut resolver.pending {
            host.due = first_due;
        }
        let log = Arc::clone(&posted);
        resolver.turn(&move |command| {
            log.lock().unwrap().push(command);
            Ok(())
        });
        assert_eq!(resolver.pending.len(), 1, "the other is tried again");
        assert!(resolver.due().unwrap() > first_due);
        let posted = posted.lock().unwrap();
        let [Command::AddBootstrap(addrs), Command::Names(Names::Known)] = &posted[..] else {
            panic!("{posted:?}")
        };
        assert_eq!(*addrs, [([127, 0, 0, 1], 1).into()]);
    }
}
