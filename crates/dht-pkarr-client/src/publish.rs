//! Carrying out what [`dht_pkarr::publish`] asks, whatever waits for the answers.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;

use dht_pkarr::publish::{self, Publish, PublishOptions, Step};
use dht_pkarr::resolve::Source;
use dht_pkarr::{CachedPacket, PublicKey, SignedPacket, Timestamp};
use dht_proto::request::{Lookup, Outcome};

use crate::build::Shared;
use crate::clock::now;
use crate::relay::{self, Relay, RelayError};
use crate::resolve::{Trouble, write_troubles};

/// Who stored a packet, and who did not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// Whose packet it is.
    pub public_key: PublicKey,
    /// Its version.
    pub timestamp: Timestamp,
    /// Nodes of the DHT that stored it when we put it.
    pub stored: u32,
    /// How many nodes refused it, by error code (BEP 5, BEP 44).
    pub refused: BTreeMap<i64, u32>,
    /// What each relay answered: how many nodes stored the packet, as it says, or why it did not
    /// take it.
    pub relays: Vec<(String, Result<u32, RelayError>)>,
    /// How the put went, and which nodes refused; `None` if the DHT was not asked, or did not end in time.
    pub outcome: Option<Box<Outcome>>,
    /// Who was asked in vain.
    pub troubles: Vec<Trouble>,
}

impl Published {
    /// How many nodes have the packet: those that took it from us, or what a relay says, whichever is
    /// more. They may be the same nodes.
    #[must_use]
    pub fn copies(&self) -> u32 {
        let relayed = self.relays.iter().filter_map(|(_, answer)| answer.as_ref().ok());
        relayed.fold(self.stored, |most, nodes| most.max(*nodes))
    }
}

/// Why a packet was not published, or will not stay.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishError {
    /// The reason.
    pub reason: publish::PublishError,
    /// Who stored it all the same, and who did not.
    pub report: Box<Published>,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        write_troubles(f, &self.report.troubles)
    }
}

impl core::error::Error for PublishError {}

/// Who is to be told.
#[derive(Debug)]
pub(crate) enum Job {
    Put(Lookup),
    Relay(RelayJob),
}

/// A packet for a relay.
#[derive(Debug)]
pub(crate) struct RelayJob {
    number: usize,
    relay: Relay,
    packet: SignedPacket,
    cas: Option<Timestamp>,
}

impl RelayJob {
    /// Hands the packet in, and waits for the answer.
    pub(crate) fn run(&self) -> Report {
        Report::Relay(self.number, self.relay.put(&self.packet, self.cas))
    }

    /// What to report if this could not even be tried.
    #[cfg(feature = "mio")]
    pub(crate) fn failed(&self, why: &str) -> Report {
        Report::Relay(self.number, Err(RelayError::Unreachable(why.to_owned())))
    }
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Report {
    Put(Result<Box<Outcome>, String>),
    Relay(usize, Result<u32, RelayError>),
}

/// A packet being published.
#[derive(Debug)]
pub(crate) struct Publication {
    shared: Arc<Shared>,
    packet: SignedPacket,
    cas: Option<Timestamp>,
    publish: Publish,
    relays: BTreeMap<usize, Result<u32, RelayError>>,
    outcome: Option<Box<Outcome>>,
    troubles: Vec<Trouble>,
}

impl Publication {
    /// `cached` is what the cache has of the packet's key.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        packet: &SignedPacket,
        cas: Option<Timestamp>,
        cached: Option<&CachedPacket>,
    ) -> Self {
        let mut options = PublishOptions::default();
        options.dht = shared.dht;
        options.relays = shared.relays.len();
        options.cas = cas;
        let cached = cached.map(|cached| &cached.packet);
        Self {
            shared: Arc::clone(shared),
            packet: packet.clone(),
            cas,
            publish: Publish::new(packet, options, cached),
            relays: BTreeMap::new(),
            outcome: None,
            troubles: Vec::new(),
        }
    }

    /// Who is to be told next; `None` until all are.
    pub(crate) fn next(&mut self) -> Option<Job> {
        loop {
            match self.publish.poll()? {
                Step::Put { item, cas } => return Some(Job::Put(Lookup::PutItem { item, cas })),
                Step::Relay(number) => match self.shared.relays.get(number) {
                    Some(relay) => {
                        return Some(Job::Relay(RelayJob {
                            number,
                            relay: relay.clone(),
                            packet: self.packet.clone(),
                            cas: self.cas,
                        }));
                    }
                    None => self.publish.handle_failed(Source::Relay(number)),
                },
                _ => {}
            }
        }
    }

    pub(crate) fn handle(&mut self, report: Report) {
        match report {
            Report::Put(Ok(outcome)) => {
                self.publish.handle_outcome(&outcome);
                self.outcome = Some(outcome);
            }
            Report::Put(Err(what)) => {
                self.trouble(Source::Dht, what);
                self.publish.handle_failed(Source::Dht);
            }
            Report::Relay(number, put) => {
                let source = Source::Relay(number);
                match relay::answer(&put) {
                    Some(answer) => self.publish.handle_relay(number, answer),
                    None => self.publish.handle_failed(source),
                }
                if let Err(error) = &put {
                    self.trouble(source, error.to_string());
                }
                self.relays.insert(number, put);
            }
        }
    }

    #[cfg(feature = "smol")]
    pub(crate) fn is_done(&self) -> bool {
        self.publish.is_done()
    }

    /// What it came to. What was published is in the cache from now on.
    pub(crate) fn finish(self) -> Result<Published, PublishError> {
        let result = self.publish.result().map(|_| ());
        let stored = self.publish.stored();
        let url = |number| self.shared.relays.get(number).map(Relay::url).unwrap_or_default();
        let published = Published {
            public_key: self.packet.public_key(),
            timestamp: self.packet.timestamp(),
            stored: stored.nodes,
            refused: stored.refused.clone(),
            relays: self.relays.into_iter().map(|(n, put)| (url(n).to_owned(), put)).collect(),
            outcome: self.outcome,
            troubles: self.troubles,
        };
        match result {
            Ok(()) => {
                self.shared.cache.put(CachedPacket::new(self.packet, now()));
                Ok(published)
            }
            Err(reason) => Err(PublishError { reason, report: Box::new(published) }),
        }
    }

    fn trouble(&mut self, source: Source, what: String) {
        self.troubles.push(Trouble { origin: self.shared.origin(source), what });
    }
}
