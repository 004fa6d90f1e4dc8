//! [`Dht`]: a v4 and a v6 node under one set of verbs (BEP 32).

use alloc::sync::Arc;
use core::net::SocketAddr;

use crate::MAX_DATAGRAM;
use crate::config::Config;
use crate::id::NodeId;
use crate::request::{Event, Lookup, LookupId, StartError};
use crate::seed::Seed;
use crate::stats::Stats;
use crate::time::Instant;

/// A datagram to send: its bytes are the first `len` of the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_structs, reason = "a datagram has nothing else")]
pub struct Transmit {
    /// Where to send it.
    pub to: SocketAddr,
    /// How many bytes of the buffer to send.
    pub len: usize,
}

/// Which networks a [`Dht`] takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two networks")]
pub enum Networks {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Both,
}

/// The DHT as a state machine: datagrams and time in, datagrams and events out.
#[derive(Debug)]
pub struct Dht {}

#[expect(missing_docs, unused_variables, clippy::todo, reason = "interface only, for now")]
impl Dht {
    pub fn new(config: Arc<Config>, networks: Networks, seed: Seed, now: Instant) -> Self {
        todo!()
    }
    #[must_use]
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        reply: &mut [u8; MAX_DATAGRAM],
    ) -> Option<Transmit> {
        todo!()
    }
    pub fn handle_unreachable(&mut self, now: Instant, to: SocketAddr) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8; MAX_DATAGRAM],
    ) -> Option<Transmit> {
        todo!()
    }
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    pub fn start(&mut self, now: Instant, lookup: Lookup) -> Result<LookupId, StartError> {
        todo!()
    }
    pub fn cancel(&mut self, id: LookupId) -> bool {
        todo!()
    }
    pub fn add_contact(&mut self, now: Instant, addr: SocketAddr, id: Option<NodeId>) {
        todo!()
    }
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
