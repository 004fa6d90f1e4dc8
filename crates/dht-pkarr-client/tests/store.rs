//! The cache on disk.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure that says where"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use dht_pkarr_client::PacketCache;
use dht_pkarr_client::pkarr::{CachedPacket, Keypair, PublicKey, Timestamp};
use support::wait_until;

/// Set in the process that is to be killed: the file.
const CHILD: &str = "DHT_PKARR_STORE_CHILD";

/// A file of a test's own; removed when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        let name = format!("dht-pkarr-store-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn packet(number: u8, secs: u64) -> CachedPacket {
    let packet = support::packet(&Keypair::from_secret(&[number; 32]), secs, "kept");
    CachedPacket::new(packet, Timestamp::from_secs(1_700_000_000))
}

fn key(number: u8) -> PublicKey {
    Keypair::from_secret(&[number; 32]).public_key()
}

fn open(path: &Path, capacity: usize) -> PacketCache {
    PacketCache::open(path, capacity, 2).unwrap()
}

#[test]
fn packets_outlive_the_cache_and_older_ones_never_replace_newer() {
    let file = TempFile::new("outlive");
    let cache = open(&file.0, 100);
    for number in 0..20 {
        cache.put(packet(number, 10));
    }
    // Two are in memory, the others wait to be written: all are there.
    assert!((0..20).all(|number| cache.get(&key(number)) == Some(packet(number, 10))));
    drop(cache);
    let cache = open(&file.0, 100);
    assert_eq!((cache.len(), cache.capacity()), (20, 100));
    cache.put(packet(7, 9));
    cache.put(packet(8, 11));
    cache.remove(&key(9));
    drop(cache);
    let cache = open(&file.0, 100);
    assert_eq!(cache.get(&key(7)), Some(packet(7, 10)));
    assert_eq!(cache.get(&key(8)), Some(packet(8, 11)));
    assert_eq!(cache.get(&key(9)), None);
    assert_eq!(cache.len(), 19);
    // One process at a time.
    assert!(PacketCache::open(&file.0, 100, 2).is_err());
    drop(cache);
    std::fs::write(&file.0, "my diary").unwrap();
    assert!(PacketCache::open(&file.0, 100, 2).is_err());
    assert_eq!(std::fs::read(&file.0).unwrap(), b"my diary");
}

#[test]
fn there_are_never_more_than_there_is_room_for() {
    let file = TempFile::new("bounded");
    drop({
        let cache = open(&file.0, 5);
        (0..5).for_each(|number| cache.put(packet(number, 10)));
        cache
    });
    let cache = open(&file.0, 5);
    // What is used stays; what was not used for longest goes.
    assert!(cache.get(&key(0)).is_some());
    drop(cache);
    let cache = open(&file.0, 5);
    cache.put(packet(50, 10));
    drop(cache);
    let cache = open(&file.0, 5);
    assert_eq!(cache.len(), 5);
    assert!(cache.get(&key(0)).is_some() && cache.get(&key(50)).is_some());
    assert_eq!((1..5).filter(|number| cache.get(&key(*number)).is_some()).count(), 3);
}

/// Not a test by itself: what the next one runs in a process of its own.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let cache = open(Path::new(&path), 1_000);
    (0..50).for_each(|number| cache.put(packet(number, 10)));
    wait_until("they are written", || cache.len() == 50);
    (50..100).for_each(|number| cache.put(packet(number, 10)));
    println!("written");
    wait_until("it is killed", || false);
}

#[test]
fn what_is_written_survives_a_kill() {
    use std::io::{BufRead as _, BufReader};
    let file = TempFile::new("killed");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, &file.0)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("written")));
    child.kill().unwrap();
    child.wait().unwrap();
    let cache = open(&file.0, 1_000);
    assert!((0..50).all(|number| cache.get(&key(number)) == Some(packet(number, 10))));
}
