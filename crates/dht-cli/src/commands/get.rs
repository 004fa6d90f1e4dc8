//! `dht get`: BEP 44 `get`, newest version.

use dht_mio::proto::id::ItemId;
use dht_mio::proto::item::Item;
use dht_mio::proto::request::Lookup;

use crate::args::{GetArgs, Global};
use crate::client::Client;
use crate::commands::{Ended, finish};
use crate::failure::Failure;
use crate::output::{Done, Line, Output};
use crate::parse::to_hex;
use crate::value;

pub(super) fn run(args: &GetArgs, global: &Global, out: &Output) -> Ended {
    let salt = args.salt.bytes();
    value::check_salt(&salt)?;
    let target = match (args.target, &args.public_key) {
        (Some(target), _) => target,
        (None, Some(public_key)) => ItemId::of_mutable(public_key, &salt),
        (None, None) => {
            return Err(Failure::input("nothing to look for", "give a target or --public-key"));
        }
    };
    let client = Client::start(global, out)?;
    let lookup = Lookup::GetItem { target, salt, newer_than: None };
    let outcome = client.run("looking for the item", lookup, |_| Ok(()))?;
    let item = outcome.item.as_deref();
    if let Some(item) = item {
        out.result(Words(item), &Line::Item(value::item_line(item)));
    }
    let words = if item.is_some() { "found" } else { "not found" };
    let done = Done {
        target: Some(target.to_string()),
        seq: item.and_then(Item::signed).map(|signed| signed.seq),
        ok: Some(item.is_some()),
        ..Done::default()
    };
    Ok(finish(&client, out, &outcome, item.is_some(), words, done))
}

/// An item for people: the value, and who signed which version.
struct Words<'a>(&'a Item);

impl core::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(item) = self;
        writeln!(f, "target      {}", item.id())?;
        if let Some(signed) = item.signed() {
            writeln!(f, "public key  {}", to_hex(&signed.public_key))?;
            if !signed.salt.is_empty() {
                writeln!(f, "salt        {}", signed.salt.escape_ascii())?;
            }
            writeln!(f, "seq         {}", signed.seq)?;
        }
        match value::text(item) {
            // Indented, so that no line of a value looks like one of ours.
            Some(text) => write!(f, "value       {}", text.replace('\n', "\n            ")),
            None => write!(f, "bencode     {}", to_hex(item.value())),
        }
    }
}
