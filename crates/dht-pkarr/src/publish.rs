//! Publishing a packet: whom to hand it to, what they answered, and what that means.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;

use dht_proto::item::Item;
use dht_proto::request::{Ended, Outcome};
use dht_proto::wire::code;

use crate::packet::{MAX_DNS_LEN, SignedPacket};
use crate::resolve::{MAX_RELAYS, Source};
use crate::time::Timestamp;

/// How a packet is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishOptions {
    /// Whether it is put into the DHT.
    pub dht: bool,
    /// How many relays there are; at most [`MAX_RELAYS`] get it.
    pub relays: usize,
    /// Publish only where the packet that is there now has this timestamp (BEP 44 `cas`).
    pub cas: Option<Timestamp>,
}

impl Default for PublishOptions {
    /// In the DHT alone, whatever is there.
    fn default() -> Self {
        Self { dht: true, relays: 0, cas: None }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Put the item into the DHT; then call [`Publish::handle_outcome`] or
    /// [`Publish::handle_failed`].
    Put {
        /// The item that carries the packet.
        item: Box<Item>,
        /// What a node must have now.
        cas: Option<i64>,
    },
    /// Hand the packet to the relay of this number; then call [`Publish::handle_relay`] or
    /// [`Publish::handle_failed`].
    Relay(usize),
}

/// What a relay answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelayAnswer {
    /// It took the packet, and says how many nodes stored it.
    Stored(u32),
    /// It knows a newer packet, or another one than `cas` names.
    Conflict,
    /// It refused the packet for another reason.
    Refused,
}

/// Who stored a packet, and who did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Nodes of the DHT that stored the packet when we put it.
    pub nodes: u32,
    /// How many nodes refused it, by error code (BEP 5, BEP 44).
    pub refused: BTreeMap<i64, u32>,
    /// What each relay answered; `None`: it did not, or found no nodes itself.
    pub relays: BTreeMap<usize, Option<RelayAnswer>>,
}

impl Stored {
    /// How many nodes have the packet: those that took it from us, or what a relay says, whichever is
    /// more. They may be the same nodes.
    #[must_use]
    pub fn copies(&self) -> u32 {
        let relayed = self.relays.values().flatten().map(|answer| match answer {
            RelayAnswer::Stored(nodes) => *nodes,
            RelayAnswer::Conflict | RelayAnswer::Refused => 0,
        });
        relayed.fold(self.nodes, u32::max)
    }

    /// Relays that took the packet.
    pub fn relays_that_took_it(&self) -> impl Iterator<Item = usize> {
        let took = |answer: &Option<RelayAnswer>| matches!(answer, Some(RelayAnswer::Stored(_)));
        self.relays.iter().filter(move |(_, answer)| took(answer)).map(|(relay, _)| *relay)
    }

    fn successes(&self) -> usize {
        usize::from(self.nodes > 0) + self.relays_that_took_it().count()
    }

    fn refused_with(&self, code: i64) -> u32 {
        self.refused.get(&code).copied().unwrap_or_default()
    }
}

/// Where a newer packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the own cache: nobody was asked.
    Cache,
    /// In the DHT.
    Dht,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cache => "the cache",
            Self::Dht => "the DHT",
        })
    }
}

/// Why a packet was not published, or will not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// There is neither DHT nor relay.
    NoTarget,
    /// The DNS message has so many bytes, more than nodes of the DHT store.
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// A newer packet of the key is known. Nodes that have it keep it, and others will get it: what
    /// was published now is not what will be found.
    Newer {
        /// The newer version.
        seq: i64,
        /// Where it is.
        place: Place,
    },
    /// Most of those who answered have a newer packet (error 302), but did not show it.
    NotMostRecent,
    /// What is stored is not the version that `cas` names.
    CasMismatch {
        /// The version that is stored, if it was seen.
        found: Option<i64>,
    },
    /// All who answered refused for other reasons.
    Refused,
    /// Nobody answered.
    NoAnswer,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTarget => f.write_str("there is neither DHT nor relay to publish to"),
            Self::TooLarge { len } => write!(
                f,
                "the records take {len} bytes; nodes of the DHT store no more than {MAX_DNS_LEN}"
            ),
            Self::Newer { seq, place } => {
                write!(f, "a newer packet of the key (seq {seq}) is in {place}")
            }
            Self::NotMostRecent => f.write_str("nodes or relays have a newer packet of the key"),
            Self::CasMismatch { found: Some(seq) } => {
                write!(f, "the packet that is stored is another one (seq {seq}) than expected")
            }
            Self::CasMismatch { found: None } => {
                f.write_str("the packet that is stored is another one than expected")
            }
            Self::Refused => f.write_str("all who answered refused the packet"),
            Self::NoAnswer => f.write_str("nobody answered"),
        }
    }
}

impl core::error::Error for PublishError {}

/// One packet being published.
///
/// Poll until there is nothing to do, hand in what comes, poll again; when [`Publish::is_done`], see
/// [`Publish::result`].
///
/// ```
/// use dht_pkarr::publish::{Publish, PublishOptions, Step};
/// use dht_pkarr::{Keypair, SignedPacket, Timestamp};
/// use dht_proto::request::Outcome;
///
/// let packet = SignedPacket::builder()
///     .txt("a", "b", 60)
///     .sign(&Keypair::from_secret(&[1; 32]), Timestamp::from_secs(1_700_000_000))?;
/// let mut publish = Publish::new(&packet, PublishOptions::default(), None);
/// assert!(matches!(publish.poll(), Some(Step::Put { .. })));
/// let mut outcome = Outcome::default(); // of the put
/// outcome.stored = 8;
/// publish.handle_outcome(&outcome);
/// assert!(publish.is_done());
/// assert_eq!(publish.result()?.copies(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Publish {
    packet: SignedPacket,
    cas: Option<Timestamp>,
    to_ask: BTreeSet<Source>,
    asked: BTreeSet<Source>,
    stored: Stored,
    /// The newest version that the DHT had before, and whether it supersedes ours.
    before: Option<(i64, bool)>,
    /// Why there is nothing to do.
    refused: Option<PublishError>,
    /// Whether anybody answered.
    heard: bool,
}

