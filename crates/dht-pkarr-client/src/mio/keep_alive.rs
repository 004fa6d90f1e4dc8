//! Keeping packets alive, on threads.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use dht_pkarr::keep_alive::{Handed, Status, TooManyKeys};
use dht_pkarr::resolve::Policy;
use dht_pkarr::{PublicKey, SignedPacket};

use super::Client;
use crate::keep_alive::{
    Done, KeepAliveError, KeepAliveOptions, Keeper, Kept, Listener, Shared, Task, lock,
};

enum Signal {
    Done(Handed, Done),
    /// There is something new to do.
    Wake,
    Stop,
}

/// A handle of packets that are kept alive. Clones are cheap and name the same ones.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    keeper: Shared,
    signals: Sender<Signal>,
}

/// What keeps them alive, once [`KeepAliveRunner::run`] is called.
#[must_use = "nothing is published unless it runs"]
pub struct KeepAliveRunner {
    client: Client,
    keeper: Shared,
    signals: Receiver<Signal>,
    sender: Sender<Signal>,
    listener: Listener,
}

impl Client {
    /// Keeps packets alive: publishes them again and again, counts their copies, and changes over to
    /// newer ones that their owners publish elsewhere. `listener` hears what becomes of them.
    ///
    /// # Errors
    /// If the file of the options is not what it should be.
    pub fn keep_alive(
        &self,
        options: KeepAliveOptions,
        listener: impl FnMut(Kept) + Send + 'static,
    ) -> Result<(KeepAlive, KeepAliveRunner), KeepAliveError> {
        let keeper = Arc::new(Mutex::new(Keeper::open(options, self.dht.is_some())?));
        let (sender, signals) = channel();
        let handle = KeepAlive { keeper: Arc::clone(&keeper), signals: sender.clone() };
        let client = self.clone();
        let listener = Box::new(listener);
        Ok((handle, KeepAliveRunner { client, keeper, signals, sender, listener }))
    }
}

impl KeepAlive {
    /// Keeps a packet alive, unless that or a newer one of its key is already.
    ///
    /// # Errors
    /// [`TooManyKeys`].
    pub fn insert(&self, packet: SignedPacket) -> Result<(), TooManyKeys> {
        lock(&self.keeper).add(packet)?;
        self.signal(Signal::Wake);
        Ok(())
    }

    /// Lets a packet die.
    pub fn remove(&self, key: &PublicKey) {
        lock(&self.keeper).remove(key);
    }

    /// How a packet is doing.
    #[must_use]
    pub fn status(&self, key: &PublicKey) -> Option<Status> {
        lock(&self.keeper).status(key)
    }

    /// How all are doing.
    #[must_use]
    pub fn statuses(&self) -> Vec<(PublicKey, Status)> {
        lock(&self.keeper).statuses()
    }

    /// Ends the runner, which writes the file first.
    pub fn stop(&self) {
        self.signal(Signal::Stop);
    }

    fn signal(&self, signal: Signal) {
        // A runner that has ended needs none.
        drop(self.signals.send(signal));
    }
}

impl KeepAliveRunner {
    /// Keeps packets alive until [`KeepAlive::stop`].
    pub fn run(mut self) {
        loop {
            self.start_what_is_due();
            let wait = lock(&self.keeper).wait();
            match self.signals.recv_timeout(wait) {
                Ok(Signal::Done(handed, done)) => {
                    let kept = lock(&self.keeper).handle(handed, done);
                    kept.into_iter().for_each(&mut self.listener);
                }
                Ok(Signal::Stop) => break,
                Ok(Signal::Wake) | Err(_) => {}
            }
            let failed = lock(&self.keeper).save(false);
            failed.into_iter().for_each(&mut self.listener);
        }
        let failed = lock(&self.keeper).save(true);
        failed.into_iter().for_each(&mut self.listener);
    }

    fn start_what_is_due(&self) {
        loop {
            // Not within the loop's head, where the lock would be held all along.
            let due = lock(&self.keeper).poll();
            let Some((handed, task)) = due else { return };
            let asked = Asked { handed, signals: self.sender.clone(), done: None };
            let client = self.client.clone();
            // If there is no thread, dropping `asked` says so.
            drop(
                thread::Builder::new()
                    .name("pkarr-keep".to_owned())
                    .spawn(move || asked.run(&client, task)),
            );
        }
    }
}

impl core::fmt::Debug for KeepAliveRunner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeepAliveRunner").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}

/// A task under way. Says at the latest when dropped how it ended.
struct Asked {
    handed: Handed,
    signals: Sender<Signal>,
    done: Option<Done>,
}

impl Asked {
    fn run(mut self, client: &Client, task: Task) {
        let mut next = Some(task);
        while let Some(task) = next.take() {
            let (packet, done) = match task {
                Task::Publish(packet) => {
                    let published = client.publish(&packet);
                    (packet, Done::Published(published))
                }
                Task::Verify(packet) => {
                    let copies = client.copies(&packet);
                    (packet, Done::Verified(copies))
                }
                Task::Renew(packet) => {
                    let key = packet.public_key();
                    let found = client.resolve(&key, Policy::NetworkOnly);
                    let cached = client.cache().get(&key);
                    (packet.clone(), Done::renewed(packet, found, cached))
                }
            };
            next = done.next(&packet);
            self.done = Some(done);
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let failed = || Done::Verified(Err("it could not be tried".to_owned()));
        let done = self.done.take().unwrap_or_else(failed);
        // A runner that has ended does not listen.
        drop(self.signals.send(Signal::Done(self.handed, done)));
    }
}
