//! `dht ping`: BEP 5 `ping`, to one address.

use dht_mio::proto::request::Lookup;

use crate::args::{Global, PingArgs};
use crate::client::Client;
use crate::commands::Ended;
use crate::failure::Status;
use crate::output::{self, Done, Line, Millis, Output, Summary, millis};

pub(super) fn run(args: &PingArgs, global: &Global, out: &Output) -> Ended {
    let client = Client::alone(global, out)?;
    let addr = client.resolve(&args.host)?;
    let outcome = client.run("waiting for an answer", Lookup::Ping { addr }, |_| Ok(()))?;
    for node in &outcome.closest {
        output::node(out, node);
    }
    let answered = !outcome.closest.is_empty();
    let time = Millis(millis(outcome.duration));
    if answered {
        out.words(format_args!("answered after {time}"));
    } else if outcome.errors > 0 {
        out.words(format_args!("{addr} answered with an error after {time}"));
    } else {
        out.words(format_args!("no answer from {addr} after {time}"));
    }
    let lookup = Some(Summary::of(&outcome));
    out.json(&Line::Done(Done { ok: Some(answered), lookup, ..Done::default() }));
    Ok((!answered).then_some(Status::NotFound))
}
