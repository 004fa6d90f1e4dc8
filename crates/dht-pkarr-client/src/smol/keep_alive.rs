//! Keeping packets alive, as a future.

use core::future::Future;
use core::pin::Pin;
use std::sync::{Arc, Mutex};

use async_channel::{Receiver, Sender, bounded, unbounded};
use async_io::Timer;
use blocking::unblock;
use dht_pkarr::keep_alive::{Handed, Status, TooManyKeys};
use dht_pkarr::resolve::Policy;
use dht_pkarr::{PublicKey, SignedPacket};
use futures_lite::FutureExt as _;

use super::{Client, Work, message};
use crate::keep_alive::{
    Done, KeepAliveError, KeepAliveOptions, Keeper, Kept, Listener, Shared, Task, lock,
};

/// A handle of packets that are kept alive. Clones are cheap and name the same ones.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    keeper: Shared,
    /// Something to do; closed to stop.
    wake: Sender<()>,
}

/// What keeps them alive, while [`KeepAliveRunner::run`] is polled.
#[must_use = "nothing is published unless it runs"]
pub struct KeepAliveRunner {
    client: Client,
    keeper: Shared,
    woken: Receiver<()>,
    listener: Listener,
}

impl Client {
    /// Keeps packets alive: publishes them again and again, counts their copies, and changes over to
    /// newer ones that their owners publish elsewhere. `listener` hears what becomes of them.
    ///
    /// # Errors
    /// If the file of the options is not what it should be.
    pub async fn keep_alive(
        &self,
        options: KeepAliveOptions,
        listener: impl FnMut(Kept) + Send + 'static,
    ) -> Result<(KeepAlive, KeepAliveRunner), KeepAliveError> {
        let has_dht = self.dht.is_some();
        let keeper = unblock(move || Keeper::open(options, has_dht)).await?;
        let keeper = Arc::new(Mutex::new(keeper));
        let (wake, woken) = bounded(1);
        let handle = KeepAlive { keeper: Arc::clone(&keeper), wake };
        let client = self.clone();
        Ok((handle, KeepAliveRunner { client, keeper, woken, listener: Box::new(listener) }))
    }
}

impl KeepAlive {
    /// Keeps a packet alive, unless that or a newer one of its key is already.
    ///
    /// # Errors
    /// [`TooManyKeys`].
    pub fn insert(&self, packet: SignedPacket) -> Result<(), TooManyKeys> {
        lock(&self.keeper).add(packet)?;
        // One call to wake up is enough.
        let _ = self.wake.try_send(());
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
        self.wake.close();
    }
}

/// Why a runner does not wait any more.
enum Woken {
    Done(Handed, Box<Done>),
    Due,
    Stopped,
}

impl KeepAliveRunner {
    /// Keeps packets alive until [`KeepAlive::stop`], or until all handles are gone.
    pub async fn run(mut self) {
        let (sender, receiver) = unbounded();
        let mut going_on: Vec<Work> = Vec::new();
        loop {
            self.start_what_is_due(&sender, &mut going_on);
            match self.wait(&mut going_on, &receiver).await {
                Woken::Done(handed, done) => {
                    let kept = lock(&self.keeper).handle(handed, *done);
                    kept.into_iter().for_each(&mut self.listener);
                }
                Woken::Due => {}
                Woken::Stopped => break,
            }
            self.save(false).await;
        }
        self.save(true).await;
    }

    fn start_what_is_due(&self, sender: &Sender<(Handed, Done)>, going_on: &mut Vec<Work>) {
        loop {
            // Not within the loop's head, where the lock would be held all along.
            let due = lock(&self.keeper).poll();
            let Some((handed, task)) = due else { return };
            let (client, sender) = (self.client.clone(), sender.clone());
            going_on.push(Box::pin(async move {
                let done = perform(&client, task).await;
                drop(sender.try_send((handed, done)));
            }));
        }
    }

    async fn wait(&self, going_on: &mut Vec<Work>, receiver: &Receiver<(Handed, Done)>) -> Woken {
        let wait = lock(&self.keeper).wait();
        let done = async {
            let (handed, done) = message(going_on, receiver).await;
            Woken::Done(handed, Box::new(done))
        };
        let due = async {
            Timer::after(wait).await;
            Woken::Due
        };
        let woken = async { self.woken.recv().await.map_or(Woken::Stopped, |()| Woken::Due) };
        done.or(woken).or(due).await
    }

    async fn save(&mut self, in_any_case: bool) {
        let keeper = Arc::clone(&self.keeper);
        let failed = unblock(move || lock(&keeper).save(in_any_case)).await;
        failed.into_iter().for_each(&mut self.listener);
    }
}

impl core::fmt::Debug for KeepAliveRunner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("KeepAliveRunner").field("keeper", &self.keeper).finish_non_exhaustive()
    }
}

fn perform(client: &Client, task: Task) -> Pin<Box<dyn Future<Output = Done> + Send + '_>> {
    Box::pin(async move {
        let (packet, done) = match task {
            Task::Publish(packet) => {
                let published = client.publish(&packet).await;
                (packet, Done::Published(published))
            }
            Task::Verify(packet) => {
                let copies = client.copies(&packet).await;
                (packet, Done::Verified(copies))
            }
            Task::Renew(packet) => {
                let key = packet.public_key();
                let found = client.resolve(&key, Policy::NetworkOnly).await;
                let cached = client.cache().get(&key);
                (packet.clone(), Done::renewed(packet, found, cached))
            }
        };
        match done.next(&packet) {
            Some(task) => perform(client, task).await,
            None => done,
        }
    })
}
