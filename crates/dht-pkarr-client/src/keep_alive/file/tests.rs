//! The file over restarts, kills and failures.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use dht_pkarr::Keypair;
use dht_pkarr::keep_alive::Handed;

use super::*;
use crate::clock::now;
use crate::keep_alive::{Done, KeepAliveError, KeepAliveOptions, Task};
use crate::publish::Published;

/// Set in the process that is to be killed: the file.
const CHILD: &str = "DHT_PKARR_KEEP_ALIVE_CHILD";

/// A file of a test's own; removed when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        let name = format!("dht-pkarr-kept-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn packet(number: u8) -> SignedPacket {
    let keypair = Keypair::from_secret(&[number; 32]);
    SignedPacket::builder().txt("@", "x", 60).sign(&keypair, Timestamp::from_secs(5)).unwrap()
}

/// Packets that are published again as soon as they were.
fn start(path: &Path) -> Result<Shared, KeepAliveError> {
    let mut options = KeepAliveOptions::default();
    options.config.interval = Duration::ZERO;
    options.config.copies = 1;
    options.file = Some(path.to_owned());
    Ok(Arc::new(Mutex::new(Keeper::open(options, true)?)))
}

fn add(keeper: &Shared, number: u8) {
    assert_eq!(lock(keeper).add(packet(number)), Ok(true));
}

fn next(keeper: &Shared) -> (Handed, SignedPacket) {
    let Some((handed, Task::Publish(packet))) = lock(keeper).poll() else { panic!("one is due") };
    (handed, packet)
}

/// So many nodes store the next packet; returns whose it is.
fn publish(keeper: &Shared, stored: u32) -> PublicKey {
    let (handed, packet) = next(keeper);
    let published = Published {
        public_key: packet.public_key(),
        timestamp: packet.timestamp(),
        stored,
        refused: BTreeMap::new(),
        relays: Vec::new(),
        outcome: None,
        troubles: Vec::new(),
    };
    lock(keeper).handle(handed, Done::Published(Ok(published)));
    packet.public_key()
}

fn unsaved(keeper: &Shared) -> usize {
    lock(keeper).unsaved.as_ref().unwrap().keys.len()
}

fn statuses(keeper: &Shared) -> Vec<(PublicKey, Status)> {
    lock(keeper).statuses()
}

#[test]
fn what_is_written_is_read_back() {
    let another = packet(2).public_key();
    let mut status = Status::default();
    (status.stored, status.failures) = (8, 3);
    let mut published = status;
    (published.published, published.verified) = (Some(Timestamp::from_secs(7)), Some(0));
    for status in [status, published] {
        let (packet, key) = (packet(1), packet(1).public_key());
        let good = bytes(&packet, &status);
        assert_eq!(parse(key.as_bytes(), &good), Some((packet, status)));
        // Another key's, cut off, and forged.
        assert_eq!(parse(another.as_bytes(), &good), None);
        assert!((0..good.len()).all(|len| parse(key.as_bytes(), &good[..len]).is_none()));
        let mut forged = good;
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(parse(key.as_bytes(), &forged), None);
    }
}

#[test]
fn only_what_changed_is_written_and_a_restart_knows_it_all() {
    let file = TempFile::new("restart");
    let keeper = start(&file.0).unwrap();
    (1..=9).for_each(|number| add(&keeper, number));
    assert_eq!(unsaved(&keeper), 9);
    save(&keeper).unwrap();
    assert_eq!(unsaved(&keeper), 0);
    let published = publish(&keeper, 5);
    assert_eq!(unsaved(&keeper), 1);
    save(&keeper).unwrap();
    lock(&keeper).remove(&packet(9).public_key());
    lock(&keeper).remove(&packet(8).public_key());
    add(&keeper, 8);
    save(&keeper).unwrap();
    let known = statuses(&keeper);
    // One process at a time.
    assert!(
        matches!(start(&file.0), Err(KeepAliveError::File(error)) if error.what.contains("open"))
    );
    drop(keeper);
    let again = start(&file.0).unwrap();
    assert_eq!((statuses(&again), unsaved(&again)), (known, 0));
    assert_eq!(lock(&again).status(&published).unwrap().stored, 5);
    assert_eq!(statuses(&again).len(), 8);
}

