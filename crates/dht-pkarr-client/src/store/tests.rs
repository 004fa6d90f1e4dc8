//! The store, with the test in the place of its writer: what happens while a batch is on its way.

use dht_pkarr::{Keypair, SignedPacket, Timestamp};

use super::*;

/// A store without a writer; its file is removed in the end.
struct Bench {
    store: Store,
    memory: Arc<Mutex<Cache>>,
}

impl Bench {
    fn new(name: &str) -> Self {
        let name = format!("dht-pkarr-writer-{name}-{}", std::process::id());
        let memory = Arc::new(Mutex::new(Cache::new(4)));
        let shared = Shared::open(&std::env::temp_dir().join(name), 100, &memory).unwrap();
        Self { store: Store { shared: Arc::new(shared), writer: None }, memory }
    }

    fn begin(&self) -> Arc<Changes> {
        self.store.shared.lock().begin().unwrap()
    }

    fn write_all(&self) {
        let batch = self.begin();
        self.store.shared.write(&batch);
    }

    fn on_disk(&self) -> Option<CachedPacket> {
        self.store.shared.file.read(&key()).unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.store.shared.path));
    }
}

fn packet(secs: u64) -> CachedPacket {
    let keypair = Keypair::from_secret(&[1; 32]);
    let packet = SignedPacket::builder().sign(&keypair, Timestamp::from_secs(secs)).unwrap();
    CachedPacket::new(packet, Timestamp::from_secs(1_700_000_000))
}

fn key() -> PublicKey {
    Keypair::from_secret(&[1; 32]).public_key()
}

fn is_removed(queued: &Queued) -> bool {
    matches!(queued, Queued::Removed)
}

#[test]
fn what_is_removed_while_it_is_being_written_does_not_come_back() {
    let bench = Bench::new("remove");
    bench.store.put(packet(10));
    let batch = bench.begin();
    assert!(matches!(bench.store.queued(&key()), Queued::Packet(_)), "until it is on disk");
    bench.store.remove(key());
    assert!(is_removed(&bench.store.queued(&key())));
    bench.store.shared.write(&batch);
    assert!(is_removed(&bench.store.queued(&key())), "whatever the disk has");
    bench.write_all();
    assert_eq!((bench.on_disk(), bench.store.len()), (None, 0));
}

#[test]
fn what_is_removed_while_it_is_being_read_does_not_come_back() {
    let bench = Bench::new("read");
    bench.store.put(packet(10));
    bench.write_all();
    let Queued::Unknown(removals) = bench.store.queued(&key()) else { panic!("it is written") };
    let read = bench.store.read(&key()).unwrap();
    bench.store.remove(key());
    bench.write_all();
    assert!(!bench.store.keep_read(&read, removals), "it was read before it was removed");
    assert!(bench.store.shared.lock().begin().is_none(), "so nothing is written");
}

#[test]
fn what_is_put_after_a_removal_replaces_even_what_is_newer() {
    let bench = Bench::new("replace");
    bench.store.put(packet(20));
    bench.write_all();
    bench.store.remove(key());
    bench.store.put(packet(10));
    bench.write_all();
    assert_eq!(bench.on_disk(), Some(packet(10)));
}

#[test]
fn a_newer_packet_on_disk_is_found_out_and_counts_from_then_on() {
    let bench = Bench::new("newer");
    bench.store.put(packet(20));
    bench.write_all();
    // Whoever put the older one had no look at the disk.
    lock(&bench.memory).put(packet(10));
    bench.store.put(packet(10));
    bench.write_all();
    assert_eq!(bench.on_disk(), Some(packet(20)));
    assert_eq!(lock(&bench.memory).peek(&key()), Some(&packet(20)));
    // In memory it stays away if it was removed meanwhile.
    lock(&bench.memory).put(packet(15));
    bench.store.put(packet(15));
    let batch = bench.begin();
    bench.store.remove(key());
    lock(&bench.memory).remove(&key());
    lock(&bench.memory).put(packet(5));
    bench.store.put(packet(5));
    bench.store.shared.write(&batch);
    assert_eq!(lock(&bench.memory).peek(&key()), Some(&packet(5)));
    bench.write_all();
    assert_eq!(bench.on_disk(), Some(packet(5)));
}

/// `redb` does nothing more with a file that it could not write; what comes afterwards is kept all the same.
#[test]
fn after_a_failure_the_file_is_opened_again() {
    let bench = Bench::new("again");
    bench.store.put(packet(10));
    bench.write_all();
    bench.store.shared.file.close();
    assert_eq!((bench.store.read(&key()), bench.store.failures()), (None, 1));
    bench.store.put(packet(20));
    bench.write_all();
    assert_eq!((bench.on_disk(), bench.store.len()), (Some(packet(20)), 1));
}

#[test]
fn the_queue_is_bounded_but_for_removals() {
    let bench = Bench::new("bound");
    let mut queue = bench.store.shared.lock();
    for number in 0..=MAX_WAITING as u64 {
        let mut secret = [9; 32];
        secret[..8].copy_from_slice(&number.to_be_bytes());
        let packet = SignedPacket::builder()
            .sign(&Keypair::from_secret(&secret), Timestamp::UNIX_EPOCH)
            .unwrap();
        queue.put(CachedPacket::new(packet, Timestamp::UNIX_EPOCH));
    }
    assert_eq!(queue.waiting.len(), MAX_WAITING);
    drop(queue);
    bench.store.remove(key());
    assert!(is_removed(&bench.store.queued(&key())));
}
