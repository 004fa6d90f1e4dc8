//! `dht put-immutable`: BEP 44 `put` of a value under its own hash.

use dht_mio::proto::item::Item;
use dht_mio::proto::request::Lookup;

use crate::args::{Global, PutImmutableArgs};
use crate::client::Client;
use crate::commands::{Ended, finish, stored_words};
use crate::failure::Failure;
use crate::output::{Done, Output, errors};
use crate::value;

pub(super) fn run(args: &PutImmutableArgs, global: &Global, out: &Output) -> Ended {
    let bencoded = value::bencoded(&args.value)?;
    let item = Item::immutable(&bencoded)
        .map_err(|error| Failure::input(error.to_string(), "see dht put-immutable --help"))?;
    let target = item.id();
    let client = Client::start(global, out)?;
    let lookup = Lookup::PutItem { item: Box::new(item), cas: None };
    let outcome = client.run("storing", lookup, |_| Ok(()))?;
    out.words(format_args!("target  {target}"));
    let done = Done {
        target: Some(target.to_string()),
        stored: Some(outcome.stored),
        errors: Some(errors(&outcome)),
        ..Done::default()
    };
    Ok(finish(&client, out, &outcome, outcome.stored > 0, &stored_words(&outcome), done))
}
