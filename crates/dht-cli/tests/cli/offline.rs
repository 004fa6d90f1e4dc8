//! Commands that need no network.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::{TempDir, dht, dht_with_input, hex};

const PING: &[u8] = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";

#[test]
fn help_shows_examples_of_every_command() {
    let help = dht(&["--help"]).expect(0);
    for command in [
        "demo",
        "node",
        "ping",
        "find-node",
        "get-peers",
        "announce",
        "keygen",
        "put-immutable",
        "put-mutable",
        "get",
        "sample",
        "inspect",
    ] {
        assert!(help.stdout.contains(command), "{command}");
        let own = dht(&[command, "--help"]).expect(0);
        assert!(own.stdout.contains(&format!("  dht {command}")), "{command}: {}", own.stdout);
        assert!(own.stdout.lines().all(|line| line.chars().count() <= 100), "{command}");
    }
    let version = dht(&["--version"]).expect(0);
    assert_eq!(version.stdout, format!("dht {}\n", env!("CARGO_PKG_VERSION")));
    dht(&[]).expect(2);
}

#[test]
fn keygen_makes_a_private_file_once() {
    let dir = TempDir::new();
    let path = dir.file("key");
    let made = dht(&["keygen", &path, "--json"]).expect(0).done();
    let content = fs::read_to_string(&path).unwrap();
    assert_eq!(content.len(), 65);
    assert!(content.trim_end().bytes().all(|c| c.is_ascii_hexdigit()));
    assert_eq!(made["public_key"].as_str().unwrap().len(), 64);
    assert!(!content.contains(made["public_key"].as_str().unwrap()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let again = dht(&["keygen", &path]).expect(2);
    assert!(again.stderr.contains("not overwritten"), "{again:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    let other = dht(&["keygen", &dir.file("other"), "--json"]).expect(0).done();
    assert_ne!(made["public_key"], other["public_key"]);
    let nowhere = dht(&["keygen", &dir.file("no/such/dir")]).expect(2);
    assert!(nowhere.stderr.contains("hint: "), "{nowhere:?}");
}

#[test]
fn inspect_explains_the_examples_of_bep_5() {
    let human = dht(&["inspect", &hex(PING)]).expect(0);
    for words in ["query ping", "node id of the sender", "\"abcdefghij0123456789\"", "no problems"]
    {
        assert!(human.stdout.contains(words), "{words}: {}", human.stdout);
    }
    for (datagram, kind, method) in [
        (PING, "query", Some("ping")),
        (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", "reply", None),
        (b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", "error", None),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa\
              1:y1:qe",
            "query",
            Some("find_node"),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers\
              1:t2:aa1:y1:qe",
            "query",
            Some("get_peers"),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa\
              1:y1:re",
            "reply",
            None,
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456\
              4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            "query",
            Some("announce_peer"),
        ),
    ] {
        let run = dht(&["inspect", "--json", &hex(datagram)]).expect(0);
        let message = &run.of_type("message")[0];
        assert_eq!(message["kind"], kind, "{run:?}");
        assert_eq!(message["method"].as_str(), method);
        assert_eq!(message["problems"].as_array().unwrap().len(), 0, "{run:?}");
        assert_eq!(message["bytes"], datagram.len());
        assert_eq!(run.done()["ok"], true);
    }
}

#[test]
fn inspect_reads_digits_or_raw_bytes_from_standard_input() {
    let spaced: String = hex(PING).chars().flat_map(|c| [c, ' ']).collect();
    for input in
        [PING, hex(PING).as_bytes(), format!("{}\n", hex(PING)).as_bytes(), spaced.as_bytes()]
    {
        let run = dht_with_input(&["inspect", "-"], input).expect(0);
        assert!(run.stdout.starts_with("query ping, 56 bytes"), "{run:?}");
    }
}

#[test]
fn inspect_names_what_is_wrong_and_fails_for_what_is_no_message() {
    for (datagram, status, words) in [
        (&b"hello"[..], 1, "not a dictionary"),
        (b"", 1, "not a dictionary"),
        (b"d1:y1:qe", 1, "transaction id"),
        (b"d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe", 1, "error 203"),
        (b"d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij0123456789ee", 0, "out of order"),
        (b"d1:rd2:id20:mnopqrstuvwxyz1234565:nodes3:abce1:t2:aa1:y1:re", 0, "multiple of 26"),
    ] {
        let run = dht_with_input(&["inspect", "-"], datagram).expect(status);
        assert!(run.stdout.contains("problem: ") && run.stdout.contains(words), "{run:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dht"))
        .args(["inspect", &hex(PING)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_demonstration_works() {
    let run = dht(&["demo", "--json"]).expect(0);
    let steps = run.of_type("step");
    assert_eq!(steps.len(), 15);
    for step in &steps {
        assert_eq!(step["ok"], true, "{step}");
    }
    assert_eq!(run.done()["ok"], true);
    assert_eq!(run.stderr, "");
}
