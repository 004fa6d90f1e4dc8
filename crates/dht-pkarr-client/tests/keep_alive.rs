//! Packets are kept alive by both clients, over a network of our own nodes on loopback.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

mod support;

use core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use dht_mio::proto::config::Mode;
use dht_mio::proto::ed25519_dalek::SigningKey;
use dht_pkarr_client::pkarr::keep_alive::Status;
use dht_pkarr_client::pkarr::{Keypair, PublicKey, SignedPacket};
use dht_pkarr_client::{KeepAlive, KeepAliveError, KeepAliveOptions, Kept, mio, smol};
use futures_lite::future::block_on;
use support::{Network, packet, wait_until};

/// A runner of either client, on a thread.
struct Keeping {
    handle: KeepAlive,
    kept: Arc<Mutex<Vec<Kept>>>,
    thread: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug)]
enum Runtime {
    Mio,
    Smol,
}

const BOTH: [Runtime; 2] = [Runtime::Mio, Runtime::Smol];

impl Keeping {
    fn start(
        runtime: Runtime,
        network: &Network,
        options: KeepAliveOptions,
    ) -> Result<Self, KeepAliveError> {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&kept);
        let listener = move |what| heard.lock().unwrap().push(what);
        let bind = "127.0.97.1:0".parse().unwrap();
        let (handle, thread) = match runtime {
            Runtime::Mio => {
                let dht = dht_mio::Dht::builder()
                    .mode(Mode::Client)
                    .bind(bind)
                    .bootstrap(network.entry());
                let client = mio::Client::builder().dht(dht.spawn().unwrap()).build().unwrap();
                let (handle, runner) = client.keep_alive(options, listener)?;
                (handle, thread::spawn(|| runner.run()))
            }
            Runtime::Smol => {
                let dht = dht_smol::Dht::builder()
                    .mode(Mode::Client)
                    .bind(bind)
                    .bootstrap(network.entry());
                let client = smol::Client::builder().dht(dht.spawn().unwrap()).build().unwrap();
                let (handle, runner) = block_on(client.keep_alive(options, listener))?;
                (handle, thread::spawn(|| block_on(runner.run())))
            }
        };
        Ok(Self { handle, kept, thread })
    }

    fn insert(&self, packet: SignedPacket) {
        self.handle.insert(packet).unwrap();
    }

    fn status(&self, key: &PublicKey) -> Option<Status> {
        self.handle.status(key)
    }

    fn statuses(&self) -> BTreeMap<PublicKey, Status> {
        self.handle.statuses().into_iter().collect()
    }

    fn kept(&self) -> Vec<Kept> {
        self.kept.lock().unwrap().clone()
    }

    fn stop(self) {
        self.handle.stop();
        self.thread.join().unwrap();
    }
}

/// A directory of a test's own; removed when dropped.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let name = format!("dht-pkarr-client-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Everything an hour's schedule has, within a second.
fn fast(file: Option<&Path>) -> KeepAliveOptions {
    let mut options = KeepAliveOptions::default();
    options.config.interval = Duration::from_millis(600);
    options.config.verify_after = Duration::from_millis(200);
    options.config.retry = Duration::from_millis(50);
    options.file = file.map(Path::to_owned);
    options
}

fn packets(first: u8, count: u8) -> Vec<SignedPacket> {
    let packets = (first..first + count).map(|number| Keypair::from_secret(&[number; 32]));
    packets.map(|keypair| packet(&keypair, 1_700_000_000, "alive")).collect()
}

#[test]
fn packets_are_published_counted_and_go_on_after_a_restart() {
    let network = Network::new(9);
    for (runtime, first) in BOTH.into_iter().zip([1, 101]) {
        let dir = TempDir::new(&format!("{runtime:?}"));
        let file = dir.0.join("kept");
        let keeping = Keeping::start(runtime, &network, fast(Some(&file))).unwrap();
        let packets = packets(first, 30);
        for packet in &packets {
            keeping.insert(packet.clone());
        }
        wait_until("all are published twice, and counted in between", || {
            let kept = keeping.kept();
            packets.iter().all(|packet| {
                let own = packet.public_key();
                let published = kept.iter().filter(|kept| {
                    matches!(kept, Kept::Published(published) if published.public_key == own)
                });
                let verified = kept.iter().any(|kept| {
                    matches!(kept, Kept::Verified { key, holders } if *key == own && *holders >= 8)
                });
                verified && published.count() >= 2
            })
        });
        keeping.stop();
        // Whoever comes next knows them, and when each is due.
        let mut slow = fast(Some(&file));
        slow.config.interval = Duration::from_secs(3_600);
        let again = Keeping::start(runtime, &network, slow.clone()).unwrap();
        let statuses = again.statuses();
        assert_eq!(statuses.len(), packets.len());
        for packet in &packets {
            let status = statuses[&packet.public_key()];
            assert!(status.stored >= 8 && status.published.is_some(), "{runtime:?}: {status:?}");
        }
        again.stop();
        // A file that is something else is not overwritten.
        std::fs::write(&file, "my diary\n").unwrap();
        let error = Keeping::start(runtime, &network, slow).err().unwrap().to_string();
        assert!(error.contains("something else"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "my diary\n");
    }
}

#[test]
fn too_few_copies_are_a_failure_and_tried_again() {
    let network = Network::new(3);
    for runtime in BOTH {
        let keeping = Keeping::start(runtime, &network, fast(None)).unwrap();
        let [packet] = &packets(50, 1)[..] else { unreachable!() };
        keeping.insert(packet.clone());
        wait_until("it was tried several times", || {
            keeping.status(&packet.public_key()).is_some_and(|status| status.failures >= 3)
        });
        assert_eq!(keeping.status(&packet.public_key()).unwrap().stored, 3);
        keeping.stop();
    }
}

#[test]
fn what_its_owner_publishes_elsewhere_is_kept_alive_instead() {
    let network = Network::new(9);
    for (runtime, number) in BOTH.into_iter().zip([60_u8, 61]) {
        let keypair = Keypair::from_secret(&[number; 32]);
        let key = keypair.public_key();
        let (old, new) = (packet(&keypair, 100, "old"), packet(&keypair, 200, "new"));
        let keeping = Keeping::start(runtime, &network, fast(None)).unwrap();
        keeping.insert(old);
        wait_until("the old one is published", || {
            keeping.status(&key).is_some_and(|status| status.stored >= 8)
        });
        let put = |item| network.servers[3].put_item(item, None).unwrap().stored;
        assert!(put(new.to_item().unwrap()) >= 8);
        wait_until("the new one is noticed", || {
            keeping.kept().iter().any(|kept| matches!(kept, Kept::Newer(found) if **found == new))
        });
        wait_until("and published", || {
            keeping.kept().iter().any(|kept| {
                matches!(kept, Kept::Published(published) if published.timestamp == new.timestamp())
            })
        });
        // What is no packet cannot be kept alive.
        let secret = SigningKey::from_bytes(&[number; 32]);
        let (_, outcome) =
            network.servers[4].put_mutable(&secret, b"", 300_000_000, b"3:abc", None).unwrap();
        assert!(outcome.stored >= 8);
        wait_until("it is given up", || {
            keeping.kept().iter().any(|kept| matches!(kept, Kept::GivenUp { .. }))
        });
        assert_eq!(keeping.status(&key), None);
        keeping.stop();
    }
}
