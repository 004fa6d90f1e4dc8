//! Carrying out what [`dht_pkarr::resolve`] asks, whatever waits for the answers.

use core::fmt;
#[cfg(feature = "smol")]
use core::time::Duration;
use std::sync::Arc;

use dht_pkarr::resolve::{self, End, Policy, Resolve, ResolveOptions, Source, Step};
use dht_pkarr::{CachedPacket, PublicKey, SignedPacket, Timestamp};
use dht_proto::item::Item;
use dht_proto::request::{Ended, Lookup, Outcome};

use crate::build::Shared;
use crate::clock::now;
use crate::relay::{Known, Relay};

/// Where a packet, or a trouble, comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Origin {
    /// The client's own cache.
    Cache,
    /// The DHT.
    Dht,
    /// The relay of this URL.
    Relay(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache => f.write_str("the cache"),
            Self::Dht => f.write_str("the DHT"),
            Self::Relay(url) => write!(f, "the relay {url}"),
        }
    }
}

/// A packet that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The packet, and when it was last seen.
    pub packet: CachedPacket,
    /// Who had it first.
    pub origin: Origin,
}

/// Somebody who was asked and did not answer as he should.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trouble {
    /// Who.
    pub origin: Origin,
    /// What was wrong.
    pub what: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.what)
    }
}

/// Why there is no packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolveError {
    /// The reason.
    pub reason: resolve::ResolveError,
    /// Who was asked in vain.
    pub troubles: Vec<Trouble>,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        write_troubles(f, &self.troubles)
    }
}

impl core::error::Error for ResolveError {}

pub(crate) fn write_troubles(f: &mut fmt::Formatter<'_>, troubles: &[Trouble]) -> fmt::Result {
    troubles.iter().enumerate().try_for_each(|(place, trouble)| {
        let sign = if place == 0 { " (" } else { "; " };
        write!(f, "{sign}{trouble}")
    })?;
    f.write_str(if troubles.is_empty() { "" } else { ")" })
}

/// Something that came for a key.
#[derive(Debug)]
pub(crate) enum Message {
    Item(Box<Item>),
    Relay(Known),
    /// There will be no more, and what was wrong if something was.
    End(Result<(), String>),
}

/// Who is to be asked what.
#[derive(Debug)]
pub(crate) enum Question {
    Dht(Lookup),
    Relay(RelayQuestion),
}

/// What is to be asked of a relay.
#[derive(Debug)]
pub(crate) struct RelayQuestion {
    relay: Relay,
    key: PublicKey,
    policy: Policy,
    newer_than: Option<Timestamp>,
}

impl RelayQuestion {
    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self) -> [Option<Message>; 2] {
        match self.relay.get(now(), &self.key, self.policy, self.newer_than) {
            Ok(known) => [Some(Message::Relay(known)), Some(Message::End(Ok(())))],
            Err(error) => [None, Some(Message::End(Err(error.to_string())))],
        }
    }
}

/// A lookup for a packet, whatever is known of it.
pub(crate) fn get(packet: &SignedPacket) -> Lookup {
    let target = packet.public_key().item_id();
    Lookup::GetItem { target, salt: Vec::new(), newer_than: None }
}

/// Whether anybody answered.
pub(crate) fn answered(outcome: &Outcome) -> Result<(), String> {
    match outcome.ended {
        Ended::NoContacts => Err("there is no node to ask".to_owned()),
        Ended::NoAnswer => Err("no node answered".to_owned()),
        Ended::OnlyErrors => Err("nodes answered with errors only".to_owned()),
        Ended::TimedOut if outcome.replies == 0 && outcome.item.is_none() => {
            Err("no node answered in time".to_owned())
        }
        Ended::Completed | Ended::TimedOut | _ => Ok(()),
    }
}

/// What the end of a lookup means.
pub(crate) fn lookup_end(ended: Result<Outcome, String>) -> Message {
    Message::End(ended.and_then(|outcome| answered(&outcome)))
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next {
    Ask(Source, Question),
    Answer(Result<Resolved, ResolveError>),
}

/// A key being resolved.
#[derive(Debug)]
pub(crate) struct Inquiry {
    shared: Arc<Shared>,
    key: PublicKey,
    policy: Policy,
    resolve: Resolve,
    troubles: Vec<Trouble>,
}

impl Inquiry {
    /// `cached` is what the cache has of the key.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        key: PublicKey,
        policy: Policy,
        cached: Option<CachedPacket>,
    ) -> Self {
        let mut options = ResolveOptions::default();
        options.policy = policy;
        options.ttl = shared.ttl;
        options.dht = shared.dht;
        options.relays = shared.relays.len();
        let resolve = Resolve::new(now(), key, options, cached);
        Self { shared: Arc::clone(shared), key, policy, resolve, troubles: Vec::new() }
    }

    pub(crate) const fn key(&self) -> PublicKey {
        self.key
    }

    #[cfg(feature = "smol")]
    pub(crate) fn timeout(&self) -> Duration {
        self.shared.timeout
    }

    /// Keeps what is worth it, and says what to do next; `None` until something is handed in.
    pub(crate) fn next(&mut self) -> Option<Next> {
        loop {
            match self.resolve.poll()? {
                Step::Keep(packet) => {
                    self.shared.cache.put(packet);
                }
                Step::Ask { source, newer_than } => {
                    let Some(question) = self.question(source, newer_than) else {
                        self.resolve.handle_end(source, End::Failed);
                        continue;
                    };
                    return Some(Next::Ask(source, question));
                }
                Step::Answer(answer) => {
                    return Some(Next::Answer(match answer {
                        Ok(answer) => Ok(Resolved {
                            packet: answer.packet,
                            origin: answer
                                .source
                                .map_or(Origin::Cache, |source| self.origin(source)),
                        }),
                        Err(reason) => {
                            Err(ResolveError { reason, troubles: self.troubles.clone() })
                        }
                    }));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn handle(&mut self, source: Source, message: Message) {
        match message {
            Message::Item(item) => self.resolve.handle_item(now(), &item),
            Message::Relay(Known::Packet(packet)) => {
                self.resolve.handle_packet(now(), source, packet);
            }
            Message::Relay(Known::NotAPacket(seq)) => self.resolve.handle_not_a_packet(seq),
            Message::Relay(Known::Nothing) => {}
            Message::End(Ok(())) => self.resolve.handle_end(source, End::Answered),
            Message::End(Err(what)) => {
                self.troubles.push(Trouble { origin: self.origin(source), what });
                self.resolve.handle_end(source, End::Failed);
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.resolve.is_done()
    }

    fn question(&self, source: Source, newer_than: Option<Timestamp>) -> Option<Question> {
        match source {
            Source::Dht => Some(Question::Dht(Lookup::GetItem {
                target: self.key.item_id(),
                salt: Vec::new(),
                // The same version may be worth seeing.
                newer_than: newer_than.map(|version| version.as_seq().saturating_sub(1)),
            })),
            Source::Relay(number) => Some(Question::Relay(RelayQuestion {
                relay: self.shared.relays.get(number)?.clone(),
                key: self.key,
                policy: self.policy,
                newer_than,
            })),
            _ => None,
        }
    }

    fn origin(&self, source: Source) -> Origin {
        self.shared.origin(source)
    }
}

impl Shared {
    pub(crate) fn origin(&self, source: Source) -> Origin {
        match source {
            Source::Relay(number) => {
                let url = self.relays.get(number).map(Relay::url).unwrap_or_default();
                Origin::Relay(url.to_owned())
            }
            Source::Dht | _ => Origin::Dht,
        }
    }
}
