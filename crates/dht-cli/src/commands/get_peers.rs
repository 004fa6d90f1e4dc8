//! `dht get-peers`: BEP 5 `get_peers`, with the scrape of BEP 33.

use dht_mio::proto::request::Lookup;

use crate::args::{GetPeersArgs, Global};
use crate::client::Client;
use crate::commands::{Ended, finish};
use crate::output::{Done, Line, Output};

pub(super) fn run(args: &GetPeersArgs, global: &Global, out: &Output) -> Ended {
    let client = Client::start(global, out)?;
    let info_hash = args.info_hash;
    let lookup = Lookup::GetPeers { info_hash, scrape: args.scrape, noseed: false };
    let mut peers = 0;
    let outcome = client.peers(lookup, |addr| {
        peers += 1;
        out.result(addr, &Line::Peer { addr });
        out.check()
    })?;
    let mut words = match peers {
        0 => "no peers".to_owned(),
        1 => "1 peer".to_owned(),
        peers => format!("{peers} peers"),
    };
    if let Some(scrape) = &outcome.scrape {
        words = format!(
            "{words}, about {:.0} seeds and {:.0} downloaders",
            scrape.seeds, scrape.downloaders
        );
    }
    let done = Done {
        target: Some(info_hash.to_string()),
        peers: Some(peers),
        seeds: outcome.scrape.map(|scrape| scrape.seeds),
        downloaders: outcome.scrape.map(|scrape| scrape.downloaders),
        ..Done::default()
    };
    Ok(finish(&client, out, &outcome, peers > 0, &words, done))
}