#[test]
fn many_are_written_a_part_at_a_time() {
    let file = TempFile::new("many");
    let keeper = start(&file.0).unwrap();
    let count = MAX_AT_ONCE + 2;
    for number in 0..count as u64 {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let packet = SignedPacket::builder().sign(&Keypair::from_secret(&secret), now()).unwrap();
        assert_eq!(lock(&keeper).add(packet), Ok(true));
    }
    let database = Arc::clone(&lock(&keeper).unsaved.as_ref().unwrap().file);
    save_some(&keeper, &database).unwrap();
    assert_eq!(unsaved(&keeper), 2);
    save(&keeper).unwrap();
    assert_eq!(unsaved(&keeper), 0);
    drop((keeper, database));
    assert_eq!(statuses(&start(&file.0).unwrap()).len(), count);
}

#[test]
fn what_cannot_be_written_is_written_later() {
    let file = TempFile::new("later");
    let keeper = start(&file.0).unwrap();
    add(&keeper, 1);
    save(&keeper).unwrap();
    add(&keeper, 2);
    // As after a write that failed; and somebody has taken the file away.
    let writer = Arc::clone(&lock(&keeper).unsaved.as_ref().unwrap().file);
    writer.close();
    let elsewhere = TempFile::new("elsewhere");
    std::fs::rename(&file.0, &elsewhere.0).unwrap();
    assert!(save(&keeper).is_err());
    assert!(!file.0.exists(), "a file without what was saved before is none");
    assert_eq!(unsaved(&keeper), 1);
    assert!(lock(&keeper).unsaved.as_ref().unwrap().wait().is_some_and(|wait| !wait.is_zero()));
    std::fs::rename(&elsewhere.0, &file.0).unwrap();
    save(&keeper).unwrap();
    drop((keeper, writer));
    assert_eq!(statuses(&start(&file.0).unwrap()).len(), 2);
}

#[test]
fn what_is_something_else_or_makes_no_sense_is_left_as_it_is() {
    let file = TempFile::new("diary");
    std::fs::write(&file.0, "my diary").unwrap();
    let Err(KeepAliveError::File(error)) = start(&file.0) else { panic!("it was opened") };
    assert!(error.hint.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&file.0).unwrap(), b"my diary");
    std::fs::remove_file(&file.0).unwrap();
    let (database, _) = open(&file.0).unwrap();
    database
        .write(|transaction| {
            transaction.open_table(KEPT)?.insert(&[1; 32], &b"no packet"[..])?;
            Ok(())
        })
        .unwrap();
    drop(database);
    let Err(KeepAliveError::File(error)) = start(&file.0) else { panic!("it was opened") };
    assert!(error.what.contains("damaged"), "{error}");
}

/// Not a test by itself: what the next one runs in a process of its own. Each round has one copy more.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let keeper = start(Path::new(&path)).unwrap();
    let known = statuses(&keeper);
    let first = known.iter().map(|(_, status)| status.stored + 1).min().unwrap_or(1);
    if known.is_empty() {
        (1..=20).for_each(|number| add(&keeper, number));
    }
    for round in first.. {
        for _ in 1..=20 {
            publish(&keeper, round);
        }
        save(&keeper).unwrap();
        println!("round {round}");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    let file = TempFile::new("killed");
    let mut least = 0;
    for rounds in [1, 3, 7] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keep_alive::file::tests::child", "--nocapture"])
            .env(CHILD, &file.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let written = lines.filter_map(|line| {
            line.split_once("round ").map(|(_, round)| round.parse::<u32>().unwrap())
        });
        // It goes on to write while it is killed.
        let round = written.take(rounds).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let known = statuses(&start(&file.0).unwrap());
        assert_eq!(known.len(), 20);
        for (key, status) in known {
            assert!(status.stored >= round && status.published.is_some(), "{key}: {status:?}");
        }
        // A restart goes on where the one before was.
        assert!(round > least, "{round} after {least}");
        least = round;
    }
}
