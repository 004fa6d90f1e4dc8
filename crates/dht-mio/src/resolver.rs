//! Finds the addresses of bootstrap hosts on a thread of its own: the system's resolver may block
//! for half a minute, and the loop must not.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::ToSocketAddrs;
use std::sync::Weak;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use dht_driver::{Command, Names};

use crate::error::{Error, ErrorKind};
use crate::handle::Inner;
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
pub(crate) type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send;

/// The system's resolver.
pub(crate) fn system(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (name, port).to_socket_addrs().map(|addrs| addrs.take(MAX_ADDRS).collect())
}

/// Ends the resolver thread when dropped, at the latest when its current try is over.
#[derive(Debug)]
pub(crate) struct Resolver {
    _stop: mpsc::Sender<()>,
}

impl Resolver {
    /// Starts resolving. `Host::Addr`s are not its business.
    pub(crate) fn spawn(
        hosts: Vec<Host>,
        to: Weak<Inner>,
        notices: Notices,
        resolve: Box<Resolve>,
    ) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let resolved = hosts.iter().any(|host| matches!(host, Host::Addr(_)));
        let pending: Vec<_> = hosts.into_iter().filter_map(Pending::new).collect();
        notices.resolving(pending.iter().map(|host| host.text.clone()));
        let work = Work { resolved, pending, to, notices, resolve };
        thread::Builder::new()
            .name("dht-resolver".to_owned())
            .spawn(move || work.run(&stopped))
            .map_err(|error| Error::system("start the resolver thread", error))?;
        Ok(Self { _stop: stop })
    }
}

struct Work {
    /// Some name has addresses, or there are bootstrap addresses without a name.
    resolved: bool,
    pending: Vec<Pending>,
    to: Weak<Inner>,
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

impl Work {
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        while let Some(due) = self.pending.iter().map(|pending| pending.due).min() {
            let wait = due.saturating_duration_since(Instant::now());
            match stopped.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            let mut pending = core::mem::take(&mut self.pending);
            let names = pending.len();
            pending.retain_mut(|host| host.due > Instant::now() || !self.try_one(host));
            self.resolved |= pending.len() < names;
            self.pending = pending;
            if let Some(inner) = self.to.upgrade() {
                // Told again after every try, so one that is lost does no harm.
                let names = if self.resolved { Names::Known } else { Names::Failed };
                inner.post(Command::Names(names));
            }
        }
    }

    /// Returns whether the host is done with.
    fn try_one(&self, host: &mut Pending) -> bool {
        let error = match (self.resolve)(&host.name, host.port) {
            Ok(addrs) if addrs.is_empty() => "the name has no addresses".to_owned(),
            Ok(addrs) => return self.found(host, addrs),
            Err(error) => error.to_string(),
        };
        let retry_in = host.backoff;
        host.due = Instant::now() + retry_in;
        host.backoff = (host.backoff * 2).min(BACKOFF_MAX);
        self.notices.tell(Notice::NotResolved { host: host.text.clone(), error, retry_in });
        false
    }

    fn found(&self, host: &mut Pending, addrs: Vec<SocketAddr>) -> bool {
        let Some(inner) = self.to.upgrade() else { return true };
        if inner.post(Command::AddBootstrap(addrs.clone())) {
            self.notices.tell(Notice::Resolved { host: host.text.clone(), addrs });
            true
        } else {
            // The queue of commands is full for a moment.
            host.due = Instant::now() + BACKOFF_MIN;
            false
        }
    }
}

#[cfg(test)]
mod tests {
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
        let notices =
            Notices::new(Some(std::sync::Arc::new(move |notice| told.send(notice).unwrap())));
        let work = Work {
            resolved: false,
            pending: Vec::new(),
            to: Weak::new(),
            notices: notices.clone(),
            resolve: Box::new(|_, _| Err(io::Error::other("no network"))),
        };
        let mut host = Pending::new(Host::parse("nowhere.invalid:1").unwrap()).unwrap();
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            assert!(!work.try_one(&mut host));
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
        let work = Work {
            resolved: false,
            pending: Vec::new(),
            to: Weak::new(),
            notices: Notices::default(),
            resolve: Box::new(|_, _| Ok(Vec::new())),
        };
        let mut host = Pending::new(Host::parse("empty.invalid:1").unwrap()).unwrap();
        assert!(!work.try_one(&mut host));
    }
}
