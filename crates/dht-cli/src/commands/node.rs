//! `dht node`: the daemon.

pub(super) mod port;

use core::mem::{Discriminant, discriminant};
use core::time::Duration;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::Config;
use dht_mio::proto::health::{FamilyHealth, Problem};
use dht_mio::{Dht, ErrorKind, Notice};
use dht_net::{Builder, Runtime};

use crate::args::{Global, NodeArgs, NodeOptions};
use crate::commands::{Ended, signals};
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
    let stop = sender.clone();
    signals::forward(move || stop.send(Wake::Stop).is_ok())?;
    let metrics = args.metrics.map(MetricsServer::bind).transpose()?;
    let wanted = port::wanted(&args.node, global);
    // A notice that finds the queue full is lost: the callback must not block.
    let on_notice = move |notice| drop(sender.try_send(Wake::Notice(notice)));
    let dht: Dht = builder::<dht_mio::Mio>(&args.node, global, wanted, |_| {})?
        .on_notice(on_notice)
        .spawn()?;
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
        port::settle(&args.node, wanted, addr.port(), out);
    }
    out.check()?;
    let mut watch = Watch::new(global, out);
    let mut due = Instant::now() + CHECK_INTERVAL;
    loop {
        match wakes.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Wake::Stop) => break,
            Ok(Wake::Notice(notice)) => tell_notice(out, &notice),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                due = Instant::now() + CHECK_INTERVAL;
                watch.check(&dht)?;
            }
        }
    }
    if args.node.data_dir.is_some() {
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

/// A node as the flags have it, for either runtime.
pub(super) fn builder<R: Runtime>(
    args: &NodeOptions,
    global: &Global,
    port: Option<u16>,
    change: impl FnOnce(&mut Config),
) -> Result<Builder<R>, Failure> {
    let mut config = Config::default();
    args.limits.apply(&mut config);
    change(&mut config);
    let mut builder = Builder::new().config(config).mode(args.mode.into()).port(port.unwrap_or(0));
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

/// Says what the node has to say.
pub(super) fn tell_notice(out: &Output, notice: &Notice) {
    let message = notice.to_string();
    match notice {
        Notice::StateDamaged { .. } | Notice::StateNotSaved { .. } | Notice::NotResolved { .. } => {
            out.warn(format_args!("warning: {message}"));
        }
        Notice::NoIpv6 { .. }
        | Notice::ExternalAddress(_)
        | Notice::Serving { .. }
        | Notice::Resolved { .. }
        | _ => out.verbose(&message),
    }
    out.json(&Line::Notice { message });
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
