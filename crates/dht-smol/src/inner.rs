//! What handles, lookups and the loop share.

use core::convert::Infallible;
use core::mem;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel as channel;
use async_io::Timer;
use dht_driver::{Command, Commands, Rejected, Sender, Ticket};
use dht_net::{Error, Notices};

/// Pause before a full command queue is tried again.
pub(crate) const QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// The handles' end of the loop. The node runs as long as there is one.
#[derive(Debug)]
pub(crate) struct Inner {
    /// `None` only while the last handle is being dropped.
    commands: Option<Commands<Sender>>,
    shared: Arc<Shared>,
    tickets: AtomicU64,
    pub(crate) local_addrs: Vec<SocketAddr>,
    pub(crate) notices: Notices,
    /// Closes when the loop has ended.
    ended: channel::Receiver<Infallible>,
}

/// Who waits for a save.
pub(crate) type Asked = channel::Sender<Result<(), Error>>;

/// What the loop has an end of, whether there are handles or not.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Wakes the loop; `None` if it has been woken already.
    waker: Option<Waker>,
    /// Who waits for the state to be saved.
    saves: Vec<Asked>,
    /// How the loop ended.
    exit: Option<Result<(), Error>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while holding the lock, so the state is whole even if a thread died.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whoever sends a command from now on wakes this.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut state = self.lock();
        if !state.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
    }

    pub(crate) fn take_saves(&self) -> Vec<Asked> {
        mem::take(&mut self.lock().saves)
    }

    /// Only the first call counts.
    pub(crate) fn set_exit(&self, result: Result<(), Error>) {
        let mut state = self.lock();
        state.exit.get_or_insert(result);
        // Those who still wait learn it from the closed channel.
        let (saves, waker) = (mem::take(&mut state.saves), state.waker.take());
        drop(state);
        drop((saves, waker));
    }

    /// How the loop ended.
    pub(crate) fn exit(&self) -> Result<(), Error> {
        self.lock().exit.clone().unwrap_or_else(|| Err(Error::stopped()))
    }
}

impl Inner {
    pub(crate) const fn new(
        commands: Commands<Sender>,
        shared: Arc<Shared>,
        local_addrs: Vec<SocketAddr>,
        notices: Notices,
        ended: channel::Receiver<Infallible>,
    ) -> Self {
        let commands = Some(commands);
        Self { commands, shared, tickets: AtomicU64::new(0), local_addrs, notices, ended }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a command if there is room for it.
    pub(crate) fn offer(
        &self,
        command: Command<Sender>,
    ) -> Result<(), (Rejected, Command<Sender>)> {
        match &self.commands {
            Some(commands) => commands.send(command)?,
            None => return Err((Rejected::Closed, command)),
        }
        self.shared.wake();
        Ok(())
    }

    /// Sends a command, waiting for room if the queue is full.
    pub(crate) async fn send(&self, command: Command<Sender>) -> Result<(), Error> {
        let mut command = command;
        loop {
            match self.offer(command) {
                Ok(()) => return Ok(()),
                Err((Rejected::Closed, _)) => return Err(Error::stopped()),
                Err((Rejected::Full, back)) => command = back,
            }
            Timer::after(QUEUE_PAUSE).await;
        }
    }

    /// Waits until the loop has saved the state as it is now, or later.
    pub(crate) async fn save(&self) -> Result<(), Error> {
        let (answer, answered) = channel::bounded(1);
        {
            let mut state = self.shared.lock();
            if state.exit.is_some() {
                return Err(Error::stopped());
            }
            state.saves.push(answer);
        }
        self.shared.wake();
        answered.recv().await.unwrap_or_else(|_| Err(Error::stopped()))
    }

    /// Waits until the loop has ended, and tells how.
    pub(crate) async fn ended(&self) -> Result<(), Error> {
        match self.ended.recv().await {
            Ok(never) => match never {},
            Err(channel::RecvError) => self.shared.exit(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the queue tells the loop to end; it has to be awake to see that.
        self.commands = None;
        self.shared.wake();
    }
}
