//! The whole loop over one `std::net::UdpSocket`, nothing else: looks up the peers of a torrent.
//!
//! ```text
//! cargo run -p dht-proto --example blocking -- INFOHASH BOOTSTRAP_IP:PORT
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "an example is a program: it has a clock and an output"
)]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use dht_proto::config::{Config, Mode};
use dht_proto::id::InfoHash;
use dht_proto::request::{Event, Lookup};
use dht_proto::seed::Seed;
use dht_proto::time::Instant;
use dht_proto::{Dht, MAX_DATAGRAM, Networks};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(info_hash), Some(bootstrap)) = (args.next(), args.next()) else {
        return Err("usage: blocking INFOHASH BOOTSTRAP_IP:PORT".into());
    };
    let info_hash: InfoHash = info_hash.parse()?;
    let bootstrap: SocketAddr = bootstrap.parse()?;
    let any: SocketAddr = if bootstrap.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    let networks = if bootstrap.is_ipv4() { Networks::V4 } else { Networks::V6 };
    let socket = UdpSocket::bind(any)?;

    let mut config = Config::default();
    config.mode = Mode::Client;
    config.bootstrap = vec![bootstrap];
    // A real application takes the seed from the operating system (`Seed::from_rng`).
    let seed = Seed::from_bytes(std::array::from_fn(|i| (std::process::id() >> (i % 4 * 8)) as u8));
    let origin = Clock::now();
    let now = || Instant::from_micros(origin.elapsed().as_micros() as u64);
    let mut dht = Dht::new(Arc::new(config), networks, &seed, now());
    let wanted = dht.start(now(), &Lookup::GetPeers { info_hash, scrape: false, noseed: false })?;

    let (mut datagram, mut out) = ([0; 2048], [0; MAX_DATAGRAM]);
    loop {
        dht.handle_due(now());
        while let Some(event) = dht.poll_event() {
            match event {
                Event::Peers { peers, .. } => peers.iter().for_each(|peer| println!("{peer}")),
                Event::Done { lookup, outcome } if lookup == wanted => {
                    eprintln!("{} peers, {} queries", outcome.peers, outcome.queries);
                    return Ok(());
                }
                _ => {}
            }
        }
        while let Some(sent) = dht.poll_transmit(now(), &mut out) {
            // A datagram that cannot be sent is as good as lost; the DHT expects losses.
            let _ = socket.send_to(&out[..sent.len], sent.to);
        }
        let wait = dht.poll_timeout().map_or(Duration::from_secs(1), |due| due.since(now()));
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        match socket.recv_from(&mut datagram) {
            Ok((len, from)) => {
                if let Some(reply) = dht.handle_datagram(now(), from, &datagram[..len], &mut out) {
                    let _ = socket.send_to(&out[..reply.len], reply.to);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
