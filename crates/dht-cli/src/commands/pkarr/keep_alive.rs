//! `dht pkarr keep-alive`: publishes packets again and again.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use dht_pkarr::SignedPacket;
use dht_pkarr_client::mio::KeepAlive;
use dht_pkarr_client::{KeepAliveError, KeepAliveOptions, Kept, Policy};

use super::{Session, inspect};
use crate::args::Global;
use crate::args::pkarr::KeepAliveArgs;
use crate::commands::{Ended, counts_words, nodes, signals};
use crate::failure::{Failure, Status};
use crate::output::{Done, Line, Output, pkarr};

pub(super) fn run(args: &KeepAliveArgs, global: &Global, out: &Output) -> Ended {
    let mut packets = Vec::new();
    for path in &args.packet {
        packets.push(from_file(path)?);
    }
    let session = Session::start(&args.through, global, out)?;
    let mut options = KeepAliveOptions::default();
    options.config.interval = args.interval;
    options.config.verify_after = args.interval / 3;
    options.config.copies = args.copies;
    options.file.clone_from(&args.state);
    let (told, heard) = mpsc::channel();
    // Nobody listens any more once the command has ended.
    let (handle, runner) = session
        .client
        .keep_alive(options, move |kept| drop(told.send(kept)))
        .map_err(|error| not_started(&error))?;
    gather(args, &session, &handle, packets, out)?;
    let keys = handle.statuses().len();
    if keys == 0 {
        return Err(Failure::input(
            "there is nothing to keep alive",
            "give keys, or packets that --save wrote; or the --state file of an earlier run",
        ));
    }
    out.words(format_args!("keeping {keys} {} alive", if keys == 1 { "key" } else { "keys" }));
    out.json(&Line::Status(crate::output::Status { items: keys as u64, ..Default::default() }));
    let stop = handle.clone();
    signals::forward(move || {
        stop.stop();
        true
    })?;
    let runner = thread::Builder::new()
        .name("keep-alive".to_owned())
        .spawn(move || runner.run())
        .map_err(|error| {
        Failure::input(format!("cannot start a thread: {error}"), "see the system's limits")
    })?;
    for kept in heard {
        tell(out, &kept);
        if out.check().is_err() {
            handle.stop();
        }
    }
    // A panic of the runner has been reported by the panic hook.
    let ok = runner.join().is_ok();
    let keys = handle.statuses().len();
    out.words(format_args!("{keys} kept alive to the end"));
    out.json(&Line::Done(Done { ok: Some(ok), total: Some(keys as u64), ..Done::default() }));
    Ok((!ok).then_some(Status::BadInput))
}

/// Looks the keys up, and hands all packets over.
fn gather(
    args: &KeepAliveArgs,
    session: &Session<'_>,
    handle: &KeepAlive,
    mut packets: Vec<SignedPacket>,
    out: &Output,
) -> Result<(), Failure> {
    for key in &args.keys {
        let found = session
            .run("looking for the records", |client| client.resolve(&key.key, Policy::NetworkOnly));
        match found {
            Ok(found) => packets.push(found.packet.packet),
            // A packet that was kept alive before may be the last copy there is.
            Err(error) if handle.status(&key.key).is_some() => out.verbose(error),
            Err(error) => return Err(session.not_resolved(&error)),
        }
    }
    for packet in packets {
        handle.insert(packet).map_err(|error| {
            Failure::input(error.to_string(), "keep the rest alive by another process")
        })?;
    }
    Ok(())
}

fn from_file(path: &Path) -> Result<SignedPacket, Failure> {
    let text = path.to_str().filter(|text| *text != "-").ok_or_else(|| {
        Failure::input(format!("{} is no file name", path.display()), "give a file")
    })?;
    inspect::file(text).map_err(|failure| Failure {
        message: format!("{}: {}", path.display(), failure.message),
        ..failure
    })
}

fn not_started(error: &KeepAliveError) -> Failure {
    let hint = match error {
        KeepAliveError::File { .. } => "give another --state file, or none",
        KeepAliveError::TooManyKeys(_) => "keep the rest alive by another process",
        KeepAliveError::Random(_) | _ => "try again",
    };
    Failure::input(error.to_string(), hint)
}

/// Says what became of a packet.
fn tell(out: &Output, kept: &Kept) {
    let line = |what, key: Option<String>| pkarr::Kept { what, key, ..pkarr::Kept::default() };
    let (words, line) = match kept {
        Kept::Published(published) => {
            let key = published.public_key.to_string();
            let counts = counts_words(published.stored, &published.refused);
            let line = line("published", Some(key.clone()));
            (format!("{key} {counts}"), pkarr::Kept { stored: Some(published.copies()), ..line })
        }
        Kept::Verified { key, holders } => {
            let line = line("verified", Some(key.to_string()));
            let words = format!("{key} is at {}", nodes(*holders));
            (words, pkarr::Kept { stored: Some(*holders), ..line })
        }
        Kept::Newer(packet) => {
            let key = packet.public_key().to_string();
            let line = line("newer", Some(key.clone()));
            let timestamp = Some(packet.timestamp().as_micros());
            (format!("{key} has a newer packet, made elsewhere"), pkarr::Kept { timestamp, ..line })
        }
        Kept::GivenUp { key, why } => (
            format!("{key} is given up: {why}"),
            pkarr::Kept { error: Some(why.clone()), ..line("given_up", Some(key.to_string())) },
        ),
        Kept::Failed { key, why } => (
            format!("{key}: {why}; trying again"),
            pkarr::Kept { error: Some(why.clone()), ..line("failed", Some(key.to_string())) },
        ),
        Kept::NotSaved(why) => {
            let line = line("not_saved", None);
            (format!("not saved: {why}"), pkarr::Kept { error: Some(why.clone()), ..line })
        }
        _ => return,
    };
    out.result(words, &Line::Kept(line));
}
