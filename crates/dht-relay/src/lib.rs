//! A PKARR relay, and DNS for programs that know nothing of PKARR.
//!
//! [`Front`] is all that decides: it takes HTTP requests ([`http`]) and DNS messages ([`dns`]), and says
//! what to reply, or what has to be resolved, published or forwarded for that. It does no I/O and reads
//! no clock, so tests and fuzzers see all of it. [`server`] puts sockets around it.
//! What it stands on is a [`Backend`], which the client of `dht-pkarr-client` is.

mod backend;
pub mod dns;
mod front;
pub mod http;
mod lookups;
mod points;
pub mod quota;
pub mod server;
mod stats;

pub use self::backend::{Backend, Found, PublishError, ResolveError};
pub use self::front::{Cached, DEFAULT_MAX_USERS, Front, Known, Now, Options};
pub use self::lookups::{Resolution, Ticket};
pub use self::stats::Stats;
pub use dht_pkarr_client::Origin;
