//! `dht put-mutable`: BEP 44 `put` of a signed value under a public key.

use dht_mio::proto::id::ItemId;
use dht_mio::proto::item::Item;
use dht_mio::proto::request::{Lookup, Outcome};

use crate::args::{Global, PutMutableArgs};
use crate::client::Client;
use crate::commands::{Ended, finish, stored_words};
use crate::failure::Failure;
use crate::output::{Done, Output, errors};
use crate::parse::to_hex;
use crate::value;

pub(super) fn run(args: &PutMutableArgs, global: &Global, out: &Output) -> Ended {
    let salt = args.salt.bytes();
    value::check_salt(&salt)?;
    let bencoded = value::bencoded(&args.value)?;
    let (key, exposed) = value::read_key(&args.key)?;
    if exposed {
        let file = args.key.display();
        out.warn(format_args!("warning: others can read {file}; run chmod 600 {file}"));
    }
    let public_key = key.verifying_key().to_bytes();
    let target = ItemId::of_mutable(&public_key, &salt);
    let client = Client::start(global, out)?;
    let done = Done {
        target: Some(target.to_string()),
        public_key: Some(to_hex(&public_key)),
        ..Done::default()
    };
    let seq = match (args.seq, args.cas) {
        (Some(seq), None) => seq,
        (seq, cas) => {
            let lookup = Lookup::GetItem { target, salt: salt.clone(), newer_than: None };
            let before = client.run("looking for the newest version", lookup, |_| Ok(()))?;
            if before.item.is_none() && client.contact(&before).is_err() {
                // Whoever cannot be asked cannot be told either.
                let done = Done { stored: Some(0), errors: Some(errors(&before)), ..done };
                return Ok(finish(&client, out, &before, false, "", done));
            }
            choose_seq(seq, cas, &before, target)?
        }
    };
    let item = Item::sign(&key, &salt, seq, &bencoded)
        .map_err(|error| Failure::input(error.to_string(), "see dht put-mutable --help"))?;
    let lookup = Lookup::PutItem { item: Box::new(item), cas: args.cas };
    let outcome = client.run("storing", lookup, |_| Ok(()))?;
    out.words(format_args!("target      {target}"));
    out.words(format_args!("public key  {}", to_hex(&public_key)));
    out.words(format_args!("seq         {seq}"));
    let done = Done {
        seq: Some(seq),
        stored: Some(outcome.stored),
        errors: Some(errors(&outcome)),
        ..done
    };
    Ok(finish(&client, out, &outcome, outcome.stored > 0, &stored_words(&outcome), done))
}

/// The number of the new version, from what is stored now.
fn choose_seq(
    seq: Option<i64>,
    cas: Option<i64>,
    before: &Outcome,
    target: ItemId,
) -> Result<i64, Failure> {
    let newest = before.item.as_ref().and_then(|item| item.signed()).map(|signed| signed.seq);
    if let (Some(cas), None) = (cas, newest) {
        return Err(Failure::input(
            format!("no version of the item {target} is stored, so none can have seq {cas}"),
            "leave out --cas to store the first version",
        ));
    }
    match seq {
        Some(seq) => Ok(seq),
        None => newest.unwrap_or(0).checked_add(1).ok_or_else(|| {
            Failure::input(
                format!("the newest version of {target} has the highest seq there is"),
                "use another --salt or another key",
            )
        }),
    }
}
