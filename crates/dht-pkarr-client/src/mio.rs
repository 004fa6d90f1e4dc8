//! The blocking client, over `dht-mio`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use dht_mio::Dht;
use dht_pkarr::resolve::{Policy, Source};
use dht_pkarr::{PublicKey, SignedPacket, Timestamp};
use dht_proto::request::{Event, Lookup, Outcome};

use crate::build::{self, BuildError, Shared};
use crate::busy::Busy;
use crate::keep_alive::Copies;
use crate::publish::{Job, Publication, PublishError, Published, Report};
use crate::resolve::{
    Inquiry, Message, Next, Question, ResolveError, Resolved, answered, get, lookup_end,
};

mod keep_alive;

pub use crate::keep_alive::KeepAlive;
pub use keep_alive::KeepAliveRunner;

/// Keys that are looked up in the background at a time. More are not refreshed just now.
const MAX_BACKGROUND: usize = 64;

/// Sets a client up.
pub type Builder = build::Builder<Dht>;

/// Publishes and resolves, in the DHT and at relays; for any thread. Clones are cheap and share
/// everything.
#[derive(Clone, Debug)]
pub struct Client {
    dht: Option<Dht>,
    shared: Arc<Shared>,
    /// Keys that are looked up in the background.
    background: Busy,
}

