//! Resolving a key by a policy: what to ask, which answer counts, and when.

use alloc::collections::BTreeSet;
use core::fmt;

use dht_proto::item::Item;

use crate::cached::CachedPacket;
use crate::key::PublicKey;
use crate::newest::Newest;
use crate::packet::{ItemError, SignedPacket};
use crate::time::Timestamp;
use crate::ttl::TtlRange;

/// Relays asked for one key, at most.
pub const MAX_RELAYS: usize = 16;

/// Where an answer may come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The own cache, expired or not, or else those of relays. Never the DHT.
    CacheOnly,
    /// The own cache at once, if it is fresh; it is refreshed in the background. Or else the first
    /// answer that is fresh and not older than what the cache has.
    #[default]
    CacheFirst,
    /// The newest of what the DHT and all relays have. The cache is not looked at.
    NetworkOnly,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// The DHT, for the key's item.
    Dht,
    /// The relay of this number, with the policy.
    Relay(usize),
}

/// How asking a source ended. Its packets were handed in before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// It told all it knows, perhaps that there is nothing.
    Answered,
    /// It did not answer, or refused to.
    Failed,
}

/// How keys are resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolveOptions {
    /// Where an answer may come from.
    pub policy: Policy,
    /// For how long packets are fresh.
    pub ttl: TtlRange,
    /// Whether the DHT can be asked.
    pub dht: bool,
    /// How many relays can be asked; at most [`MAX_RELAYS`] are.
    pub relays: usize,
}

impl Default for ResolveOptions {
    /// By [`Policy::CacheFirst`], in the DHT alone.
    fn default() -> Self {
        Self { policy: Policy::default(), ttl: TtlRange::default(), dht: true, relays: 0 }
    }
}

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// Those who answered have none that is fresh.
    NotFound,
    /// Nobody answered: whether there is a packet is not known.
    NoAnswer,
    /// There is nobody to ask.
    NoSource,
    /// What the key's owner stored last is no packet.
    Item(ItemError),
    /// A relay says that of the item of this version, and nobody has a packet.
    NotAPacket {
        /// The version.
        seq: i64,
    },
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("nobody has a fresh packet of the key"),
            Self::NoAnswer => f.write_str("nobody answered"),
            Self::NoSource => f.write_str("there is neither DHT nor relay to ask"),
            Self::Item(error) => error.fmt(f),
            Self::NotAPacket { seq } => {
                write!(f, "a relay says that the newest item of the key (seq {seq}) is no packet")
            }
        }
    }
}

impl core::error::Error for ResolveError {}

/// A packet, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The packet.
    pub packet: CachedPacket,
    /// Who had it; `None` if it was in the own cache.
    pub source: Option<Source>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Tell whoever asked for the key. This comes once; what follows happens in the background.
    Answer(Result<Answer, ResolveError>),
    /// Keep the packet in the cache.
    Keep(CachedPacket),
    /// Ask a source, and report with [`Resolve::handle_end`] when it ends. It need not say what is
    /// older than `newer_than`.
    Ask {
        /// Whom.
        source: Source,
        /// The version that is known; nodes and relays that have no newer one save their breath. The
        /// same version may be worth seeing, as another packet may have it, and larger bytes.
        newer_than: Option<Timestamp>,
    },
}

