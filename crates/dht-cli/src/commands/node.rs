//! `dht node`: the daemon.

mod port;

use core::mem::{Discriminant, discriminant};
use core::time::Duration;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Instant;

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::Config;
use dht_mio::proto::health::{FamilyHealth, Problem};
use dht_mio::{Builder, Dht, ErrorKind, Notice};

use crate::args::{Global, NodeArgs};
use crate::commands::Ended;
use crate::failure::Failure;
use crate::metrics::MetricsServer;
use crate::output::{Done, Line, Output, Status};

/// Name of the state file in the data directory.
const STATE_FILE: &str = "dht.state";
/// How often the node's health is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Notices waiting to be printed, at most; more are lost.
const MAX_WAITING: usize = 256;
/// Saving the state may take this long.
const SAVE_PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn run(args: &NodeArgs, global: &Global, out: &Output) -> Ended {
    let (sender, wakes) = mpsc::sync_channel(MAX_WAITING);
    signals::forward(sender.clone())?;
    let metrics = args.metrics.map(MetricsServer::bind).transpose()?;
    let wanted = port::wanted(args, global);
    let dht = builder(args, global, wanted, sender)?.spawn()?;
    if let Some(server) = metrics {
        if let Some(addr) = server.addr() {
            out.words(format_args!("metrics at http://{addr}/metrics"));
        }
        server.start(dht.clone())?;
    }
    for addr in dht.local_addrs() {
        let id = dht.node_id(Family::of(addr))?.map_or_else(String::new, |id| id.to_string());
        out.result(
            format_args!("listening on {addr} with id {id}"),
            &Line::Listening { addr: *addr, id: id.clone() },
        );
    }
    if let (Some(wanted), Some(addr)) = (wanted, dht.local_addrs().first()) {
        port::settle(args, wanted, addr.port(), out);
    }
    out.check()?;
    let mut watch = Watch::new(global, out);
    let mut due = Instant::now() + CHECK_INTERVAL;
    loop {
        match wakes.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Wake::Stop) => break,
            Ok(Wake::Notice(notice)) => watch.notice(&notice),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                due = Instant::now() + CHECK_INTERVAL;
                watch.check(&dht)?;
            }
        }
    }
    if args.data_dir.is_some() {
        out.words("stopping, saving the state");
    } else {
        out.words("stopping");
    }
    dht.with_timeout(SAVE_PATIENCE).shutdown()?;
    out.json(&Line::Done(Done { ok: Some(true), ..Done::default() }));
    Ok(None)
}

/// What the main thread waits for.
enum Wake {
    /// A signal asks to stop.
    Stop,
    /// The node has something to say.
    Notice(Notice),
}

fn builder(
    args: &NodeArgs,
    global: &Global,
    port: Option<u16>,
    sender: SyncSender<Wake>,
) -> Result<Builder, Failure> {
    let mut config = Config::default();
    args.limits.apply(&mut config);
    let mut builder = Dht::builder()
        .config(config)
        .mode(args.mode.into())
        .port(port.unwrap_or(0))
        // A notice that finds the queue full is lost: the callback must not block.
        .on_notice(move |notice| drop(sender.try_send(Wake::Notice(notice))));
    for addr in &global.bind {
        builder = builder.bind(*addr);
    }
    for ip in &args.public_ip {
        builder = builder.public_ip(*ip);
    }
    for host in &global.bootstrap {
        builder = builder.bootstrap(host);
    }
    if global.no_bootstrap {
        builder = builder.no_bootstrap();
    }
    if let Some(dir) = &args.data_dir {
        create_dir(dir)?;
        builder = builder.state_file(dir.join(STATE_FILE)).save_interval(args.save_interval);
    }
    Ok(builder)
}

fn create_dir(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| {
        Failure::input(
            format!("cannot create the data directory {}: {error}", dir.display()),
            "give --data-dir a directory that you may write to",
        )
    })
}

