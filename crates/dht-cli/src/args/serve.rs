//! `dht relay` and `dht dns`.

use core::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dht_relay::http::ProxyHeader;
use dht_relay::quota::Quota;

use crate::args::NodeOptions;
use crate::parse;

/// `dht relay`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Packets are at http://ADDR:PORT/KEY (GET, HEAD, PUT), a page for people at /, DNS over HTTP at
/dns-query. Once ready, the relay prints a line for every address that it serves. SIGINT and SIGTERM
let what is going on end, save the node's state, and end the relay with status 0. HTTPS is for a
reverse proxy in front of it.

The config file is TOML. Every long flag is a key, and the command line wins:
  http = \"127.0.0.1:6881\"
  behind-proxy = \"x-forwarded-for\"
  work-quota = \"2r/s:10\"

Examples:
  dht relay
  dht relay --http 0.0.0.0:8080 --data-dir ~/.dht --metrics 127.0.0.1:9100
  dht relay --config /etc/dht-relay.toml")]
pub(crate) struct RelayArgs {
    /// Serve HTTP here; repeatable
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr,
          default_value = "127.0.0.1:6881")]
    pub(crate) http: Vec<SocketAddr>,
    /// Answer DNS here too, over UDP and TCP; repeatable
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr)]
    pub(crate) dns: Vec<SocketAddr>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// `dht dns`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Answers for every name whose last label is a key, such as www.KEY, from the packet of that key.
Other names are refused, or forwarded with --forward. With --http, DNS over HTTP is at /dns-query;
browsers want it behind HTTPS, but on this machine.

The config file is TOML. Every long flag is a key, and the command line wins:
  dns = [\"127.0.0.1:53\", \"[::1]:53\"]
  forward = \"192.0.2.53:53\"

Examples:
  dht dns
  dht dns --dns 127.0.0.1:53 --forward 192.0.2.53:53
  dig @127.0.0.1 -p 5300 o4dksfbqk85ogzdb5osziw6befigbuxmuxkuxq8434q89uj56uyy TXT
  dht dns --http 127.0.0.1:8053")]
pub(crate) struct DnsArgs {
    /// Answer DNS here, over UDP and TCP; repeatable
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr,
          default_value = "127.0.0.1:5300")]
    pub(crate) dns: Vec<SocketAddr>,
    /// Answer DNS over HTTP here too; repeatable
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr)]
    pub(crate) http: Vec<SocketAddr>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// What both have.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArgs {
    /// Read further flags from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Ask this DNS server for ordinary names; without, they are refused
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr)]
    pub(crate) forward: Option<SocketAddr>,
    /// Serve Prometheus metrics here, over HTTP
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse::bind_addr)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Tell users apart by this header, which a reverse proxy in front writes
    #[arg(long, value_name = "HEADER")]
    pub(crate) behind_proxy: Option<ProxyArg>,
    /// HTTP requests per user: number, r/s or r/m or r/h or r/d, and how many at once; or off
    #[arg(long, value_name = "QUOTA", default_value = "20r/s:100", value_parser = quota)]
    pub(crate) http_quota: QuotaArg,
    /// DNS queries per user
    #[arg(long, value_name = "QUOTA", default_value = "50r/s:200", value_parser = quota)]
    pub(crate) dns_quota: QuotaArg,
    /// Lookups and publications per user
    #[arg(long, value_name = "QUOTA", default_value = "2r/s:10", value_parser = quota)]
    pub(crate) work_quota: QuotaArg,
    /// Packets in the cache, of about a kilobyte each
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) cache_size: usize,
    /// Packets are fresh for so many seconds at least
    #[arg(long, value_name = "SECS", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) min_ttl: u32,
    /// Packets are fresh for so many seconds at most
    #[arg(long, value_name = "SECS", default_value_t = 86_400)]
    pub(crate) max_ttl: u32,
    /// That there is no such name is remembered for so many seconds
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    pub(crate) negative_ttl: u32,
    /// Connections at a time, HTTP and DNS each
    #[arg(long, value_name = "N", default_value_t = 1_024)]
    pub(crate) max_connections: usize,
    /// Those of them that one user may have
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) max_user_connections: usize,
    #[command(flatten)]
    pub(crate) node: NodeOptions,
}

/// A header in which a proxy says for whom it asks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProxyArg {
    XForwardedFor,
    Forwarded,
}

impl From<ProxyArg> for ProxyHeader {
    fn from(header: ProxyArg) -> Self {
        match header {
            ProxyArg::XForwardedFor => Self::XForwardedFor,
            ProxyArg::Forwarded => Self::Forwarded,
        }
    }
}

/// A quota, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaArg(pub(crate) Option<Quota>);

fn quota(text: &str) -> Result<QuotaArg, String> {
    if text == "off" {
        return Ok(QuotaArg(None));
    }
    match text.parse() {
        Ok(quota) => Ok(QuotaArg(Some(quota))),
        Err(error) => Err(format!("{error}; or off")),
    }
}
