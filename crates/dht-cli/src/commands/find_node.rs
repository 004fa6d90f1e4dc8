//! `dht find-node`: BEP 5 `find_node`, all the way.

use dht_mio::proto::request::Lookup;

use crate::args::{FindNodeArgs, Global};
use crate::client::Client;
use crate::commands::{Ended, finish, nodes};
use crate::output::{self, Done, Output};

pub(super) fn run(args: &FindNodeArgs, global: &Global, out: &Output) -> Ended {
    let client = Client::start(global, out)?;
    let lookup = Lookup::FindNode { target: args.id };
    let outcome = client.run("looking for nodes", lookup, |_| Ok(()))?;
    for node in &outcome.closest {
        output::node(out, node);
    }
    let found = !outcome.closest.is_empty();
    let words = nodes(outcome.closest.len() as u32);
    let done = Done { target: Some(args.id.to_string()), ..Done::default() };
    Ok(finish(&client, out, &outcome, found, &words, done))
}
