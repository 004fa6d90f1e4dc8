//! The command where it works.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use dht_mio::proto::addr::Family;
use dht_testnet::{Cidr, Error, Spec, Stats, Testnet, cidr, namespace};

use crate::args::{Global, TestnetArgs};
use crate::commands::{Ended, signals};
use crate::failure::Failure;
use crate::output::{Done, Line, Millis, Output, Testnet as Ready, TestnetStatus, millis};
use crate::progress::Progress;

/// The port of all nodes, unless --bind names another: not the one that clients take by default.
const PORT: u16 = 26_881;
/// How often `-v` tells how the network is doing.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How many of the nodes of each family to start from people are shown.
const SHOWN: usize = 3;

/// What the main thread waits for.
enum Wake {
    /// A signal asks to stop.
    Stop,
    /// The network is there, or cannot be.
    Built(Result<Testnet, Error>),
}

pub(super) fn run(args: &TestnetArgs, global: &Global, out: &Output) -> Ended {
    let mut spec = spec(args, global)?;
    let started = Instant::now();
    if args.netns {
        // Before any thread: see `namespace::enter`.
        spec.namespace = namespace::enter(&spec.listen())?;
        if spec.namespace.is_none() {
            out.warn(
                "this system has no veth interfaces, so clients have only lo; some have to be told \
                 to use it, see docs/TESTNET.md",
            );
        }
    }
    let (sender, wakes) = mpsc::channel();
    let stop = sender.clone();
    signals::forward(move || stop.send(Wake::Stop).is_ok())?;
    let work = {
        let spec = spec.clone();
        // Whoever waited for it may have been told to stop.
        move || drop(sender.send(Wake::Built(Testnet::start(&spec))))
    };
    thread::Builder::new()
        .name("builder".to_owned())
        .spawn(work)
        .map_err(|error| Failure::from(Error::System(error)))?;
    let progress =
        Progress::start(out.screen(), &format!("building {} nodes, ", spec.nodes), String::new);
    let testnet = match wakes.recv() {
        Ok(Wake::Built(testnet)) => testnet?,
        Ok(Wake::Stop) | Err(_) => return Ok(None),
    };
    drop(progress);
    announce(&testnet, &spec, args, out, started.elapsed());
    out.check()?;
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut next_status = Instant::now() + STATUS_INTERVAL;
    loop {
        let due = end.map_or(next_status, |end| end.min(next_status));
        match wakes.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Wake::Built(_)) | Err(RecvTimeoutError::Timeout) => {}
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        if !testnet.is_running() {
            return Err(Error::Ended.into());
        }
        if Instant::now() >= next_status {
            next_status += STATUS_INTERVAL;
            if out.is_verbose() {
                status(&testnet.stats(), out);
                out.check()?;
            }
        }
    }
    let stats = testnet.stop()?;
    if out.is_verbose() {
        status(&stats, out);
    }
    out.words("stopped");
    out.json(&Line::Done(Done { ok: Some(true), ..Done::default() }));
    Ok(None)
}

/// What the command line asks for.
fn spec(args: &TestnetArgs, global: &Global) -> Result<Spec, Failure> {
    if !global.bootstrap.is_empty() {
        return Err(Failure::input(
            "a simulated network has nobody outside to start from",
            "leave out --bootstrap: it is for the clients of the network",
        ));
    }
    let mut spec = Spec::new(args.nodes);
    spec.port = match global.bind[..] {
        [] => PORT,
        [bind] if bind.ip().is_unspecified() => bind.port(),
        [bind] => {
            return Err(Failure::input(
                format!("--bind {bind} is one address, and the nodes have thousands"),
                format!(
                    "use --bind 0.0.0.0:{} for the port, and --range to choose the addresses of \
                     the nodes",
                    bind.port()
                ),
            ));
        }
        [..] => {
            return Err(Failure::input(
                "all nodes have one port, and there is more than one --bind",
                "give one, for example --bind 0.0.0.0:7000; it is for IPv6 too",
            ));
        }
    };
    spec.networks = args.family.into();
    spec.range = match &args.range {
        Some(text) => text.parse().map_err(|error| {
            Failure::input(format!("--range {text}: {error}"), "see dht testnet --help")
        })?,
        None if args.netns => Cidr::BENCHMARK,
        None => Cidr::LOOPBACK,
    };
    spec.churn = args.churn;
    spec.seed = args.seed;
    spec.set_profile(&args.profile)?;
    spec.check()?;
    Ok(spec)
}