/// Tells how the node is doing.
struct Watch<'a> {
    out: &'a Output,
    /// A network of one's own has nobody to ask at first.
    may_be_alone: bool,
    last: [Option<Discriminant<Problem>>; 2],
}

impl<'a> Watch<'a> {
    const fn new(global: &Global, out: &'a Output) -> Self {
        Self { out, may_be_alone: global.no_bootstrap, last: [None; 2] }
    }

    fn notice(&self, notice: &Notice) {
        let message = notice.to_string();
        match notice {
            Notice::StateDamaged { .. }
            | Notice::StateNotSaved { .. }
            | Notice::NotResolved { .. } => self.out.warn(format_args!("warning: {message}")),
            Notice::NoIpv6 { .. }
            | Notice::ExternalAddress(_)
            | Notice::Serving { .. }
            | Notice::Resolved { .. }
            | _ => self.out.verbose(&message),
        }
        self.out.json(&Line::Notice { message });
    }

    fn check(&mut self, dht: &Dht) -> Result<(), Failure> {
        let health = match dht.health() {
            // A busy loop answers next time.
            Err(error) if error.kind() != ErrorKind::Stopped => return Ok(()),
            health => health?,
        };
        let families = [&health.node.v4, &health.node.v6];
        for (family, last) in families.into_iter().zip(&mut self.last) {
            let problem = family.as_ref().and_then(|family| family.problem);
            let now = problem.as_ref().map(discriminant);
            if now != *last {
                *last = now;
                if let (Some(family), Some(problem)) = (family, problem) {
                    tell(self.out, family, problem, self.may_be_alone);
                }
            }
        }
        if self.out.is_verbose() {
            self.status(dht, health.problems)?;
        }
        Ok(())
    }

    fn status(&self, dht: &Dht, problems: Vec<String>) -> Result<(), Failure> {
        let node = dht.stats()?.node;
        self.out.verbose(format_args!(
            "{} contacts, {} peers of {} torrents, {} items; {} datagrams in, {} replies out",
            node.contacts,
            node.peers,
            node.torrents,
            node.items,
            node.datagrams_in,
            node.replies_out
        ));
        self.out.json(&Line::Status(Status {
            contacts: node.contacts,
            torrents: node.torrents,
            peers: node.peers,
            items: node.items,
            datagrams_in: node.datagrams_in,
            replies_out: node.replies_out,
            problems,
        }));
        self.out.check()
    }
}

fn tell(out: &Output, family: &FamilyHealth, problem: Problem, may_be_alone: bool) {
    if may_be_alone && problem == Problem::NobodyToAsk {
        return;
    }
    let message = format!("{}: {problem}", family.family);
    out.warn(format_args!("warning: {message}"));
    out.json(&Line::Notice { message });
}

#[cfg(unix)]
mod signals {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use std::sync::mpsc::SyncSender;
    use std::thread;

    use super::Wake;
    use crate::failure::Failure;

    /// Turns the signals that end a daemon into a [`Wake::Stop`]; a second one ends it at once.
    pub(super) fn forward(sender: SyncSender<Wake>) -> Result<(), Failure> {
        let cannot = |error: std::io::Error| {
            Failure::input(format!("cannot watch for signals: {error}"), "see the system's limits")
        };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
        let watch = move || {
            let mut signals = signals.forever();
            if signals.next().is_some() && sender.send(Wake::Stop).is_ok() {
                // Whoever asks twice does not want to wait for the last save.
                for signal in signals {
                    drop(signal_hook::low_level::emulate_default_handler(signal));
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(cannot)?;
        Ok(())
    }
}

#[cfg(not(unix))]
mod signals {
    use std::sync::mpsc::SyncSender;

    use super::Wake;
    use crate::failure::Failure;

    /// Without Unix signals the system ends the program itself; the last save is a minute old.
    pub(super) fn forward(_sender: SyncSender<Wake>) -> Result<(), Failure> {
        Ok(())
    }
}
