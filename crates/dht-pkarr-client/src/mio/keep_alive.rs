//! Keeping packets alive, on threads.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use dht_pkarr::keep_alive::Handed;
use dht_pkarr::resolve::Policy;

use super::Client;
use crate::keep_alive::{
    Done, KeepAlive, KeepAliveError, KeepAliveOptions, Keeper, Keeping, Kept, Runner, Task,
};

enum Signal {
    Done(Handed, Done),
    /// There is something new to do.
    Wake,
    Stop,
}

impl Runner for Sender<Signal> {
    fn wake(&self) {
        drop(self.send(Signal::Wake));
    }

    fn stop(&self) {
        drop(self.send(Signal::Stop));
    }
}

/// What keeps packets alive, once [`KeepAliveRunner::run`] is called.
#[derive(Debug)]
#[must_use = "nothing is published unless it runs"]
pub struct KeepAliveRunner {
    client: Client,
    keeping: Keeping,
    signals: Receiver<Signal>,
    sender: Sender<Signal>,
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
        let keeping = Keeping::new(Keeper::open(options, self.dht.is_some())?, listener);
        let (sender, signals) = channel();
        let handle = keeping.handle(sender.clone());
        Ok((handle, KeepAliveRunner { client: self.clone(), keeping, signals, sender }))
    }
}

impl KeepAliveRunner {
    /// Keeps packets alive until [`KeepAlive::stop`].
    pub fn run(mut self) {
        loop {
            self.start_what_is_due();
            match self.signals.recv_timeout(self.keeping.wait()) {
                Ok(Signal::Done(handed, done)) => self.keeping.done(handed, done),
                Ok(Signal::Stop) => break,
                Ok(Signal::Wake) | Err(_) => {}
            }
            self.save(false);
        }
        self.save(true);
    }

    fn start_what_is_due(&self) {
        while let Some((handed, task)) = self.keeping.due() {
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

    fn save(&mut self, in_any_case: bool) {
        let failed = self.keeping.saving(in_any_case)();
        self.keeping.tell(failed);
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
            let done = match &task {
                Task::Publish(packet) => Done::Published(client.publish(packet)),
                Task::Verify(packet) => Done::Verified(client.copies(packet)),
                Task::Renew(packet) => {
                    let found = client.resolve(&packet.public_key(), Policy::NetworkOnly);
                    Done::renewed(packet, found, client.cache())
                }
            };
            next = done.next(task.packet());
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
