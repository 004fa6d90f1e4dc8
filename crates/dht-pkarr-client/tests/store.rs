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

/// Not a test by itself: what the next one runs in a process of its own. Each version is signed a
/// second after the one before.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let cache = open(Path::new(&path), 1_000);
    let first = cache.get(&key(0)).map_or(1, |known| known.packet.timestamp().as_secs() + 1);
    for version in first.. {
        (0..20).for_each(|number| cache.put(packet(number, version)));
        cache.flush().unwrap();
        println!("version {version}");
    }
}

#[test]
fn a_kill_in_the_middle_of_writing_loses_nothing_that_was_written() {
    use std::io::{BufRead as _, BufReader};
    let file = TempFile::new("killed");
    for versions in [1, 3, 7] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, &file.0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let written = lines.filter_map(|line| {
            line.split_once("version ").map(|(_, version)| version.parse::<u64>().unwrap())
        });
        // It goes on to write while it is killed.
        let version = written.take(versions).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = open(&file.0, 1_000);
        for number in 0..20 {
            let found = cache.get(&key(number)).unwrap().packet.timestamp().as_secs();
            assert!(found >= version, "{found} after {version}");
        }
    }
}

#[test]
fn a_damaged_file_is_named_and_left_as_it_is() {
    let file = TempFile::new("damaged");
    let good = {
        let cache = open(&file.0, 1_000);
        (0..40).for_each(|number| cache.put(packet(number, 10)));
        drop(cache);
        std::fs::read(&file.0).unwrap()
    };
    let mut refused = 0;
    let positions = (0..good.len()).step_by(good.len() / 60);
    let flipped = positions.clone().map(|position| {
        let mut bad = good.clone();
        bad[position..].iter_mut().take(16).for_each(|byte| *byte = !*byte);
        bad
    });
    let cut = positions.skip(1).map(|len| good[..len].to_vec());
    for bad in flipped.chain(cut) {
        std::fs::write(&file.0, &bad).unwrap();
        match PacketCache::open(&file.0, 1_000, 2) {
            Err(error) => {
                refused += 1;
                assert_eq!(std::fs::read(&file.0).unwrap(), bad, "{error}");
                assert!(error.to_string().contains(file.0.to_str().unwrap()), "{error}");
                assert!(error.hint.contains("move it away"), "{error}: {}", error.hint);
            }
            // Not all of the file is in use.
            Ok(cache) => assert!((0..40).all(|number| {
                cache.get(&key(number)).is_none_or(|found| found == packet(number, 10))
            })),
        }
    }
    assert!(refused > 10, "only {refused} were noticed");
}

#[test]
fn the_database_of_somebody_else_is_not_touched() {
    use redb::{Database, ReadableDatabase as _, TableDefinition};
    const DIARY: TableDefinition<'_, u64, &str> = TableDefinition::new("diary");
    let file = TempFile::new("foreign");
    let database = Database::create(&file.0).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(DIARY).unwrap().insert(1, "dear diary").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = PacketCache::open(&file.0, 100, 2).unwrap_err();
    assert!(error.what.contains("something else"), "{error}");
    let database = Database::create(&file.0).unwrap();
    let transaction = database.begin_read().unwrap();
    assert_eq!(transaction.list_tables().unwrap().count(), 1);
    let found = transaction.open_table(DIARY).unwrap().get(1).unwrap().unwrap().value().to_owned();
    assert_eq!(found, "dear diary");
}

/// However much is put, the file grows to what its packets take, and a constant.
#[test]
fn the_file_is_bounded_too() {
    let file = TempFile::new("bytes");
    let capacity = 200;
    let cache = open(&file.0, capacity);
    let long = dht_pkarr_client::pkarr::record::Txt::new([b'x'; 900]);
    for round in 0..20_u8 {
        for number in 0..100_u8 {
            let keypair = Keypair::from_secret(
                &[&[number, round][..], &[0; 30]].concat().try_into().unwrap(),
            );
            let builder = dht_pkarr_client::pkarr::SignedPacket::builder();
            let packet = builder.txt("@", long.clone(), 60).sign(&keypair, Timestamp::from_secs(1));
            cache.put(CachedPacket::new(packet.unwrap(), Timestamp::from_secs(1_700_000_000)));
        }
        cache.flush().unwrap();
        assert!(cache.len() <= capacity);
    }
    let bytes = std::fs::metadata(&file.0).unwrap().len();
    println!("{bytes} bytes");
    assert!(bytes <= 2_600 * capacity as u64 + (2 << 20), "{bytes}");
    assert_eq!(cache.failures(), 0);
}
