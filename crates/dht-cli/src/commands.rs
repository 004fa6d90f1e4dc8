//! The commands, and how each of them ends.

mod announce;
mod demo;
mod find_node;
mod get;
mod get_peers;
mod inspect;
mod keygen;
mod node;
mod ping;
mod pkarr;
mod put_immutable;
mod put_mutable;
mod sample;
mod serve;
mod signals;
mod testnet;

use std::collections::BTreeMap;

use dht_mio::proto::request::Outcome;
use dht_mio::proto::wire::code;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::failure::{Failure, Status};
use crate::output::{Done, Line, Output, Summary, errors};

/// How a command ended: `None` is success.
type Ended = Result<Option<Status>, Failure>;

/// Runs the command that was asked for.
pub(crate) fn run(cli: &Cli, out: &Output) -> Ended {
    let global = &cli.global;
    match &cli.command {
        Command::Demo(args) => demo::run(args, global, out),
        Command::Node(args) => node::run(args, global, out),
        Command::Ping(args) => ping::run(args, global, out),
        Command::FindNode(args) => find_node::run(args, global, out),
        Command::GetPeers(args) => get_peers::run(args, global, out),
        Command::Announce(args) => announce::run(args, global, out),
        Command::Keygen(args) => keygen::run(args, out),
        Command::PutImmutable(args) => put_immutable::run(args, global, out),
        Command::PutMutable(args) => put_mutable::run(args, global, out),
        Command::Get(args) => get::run(args, global, out),
        Command::Pkarr(args) => pkarr::run(args, global, out),
        Command::Sample(args) => sample::run(args, global, out),
        Command::Inspect(args) => inspect::run(args, out),
        Command::Testnet(args) => testnet::run(args, global, out),
        Command::Relay(args) => serve::relay(args, global, out),
        Command::Dns(args) => serve::dns(args, global, out),
    }
}

/// Ends a command that ran a lookup: says how it went, and whether anybody answered at all.
/// `None` is success.
fn finish(
    client: &Client<'_>,
    out: &Output,
    outcome: &Outcome,
    found: bool,
    words: &str,
    done: Done,
) -> Option<Status> {
    let summary = Summary::of(outcome);
    let contact = if found { Ok(()) } else { client.contact(outcome) };
    let status = match &contact {
        Ok(()) => {
            out.words(format_args!("{words}: {summary}"));
            if found { None } else { Some(Status::NotFound) }
        }
        Err(failure) => {
            out.failure(failure);
            Some(failure.status)
        }
    };
    out.json(&Line::Done(Done { lookup: Some(summary), ..done }));
    status
}

/// In words, how many nodes stored something and why others did not.
fn stored_words(outcome: &Outcome) -> String {
    counts_words(outcome.stored, &errors(outcome))
}

fn counts_words(stored: u32, refused: &BTreeMap<i64, u32>) -> String {
    let mut words = format!("stored at {}", nodes(stored));
    for (code, count) in refused {
        words = format!("{words}, refused by {count} ({})", code_words(*code));
    }
    words
}

fn nodes(count: u32) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// What an error code means (BEP 5, BEP 44).
fn code_words(code: i64) -> String {
    let meaning = match code {
        0 => return "no error code".to_owned(),
        code::GENERIC => "generic error",
        code::SERVER => "server error",
        code::PROTOCOL => "protocol error",
        code::METHOD_UNKNOWN => "does not know the method",
        code::VALUE_TOO_BIG => "value too big",
        code::BAD_SIGNATURE => "invalid signature",
        code::SALT_TOO_BIG => "salt too big",
        code::CAS_MISMATCH => "cas does not match the stored seq",
        code::SEQ_TOO_OLD => "seq is not newer than the stored one",
        _ => return format!("error {code}"),
    };
    format!("error {code}: {meaning}")
}
