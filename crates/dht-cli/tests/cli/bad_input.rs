//! What a user gets wrong: a clear message, what to do, and the right exit status.

use std::fs;
use std::net::UdpSocket;

use crate::support::{Run, TempDir, dht, dht_with_input};

const HASH: &str = "9a0364b9e99bb480dd25e1f0284c8555d2a2ab03";

/// Fails with this status and these words, tells programs the same, and prints no result.
#[track_caller]
fn refused(args: &[&str], status: i32, words: &str) -> Run {
    let run = dht(args).expect(status);
    assert!(run.stderr.starts_with("error: "), "{args:?}: {run:?}");
    assert!(run.stderr.contains(words), "{args:?}: no {words:?} in {run:?}");
    assert_eq!(run.stdout, "", "{args:?}");
    let json = dht(&[args, &["--json"]].concat()).expect(status);
    let errors = json.of_type("error");
    assert_eq!(errors.len(), 1, "{args:?}: {json:?}");
    assert_eq!(errors[0]["code"], status);
    for part in ["message", "hint"] {
        assert!(!errors[0][part].as_str().unwrap().is_empty(), "{args:?}: no {part}");
    }
    run
}

#[test]
fn arguments_that_make_no_sense_are_refused_with_status_2() {
    let magnet = "magnet:?dn=nothing";
    let key = &"ab".repeat(31);
    for (args, words) in [
        (&["get-peers", "123"][..], "40 hexadecimal digits"),
        (&["get-peers", &HASH[1..]], "magnet link"),
        (&["get-peers", magnet], "urn:btih:"),
        (&["get-peers", "magnet:?xt=urn:btih:123"], "urn:btih:"),
        (&["get-peers"], "INFOHASH|MAGNET"),
        (&["announce", "xyz", "--port", "1"], "40 hexadecimal digits"),
        (&["announce", HASH, "--port", "0"], "1..=65535"),
        (&["announce", HASH, "--port", "65536"], "1..=65535"),
        (&["announce", HASH, "--port", "1", "--implied-port"], "cannot be used with"),
        (&["find-node", "xyz"], "40 hexadecimal digits"),
        (&["get", "xyz"], "40 hexadecimal digits"),
        (&["get"], "--public-key"),
        (&["get", "--public-key", key], "64 hexadecimal digits"),
        (&["get", HASH, "--salt-hex", "abc"], "hexadecimal digits"),
        (&["get", HASH, "--salt", "a", "--salt-hex", "ab"], "cannot be used with"),
        (&["ping", "127.0.0.1"], "HOST:PORT"),
        (&["ping", "127.0.0.1:0"], "HOST:PORT"),
        (&["ping", "127.0.0.1:65536"], "HOST:PORT"),
        (&["sample", "::1"], "HOST:PORT"),
        (&["get-peers", HASH, "--bootstrap", "nowhere"], "HOST:PORT"),
        (&["get-peers", HASH, "--bootstrap", "127.0.0.1:1", "--no-bootstrap"], "cannot be used"),
        (&["get-peers", HASH, "--bind", "127.0.0.1"], "ADDR:PORT"),
        (&["get-peers", HASH, "--timeout", "0"], "seconds"),
        (&["get-peers", HASH, "--timeout", "soon"], "seconds"),
        (&["node", "--mode", "master"], "adaptive"),
        (&["node", "--public-ip", "here"], "IP"),
        (&["node", "--max-items", "0"], "1 to 10000000"),
        (&["node", "--no-bootstrap", "--max-peers-per-torrent", "100000"], "from 0 to 65536"),
        (&["inspect", "abc"], "hexadecimal digits"),
        (&["inspect", "hello"], "hexadecimal digits"),
        (&["put-mutable", "x"], "--key"),
        (&["frobnicate"], "frobnicate"),
        (&["--bind", "127.0.0.1:0", "ping", "127.0.0.1:1", "--bind=127.0.0.1:0"], "same side"),
    ] {
        refused(args, 2, words);
    }
}

#[test]
fn values_and_salts_that_no_node_takes_are_not_sent() {
    let dir = TempDir::new();
    let key = dir.file("key");
    dht(&["keygen", &key]).expect(0);
    let too_long = "x".repeat(997);
    let salt = "s".repeat(65);
    let salt_hex = "ab".repeat(65);
    // Nobody listens there: had anything been sent, the status would be 3.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    for (args, words) in [
        (&["put-immutable", &too_long][..], "over 1000 bytes"),
        (&["put-immutable", "--bencode", "hello"], "not canonical"),
        (&["put-immutable", "--bencode", "d1:b0:1:a0:e"], "not canonical"),
        (&["put-immutable", "--bencode", "i1ei2e"], "not canonical"),
        (&["put-mutable", "--key", &key, &too_long], "over 1000 bytes"),
        (&["put-mutable", "--key", &key, "--salt", &salt, "x"], "at most 64"),
        (&["put-mutable", "--key", &key, "--salt-hex", &salt_hex, "x"], "at most 64"),
        (&["get", HASH, "--salt", &salt], "at most 64"),
    ] {
        refused(&[args, &["--bootstrap", &nobody]].concat(), 2, words);
    }
    let args = ["put-immutable", "-", "--bootstrap", &nobody];
    let run = dht_with_input(&args, &vec![b'x'; 100_000]).expect(2);
    assert!(run.stderr.contains("over 1000 bytes"), "{run:?}");
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 2000]).is_err(), "something was sent");
}

