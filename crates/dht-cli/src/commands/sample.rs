//! `dht sample`: BEP 51 `sample_infohashes`, from one node.

use dht_mio::proto::id::NodeId;
use dht_mio::proto::request::{Event, Lookup};

use crate::args::{Global, SampleArgs};
use crate::client::Client;
use crate::commands::Ended;
use crate::failure::{Failure, Status};
use crate::output::{self, Done, Line, Output, Summary};

pub(super) fn run(args: &SampleArgs, global: &Global, out: &Output) -> Ended {
    let target = match args.target {
        Some(target) => target,
        None => random_id()?,
    };
    let client = Client::alone(global, out)?;
    let addr = client.resolve(&args.host)?;
    let lookup = Lookup::Sample { addr, target: target.target() };
    // A node that knows BEP 51 always sends a sample, if need be an empty one.
    let mut sample = None;
    let outcome = client.run("waiting for a sample", lookup, |event| {
        if let Event::Samples { samples, total, interval, nodes, .. } = event {
            sample = Some((samples, total, interval, nodes));
        }
        Ok(())
    })?;
    let summary = Summary::of(&outcome);
    let mut done = Done { ok: Some(sample.is_some()), ..Done::default() };
    match &sample {
        Some((samples, total, interval, nodes)) => {
            for sample in samples {
                let info_hash = sample.to_string();
                out.result(sample, &Line::InfoHash { info_hash });
            }
            out.words(words(samples.len(), *total, interval.map(|time| time.as_secs())));
            if !nodes.is_empty() {
                out.words("nodes to ask next:");
                for node in nodes {
                    output::node(out, node);
                }
            }
            done.samples = Some(samples.len());
            done.total = *total;
            done.interval_s = interval.map(|time| time.as_secs());
        }
        None if outcome.replies + outcome.errors > 0 => {
            out.words(format_args!("{addr} answered, but does not know BEP 51"));
        }
        None => out.words(format_args!("no answer from {addr}: {summary}")),
    }
    out.json(&Line::Done(Done { lookup: Some(summary), ..done }));
    Ok(sample.is_none().then_some(Status::NotFound))
}

fn words(samples: usize, total: Option<u64>, interval: Option<u64>) -> String {
    let mut words = format!("{samples} infohashes");
    if let Some(total) = total {
        words = format!("{words} of {total}");
    }
    if let Some(interval) = interval {
        words = format!("{words}; the next sample makes sense in {interval} s");
    }
    words
}

fn random_id() -> Result<NodeId, Failure> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::input(
            format!("cannot get random bytes from the system: {error}"),
            "give --target ID",
        )
    })?;
    Ok(NodeId::from_bytes(bytes))
}
