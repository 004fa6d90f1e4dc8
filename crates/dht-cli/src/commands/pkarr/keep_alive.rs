//! `dht pkarr keep-alive`: publishes packets again and again.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use dht_mio::proto::config::Config;
use dht_pkarr::{PublicKey, SignedPacket};
use dht_pkarr_client::mio::KeepAlive;
use dht_pkarr_client::{KeepAliveError, KeepAliveOptions, Kept, Policy, ResolveError, Resolved};

use super::{Session, inspect};
use crate::args::Global;
use crate::args::pkarr::KeepAliveArgs;
use crate::client::Client;
use crate::commands::{Ended, counts_words, nodes, signals};
use crate::failure::{Failure, Status};
use crate::output::{Done, Line, Output, pkarr};
use crate::progress::Progress;
use crate::{parse, value};

/// How all are doing is said this often, and when all have been published.
const SUMMARY_EVERY: Duration = Duration::from_secs(300);
/// And counted this often until then, and afterwards.
const COUNT_AT_FIRST: Duration = Duration::from_secs(1);
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// A file of all keys that can be kept alive is shorter than this, in bytes.
const MAX_KEYS: u64 = 16 << 20;
/// Keys that are looked up at a time before it begins.
const LOOKUPS: usize = 16;

pub(super) fn run(args: &KeepAliveArgs, global: &Global, out: &Output) -> Ended {
    let packets = files(&args.packet)?
        .iter()
        .map(|path| inspect::file(path))
        .collect::<Result<Vec<_>, _>>()?;
    let keys = keys(args)?;
    let session = session(args, global, out)?;
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
        .map_err(not_started)?;
    gather(&keys, &session, &handle, packets, out)?;
    let begin = summary(&handle);
    if begin.keys == 0 {
        return Err(Failure::input(
            "there is nothing to keep alive",
            "give keys, or packets that --save wrote; or the --state file of an earlier run",
        ));
    }
    let stop = handle.clone();
    signals::forward(move || {
        stop.stop();
        true
    })?;
    // Whoever is told that they are kept may forget them.
    handle.save()?;
    out.result(format_args!("keeping packets alive; {begin}"), &Line::Keeping(begin));
    if args.state.is_none() {
        out.words("without --state, a restart has to be told all of them again");
    }
    let runner = thread::Builder::new()
        .name("keep-alive".to_owned())
        .spawn(move || runner.run())
        .map_err(|error| {
        Failure::input(format!("cannot start a thread: {error}"), "see the system's limits")
    })?;
    listen(&heard, &handle, args.copies, out);
    // A panic of the runner has been reported by the panic hook.
    let ok = runner.join().is_ok();
    session.save_cache();
    let end = summary(&handle);
    match &args.state {
        Some(state) => out.words(format_args!("stopping; {end} are in {}", state.display())),
        None => out.words(format_args!("stopping; {end}")),
    }
    out.json(&Line::Keeping(end));
    out.json(&Line::Done(Done { ok: Some(ok), total: Some(end.keys), ..Done::default() }));
    Ok((!ok).then_some(Status::BadInput))
}

/// With a node that looks for as many others as are to have each packet.
fn session<'a>(
    args: &KeepAliveArgs,
    global: &Global,
    out: &'a Output,
) -> Result<Session<'a>, Failure> {
    let copies = Config::default().k.max(args.copies as usize);
    let node = (!args.through.no_dht).then(|| Client::start_storing(global, copies, out));
    let node = node.transpose()?;
    if let Some(client) = node.as_ref().filter(|_| copies > Config::default().k) {
        client.look_around();
    }
    Session::with(node, &args.through, global, out)
}

/// Says what happens, and how all are doing, until the runner ends.
fn listen(heard: &mpsc::Receiver<Kept>, handle: &KeepAlive, copies: u32, out: &Output) {
    let shown = Arc::new(Mutex::new(summary(handle)));
    let seen = Arc::clone(&shown);
    let _progress = Progress::start(out.screen(), "keeping packets alive", move || {
        seen.lock().map_or_else(|_| String::new(), |counts| counts.to_string())
    });
    let (mut told, mut counted) = (Instant::now(), Instant::now());
    let mut all_tried = false;
    loop {
        let pause = if all_tried { COUNT_EVERY } else { COUNT_AT_FIRST };
        match heard.recv_timeout(pause.saturating_sub(counted.elapsed())) {
            Ok(kept) => tell(out, &kept, copies),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if out.check().is_err() {
            handle.stop();
        }
        if counted.elapsed() < pause {
            continue;
        }
        counted = Instant::now();
        let counts = summary(handle);
        if let Ok(mut shown) = shown.lock() {
            *shown = counts;
        }
        if (!all_tried && counts.waiting == 0) || told.elapsed() >= SUMMARY_EVERY {
            told = counted;
            out.result(counts, &Line::Keeping(counts));
        }
        all_tried |= counts.waiting == 0;
    }
}

/// How all are doing.
fn summary(handle: &KeepAlive) -> pkarr::Keeping {
    let mut counts = pkarr::Keeping::default();
    for (_, status) in handle.statuses() {
        counts.keys += 1;
        *match (status.failures, status.published) {
            (0, Some(_)) => &mut counts.published,
            (0, None) => &mut counts.waiting,
            _ => &mut counts.failing,
        } += 1;
    }
    counts
}

/// The keys to look up.
fn keys(args: &KeepAliveArgs) -> Result<Vec<PublicKey>, Failure> {
    let mut keys: BTreeSet<_> = args.keys.iter().map(|name| name.key).collect();
    if let Some(path) = &args.keys_from {
        let wrong = |why: String| {
            Failure::input(
                format!("{}: {why}", path.display()),
                "give a text file with a key on each line, or - for standard input",
            )
        };
        let text = value::read_text(path, MAX_KEYS).map_err(wrong)?;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            let name = parse::pkarr_name(line);
            keys.insert(name.map_err(|why| wrong(format!("line {number}: {why}")))?.key);
        }
    }
    Ok(keys.into_iter().collect())
}

