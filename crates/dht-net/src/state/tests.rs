#![cfg(unix)]

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use super::*;

/// A directory of its own for each test, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("dht-state-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn what_is_saved_is_loaded_and_nothing_else_is_left_behind() {
    let dir = Dir::new("round-trip");
    let file = StateFile::open(&dir.file()).unwrap();
    assert_eq!(file.load().unwrap(), None);
    file.save(b"one").unwrap();
    file.save(b"two").unwrap();
    assert_eq!(file.load().unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(dir.names(), ["state", "state.lock"]);
}

#[test]
fn a_save_that_died_half_way_leaves_the_old_state() {
    let dir = Dir::new("crash");
    let file = StateFile::open(&dir.file()).unwrap();
    file.save(b"old").unwrap();
    drop(file);
    // What a process killed while writing leaves behind.
    fs::write(dir.0.join("state.tmp"), b"ne").unwrap();
    let file = StateFile::open(&dir.file()).unwrap();
    assert_eq!(file.load().unwrap().as_deref(), Some(&b"old"[..]));
    file.save(b"new").unwrap();
    assert_eq!(file.load().unwrap().as_deref(), Some(&b"new"[..]));
}

#[test]
fn the_new_state_replaces_the_old_by_rename_not_by_writing_into_it() {
    let dir = Dir::new("rename");
    let file = StateFile::open(&dir.file()).unwrap();
    file.save(b"old").unwrap();
    let mut old = File::open(dir.file()).unwrap();
    file.save(b"new").unwrap();
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
}

#[test]
fn damaged_files_are_set_aside_under_new_names() {
    let dir = Dir::new("damaged");
    let file = StateFile::open(&dir.file()).unwrap();
    for n in 1..=3 {
        file.save(b"garbage").unwrap();
        assert_eq!(file.set_aside().unwrap(), dir.0.join(format!("state.damaged-{n}")));
        assert_eq!(file.load().unwrap(), None);
    }
}

#[test]
fn the_number_of_damaged_files_is_bounded() {
    let dir = Dir::new("bounded");
    let file = StateFile::open(&dir.file()).unwrap();
    for _ in 0..MAX_DAMAGED + 5 {
        file.save(b"garbage").unwrap();
        file.set_aside().unwrap();
    }
    assert_eq!(dir.names().len(), MAX_DAMAGED as usize + 1);
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_at_the_start() {
    let dir = Dir::new("missing");
    let error = StateFile::open(&dir.0.join("no/such/state")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("writable"), "{error}");
    assert!(core::error::Error::source(&error).is_some());
    assert_eq!(StateFile::open(&dir.0).unwrap_err().kind(), ErrorKind::State);

    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere.
    if File::create(dir.0.join("probe")).is_err() {
        assert_eq!(StateFile::open(&dir.file()).unwrap_err().kind(), ErrorKind::State);
    }
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o700)).unwrap();
}

#[cfg(all(target_os = "linux", not(dht_portable)))]
#[test]
fn two_nodes_cannot_share_a_state() {
    let dir = Dir::new("shared");
    let first = StateFile::open(&dir.file()).unwrap();
    let error = StateFile::open(&dir.file()).unwrap_err();
    assert!(error.to_string().contains("in use by another node"), "{error}");
    drop(first);
    StateFile::open(&dir.file()).unwrap();
}

#[test]
fn a_save_that_fails_is_told_and_remembered_until_one_succeeds() {
    let dir = Dir::new("failing");
    let (told, hears) = mpsc::channel();
    let notices = Notices::new(Some(std::sync::Arc::new(move |notice| told.send(notice).unwrap())));
    let mut saver = Saver::new(StateFile::open(&dir.file()).unwrap(), notices.clone());
    // Nothing can be renamed onto a directory that is not empty.
    fs::create_dir_all(dir.file().join("occupied")).unwrap();
    let error = saver.save(b"one".to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(matches!(hears.try_recv().unwrap(), Notice::StateNotSaved { .. }));
    assert!(notices.problems().state.is_some());
    fs::remove_dir_all(dir.file()).unwrap();
    saver.save(b"two".to_vec()).unwrap();
    assert!(notices.problems().state.is_none());
    assert_eq!(fs::read(dir.file()).unwrap(), b"two");
}

#[test]
fn a_state_that_is_saved_already_is_not_written_again() {
    let dir = Dir::new("same");
    let mut saver = Saver::new(StateFile::open(&dir.file()).unwrap(), Notices::default());
    saver.save(b"same".to_vec()).unwrap();
    fs::remove_file(dir.file()).unwrap();
    saver.save(b"same".to_vec()).unwrap();
    assert!(!dir.file().exists());
    saver.save(b"other".to_vec()).unwrap();
    assert_eq!(fs::read(dir.file()).unwrap(), b"other");
}

#[test]
fn saves_become_rarer_until_an_item_is_stored() {
    let hour = Duration::from_secs(3_600);
    let mut times = SaveTimes::new(Instant::ZERO, hour);
    let mut now = times.next();
    assert_eq!(now, Instant::ZERO + SAVE_SOON);
    let mut pauses = Vec::new();
    while pauses.last() != Some(&hour) {
        assert!(times.is_due(now, 0));
        times.begun(now, 0);
        pauses.push(times.next().since(now));
        now = times.next();
    }
    assert_eq!(pauses.first(), Some(&(SAVE_SOON * 2)));
    assert!(pauses.is_sorted());
    times.begun(now, 0);
    assert!(!times.is_due(now, 1));
    assert_eq!(times.next(), now + SAVE_SOON);
    assert!(!times.is_due(now + Duration::from_secs(1), 2));
    assert_eq!(times.next(), now + SAVE_SOON, "the first change counts, not the last");
    assert!(times.is_due(now + SAVE_SOON, 2));
    times.busy(now + SAVE_SOON);
    assert!(!times.is_due(now + SAVE_SOON, 2), "the disk is given time");
    assert!(times.is_due(now + SAVE_SOON + SAVE_SOON, 2));
}
