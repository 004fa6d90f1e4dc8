//! The event loop shared by the DHT runtimes, over a small [`Io`] trait.
//!
//! [`Driver`] owns a [`Dht`](dht_proto::Dht) and does everything around it that is the same in
//! every runtime: batches, budgets, error rules, commands and subscribers. It makes no system call
//! and never blocks; the runtime supplies sockets, clock and waiting.
//!
//! One [`pass`](Driver::pass) is bounded work. The rules for errors of the system stand beside the
//! code: [`Fault`] sorts them.

mod channel;
mod clock;
mod command;
mod driver;
mod io;
mod lookups;
mod outbound;
mod stats;

pub use channel::{MAX_WAITING, Next, Receiver, Sender, channel};
pub use clock::JUMP;
pub use command::{
    Command, CommandQueue, Commands, Delivery, External, MAX_COMMANDS, Names, Rejected, Subscriber,
    Ticket, View, commands,
};
pub use driver::{Driver, Wait};
pub use io::{Fault, Incoming, Io, Outgoing, RECV_BATCH, RECV_LEN, RecvBuffers, Sent};
pub use outbound::SEND_BUDGET;
pub use stats::IoStats;
