//! How long it takes to resolve a published key, in a simulated network with the internet's delays, losses
//! and dead contacts, whose datagrams pass through real sockets.
//!
//! `just bench-resolve NODES KEYS CLIENTS`; numbers that are missing are those below.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a panic is a failure that says where"
)]

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("a simulated network on real sockets takes Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use dht_mio::Dht;
    use dht_mio::proto::addr::Family;
    use dht_pkarr::{Keypair, PublicKey, SignedPacket};
    use dht_pkarr_client::mio::Client;
    use dht_pkarr_client::{Origin, PacketCache, Policy, now};
    use dht_testnet::{Spec, Testnet};

    const NODES: usize = 10_000;
    const KEYS: usize = 100;
    const CLIENTS: usize = 5;
    /// Publications, and clients from nothing, at a time.
    const AT_ONCE: usize = 4;
    const PROFILE: &str = "internet";

    /// What was measured, of one kind.
    #[derive(Default)]
    struct Times {
        times: Mutex<Vec<Duration>>,
        failures: AtomicUsize,
    }

    impl Times {
        /// Takes the time until `what` ends, and whether that was as it should be.
        fn take(&self, what: impl FnOnce() -> bool) {
            let began = Instant::now();
            if what() {
                self.times.lock().unwrap().push(began.elapsed());
            } else {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }

        fn print(self, name: &str) {
            let mut times = self.times.into_inner().unwrap();
            times.sort_unstable();
            let at = |percent: usize| {
                let time = times.get((times.len() * percent / 100).min(times.len() - 1));
                time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
            };
            assert!(!times.is_empty(), "{name}: all fail");
            println!(
                "{name:<26} {:>6} {:>10.3} {:>10.3} {:>10.3} {:>9}",
                times.len(),
                at(50),
                at(90),
                at(99),
                self.failures.into_inner()
            );
        }
    }

    /// A node that knows nobody but where to start from, with an address that no other has.
    fn node(testnet: &Testnet) -> Dht {
        static NUMBERS: AtomicU8 = AtomicU8::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        // The network gives the first of its addresses to none of its nodes.
        let builder = Dht::builder().bind(SocketAddr::from(([127, 0, number, 1], 0)));
        let hosts = testnet.bootstrap().iter();
        hosts.fold(builder, |builder, host| builder.bootstrap(host.to_string())).spawn().unwrap()
    }

    /// A client with a cache of its own.
    fn client(dht: Dht) -> Client {
        Client::builder().dht(dht).cache(PacketCache::new(KEYS.max(1_000))).build().unwrap()
    }

    /// A client that has joined: it has looked for itself, and for nothing else.
    fn joined(testnet: &Testnet) -> Client {
        let dht = node(testnet);
        dht.find_node(dht.node_id(Family::V4).unwrap().unwrap()).unwrap();
        client(dht)
    }

    fn keypair(number: usize) -> Keypair {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        Keypair::from_secret(&secret)
    }

    /// Does something with all keys, a few at a time.
    fn for_each<T: Sync>(keys: &[T], what: impl Fn(&T) + Sync) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                        what(key);
                    }
                });
            }
        });
    }

    pub(super) fn main() {
        let args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        let args: Vec<usize> = args.map(|arg| arg.parse().unwrap()).collect();
        let arg = |place: usize, default| args.get(place).copied().unwrap_or(default);
        let (nodes, keys, clients) = (arg(0, NODES), arg(1, KEYS), arg(2, CLIENTS));
        let mut spec = Spec::new(nodes.try_into().unwrap());
        spec.set_profile(PROFILE).unwrap();
        let testnet = Testnet::start(&spec).unwrap();
        println!("{nodes} nodes, profile {PROFILE}; {keys} keys, {clients} clients");
        println!(
            "{:<26} {:>6} {:>10} {:>10} {:>10} {:>9}",
            "ms", "times", "p50", "p90", "p99", "failures"
        );

        let numbers: Vec<usize> = (0..keys).collect();
        let publisher = joined(&testnet);
        let publishing = Times::default();
        let kept = Mutex::new(Vec::new());
        for_each(&numbers, |number| {
            let builder = SignedPacket::builder().txt("@", "v=1", 3_600);
            let packet = builder.sign(&keypair(*number), now()).unwrap();
            publishing.take(|| publisher.publish(&packet).is_ok());
            kept.lock().unwrap().push(packet.public_key());
        });
        publishing.print("published");
        let keys: Vec<PublicKey> = kept.into_inner().unwrap();

        let clients: Vec<Client> = (0..clients).map(|_| joined(&testnet)).collect();
        let (first, cold, cached) = (Times::default(), Times::default(), Times::default());
        let from = |client: &Client, key: &PublicKey, origin: &Origin| {
            client.resolve(key, Policy::CacheFirst).is_ok_and(|found| found.origin == *origin)
        };
        thread::scope(|scope| {
            for (number, client) in clients.iter().enumerate() {
                // Each in an order of its own, and one key after the other.
                let keys = keys.iter().cycle().skip(number * 7).take(keys.len());
                let (cold, cached) = (&cold, &cached);
                scope.spawn(move || {
                    for key in keys {
                        cold.take(|| from(client, key, &Origin::Dht));
                        cached.take(|| from(client, key, &Origin::Cache));
                    }
                });
            }
        });
        cold.print("resolved, cold");
        cached.print("resolved, cached");
        for_each(&keys[..keys.len().min(20)], |key| {
            first.take(|| from(&client(node(&testnet)), key, &Origin::Dht));
        });
        first.print("resolved, from nothing");
        let stats = testnet.stats();
        println!("the network was late by {:?} at most", stats.max_lateness);
    }
}
