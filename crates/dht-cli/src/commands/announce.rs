//! `dht announce`: BEP 5 `announce_peer`.

use dht_mio::proto::request::{AnnouncePort, Lookup};

use crate::args::{AnnounceArgs, Global};
use crate::client::Client;
use crate::commands::{Ended, finish, stored_words};
use crate::output::{Done, Output, errors};

pub(super) fn run(args: &AnnounceArgs, global: &Global, out: &Output) -> Ended {
    let client = Client::start(global, out)?;
    // clap sees to it that --port and --implied-port are not both there.
    let port = args.port.map_or(AnnouncePort::Implied, AnnouncePort::Explicit);
    let lookup = Lookup::Announce { info_hash: args.info_hash, port, seed: args.seed };
    let outcome = client.run("announcing", lookup, |_| Ok(()))?;
    let done = Done {
        target: Some(args.info_hash.to_string()),
        stored: Some(outcome.stored),
        errors: Some(errors(&outcome)),
        ..Done::default()
    };
    Ok(finish(&client, out, &outcome, outcome.stored > 0, &stored_words(&outcome), done))
}
