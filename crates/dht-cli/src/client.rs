//! One-shot clients: a read-only node that lives as long as one command.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::ToSocketAddrs as _;
use std::sync::mpsc;

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::{Config, Mode};
use dht_mio::proto::health::Problem;
use dht_mio::proto::request::{Ended, Event, Lookup, Outcome};
use dht_mio::{Builder, Dht, Notice};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// What a call waits beyond the lookup's own limit, so that the lookup can say how it ended.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A read-only node (BEP 43) for the time of one command.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    dht: Dht,
    notices: mpsc::Receiver<Notice>,
    out: &'a Output,
}

impl<'a> Client<'a> {
    /// A client that enters the DHT through the bootstrap nodes.
    pub(crate) fn start(global: &Global, out: &'a Output) -> Result<Self, Failure> {
        Self::start_storing(global, Config::default().k, out)
    }

    /// The same, which looks for so many nodes to store an item at.
    pub(crate) fn start_storing(
        global: &Global,
        copies: usize,
        out: &'a Output,
    ) -> Result<Self, Failure> {
        if global.no_bootstrap {
            return Err(Failure::no_contact(
                "there is nobody to ask: --no-bootstrap was given",
                "give --bootstrap HOST:PORT of a node that you know",
            ));
        }
        let mut builder = builder(global, copies);
        for host in &global.bootstrap {
            builder = builder.bootstrap(host);
        }
        Self::spawn(builder, global, out)
    }

    /// A client that asks nobody but those it is told to.
    pub(crate) fn alone(global: &Global, out: &'a Output) -> Result<Self, Failure> {
        Self::spawn(builder(global, Config::default().k).no_bootstrap(), global, out)
    }

    fn spawn(builder: Builder, global: &Global, out: &'a Output) -> Result<Self, Failure> {
        let (told, notices) = mpsc::channel();
        // Nobody listens any more once the command has ended.
        let builder = builder.on_notice(move |notice| drop(told.send(notice)));
        let dht = builder.spawn()?.with_timeout(global.timeout + GRACE);
        Ok(Self { dht, notices, out })
    }

    /// The node.
    pub(crate) const fn dht(&self) -> &Dht {
        &self.dht
    }

    pub(crate) fn tell_notices(&self) {
        for notice in self.notices.try_iter() {
            self.out.verbose(&notice);
        }
    }

    /// Runs a lookup to its end, passing on what it finds.
    pub(crate) fn run(
        &self,
        what: &str,
        lookup: Lookup,
        mut found: impl FnMut(Event) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        let _progress = self.progress(what);
        let mut handle = self.dht.start(lookup)?;
        for event in &mut handle {
            found(event)?;
        }
        self.tell_notices();
        Ok(handle.outcome()?)
    }

    /// Runs a get_peers or scrape, passing on each peer once.
    pub(crate) fn peers(
        &self,
        lookup: Lookup,
        mut found: impl FnMut(SocketAddr) -> Result<(), Failure>,
    ) -> Result<Outcome, Failure> {
        let _progress = self.progress("looking for peers");
        let mut peers = self.dht.start(lookup)?.peers();
        for peer in &mut peers {
            found(peer)?;
        }
        self.tell_notices();
        Ok(peers.outcome()?)
    }

    /// Gets to know nodes before more of them are needed than a reply names, for a node that has just
    /// started knows none but those. What is needed later says if there are none.
    pub(crate) fn look_around(&self) {
        let id = |family| self.dht.node_id(family).ok().flatten();
        if let Some(target) = id(Family::V4).or_else(|| id(Family::V6)) {
            drop(self.run("looking for nodes", Lookup::FindNode { target }, |_| Ok(())));
        }
    }

    /// Fails with status 3 if nobody at all answered.
    pub(crate) fn contact(&self, outcome: &Outcome) -> Result<(), Failure> {
        let answered = match outcome.ended {
            Ended::NoContacts | Ended::NoAnswer => false,
            // A lookup that was cut off has not counted, but the node has.
            Ended::TimedOut if outcome.queries == 0 => {
                self.dht.stats().is_ok_and(|stats| stats.node.replies_in + stats.node.errors_in > 0)
            }
            Ended::Completed | Ended::TimedOut | Ended::OnlyErrors | _ => {
                outcome.replies + outcome.errors > 0
            }
        };
        if answered {
            return Ok(());
        }
        Err(self.nobody_answered())
    }

    /// Says why, as far as the node knows.
    pub(crate) fn nobody_answered(&self) -> Failure {
        let mut why = Vec::new();
        if let (Ok(health), Ok(stats)) = (self.dht.health(), self.dht.stats()) {
            if stats.node.queries_out == 0 && !health.problems.is_empty() {
                return Failure::no_contact(
                    format!("nobody was asked: {}", health.problems.join("; ")),
                    "check the name, DNS and the network, \
                     or give --bootstrap ADDR:PORT of a node that you know",
                );
            }
            for family in [&health.node.v4, &health.node.v6].into_iter().flatten() {
                match family.problem {
                    // The other family has somebody to ask.
                    None | Some(Problem::NobodyToAsk | Problem::Starting) => {}
                    Some(problem) => why.push(format!("{}: {problem}", family.family)),
                }
            }
            why.extend(health.problems);
        }
        let message = match why.as_slice() {
            [] => "no node of the DHT answered".to_owned(),
            why => format!("no node of the DHT answered ({})", why.join("; ")),
        };
        Failure::no_contact(
            message,
            "see that the network and the firewall let UDP through, \
             or name a node that is up with --bootstrap HOST:PORT",
        )
    }

    /// The address of a host, of a family that this client speaks.
    pub(crate) fn resolve(&self, host: &str) -> Result<SocketAddr, Failure> {
        let families: Vec<_> = self.dht.local_addrs().iter().map(Family::of).collect();
        let mut addrs = host
            .to_socket_addrs()
            .map_err(|error| {
                Failure::no_contact(
                    format!("cannot find the address of {host}: {error}"),
                    "check the name and the network, or give an address",
                )
            })?
            .peekable();
        let first = addrs.peek().copied();
        match addrs.find(|addr| families.contains(&Family::of(addr))) {
            Some(addr) => Ok(addr),
            None => Err(Failure::input(
                match first {
                    Some(addr) => {
                        format!(
                            "{host} is an {} address, which --bind rules out",
                            Family::of(&addr)
                        )
                    }
                    None => format!("{host} has no address"),
                },
                "bind an address of the same family, for example --bind 0.0.0.0:0 or [::]:0",
            )),
        }
    }

    pub(crate) fn progress(&self, what: &str) -> Progress {
        let dht = self.dht.with_timeout(GRACE);
        Progress::start(self.out.screen(), what, move || {
            dht.stats().map_or_else(
                |_| String::new(),
                |stats| {
                    let node = stats.node;
                    format!("{} queries, {} replies", node.queries_out, node.replies_in)
                },
            )
        })
    }
}

fn builder(global: &Global, copies: usize) -> Builder {
    let mut config = Config::default();
    config.lookup_timeout = global.timeout;
    config.k = copies;
    let mut builder = Dht::builder().config(config).mode(Mode::Client);
    for addr in &global.bind {
        builder = builder.bind(*addr);
    }
    builder
}