/// One key being resolved.
///
/// Poll until there is nothing to do, hand in what comes, poll again; it is over when
/// [`Resolve::is_done`].
///
/// ```
/// use dht_pkarr::resolve::{End, Resolve, ResolveOptions, Source, Step};
/// use dht_pkarr::{Keypair, SignedPacket, Timestamp};
///
/// let (keypair, now) = (Keypair::from_secret(&[1; 32]), Timestamp::from_secs(1_700_000_000));
/// let packet = SignedPacket::builder().txt("a", "b", 60).sign(&keypair, now)?;
///
/// let mut resolve = Resolve::new(now, keypair.public_key(), ResolveOptions::default(), None);
/// assert_eq!(resolve.poll(), Some(Step::Ask { source: Source::Dht, newer_than: None }));
/// assert_eq!(resolve.poll(), None);
/// resolve.handle_item(now, &packet.to_item()?); // a lookup in the DHT found it
/// assert!(matches!(resolve.poll(), Some(Step::Keep(_))));
/// assert!(matches!(resolve.poll(), Some(Step::Answer(Ok(found))) if found.packet.packet == packet));
/// resolve.handle_end(Source::Dht, End::Answered);
/// assert!(resolve.is_done());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Resolve {
    options: ResolveOptions,
    /// What the cache has, if the policy lets it count.
    cached: Option<CachedPacket>,
    newest: Newest,
    /// When the newest packet was last seen.
    last_seen: Timestamp,
    /// Who had the newest packet.
    source: Option<Source>,
    /// The newest item that is no packet, if a relay is right.
    claimed: Option<i64>,
    to_ask: BTreeSet<Source>,
    asked: BTreeSet<Source>,
    /// Whether anybody answered.
    heard: bool,
    told: Told,
    keep: bool,
}

/// Whether who asked was told.
#[derive(Debug)]
enum Told {
    Nothing,
    Soon(Result<Answer, ResolveError>),
    All,
}

impl Resolve {
    /// Begins to resolve a key of which the cache has `cached`.
    #[must_use]
    pub fn new(
        now: Timestamp,
        key: PublicKey,
        options: ResolveOptions,
        cached: Option<CachedPacket>,
    ) -> Self {
        let cached = cached.filter(|cached| {
            options.policy != Policy::NetworkOnly && cached.packet.public_key() == key
        });
        let relays = (0..options.relays.min(MAX_RELAYS)).map(Source::Relay);
        let dht = options.dht && options.policy != Policy::CacheOnly;
        let mut resolve = Self {
            options,
            cached,
            newest: Newest::new(key),
            last_seen: Timestamp::UNIX_EPOCH,
            source: None,
            claimed: None,
            to_ask: relays.chain(dht.then_some(Source::Dht)).collect(),
            asked: BTreeSet::new(),
            heard: false,
            told: Told::Nothing,
            keep: false,
        };
        if let Some(cached) = resolve.cached.clone() {
            resolve.begin_with(now, cached);
        }
        if resolve.to_ask.is_empty() {
            let error = match options.policy {
                Policy::CacheOnly => ResolveError::NotFound,
                Policy::CacheFirst | Policy::NetworkOnly => ResolveError::NoSource,
            };
            resolve.decide(Err(error));
        }
        resolve
    }

    /// What to do next; `None` until something is handed in.
    #[must_use]
    pub fn poll(&mut self) -> Option<Step> {
        // Who is told may ask again at once, and what is known then is in the cache.
        if core::mem::take(&mut self.keep)
            && let Some(found) = self.found()
        {
            return Some(Step::Keep(found));
        }
        if matches!(self.told, Told::Soon(_))
            && let Told::Soon(answer) = core::mem::replace(&mut self.told, Told::All)
        {
            return Some(Step::Answer(answer));
        }
        let source = self.to_ask.pop_first()?;
        self.asked.insert(source);
        let newer_than = self.cached.as_ref().map(|cached| cached.packet.timestamp());
        Some(Step::Ask { source, newer_than })
    }

    /// Takes an item that the DHT has under the key. Items of others are ignored.
    pub fn handle_item(&mut self, now: Timestamp, item: &Item) {
        match SignedPacket::from_item(&self.newest.key(), item) {
            Ok(packet) => {
                self.handle_packet(now, Source::Dht, CachedPacket::new(packet, now));
            }
            Err(ItemError::NotAPacket { seq, .. }) => {
                let known = self.cached.as_ref().map(|cached| cached.packet.timestamp().as_seq());
                if known.is_none_or(|known| known <= seq) {
                    // Whether it is newer than all packets is for the end to say.
                    let _ = self.newest.handle_item(item);
                }
            }
            Err(ItemError::Unrelated) => {}
        }
    }

