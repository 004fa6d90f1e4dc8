//! `dht relay` and `dht dns`: a node, a cache, and who may ask them.

use core::net::SocketAddr;
use core::time::Duration;

use async_channel as channel;
use async_io::block_on;
use dht_mio::proto::addr::Family;
use dht_net::Notice;
use dht_pkarr_client::PacketCache;
use dht_pkarr_client::pkarr::resolve::Policy;
use dht_pkarr_client::pkarr::{CachedPacket, PublicKey, SignedPacket, Timestamp, TtlRange};
use dht_pkarr_client::smol::Client;
use dht_relay::server::{Listen, Server};
use dht_relay::{Backend, Found, Options, PublishError, ResolveError};
use dht_smol::{Dht, Smol};

use crate::args::{DnsArgs, Global, RelayArgs, ServeArgs};
use crate::client::GRACE;
use crate::commands::node::{builder, port, tell_notice};
use crate::commands::{Ended, signals};
use crate::failure::Failure;
use crate::metrics;
use crate::output::{Done, Line, Output};

/// Notices waiting to be printed, at most; more are lost.
const MAX_WAITING: usize = 256;

pub(super) fn relay(args: &RelayArgs, global: &Global, out: &Output) -> Ended {
    let mut listen = Listen::default();
    listen.http.clone_from(&args.http);
    listen.dns.clone_from(&args.dns);
    run(&args.serve, listen, true, global, out)
}

pub(super) fn dns(args: &DnsArgs, global: &Global, out: &Output) -> Ended {
    let mut listen = Listen::default();
    listen.http.clone_from(&args.http);
    listen.dns.clone_from(&args.dns);
    run(&args.serve, listen, false, global, out)
}

fn run(args: &ServeArgs, mut listen: Listen, relay: bool, global: &Global, out: &Output) -> Ended {
    let (sender, wakes) = channel::bounded(MAX_WAITING);
    let stop = sender.clone();
    // Notices may fill the queue, so it is its end that says to stop.
    signals::forward(move || stop.close())?;
    listen.metrics = args.metrics;
    listen.upstream = args.forward;
    listen.max_connections = args.max_connections;
    listen.max_user_connections = args.max_user_connections;
    let timeout = global.timeout + GRACE;
    // Whoever publishes is told how that went.
    listen.stop_patience = timeout + GRACE;
    let ttl = ttl(args)?;
    let wanted = port::wanted(&args.node, global);
    let dht: Dht = builder::<Smol>(&args.node, global, wanted, |config| {
        config.lookup_timeout = global.timeout;
    })?
    .on_notice(move |notice| drop(sender.try_send(notice)))
    .spawn()?;
    let node = Node { client: client(args, &dht, ttl, timeout)?, dht: dht.clone() };
    let server = Server::bind(&listen, options(args, ttl, relay), node).map_err(|error| {
        Failure::input(error.to_string(), "give addresses of this machine with free ports")
    })?;
    tell(&dht, &server, out)?;
    if let (Some(wanted), Some(addr)) = (wanted, dht.local_addrs().first()) {
        port::settle(&args.node, wanted, addr.port(), out);
    }
    out.check()?;
    block_on(server.run(until_stopped(&wakes, out)));
    out.words("stopping");
    block_on(dht.shutdown())?;
    out.json(&Line::Done(Done { ok: Some(true), ..Done::default() }));
    Ok(None)
}

/// For how long packets are fresh.
fn ttl(args: &ServeArgs) -> Result<TtlRange, Failure> {
    let (min, max) = (args.min_ttl, args.max_ttl);
    if min > max {
        return Err(Failure::input(
            format!("--min-ttl is {min}, more than --max-ttl, which is {max}"),
            "give a --max-ttl that is no shorter than --min-ttl",
        ));
    }
    Ok(TtlRange::new(min, max))
}

fn client(
    args: &ServeArgs,
    dht: &Dht,
    ttl: TtlRange,
    timeout: Duration,
) -> Result<Client, Failure> {
    let client = Client::builder()
        .dht(dht.clone())
        .cache(PacketCache::new(args.cache_size))
        .ttl(ttl)
        .timeout(timeout)
        .build();
    client.map_err(|error| Failure::input(error.to_string(), "see --help"))
}

fn options(args: &ServeArgs, ttl: TtlRange, relay: bool) -> Options {
    let mut options = Options::default();
    options.relay = relay;
    options.forward = args.forward.is_some();
    options.behind_proxy = args.behind_proxy.map(Into::into);
    options.ttl = ttl;
    options.negative_ttl = args.negative_ttl;
    options.http_quota = args.http_quota.0;
    options.dns_quota = args.dns_quota.0;
    options.work_quota = args.work_quota.0;
    options
}

/// Says where everything is.
fn tell(dht: &Dht, server: &Server<Node>, out: &Output) -> Result<(), Failure> {
    for addr in dht.local_addrs() {
        let id =
            block_on(dht.node_id(Family::of(addr)))?.map_or_else(String::new, |id| id.to_string());
        out.result(
            format_args!("listening on {addr} with id {id}"),
            &Line::Listening { addr: *addr, id: id.clone() },
        );
    }
    let serving = |protocol, addr: SocketAddr, words: String| {
        out.result(words, &Line::Serving { protocol, addr });
    };
    for addr in server.http_addrs() {
        serving("http", addr, format!("serving http://{addr}/"));
    }
    for addr in server.dns_addrs() {
        serving("dns", addr, format!("answering DNS on {addr}"));
    }
    if let Some(addr) = server.metrics_addr() {
        serving("metrics", addr, format!("metrics at http://{addr}/metrics"));
    }
    Ok(())
}

/// Prints what the node has to say until a signal comes.
async fn until_stopped(wakes: &channel::Receiver<Notice>, out: &Output) {
    while let Ok(notice) = wakes.recv().await {
        tell_notice(out, &notice);
    }
}

/// The client, with the counters of its node.
#[derive(Debug)]
struct Node {
    client: Client,
    dht: Dht,
}

impl Backend for Node {
    fn cached(&self, key: &PublicKey) -> Option<CachedPacket> {
        self.client.cached(key)
    }

    async fn resolve(&self, key: PublicKey, policy: Policy) -> Result<Found, ResolveError> {
        Backend::resolve(&self.client, key, policy).await
    }

    async fn publish(
        &self,
        packet: SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<u32, PublishError> {
        Backend::publish(&self.client, packet, cas).await
    }

    async fn metrics(&self) -> String {
        match (self.dht.stats().await, self.dht.health().await) {
            (Ok(stats), Ok(health)) => metrics::text(&stats, &health),
            // It stops.
            (Err(_), _) | (_, Err(_)) => String::new(),
        }
    }
}
