//! Keeping packets alive, as a future.

use async_channel::{Receiver, Sender, bounded, unbounded};
use async_io::Timer;
use blocking::unblock;
use dht_pkarr::keep_alive::Handed;
use dht_pkarr::resolve::Policy;
use futures_lite::FutureExt as _;

use super::{Client, Work, message};
use crate::keep_alive::{
    Done, KeepAlive, KeepAliveError, KeepAliveOptions, Keeper, Keeping, Kept, Runner, Task,
};

/// A message is something to do; closing it stops the runner.
impl Runner for Sender<()> {
    fn wake(&self) {
        // One call to wake up is enough.
        let _ = self.try_send(());
    }

    fn stop(&self) {
        self.close();
    }
}

/// What keeps packets alive, while [`KeepAliveRunner::run`] is polled.
#[derive(Debug)]
#[must_use = "nothing is published unless it runs"]
pub struct KeepAliveRunner {
    client: Client,
    keeping: Keeping,
    woken: Receiver<()>,
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
        let keeping =
            Keeping::new(unblock(move || Keeper::open(options, has_dht)).await?, listener);
        let (wake, woken) = bounded(1);
        let handle = keeping.handle(wake);
        Ok((handle, KeepAliveRunner { client: self.clone(), keeping, woken }))
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
                Woken::Done(handed, done) => self.keeping.done(handed, *done),
                Woken::Due => {}
                Woken::Stopped => break,
            }
            self.save(false).await;
        }
        self.save(true).await;
    }

    fn start_what_is_due(&self, sender: &Sender<(Handed, Done)>, going_on: &mut Vec<Work>) {
        while let Some((handed, task)) = self.keeping.due() {
            let (client, sender) = (self.client.clone(), sender.clone());
            going_on.push(Box::pin(async move {
                let done = perform(&client, task).await;
                drop(sender.try_send((handed, done)));
            }));
        }
    }

    async fn wait(&self, going_on: &mut Vec<Work>, receiver: &Receiver<(Handed, Done)>) -> Woken {
        let wait = self.keeping.wait();
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
        let failed = unblock(self.keeping.saving(in_any_case)).await;
        self.keeping.tell(failed);
    }
}

async fn perform(client: &Client, task: Task) -> Done {
    let mut task = task;
    loop {
        let done = match &task {
            Task::Publish(packet) => Done::Published(client.publish(packet).await),
            Task::Verify(packet) => Done::Verified(client.copies(packet).await),
            Task::Renew(packet) => {
                let found = client.resolve(&packet.public_key(), Policy::NetworkOnly).await;
                Done::renewed(packet, found, client.cache())
            }
        };
        match done.next(task.packet()) {
            Some(next) => task = next,
            None => return done,
        }
    }
}