#[test]
fn key_files_that_are_none_are_refused() {
    let dir = TempDir::new();
    let missing = dir.file("missing");
    let short = dir.with("short", "ab".repeat(31));
    let long = dir.with("long", "ab".repeat(33));
    let letters = dir.with("letters", "zz".repeat(32));
    let huge = dir.with("huge", vec![b'a'; 100_000]);
    let directory = dir.path().to_str().unwrap().to_owned();
    for (file, words) in [
        (&missing, "cannot read"),
        (&directory, "cannot read"),
        (&short, "64 hexadecimal digits"),
        (&long, "64 hexadecimal digits"),
        (&letters, "64 hexadecimal digits"),
        (&huge, "64 hexadecimal digits"),
    ] {
        let run = refused(&["put-mutable", "--key", file, "--no-bootstrap", "x"], 2, words);
        assert!(run.stderr.contains("dht keygen"), "{run:?}");
    }
}

#[test]
fn nobody_to_ask_and_nobody_there_is_status_3() {
    refused(&["get-peers", HASH, "--no-bootstrap"], 3, "--bootstrap HOST:PORT");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    let value = "Hello World!";
    for command in [
        &["get-peers", HASH][..],
        &["find-node", HASH],
        &["announce", HASH, "--port", "1"],
        &["put-immutable", value],
        &["get", HASH],
    ] {
        let args = [command, &["--bootstrap", &nobody, "--timeout", "0.3", "--json"]].concat();
        let run = dht(&args).expect(3);
        assert!(run.stderr.contains("no node of the DHT answered"), "{run:?}");
        assert_eq!(run.of_type("error")[0]["code"], 3);
        assert_eq!(run.done()["replies"], 0);
    }
}

#[test]
fn no_put_follows_when_the_newest_version_cannot_be_found_out() {
    let dir = TempDir::new();
    let key = dir.file("key");
    dht(&["keygen", &key]).expect(0);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    let args = ["put-mutable", "--key", &key, "x", "--bootstrap", &nobody, "--timeout", "0.3"];
    let run = dht(&args).expect(3);
    assert_eq!(run.stdout, "");
    let done = dht(&[&args[..], &["--json"]].concat()).expect(3).done();
    assert_eq!(done["stored"], 0);
    assert!(done["seq"].is_null(), "{done}");
}

#[test]
fn a_silent_node_is_not_found() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = silent.local_addr().unwrap().to_string();
    for command in ["ping", "sample"] {
        let run = dht(&[command, &nobody, "--timeout", "0.3", "--json"]).expect(1);
        assert_eq!(run.done()["ok"], false);
    }
}

#[test]
fn an_address_of_another_family_is_refused() {
    let args = ["ping", "127.0.0.1:1", "--bind", "[::1]:0"];
    let run = dht(&args);
    if run.stderr.contains("cannot listen") {
        // This machine has no IPv6.
        return;
    }
    refused(&args, 2, "IPv4");
}

#[test]
fn addresses_that_are_taken_or_foreign_are_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for args in [
        &["node", "--no-bootstrap", "--bind", &addr][..],
        &["get-peers", HASH, "--bootstrap", "127.0.0.1:1", "--bind", &addr],
    ] {
        let run = refused(args, 2, "in use");
        assert!(run.stderr.contains(&addr) && run.stderr.contains("port"), "{run:?}");
    }
    refused(&["node", "--no-bootstrap", "--bind", "192.0.2.1:0"], 2, "does not have that address");
    let two = ["node", "--no-bootstrap", "--bind", "127.0.0.1:0", "--bind", "127.0.0.2:0"];
    refused(&two, 2, "family");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = ["node", "--no-bootstrap", "--bind", "127.0.0.1:0", "--metrics", &addr];
    let run = refused(&args, 2, "--metrics");
    assert!(run.stderr.contains(&addr), "{run:?}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let dir = TempDir::new();
    let file = dir.with("file", "");
    let inside = format!("{file}/dir");
    for path in [&file, &inside, "/dev/null/dir"] {
        let args = ["node", "--no-bootstrap", "--bind", "127.0.0.1:0", "--data-dir", path];
        let run = refused(&args, 2, "data directory");
        assert!(run.stderr.contains(path), "{run:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"", "nothing was written");
}

#[test]
fn config_files_are_checked_like_flags() {
    let dir = TempDir::new();
    let missing = dir.file("missing.toml");
    for (name, content, words) in [
        ("unknown.toml", "max-item = 5", "\"max-item\""),
        ("syntax.toml", "mode = ", "not TOML"),
        ("value.toml", "mode = \"master\"", "adaptive"),
        ("port.toml", "bind = [\"127.0.0.1:99999\"]", "ADDR:PORT"),
        ("type.toml", "max-items = true", "max-items"),
    ] {
        let file = dir.with(name, content);
        let run = refused(&["node", "--no-bootstrap", "--config", &file], 2, words);
        assert!(run.stderr.contains(name), "{run:?}");
    }
    refused(&["node", "--no-bootstrap", "--config", &missing], 2, "cannot read");
}
