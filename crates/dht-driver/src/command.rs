//! What the rest of the program tells the loop, and how the loop answers.

use core::fmt;
use core::net::SocketAddr;
use std::sync::mpsc;

use dht_proto::Dht;
use dht_proto::id::NodeId;
use dht_proto::request::{Event, Lookup, Outcome, StartError};
use dht_proto::time::Instant;

use crate::stats::IoStats;

/// Commands waiting for the loop, at most.
pub const MAX_COMMANDS: usize = 1_024;

/// Names a lookup before it has started. Chosen by whoever sends the command; must be unique among
/// running lookups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain number")]
pub struct Ticket(pub u64);

/// Who hears of a lookup. Dropped without [`Subscriber::finish`] if the lookup was cancelled or the
/// loop ended.
pub trait Subscriber {
    /// Peers, an item or samples arrived. Must not block.
    fn deliver(&mut self, event: Event) -> Delivery;
    /// The lookup ended, or did not start. Called at most once, and not after a cancellation.
    fn finish(self, end: Result<Box<Outcome>, StartError>);
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every case needs its own reaction")]
pub enum Delivery {
    /// It will be read.
    Accepted,
    /// There was no room: the event is lost, the lookup goes on.
    Full,
    /// Nobody listens: the lookup is cancelled.
    Gone,
}

/// The inside of the loop, as [`Command::Inspect`] sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct View<'a> {
    /// The state machine.
    pub dht: &'a mut Dht,
    /// The time of this pass.
    pub now: Instant,
    /// The driver's own counters.
    pub io: IoStats,
    /// The address that others see us at, per family, once enough of them agree.
    pub external: External,
}

/// External addresses as the network told them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct External {
    /// IPv4.
    pub v4: Option<core::net::Ipv4Addr>,
    /// IPv6.
    pub v6: Option<core::net::Ipv6Addr>,
}

/// A request to the loop.
#[non_exhaustive]
pub enum Command<S> {
    /// Starts a lookup.
    Start {
        /// Its name.
        ticket: Ticket,
        /// What to look for.
        lookup: Lookup,
        /// Who hears of it.
        subscriber: S,
    },
    /// Cancels a lookup; nothing happens if it has ended.
    Cancel(Ticket),
    /// Ends a lookup as if its time were up: its subscriber hears what it has come to. Nothing happens
    /// if it has ended.
    Finish(Ticket),
    /// Adds a node that may be worth asking.
    AddContact {
        /// Where it is.
        addr: SocketAddr,
        /// Who it is, if known.
        id: Option<NodeId>,
    },
    /// Adds addresses to ask when no contacts are known.
    AddBootstrap(Vec<SocketAddr>),
    /// How far the names of bootstrap hosts have been resolved.
    Names(Names),
    /// Runs a function between two steps of the loop: counters, health, snapshots.
    Inspect(Box<dyn FnOnce(View<'_>) + Send>),
    /// Ends the loop.
    Shutdown,
}

impl<S> fmt::Debug for Command<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start { .. } => "Start",
            Self::Cancel(_) => "Cancel",
            Self::Finish(_) => "Finish",
            Self::AddContact { .. } => "AddContact",
            Self::AddBootstrap(_) => "AddBootstrap",
            Self::Names(_) => "Names",
            Self::Inspect(_) => "Inspect",
            Self::Shutdown => "Shutdown",
        })
    }
}

/// How far the names of bootstrap hosts have been resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "every case needs its own reaction")]
pub enum Names {
    /// There are none, or one has addresses.
    #[default]
    Known,
    /// The first answer has not come: lookups wait for it if nobody else is known to ask. It must
    /// be followed by [`Command::AddBootstrap`] or by [`Names::Failed`].
    Pending,
    /// None of them has an address.
    Failed,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a queue is full or closed")]
pub enum Rejected {
    /// [`MAX_COMMANDS`] are waiting.
    Full,
    /// The loop has ended.
    Closed,
}

/// A bounded queue of commands. The runtime wakes its loop after sending.
#[must_use]
pub fn commands<S>() -> (Commands<S>, CommandQueue<S>) {
    let (sender, receiver) = mpsc::sync_channel(MAX_COMMANDS);
    (Commands(sender), CommandQueue(receiver))
}

/// The sending end. Closing every clone of it ends the loop.
pub struct Commands<S>(mpsc::SyncSender<Command<S>>);

impl<S> Commands<S> {
    /// Puts a command in line without waiting.
    ///
    /// # Errors
    /// The command itself, with the reason.
    pub fn send(&self, command: Command<S>) -> Result<(), (Rejected, Command<S>)> {
        self.0.try_send(command).map_err(|error| match error {
            mpsc::TrySendError::Full(command) => (Rejected::Full, command),
            mpsc::TrySendError::Disconnected(command) => (Rejected::Closed, command),
        })
    }
}

impl<S> Clone for Commands<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for Commands<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Commands(..)")
    }
}

/// The receiving end, for the driver.
pub struct CommandQueue<S>(mpsc::Receiver<Command<S>>);

impl<S> CommandQueue<S> {
    /// The next command; [`Command::Shutdown`] once every sender is gone.
    pub(crate) fn next(&self) -> Option<Command<S>> {
        match self.0.try_recv() {
            Ok(command) => Some(command),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Command::Shutdown),
        }
    }
}

impl<S> fmt::Debug for CommandQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommandQueue(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_gives_the_command_back() {
        let (sender, queue) = commands::<()>();
        for i in 0..MAX_COMMANDS as u64 {
            assert!(sender.send(Command::Cancel(Ticket(i))).is_ok());
        }
        let Err((Rejected::Full, Command::Cancel(Ticket(7)))) =
            sender.send(Command::Cancel(Ticket(7)))
        else {
            panic!("one too many was taken")
        };
        assert!(matches!(queue.next(), Some(Command::Cancel(Ticket(0)))));
        assert!(sender.send(Command::Shutdown).is_ok());
    }

    #[test]
    fn losing_every_sender_ends_the_loop_and_losing_the_loop_is_told() {
        let (sender, queue) = commands::<()>();
        assert!(queue.next().is_none());
        drop(sender);
        assert!(matches!(queue.next(), Some(Command::Shutdown)));
        let (sender, queue) = commands::<()>();
        drop(queue);
        assert!(matches!(sender.send(Command::Shutdown), Err((Rejected::Closed, _))));
    }
}
