//! Networks on loopback, and clients in them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU8, Ordering};

use dht_mio::proto::addr::Family;
use dht_mio::proto::config::Mode;
use dht_pkarr_client::{PacketCache, mio, smol};

/// Servers of a network; each test has addresses of its own, one in each subnet.
pub(crate) struct Swarm {
    entry: SocketAddrV4,
    /// The second byte of all addresses.
    range: u8,
    /// They serve for as long as they are here.
    #[expect(dead_code, reason = "only held")]
    servers: Servers,
}

#[expect(dead_code, reason = "only held")]
enum Servers {
    Ours(Vec<dht_mio::Dht>),
    Mainline(Vec<mainline::Dht>),
}

const SERVERS: u8 = 12;

impl Swarm {
    fn new(servers: impl FnOnce(u8) -> (SocketAddrV4, Servers)) -> Self {
        static RANGES: AtomicU8 = AtomicU8::new(180);
        let range = RANGES.fetch_add(1, Ordering::Relaxed);
        let (entry, servers) = servers(range);
        Self { entry, range, servers }
    }

    pub(crate) fn ours() -> Self {
        Self::new(|range| {
            let mut servers: Vec<dht_mio::Dht> = Vec::new();
            for number in 1..=SERVERS {
                let bind = SocketAddr::from(([127, range, number, 1], 0));
                let builder = dht_mio::Dht::builder().mode(Mode::Server).bind(bind);
                servers.push(
                    match servers.first() {
                        Some(first) => builder.bootstrap(first.local_addrs()[0].to_string()),
                        None => builder.no_bootstrap(),
                    }
                    .spawn()
                    .unwrap(),
                );
            }
            for server in &servers {
                // Each looks for itself, and so is known; but whoever hears of it asks it first.
                while server.stats().unwrap().node.contacts < u64::from(SERVERS) - 1 {
                    server.find_node(server.node_id(Family::V4).unwrap().unwrap()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(25));
                }
            }
            let SocketAddr::V4(entry) = servers[0].local_addrs()[0] else { unreachable!() };
            (entry, Servers::Ours(servers))
        })
    }

    pub(crate) fn mainline() -> Self {
        Self::new(|range| {
            let mut entry = None;
            let mut servers = Vec::new();
            for number in 1..=SERVERS {
                let ip = Ipv4Addr::new(127, range, number, 1);
                let mut builder = mainline::Dht::builder();
                let bootstrap: Vec<SocketAddrV4> = entry.into_iter().collect();
                builder.bind_address(ip).port(6881).server_mode().bootstrap(&bootstrap);
                let server = builder.build().unwrap();
                entry = entry.or_else(|| Some(SocketAddrV4::new(ip, 6881)));
                servers.push(server);
            }
            for server in &servers {
                assert!(::smol::block_on(server.clone().as_async().bootstrapped()));
            }
            (entry.unwrap(), Servers::Mainline(servers))
        })
    }

    /// An address of its own for somebody.
    fn bind(&self, number: u8) -> SocketAddr {
        SocketAddr::from(([127, self.range, number, 1], 0))
    }

    /// Nobody's cache may answer in place of the DHT.
    pub(crate) fn mio(&self) -> mio::Client {
        let dht = dht_mio::Dht::builder().bind(self.bind(101)).bootstrap(self.entry.to_string());
        let client = mio::Client::builder().dht(dht.spawn().unwrap()).cache(PacketCache::new(0));
        client.build().unwrap()
    }

    pub(crate) fn smol(&self) -> smol::Client {
        self.smol_with(102, PacketCache::new(0))
    }

    /// What a relay stands on.
    pub(crate) fn backend(&self) -> smol::Client {
        self.smol_with(104, PacketCache::default())
    }

    fn smol_with(&self, number: u8, cache: PacketCache) -> smol::Client {
        let bind = self.bind(number);
        let dht = dht_smol::Dht::builder().bind(bind).bootstrap(self.entry.to_string());
        smol::Client::builder().dht(dht.spawn().unwrap()).cache(cache).build().unwrap()
    }

    pub(crate) fn theirs(&self) -> pkarr::Client {
        let mut builder = pkarr::Client::builder();
        builder.no_default_network().cache_size(0).dht(|config| {
            config.bootstrap = Some(vec![self.entry]);
            config.bind_address = Some(Ipv4Addr::new(127, self.range, 103, 1));
            config
        });
        builder.dht_report_policy(pkarr::dht::ReportPolicy::testnet());
        builder.build().unwrap()
    }
}