impl Builder {
    /// The client.
    ///
    /// # Errors
    /// If there is nobody to ask, or a relay cannot be used.
    pub fn build(self) -> Result<Client, BuildError> {
        let shared = Arc::new(self.shared()?);
        let dht = self.dht.map(|dht| dht.with_timeout(shared.timeout));
        Ok(Client { dht, shared, background: Busy::new(MAX_BACKGROUND) })
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
    pub fn resolve(&self, key: &PublicKey, policy: Policy) -> Result<Resolved, ResolveError> {
        let mut run = Run::new(self.dht.clone(), self.inquiry(*key, policy));
        loop {
            match run.turn() {
                Some(answer) => {
                    if !run.inquiry.is_done() {
                        self.in_background(run);
                    }
                    return answer;
                }
                None => run.wait(),
            }
        }
    }

    /// Publishes a packet, everywhere at once.
    ///
    /// # Errors
    /// If nobody stored it, or a newer packet is known somewhere; the error has the same report.
    pub fn publish(&self, packet: &SignedPacket) -> Result<Published, PublishError> {
        self.publish_with(packet, None)
    }

    /// Publishes a packet in place of the one of the time `cas` and of no other (BEP 44 `cas`). Relays
    /// of today do not heed that.
    ///
    /// # Errors
    /// See [`Client::publish`].
    pub fn publish_after(
        &self,
        packet: &SignedPacket,
        cas: Timestamp,
    ) -> Result<Published, PublishError> {
        self.publish_with(packet, Some(cas))
    }

    fn publish_with(
        &self,
        packet: &SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<Published, PublishError> {
        let cached = self.shared.cache.get(&packet.public_key());
        let mut publication = Publication::new(&self.shared, packet, cas, cached.as_ref());
        let mut put = None;
        thread::scope(|scope| {
            let mut relays = Vec::new();
            while let Some(job) = publication.next() {
                match job {
                    Job::Put(lookup) => put = Some(lookup),
                    Job::Relay(job) => {
                        let job = Arc::new(job);
                        let run = Arc::clone(&job);
                        let thread = thread::Builder::new().spawn_scoped(scope, move || run.run());
                        relays.push((job, thread));
                    }
                }
            }
            if let Some(lookup) = put.take() {
                let end = self.lookup(lookup, |_| true);
                publication.handle(Report::Put(end.map(Box::new)));
            }
            for (job, thread) in relays {
                let report = thread.ok().and_then(|thread| thread.join().ok());
                let report = report.unwrap_or_else(|| job.failed("it could not be asked"));
                publication.handle(report);
            }
        });
        publication.finish()
    }

    /// Counts the nodes that have a packet.
    ///
    /// # Errors
    /// If there is no DHT, or nobody answered, with the reason.
    pub fn copies(&self, packet: &SignedPacket) -> Result<Copies, String> {
        let outcome = self.lookup(get(packet), |_| true)?;
        answered(&outcome).map(|()| Copies::of(packet, &outcome))
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

    fn inquiry(&self, key: PublicKey, policy: Policy) -> Inquiry {
        Inquiry::new(&self.shared, key, policy, self.shared.cache.get(&key))
    }

    fn lookup(&self, what: Lookup, found: impl FnMut(Event) -> bool) -> Result<Outcome, String> {
        lookup(self.dht.as_ref(), what, found)
    }

    /// Finishes what nobody waits for any more, unless too much of that goes on.
    fn in_background(&self, mut run: Run) {
        let Some(claim) = self.background.claim(run.inquiry.key()) else { return };
        let finish = move || {
            while !run.inquiry.is_done() {
                if run.turn().is_none() && !run.inquiry.is_done() {
                    run.wait();
                }
            }
            drop(claim);
        };
        // Without a thread the cache is not refreshed just now.
        drop(thread::Builder::new().name("pkarr-refresh".to_owned()).spawn(finish));
    }
}

/// A key being resolved.
struct Run {
    dht: Option<Dht>,
    inquiry: Inquiry,
    sender: Sender<(Source, Message)>,
    receiver: Receiver<(Source, Message)>,
}

impl Run {
    fn new(dht: Option<Dht>, inquiry: Inquiry) -> Self {
        let (sender, receiver) = channel();
        Self { dht, inquiry, sender, receiver }
    }

    /// Does what there is to do, up to an answer.
    fn turn(&mut self) -> Option<Result<Resolved, ResolveError>> {
        loop {
            match self.inquiry.next()? {
                Next::Answer(answer) => return Some(answer),
                Next::Ask(source, question) => self.ask(source, question),
            }
        }
    }

    /// Waits for whoever was asked.
    fn wait(&mut self) {
        // A sender is at hand, so this cannot fail; and all who were asked end some time.
        if let Ok((source, message)) = self.receiver.recv() {
            self.inquiry.handle(source, message);
        }
    }

    fn ask(&self, source: Source, question: Question) {
        let asked = Asked { source, sender: self.sender.clone(), ended: false };
        let dht = self.dht.clone();
        // If there is no thread, dropping `asked` says so.
        drop(
            thread::Builder::new()
                .name("pkarr-ask".to_owned())
                .spawn(move || asked.run(dht.as_ref(), question)),
        );
    }
}

/// Somebody being asked. Says at the latest when dropped that there is no more to come.
struct Asked {
    source: Source,
    sender: Sender<(Source, Message)>,
    ended: bool,
}

impl Asked {
    fn run(mut self, dht: Option<&Dht>, question: Question) {
        match question {
            Question::Relay(question) => {
                for message in question.ask().into_iter().flatten() {
                    self.tell(message);
                }
            }
            Question::Dht(what) => {
                let end = lookup(dht, what, |event| {
                    let Event::Item { item, .. } = event else { return true };
                    self.tell(Message::Item(item))
                });
                self.tell(lookup_end(end));
            }
        }
    }

    /// Returns whether anybody listens.
    fn tell(&mut self, message: Message) -> bool {
        self.ended |= matches!(message, Message::End(_));
        self.sender.send((self.source, message)).is_ok()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Message::End(Err("it could not be asked".to_owned())));
        }
    }
}

/// Runs a lookup to its end, or until `found` says that it is enough.
fn lookup(
    dht: Option<&Dht>,
    what: Lookup,
    found: impl FnMut(Event) -> bool,
) -> Result<Outcome, String> {
    let dht = dht.ok_or_else(|| "there is no DHT".to_owned())?;
    let mut lookup = dht.start(what).map_err(|error| error.to_string())?;
    if !lookup.by_ref().all(found) {
        return Err("nobody waits for it any more".to_owned());
    }
    lookup.outcome().map_err(|error| error.to_string())
}