/// Says that the network is there, and how to use it.
fn announce(testnet: &Testnet, spec: &Spec, args: &TestnetArgs, out: &Output, took: Duration) {
    let bootstrap = testnet.bootstrap();
    let (pid, duration_ms) = (std::process::id(), millis(took));
    let listen = spec.listen();
    let addrs = testnet.local_addrs();
    let port = addrs.first().map_or(spec.port, SocketAddr::port);
    out.json(&Line::Testnet(Ready {
        addr: addrs.first().copied(),
        range: listen.speaks(Family::V4).then(|| spec.range.to_string()),
        range_v6: listen.speaks(Family::V6).then(cidr::network_v6),
        port,
        nat_ports: listen.ports,
        nodes: spec.nodes,
        profile: &args.profile,
        churn: spec.churn,
        seed: spec.seed,
        bootstrap,
        pid,
        netns: args.netns,
        duration_ms,
    }));
    out.words(format_args!(
        "listening: {} nodes in {} with port {port}, profile {}, seed {}, built in {}",
        spec.nodes,
        listen.ranges(),
        args.profile,
        spec.seed,
        Millis(duration_ms)
    ));
    if listen.ports > 1 {
        let last = port.saturating_add(listen.ports - 1);
        out.words(format_args!("NATs map to ports {port} to {last}"));
    }
    let (v4, v6): (Vec<_>, Vec<_>) = bootstrap.iter().partition(|addr| addr.is_ipv4());
    for addr in v4.iter().take(SHOWN).chain(v6.iter().take(SHOWN)) {
        out.words(format_args!("start from {addr}"));
    }
    // The networks of IPv4 and IPv6 know nothing of each other.
    let start: Vec<_> = [v4.first(), v6.first()].into_iter().flatten().collect();
    examples(&start, args.netns.then_some(pid), out);
}

/// Commands to copy, which start from these nodes. `pid` is that of a network namespace.
fn examples(start: &[&SocketAddr], pid: Option<u32>, out: &Output) {
    let mut enter = String::new();
    if let Some(pid) = pid {
        out.words(format_args!("clients must run inside: sudo nsenter -t {pid} -n COMMAND"));
        enter = format!("sudo nsenter -t {pid} -n ");
    }
    // Some shells make a pattern of brackets.
    let quoted = |addr: &&SocketAddr| {
        if addr.is_ipv6() { format!("'{addr}'") } else { addr.to_string() }
    };
    let through: Vec<_> = start.iter().map(quoted).collect();
    let through = through.join(" --bootstrap ");
    let hash = "9a0364b9e99bb480dd25e1f0284c8555d2a2ab03";
    out.words("\nTry, in another terminal:");
    for command in [
        format!("announce {hash} --port 6881"),
        format!("get-peers {hash}"),
        "put-immutable 'Hello World!'".to_owned(),
        "get e5f96f6f38320f0f33959cb4d3d656452117aadb".to_owned(),
    ] {
        out.words(format_args!("  {enter}dht {command} --bootstrap {through}"));
    }
    out.words("\nCtrl-C ends the network. The settings that other clients need: docs/TESTNET.md");
}

fn status(stats: &Stats, out: &Output) {
    let (late, max_late) = (millis(stats.lateness), millis(stats.max_lateness));
    out.verbose(format_args!(
        "{} datagrams in, {} out, {} dropped; {} within the network; {} nodes left, {} came; late \
         by {}, at most {}",
        stats.datagrams_in,
        stats.datagrams_out,
        stats.dropped,
        stats.simulated,
        stats.left,
        stats.came,
        Millis(late),
        Millis(max_late)
    ));
    out.json(&Line::TestnetStatus(TestnetStatus {
        datagrams_in: stats.datagrams_in,
        datagrams_out: stats.datagrams_out,
        dropped: stats.dropped,
        simulated: stats.simulated,
        left: stats.left,
        came: stats.came,
        lateness_ms: late,
        max_lateness_ms: max_late,
    }));
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::input(error.to_string(), error.hint())
    }
}
