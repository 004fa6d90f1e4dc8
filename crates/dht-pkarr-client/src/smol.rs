//! The async client, over `dht-smol`.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use async_channel::{Receiver, Sender, unbounded};
use blocking::unblock;
use dht_pkarr::resolve::{Policy, Source};
use dht_pkarr::{CachedPacket, PublicKey, SignedPacket, Timestamp};
use dht_proto::request::{Event, Outcome};
use dht_smol::{Dht, LookupHandle};

use crate::build::{self, BuildError, Shared};
use crate::keep_alive::Copies;
use crate::publish::{Job, Publication, PublishError, Published, Report};
use crate::resolve::{
    Inquiry, Message, Next, Question, ResolveError, Resolved, answered, get, lookup_end,
};

mod background;
mod keep_alive;

use background::Background;

pub use crate::keep_alive::KeepAlive;
pub use keep_alive::KeepAliveRunner;

/// Sets a client up.
pub type Builder = build::Builder<Dht>;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Publishes and resolves, in the DHT and at relays. Clones are cheap and share everything.
///
/// Futures do nothing until they are polled, and dropping one cancels what it stands for. Only what
/// a client does unasked, refreshing its cache, happens on a thread of its own, which ends with the
/// last clone.
#[derive(Clone, Debug)]
pub struct Client {
    dht: Option<Dht>,
    shared: Arc<Shared>,
    background: Arc<Background>,
}

impl Builder {
    /// The client.
    ///
    /// # Errors
    /// If there is nobody to ask, or a relay cannot be used.
    pub fn build(self) -> Result<Client, BuildError> {
        let shared = Arc::new(self.shared()?);
        Ok(Client { dht: self.dht, shared, background: Arc::default() })
    }
}

impl Client {
    /// Sets a client up.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Looks for the packet of a key.
    ///
    /// What comes after the answer, from those who were asked too, is kept in the cache, and so is
    /// what the cache is refreshed with.
    ///
    /// # Errors
    /// If nobody has one that the policy lets count, with the reason.
    pub async fn resolve(&self, key: &PublicKey, policy: Policy) -> Result<Resolved, ResolveError> {
        let inquiry = Inquiry::new(&self.shared, *key, policy, self.cached(key).await);
        let mut run = Run::new(self.dht.clone(), inquiry);
        let answer = run.until_answer().await;
        if !run.inquiry.is_done() {
            self.background.spawn(run.inquiry.key(), run.finish());
        }
        answer
    }

    /// Publishes a packet, everywhere at once.
    ///
    /// # Errors
    /// If nobody stored it, or a newer packet is known somewhere; the error has the same report.
    pub async fn publish(&self, packet: &SignedPacket) -> Result<Published, PublishError> {
        self.publish_with(packet, None).await
    }

    /// Publishes a packet in place of the one of the time `cas` and of no other (BEP 44 `cas`). Relays
    /// of today do not heed that.
    ///
    /// # Errors
    /// See [`Client::publish`].
    pub async fn publish_after(
        &self,
        packet: &SignedPacket,
        cas: Timestamp,
    ) -> Result<Published, PublishError> {
        self.publish_with(packet, Some(cas)).await
    }