impl Publish {
    /// Begins to publish a packet, of whose key the cache has `cached`.
    #[must_use]
    pub fn new(
        packet: &SignedPacket,
        options: PublishOptions,
        cached: Option<&SignedPacket>,
    ) -> Self {
        let relays = (0..options.relays.min(MAX_RELAYS)).map(Source::Relay);
        let mut publish = Self {
            packet: packet.clone(),
            cas: options.cas,
            to_ask: relays.chain(options.dht.then_some(Source::Dht)).collect(),
            asked: BTreeSet::new(),
            stored: Stored::default(),
            before: None,
            refused: None,
            heard: false,
        };
        let newer = cached.filter(|cached| {
            cached.public_key() == packet.public_key() && cached.more_recent_than(packet)
        });
        publish.refused = if let Some(newer) = newer {
            Some(PublishError::Newer { seq: newer.timestamp().as_seq(), place: Place::Cache })
        } else if packet.dns().len() > MAX_DNS_LEN {
            Some(PublishError::TooLarge { len: packet.dns().len() })
        } else {
            publish.to_ask.is_empty().then_some(PublishError::NoTarget)
        };
        if publish.refused.is_some() {
            publish.to_ask.clear();
        }
        publish
    }

    /// What to do next; `None` until something is handed in.
    #[must_use]
    pub fn poll(&mut self) -> Option<Step> {
        let source = self.to_ask.pop_first()?;
        match source {
            Source::Relay(relay) => {
                self.asked.insert(source);
                Some(Step::Relay(relay))
            }
            Source::Dht => {
                // Its length was checked, and nothing else can be wrong with a packet.
                let Ok(item) = self.packet.to_item() else { return self.poll() };
                self.asked.insert(source);
                let cas = self.cas.map(Timestamp::as_seq);
                Some(Step::Put { item: Box::new(item), cas })
            }
        }
    }

    /// The put ended.
    pub fn handle_outcome(&mut self, outcome: &Outcome) {
        if !self.asked.remove(&Source::Dht) {
            return;
        }
        self.stored.nodes = outcome.stored;
        for refusal in &outcome.refusals {
            *self.stored.refused.entry(refusal.code).or_default() += 1;
        }
        let answered = !matches!(outcome.ended, Ended::NoContacts | Ended::NoAnswer);
        self.heard |= answered && outcome.replies + outcome.errors > 0;
        self.heard |= outcome.stored > 0 || !outcome.refusals.is_empty();
        if let Some(before) = &outcome.item
            && let Some(signed) = before.signed()
            && signed.public_key == *self.packet.public_key().as_bytes()
        {
            let newer = self.packet.to_item().is_ok_and(|item| before.supersedes(&item));
            self.before = Some((signed.seq, newer));
        }
    }

    /// A relay answered.
    pub fn handle_relay(&mut self, relay: usize, answer: RelayAnswer) {
        if self.asked.remove(&Source::Relay(relay)) {
            self.heard = true;
            self.stored.relays.insert(relay, Some(answer));
        }
    }

    /// The DHT or a relay did not answer, or a relay found no nodes itself.
    pub fn handle_failed(&mut self, source: Source) {
        if self.asked.remove(&source)
            && let Source::Relay(relay) = source
        {
            self.stored.relays.insert(relay, None);
        }
    }

    /// Whether nobody is to be asked or to be waited for any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.asked.is_empty() && self.to_ask.is_empty()
    }

    /// Who stored it so far, whether that is a success or not.
    #[must_use]
    pub const fn stored(&self) -> &Stored {
        &self.stored
    }

    /// What it comes to, by what was answered so far.
    ///
    /// # Errors
    /// If nobody stored the packet, or a newer one is there, or as many had a conflict as stored it.
    pub fn result(&self) -> Result<&Stored, PublishError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        if let Some((seq, true)) = self.before {
            return Err(PublishError::Newer { seq, place: Place::Dht });
        }
        let stored = &self.stored;
        let (cas, old) =
            (stored.refused_with(code::CAS_MISMATCH), stored.refused_with(code::SEQ_TOO_OLD));
        let nodes = usize::from(cas + old > 0 && cas + old >= stored.nodes);
        let relays = stored.relays.values().filter(|a| **a == Some(RelayAnswer::Conflict)).count();
        let conflicts = nodes + relays;
        if conflicts > 0 && conflicts >= stored.successes() {
            return Err(match self.cas {
                Some(expected) if cas >= old => {
                    let found = self.before.map(|(seq, _)| seq);
                    let found = found.filter(|seq| *seq != expected.as_seq());
                    PublishError::CasMismatch { found }
                }
                Some(_) | None => PublishError::NotMostRecent,
            });
        }
        match (stored.successes(), self.heard) {
            (1.., _) => Ok(stored),
            (0, true) => Err(PublishError::Refused),
            (0, false) => Err(PublishError::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests;
