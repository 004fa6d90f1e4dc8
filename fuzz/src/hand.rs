//! One node moved by an input, and the contract that it keeps whatever moves it.

use core::net::SocketAddr;
use std::sync::Arc;

use dht_proto::config::Config;
use dht_proto::request::Event;
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM, Networks, wire};
use dht_sim::hand;

/// A node and the time.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) dht: Dht,
    pub(crate) now: Instant,
}

impl Hand {
    /// A node that exists since the first second.
    pub(crate) fn new(config: Config, networks: Networks, seed: u8) -> Self {
        let (now, seed) = (Instant::from_secs(1), Seed::from_bytes([seed; 32]));
        Self { dht: Dht::new(Arc::new(config), networks, &seed, now), now }
    }

    /// Delivers a datagram. What is sent back is a message, and goes to the source.
    pub(crate) fn deliver(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let reply = hand::deliver(&mut self.dht, self.now, from, datagram);
        let is_message = |reply: &Vec<u8>| wire::decode(reply).is_ok();
        assert!(reply.as_ref().is_none_or(is_message), "we send only messages");
        reply
    }

    /// Does what is due and takes all that waits; nothing is left undone then.
    pub(crate) fn drain(&mut self) -> (Vec<(SocketAddr, Vec<u8>)>, Vec<Event>) {
        self.dht.handle_due(self.now);
        let output = hand::drain(&mut self.dht, self.now);
        let due = self.dht.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "something was left undone");
        output
    }

    /// Invariants and bounds hold, and a node that may sleep has nothing to say.
    pub(crate) fn check(&mut self) {
        self.dht.check_invariants();
        if self.dht.poll_timeout().is_none_or(|due| due > self.now) {
            let mut buf = [0; MAX_DATAGRAM];
            assert!(self.dht.poll_transmit(self.now, &mut buf).is_none(), "a query was hidden");
            assert!(self.dht.poll_event().is_none(), "an event was hidden");
        }
    }
}