    async fn publish_with(
        &self,
        packet: &SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<Published, PublishError> {
        let cached = self.cached(&packet.public_key()).await;
        let mut publication = Publication::new(&self.shared, packet, cas, cached.as_ref());
        let (sender, receiver) = unbounded();
        let mut jobs = Vec::new();
        while let Some(job) = publication.next() {
            let sender = sender.clone();
            let run = self.report(job);
            jobs.push(Box::pin(async move { drop(sender.try_send(run.await)) }) as Work);
        }
        while !publication.is_done() {
            publication.handle(message(&mut jobs, &receiver).await);
        }
        publication.finish()
    }

    fn report(&self, job: Job) -> impl Future<Output = Report> + Send + use<> {
        let lookup = match &job {
            Job::Put(lookup) => self.dht.as_ref().map(|dht| dht.start(lookup.clone())),
            Job::Relay(_) => None,
        };
        let timeout = self.shared.timeout;
        async move {
            match (job, lookup) {
                (Job::Relay(job), _) => unblock(move || job.run()).await,
                (Job::Put(_), None) => Report::Put(Err("there is no DHT".to_owned())),
                (Job::Put(_), Some(lookup)) => {
                    let end = lookup.outcome_within(timeout).await;
                    Report::Put(end.map(Box::new).map_err(|error| error.to_string()))
                }
            }
        }
    }

    /// Counts the nodes that have a packet.
    ///
    /// # Errors
    /// If there is no DHT, or nobody answered, with the reason.
    pub async fn copies(&self, packet: &SignedPacket) -> Result<Copies, String> {
        let dht = self.dht.as_ref().ok_or_else(|| "there is no DHT".to_owned())?;
        let lookup = dht.start(get(packet)).outcome_within(self.shared.timeout);
        let outcome = lookup.await.map_err(|error| error.to_string())?;
        answered(&outcome).map(|()| Copies::of(packet, &outcome))
    }

    /// What the cache has of a key, expired or not. If that has to be read from the disk, it is on
    /// another thread.
    pub async fn cached(&self, key: &PublicKey) -> Option<CachedPacket> {
        let cache = self.cache();
        match cache.recent(key) {
            None if cache.has_file() => {
                let (cache, key) = (cache.clone(), *key);
                unblock(move || cache.get(&key)).await
            }
            found => found,
        }
    }

    /// The node, if there is one.
    #[must_use]
    pub const fn dht(&self) -> Option<&Dht> {
        self.dht.as_ref()
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &crate::PacketCache {
        &self.shared.cache
    }
}

/// A key being resolved, with all that is going on for it.
struct Run {
    dht: Option<Dht>,
    inquiry: Inquiry,
    asked: Vec<Work>,
    sender: Sender<(Source, Message)>,
    receiver: Receiver<(Source, Message)>,
}

impl Run {
    fn new(dht: Option<Dht>, inquiry: Inquiry) -> Self {
        let (sender, receiver) = unbounded();
        Self { dht, inquiry, asked: Vec::new(), sender, receiver }
    }

    /// Goes on until there is an answer, which comes once.
    async fn until_answer(&mut self) -> Result<Resolved, ResolveError> {
        loop {
            match self.inquiry.next() {
                Some(Next::Answer(answer)) => return answer,
                Some(Next::Ask(source, question)) => self.ask(source, question),
                None => {
                    let (source, found) = message(&mut self.asked, &self.receiver).await;
                    self.inquiry.handle(source, found);
                }
            }
        }
    }

    /// Goes on for the cache's sake.
    async fn finish(mut self) {
        loop {
            match self.inquiry.next() {
                Some(Next::Answer(_)) => {}
                Some(Next::Ask(source, question)) => self.ask(source, question),
                None if self.inquiry.is_done() => return,
                None => {
                    let (source, found) = message(&mut self.asked, &self.receiver).await;
                    self.inquiry.handle(source, found);
                }
            }
        }
    }

    fn ask(&mut self, source: Source, question: Question) {
        let sender = self.sender.clone();
        // Whoever drops the receiver drops this, too.
        let tell = move |message| drop(sender.try_send((source, message)));
        self.asked.push(match question {
            Question::Relay(question) => Box::pin(async move {
                unblock(move || question.ask()).await.into_iter().flatten().for_each(tell);
            }),
            Question::Dht(lookup) => {
                let timeout = self.inquiry.timeout();
                let lookup = self.dht.as_ref().map(|dht| dht.start(lookup));
                Box::pin(async move {
                    let Some(lookup) = lookup else {
                        return tell(Message::End(Err("there is no DHT".to_owned())));
                    };
                    tell(lookup_end(look(lookup, timeout, &tell).await));
                })
            }
        });
    }
}

/// Reads a lookup to its end.
async fn look(
    mut lookup: LookupHandle,
    timeout: Duration,
    tell: &impl Fn(Message),
) -> Result<Outcome, String> {
    let found = |event| {
        if let Event::Item { item, .. } = event {
            tell(Message::Item(item));
        }
    };
    lookup.end_within(timeout, found).await;
    lookup.outcome().await.map_err(|error| error.to_string())
}

/// Drives all work until there is a message of it. Each work ends with one.
async fn message<T>(work: &mut Vec<Work>, receiver: &Receiver<T>) -> T {
    poll_fn(|cx| {
        work.retain_mut(|work| work.as_mut().poll(cx).is_pending());
        receiver.try_recv().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