/// The files of these paths: those in a directory, in order, and not those below.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
        });
        let mut entries = entries.map_err(|error| {
            let what = format!("cannot read the directory {}: {error}", path.display());
            Failure::input(what, "give a directory of files that --save wrote")
        })?;
        entries.retain(|entry| entry.is_file());
        entries.sort();
        files.append(&mut entries);
    }
    Ok(files)
}

/// Looks the keys up, and hands all packets over. What is not found is left out, unless it is all.
fn gather(
    keys: &[PublicKey],
    session: &Session<'_>,
    handle: &KeepAlive,
    mut packets: Vec<SignedPacket>,
    out: &Output,
) -> Result<(), Failure> {
    let mut missing = None;
    for (key, found) in look_up(keys, session) {
        match found {
            Ok(found) => packets.push(found.packet.packet),
            // A packet that was kept alive before may be the last copy there is.
            Err(error) if handle.status(&key).is_some() => out.verbose(error),
            Err(error) => {
                let failure = session.not_resolved(&key, &error);
                out.warn(format_args!("warning: {key} is left out: {}", failure.message));
                let why = failure.message.clone();
                out.json(&Line::Kept(line_of("left_out", &key, Some(why))));
                missing = Some(failure);
            }
        }
    }
    if packets.is_empty()
        && handle.statuses().is_empty()
        && let Some(failure) = missing
    {
        return Err(failure);
    }
    for packet in packets {
        handle.insert(packet).map_err(|error| {
            Failure::input(error.to_string(), "keep the rest alive by another process")
        })?;
    }
    Ok(())
}

/// Looks for the newest packets of keys, a few at a time.
fn look_up(
    keys: &[PublicKey],
    session: &Session<'_>,
) -> Vec<(PublicKey, Result<Resolved, ResolveError>)> {
    if keys.is_empty() {
        return Vec::new();
    }
    session.run("looking for the records", |client| {
        let next = AtomicUsize::new(0);
        let (found, results) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..LOOKUPS.min(keys.len()) {
                let (next, found) = (&next, found.clone());
                scope.spawn(move || {
                    while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = client.resolve(key, Policy::NetworkOnly);
                        drop(found.send((*key, result)));
                    }
                });
            }
        });
        drop(found);
        results.iter().collect()
    })
}

fn not_started(error: KeepAliveError) -> Failure {
    let hint = match error {
        KeepAliveError::File(error) => return error.into(),
        KeepAliveError::TooManyKeys(_) => "keep the rest alive by another process",
        KeepAliveError::Random(_) | _ => "try again",
    };
    Failure::input(error.to_string(), hint)
}

fn line_of(what: &'static str, key: &PublicKey, error: Option<String>) -> pkarr::Kept {
    pkarr::Kept { what, key: Some(key.to_string()), error, ..pkarr::Kept::default() }
}

/// Says what became of a packet: to programs always, to people if it is no matter of course.
fn tell(out: &Output, kept: &Kept, copies: u32) {
    let (words, line, expected) = match kept {
        Kept::Published(published) => {
            let key = published.public_key;
            let counts = counts_words(published.stored, &published.refused);
            let line = line_of("published", &key, None);
            let line = pkarr::Kept { stored: Some(published.copies()), ..line };
            (format!("{key} {counts}"), line, published.copies() >= copies)
        }
        Kept::Verified { key, holders } => {
            let line = pkarr::Kept { stored: Some(*holders), ..line_of("verified", key, None) };
            (format!("{key} is at {}", nodes(*holders)), line, *holders >= copies)
        }
        Kept::Newer(packet) => {
            let key = packet.public_key();
            let timestamp = Some(packet.timestamp().as_micros());
            let line = pkarr::Kept { timestamp, ..line_of("newer", &key, None) };
            (
                format!("{key} has a newer packet, made elsewhere: that is kept alive now"),
                line,
                false,
            )
        }
        Kept::GivenUp { key, why } => {
            let line = line_of("given_up", key, Some(why.clone()));
            (format!("{key} is given up: {why}"), line, false)
        }
        Kept::Failed { key, why } => {
            let line = line_of("failed", key, Some(why.clone()));
            (format!("{key}: {why}; trying again"), line, false)
        }
        Kept::NotSaved(why) => {
            let line =
                pkarr::Kept { what: "not_saved", error: Some(why.clone()), ..Default::default() };
            (format!("not saved: {why}; trying again, see that there is room"), line, false)
        }
        _ => return,
    };
    if expected && !out.is_verbose() {
        out.json(&Line::Kept(line));
    } else {
        out.result(words, &Line::Kept(line));
    }
}
