//! Finds the peers of a torrent and prints them as they arrive, for ten seconds at most.
//!
//! ```text
//! cargo run -p dht-smol --example get_peers                                # a network of its own
//! cargo run -p dht-smol --example get_peers -- INFOHASH HOST:PORT ...      # through these nodes
//! ```
//!
//! Without arguments it starts five nodes on this machine and announces something to find.

use core::error::Error;
use core::time::Duration;
use std::io::{Write, stdout};

use async_io::Timer;
use dht_smol::proto::config::Mode;
use dht_smol::proto::id::InfoHash;
use dht_smol::proto::request::AnnouncePort;
use dht_smol::{Builder, Dht};
use futures_lite::{FutureExt, StreamExt};

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
        let mut args = std::env::args().skip(1);
        match args.next() {
            Some(info_hash) => {
                // No arguments beyond this one, no bootstrap hosts.
                let builder = args.fold(Builder::new().no_bootstrap(), Builder::bootstrap);
                print_peers(&run(builder)?, info_hash.parse()?).await
            }
            None => in_a_network_of_our_own().await,
        }
    })
}

/// Makes a task of a node.
fn run(builder: Builder) -> Result<Dht, Box<dyn Error>> {
    let (dht, node) = builder.build()?;
    smol::spawn(node).detach();
    Ok(dht)
}

async fn in_a_network_of_our_own() -> Result<(), Box<dyn Error>> {
    let local =
        |n: u8| Builder::new().mode(Mode::Server).no_bootstrap().bind(([127, 0, 0, n], 0).into());
    let first = run(local(1))?;
    let host = first.local_addrs().first().ok_or("no address")?.to_string();
    let mut nodes = vec![first];
    let info_hash = InfoHash::from_bytes([7; 20]);
    for n in 2..=5 {
        let node = run(local(n).bootstrap(&host))?;
        node.announce(info_hash, AnnouncePort::Implied, false).await?;
        nodes.push(node);
    }
    print_peers(&run(local(6).bootstrap(&host))?, info_hash).await
}

async fn print_peers(dht: &Dht, info_hash: InfoHash) -> Result<(), Box<dyn Error>> {
    let mut peers = dht.get_peers(info_hash);
    let found = async {
        while let Some(peer) = peers.next().await {
            writeln!(stdout(), "{peer}")?;
        }
        Ok::<_, Box<dyn Error>>(true)
    };
    let limit = async {
        Timer::after(Duration::from_secs(10)).await;
        Ok(false)
    };
    if found.or(limit).await? {
        let outcome = peers.outcome().await?;
        let (queries, time) = (outcome.queries, outcome.duration);
        writeln!(stdout(), "{:?} after {queries} queries and {time:.1?}", outcome.ended)?;
        if outcome.peers == 0 {
            writeln!(stdout(), "{}", dht.health().await?)?;
        }
    }
    dht.shutdown().await?;
    Ok(())
}
