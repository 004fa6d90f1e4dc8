//! One node moved by hand: for tests and fuzz targets that need no network around it.

use std::net::SocketAddr;

use dht_proto::request::Event;
use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM};

/// Takes everything that waits: queries with their destinations, and events. What is due is not done
/// before: that is what `handle_timeout` is for.
pub fn drain(dht: &mut Dht, now: Instant) -> (Vec<(SocketAddr, Vec<u8>)>, Vec<Event>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    loop {
        let mut buf = [0; MAX_DATAGRAM];
        if let Some(event) = dht.poll_event() {
            events.push(event);
        } else if let Some(transmit) = dht.poll_transmit(now, &mut buf) {
            let query = buf.get(..transmit.len).unwrap_or_default().to_vec();
            sent.push((transmit.to, query));
        } else {
            return (sent, events);
        }
    }
}

/// Delivers a datagram; the reply goes to its source.
///
/// # Panics
/// If it goes elsewhere.
pub fn deliver(dht: &mut Dht, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
    let mut reply = [0; MAX_DATAGRAM];
    let sent = dht.handle_datagram(now, from, datagram, &mut reply)?;
    assert_eq!(sent.to, from, "a reply goes to the source");
    reply.get(..sent.len).map(<[u8]>::to_vec)
}