    /// Takes what a relay says: that the key's newest item, of this version, is no packet. Unlike all
    /// else it cannot be verified, so it counts only if nobody has a packet.
    pub fn handle_not_a_packet(&mut self, seq: i64) {
        self.claimed = self.claimed.max(Some(seq));
    }

    /// Takes a packet from a relay, with the time when that saw it last. Packets of others are
    /// ignored.
    pub fn handle_packet(&mut self, now: Timestamp, source: Source, mut packet: CachedPacket) {
        // A relay's clock may be ahead.
        packet.last_seen = packet.last_seen.min(now);
        let older = |cached: &CachedPacket| cached.packet.more_recent_than(&packet.packet);
        if self.cached.as_ref().is_some_and(older) {
            return;
        }
        match self.newest.handle_packet(packet.packet.clone()) {
            Ok(true) => {
                self.last_seen = packet.last_seen;
                self.source = Some(source);
            }
            Ok(false) if self.newest.found() == Some(&Ok(packet.packet)) => {
                self.last_seen = self.last_seen.max(packet.last_seen);
            }
            Ok(false) | Err(_) => return,
        }
        self.keep = true;
        let fresh = self.fresh(now);
        match self.options.policy {
            Policy::CacheOnly => self.answer_with_found(),
            Policy::CacheFirst if fresh => self.answer_with_found(),
            Policy::CacheFirst | Policy::NetworkOnly => {}
        }
    }

    /// A source has no more to say.
    pub fn handle_end(&mut self, source: Source, end: End) {
        if !self.asked.remove(&source) {
            return;
        }
        self.heard |= end == End::Answered;
        if !self.is_done() {
            return;
        }
        match self.newest.found() {
            Some(Err(error)) => self.decide(Err(ResolveError::Item(*error))),
            Some(Ok(_)) if self.options.policy == Policy::NetworkOnly => self.answer_with_found(),
            // What would have been good enough was told when it came.
            Some(Ok(_)) => self.decide(Err(ResolveError::NotFound)),
            None if self.heard => self.decide(Err(match self.claimed {
                Some(seq) => ResolveError::NotAPacket { seq },
                None => ResolveError::NotFound,
            })),
            None => self.decide(Err(ResolveError::NoAnswer)),
        }
    }

    /// Whether nobody is to be asked or to be waited for any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.asked.is_empty() && self.to_ask.is_empty()
    }

    /// Answers from the cache if the policy lets it, and decides whether to ask others then.
    fn begin_with(&mut self, now: Timestamp, cached: CachedPacket) {
        let fresh = !cached.is_expired(now, self.options.ttl);
        let old = cached.wants_refresh(now, self.options.ttl);
        match self.options.policy {
            Policy::CacheOnly => {
                self.to_ask.clear();
                self.decide(Ok(Answer { packet: cached, source: None }));
            }
            Policy::CacheFirst if fresh => {
                if !old {
                    self.to_ask.clear();
                }
                self.decide(Ok(Answer { packet: cached, source: None }));
            }
            Policy::CacheFirst | Policy::NetworkOnly => {}
        }
    }

    /// The answer, unless there was one before.
    fn decide(&mut self, answer: Result<Answer, ResolveError>) {
        if matches!(self.told, Told::Nothing) {
            self.told = Told::Soon(answer);
        }
    }

    fn answer_with_found(&mut self) {
        if let Some(packet) = self.found() {
            self.decide(Ok(Answer { packet, source: self.source }));
        }
    }

    fn found(&self) -> Option<CachedPacket> {
        let packet = self.newest.found()?.as_ref().ok()?.clone();
        Some(CachedPacket::new(packet, self.last_seen))
    }

    fn fresh(&self, now: Timestamp) -> bool {
        self.found().is_some_and(|found| !found.is_expired(now, self.options.ttl))
    }
}

#[cfg(test)]
mod tests;
