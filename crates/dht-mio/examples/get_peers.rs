//! Finds the peers of a torrent and prints them as they arrive.
//!
//! ```text
//! cargo run -p dht-mio --example get_peers -- INFOHASH [HOST:PORT ...]
//! ```
//!
//! Hosts given on the command line replace the default bootstrap hosts.

use core::error::Error;
use std::io::{Write, stdout};

use dht_mio::{Builder, Notice};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let info_hash = args.next().ok_or("usage: get_peers INFOHASH [HOST:PORT ...]")?.parse()?;
    let builder = args.fold(Builder::new(), Builder::bootstrap);
    let dht = builder.on_notice(log).spawn()?;

    let mut peers = dht.get_peers(info_hash)?;
    for peer in &mut peers {
        writeln!(stdout(), "{peer}")?;
    }
    let outcome = peers.outcome()?;
    let (queries, time) = (outcome.queries, outcome.duration);
    writeln!(stdout(), "{:?} after {queries} queries and {time:.1?}", outcome.ended)?;
    if outcome.peers == 0 {
        writeln!(stdout(), "{}", dht.health()?)?;
    }
    dht.shutdown()?;
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of the callback")]
fn log(notice: Notice) {
    // A log that cannot be written is no reason to stop.
    drop(writeln!(std::io::stderr(), "{notice}"));
}
