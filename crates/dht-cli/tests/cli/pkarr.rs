//! `dht pkarr`: names that are keys.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Node, Run, Running, TempDir, command, dht, dht_with_input};

const KEY: &str = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo";
/// The packet of the specification with A and HTTPS records, as relays have it.
const PAYLOAD: &str = "2e762325056309e3da47e4dc15ad639839c128e89dc35d52d438677c9d5baa7891b38655a2a96095982f\
                       7f96c2c8dd4c2f657d563f9dbf86692b6c9b7426250900060a24181e400000008000000000020000000034\
                       3870696e787867717334316e346169646964656e773561707170317572666d7a647a7472386a7434616272\
                       6b646e34333565776f000041000100000e100009000100000300021ae1c00c0001000100000e100004d19794\
                       0f";

/// A key of zeros in a file.
fn key_file(dir: &TempDir) -> String {
    let path = dir.with("key", "0".repeat(64));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

/// Runs a command in a network of one node, from an address of its own.
fn at(node: &Node, args: &[&str]) -> Run {
    let through = node.addr();
    dht(&[args, &["--json", "--bootstrap", &through, "--bind", "127.64.9.1:0"]].concat())
}

fn records(run: &Run) -> Vec<(String, String, String)> {
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let record = |line: &Value| (text(line, "name"), text(line, "kind"), text(line, "data"));
    run.of_type("record").iter().map(record).collect()
}

#[test]
fn help_shows_examples() {
    for command in ["keygen", "publish", "resolve", "keep-alive", "inspect"] {
        let help = dht(&["pkarr", command, "--help"]).expect(0).stdout;
        assert!(help.contains(&format!("  dht pkarr {command}")), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
    assert!(dht(&["pkarr", "--help"]).expect(0).stdout.contains("keep-alive"));
}

#[test]
fn a_key_is_made_once_and_its_name_is_printed() {
    let dir = TempDir::new();
    let path = dir.file("new");
    let made = dht(&["pkarr", "keygen", &path, "--json"]).expect(0).done();
    assert_eq!(made["key"].as_str().unwrap().len(), 52);
    assert_eq!(fs::read_to_string(&path).unwrap().len(), 65);
    assert!(dht(&["pkarr", "keygen", &path]).expect(2).stderr.contains("not overwritten"));
    let signed = dht(&["pkarr", "publish", "--key", &path, "@ A 192.0.2.1", "--dry-run", "--json"]);
    assert_eq!(signed.expect(0).done()["key"], made["key"]);
}

#[test]
fn the_packet_of_the_specification_is_made_and_explained() {
    let dir = TempDir::new();
    let (key, saved) = (key_file(&dir), dir.file("packet"));
    let records = ["@ HTTPS 1 . port=6881", "@ 1h IN A 209.151.148.15"];
    let args = ["pkarr", "publish", "--key", &key, "--timestamp", "1700000000000000", "--dry-run"];
    let made = dht(&[&args[..], &["--save", &saved, "--json"], &records].concat()).expect(0);
    let packet = &made.of_type("packet")[0];
    assert_eq!(packet["key"], KEY);
    assert_eq!(packet["signed"], "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_eq!(packet["packet"].as_str().unwrap()[64..], *PAYLOAD);
    // In a file, as digits, of a relay, from standard input.
    for run in [
        dht(&["pkarr", "inspect", &saved, "--json"]),
        dht(&["pkarr", "inspect", packet["packet"].as_str().unwrap(), "--json"]),
        dht(&["pkarr", "inspect", PAYLOAD, "--key", KEY, "--json"]),
        dht_with_input(&["pkarr", "inspect", "-", "--json"], &fs::read(&saved).unwrap()),
    ] {
        let run = run.expect(0);
        assert_eq!(run.of_type("packet")[0]["packet"], packet["packet"]);
        assert_eq!(run.of_type("record").len(), 2);
        assert_eq!(run.done()["timestamp"], 1_700_000_000_000_000_u64);
    }
    let words = dht(&["pkarr", "inspect", &saved]).expect(0).stdout;
    assert!(words.contains("@ 3600 IN HTTPS 1 . port=6881\n@ 3600 IN A 209.151.148.15"), "{words}");
}

#[test]
fn what_is_no_packet_is_refused_with_the_reason() {
    let forged = PAYLOAD.replacen("2e76", "2e77", 1);
    let loops = format!("{}0006000000000000{}", "00".repeat(64), "000080000000000100000000c00c");
    let long = format!("{}{}", "00".repeat(72), "00".repeat(1_001));
    for (packet, word) in [
        (&PAYLOAD[..142], "too short"),
        (&forged, "signature"),
        (&loops, "DNS"),
        (&long, "1000 bytes"),
        (&format!("{}{}", &PAYLOAD[..128], "ff".repeat(20)), "timestamp"),
    ] {
        let run = dht(&["pkarr", "inspect", packet, "--key", KEY]).expect(2);
        assert!(run.stderr.contains(word) && run.stderr.contains("hint: "), "{run:?}");
    }
    let no_key = dht(&["pkarr", "inspect", PAYLOAD]).expect(2);
    assert!(no_key.stderr.contains("--key"), "{no_key:?}");
    assert!(dht(&["pkarr", "inspect", "no such file"]).expect(2).stderr.contains("no such file"));
    let endless = dht_with_input(&["pkarr", "inspect", "-"], &[0; 10_000]).expect(2);
    assert!(endless.stderr.contains("longer than any packet"), "{endless:?}");
}

#[test]
fn bad_keys_records_and_relays_are_bad_input() {
    let dir = TempDir::new();
    let key = key_file(&dir);
    let zone = dir.with("zone", "$TTL 60\n@ A 192.0.2.1\nwww A nowhere\n");
    for (text, word) in [
        (&KEY[1..], "52 characters"),
        (&KEY.to_uppercase(), "lower case"),
        (&format!("{}n", &KEY[..51]), "canonical"),
        ("example.com", "52 characters"),
    ] {
        let run = dht(&["pkarr", "resolve", text]).expect(2);
        assert!(run.stderr.contains(word), "{run:?}");
    }
    let publish = |args: &[&str]| dht(&[&["pkarr", "publish", "--key", &key], args].concat());
    let long = format!("@ TXT {}", "x".repeat(200));
    for (args, word) in [
        (&[][..], "RECORD"),
        (&["@ A 192.0.2.256"], "IPv4"),
        (&["example.com. A 192.0.2.1"], "below the key"),
        (&["--zone", &zone], "line 3: \"nowhere\""),
        (&["--zone", "no such file"], "no such file"),
        (&["@ A 192.0.2.1", "--relay", "relay.example"], "http://"),
        #[cfg(not(feature = "https"))]
        (&["@ A 192.0.2.1", "--relay", "https://relay.example"], "default features"),
        (&["@ A 192.0.2.1", "--no-dht"], "--relay"),
        (&["@ A 192.0.2.1", "--timestamp", "9223372036854775808"], "microseconds"),
        (&[&long, &long, &long, &long, &long], "996"),
    ] {
        let run = publish(args).expect(2);
        assert!(run.stderr.contains(word), "{args:?}: {run:?}");
    }
    let list = dir.with("list", format!("{KEY}\n\nnonsense\n"));
    for (list, word) in [(&*list, "line 3: a key has"), ("no such file", "no such file")] {
        let run = dht(&["pkarr", "keep-alive", "--keys", list]).expect(2);
        assert!(run.stderr.contains(word) && run.stderr.contains("on each line"), "{run:?}");
    }
    let ahead = publish(&["@ A 192.0.2.1", "--timestamp", "99999999999999999", "--dry-run"]);
    assert!(ahead.expect(0).stderr.contains("until Wed, 16 Nov 5138"));
    let no_key = dir.with("no-key", "x");
    assert!(
        dht(&["pkarr", "publish", "--key", &no_key, "@ A 1.2.3.4"]).expect(2).stdout.is_empty()
    );
    let nothing = dht(&["pkarr", "keep-alive", "--no-dht", "--relay", "http://127.0.0.1:1"]);
    assert!(nothing.expect(2).stderr.contains("nothing to keep alive"));
}

#[test]
fn what_is_published_is_resolved_and_what_is_older_refused() {
    let node = Node::start("127.64.0.1:0", &["--no-bootstrap"]);
    let dir = TempDir::new();
    let key = key_file(&dir);
    let zone =
        dir.with("zone", "@ 60 A 192.0.2.1\n  HTTPS 1 . port=8443\nwww CNAME example.com.\n");
    let publish = ["pkarr", "publish", "--key", &key, "--zone", &zone];
    let nobody = at(&node, &["pkarr", "resolve", KEY]).expect(1);
    assert!(nobody.stderr.contains("two hours"), "{nobody:?}");
    let done = at(&node, &[&publish[..], &["_note TXT 'quoted'"]].concat()).expect(0).done();
    assert_eq!((&done["key"], &done["stored"]), (&KEY.into(), &1.into()));
    let all = at(&node, &["pkarr", "resolve", KEY]).expect(0);
    let text = |text: &str| text.to_owned();
    let expected = [
        (text(KEY), text("A"), text("192.0.2.1")),
        (text(KEY), text("HTTPS"), text("1 . port=8443")),
        (format!("www.{KEY}"), text("CNAME"), text("example.com.")),
        (format!("_note.{KEY}"), text("TXT"), text("\"'quoted'\"")),
    ];
    assert_eq!(records(&all), expected);
    assert_eq!(all.of_type("packet")[0]["origin"], "dht");
    let one = at(&node, &["pkarr", "resolve", &format!("https://www.{KEY}/path")]).expect(0);
    assert_eq!(records(&one), expected[2..3]);
    let missing = at(&node, &["pkarr", "resolve", &format!("mail.{KEY}")]).expect(1);
    assert!(missing.stderr.contains("no records of this name"), "{missing:?}");
    // What resolve prints is a zone file.
    let through = node.addr();
    let global = ["--bootstrap", &through, "--bind", "127.64.9.1:0"];
    let words = dht(&[&["pkarr", "resolve", KEY], &global[..]].concat()).expect(0).stdout;
    let again = dir.with("again", words);
    let twice = ["pkarr", "publish", "--key", &key, "--zone", &again, "--dry-run", "--json"];
    assert_eq!(records(&dht(&twice).expect(0)), expected);
    // Conflicts.
    let old = at(&node, &[&publish[..], &["--timestamp", "5"]].concat()).expect(1);
    assert!(old.stderr.contains("newer packet") && old.stderr.contains("--timestamp"), "{old:?}");
    assert_eq!(old.done()["errors"]["302"], 1);
    let refusal = &old.done()["refusals"][0];
    assert_eq!((&refusal["addr"], &refusal["code"]), (&node.addr().into(), &302.into()));
    assert_eq!(refusal["id"], *node.id);
    let other = at(&node, &[&publish[..], &["--cas", "5"]].concat()).expect(1);
    assert_eq!(other.done()["errors"]["301"], 1);
    let timestamp = done["timestamp"].to_string();
    at(&node, &[&publish[..], &["--cas", &timestamp]].concat()).expect(0);
    // What is newer, but no packet, is not passed over; and it is said how to see it.
    at(&node, &["put-mutable", "--key", &key, "something else"]).expect(0);
    let other = at(&node, &["pkarr", "resolve", KEY]).expect(1);
    assert!(other.stderr.contains("is no packet"), "{other:?}");
    let (_, command) = other.stderr.trim_end().rsplit_once("with dht ").unwrap();
    let item = at(&node, &command.split(' ').collect::<Vec<_>>()).expect(0);
    assert_eq!(item.of_type("item")[0]["value"], "something else");
}

#[test]
fn a_cache_remembers_what_was_published_and_resolved() {
    let node = Node::start("127.64.3.1:0", &["--no-bootstrap"]);
    let dir = TempDir::new();
    let (key, first, second) = (key_file(&dir), dir.file("first"), dir.file("second"));
    let publish = ["pkarr", "publish", "--key", &key, "@ A 192.0.2.7", "--cache", &first];
    at(&node, &publish).expect(0);
    at(&node, &["pkarr", "resolve", KEY, "--cache", &second]).expect(0);
    let gone = node.addr();
    drop(node.stop("-KILL"));
    for cache in [&first, &second] {
        for policy in ["first", "cache"] {
            let args = ["pkarr", "resolve", KEY, "--cache", cache, "--policy", policy, "--json"];
            let global = ["--bootstrap", &gone, "--bind", "127.64.3.2:0", "--timeout", "1"];
            let run = dht(&[&args[..], &global].concat()).expect(0);
            assert_eq!(run.of_type("packet")[0]["origin"], "cache", "{run:?}");
        }
    }
    // The one in the cache is newer than this, and nobody has to be asked for that.
    let old = [&publish[..], &["--timestamp", "5", "--bootstrap", &gone, "--bind", "127.64.3.2:0"]];
    let old = dht(&old.concat()).expect(1);
    assert!(old.stderr.contains("newer"), "{old:?}");
    let diary = dir.with("diary", "dear diary");
    let run = dht(&["pkarr", "resolve", KEY, "--cache", &diary, "--bootstrap", &gone]).expect(2);
    assert!(run.stderr.contains("hint: move it away"), "{run:?}");
    assert_eq!(fs::read(&diary).unwrap(), b"dear diary");
}

#[test]
fn nobody_there_is_no_contact() {
    let dir = TempDir::new();
    let key = key_file(&dir);
    let relay = ["--no-dht", "--relay", "http://127.0.0.1:1"];
    let publish = [&["pkarr", "publish", "--key", &key, "@ A 192.0.2.1", "--json"], &relay[..]];
    let run = dht(&publish.concat()).expect(3);
    assert_eq!(run.done()["relays"][0]["url"], "http://127.0.0.1:1");
    assert!(run.done()["relays"][0]["error"].is_string(), "{run:?}");
    let resolve = dht(&[&["pkarr", "resolve", KEY], &relay[..]].concat()).expect(3);
    assert!(resolve.stderr.contains("http://127.0.0.1:1"), "{resolve:?}");
}

/// What keeps packets alive is told to stop, then killed; whoever comes next needs nothing but the file.
#[cfg(unix)]
#[test]
fn packets_are_kept_alive_until_it_is_stopped_and_known_afterwards() {
    let node = Node::start("127.64.1.1:0", &["--no-bootstrap"]);
    let dir = TempDir::new();
    let (key, saved, state) = (key_file(&dir), dir.file("packet"), dir.file("state"));
    let publish = ["pkarr", "publish", "--key", &key, "@ A 192.0.2.1", "--dry-run"];
    dht(&[&publish[..], &["--save", &saved]].concat()).expect(0);
    let through = node.addr();
    let global = ["--json", "--bootstrap", &through, "--bind", "127.64.8.1:0", "--copies", "1"];
    let start = |args: &[&str]| {
        let (running, line) = Running::start(&[&["pkarr", "keep-alive"], args, &global].concat());
        let keeping: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&keeping["type"], &keeping["keys"]), (&"keeping".into(), &1.into()), "{line}");
        (running, keeping["published"] == 1)
    };
    let alone = ["--state", &state];
    start(&["--packet", &saved, "--state", &state]).0.stop("-KILL");
    // It may have been published, and that written, before the kill.
    let (mut running, published) = start(&alone);
    if !published {
        assert!(running.line().contains("\"published\""));
    }
    let second = ["pkarr", "keep-alive", "--state", &state, "--bootstrap", &through];
    let second = dht(&second).expect(2);
    assert!(second.stderr.contains("another process"), "{second:?}");
    for signal in ["-TERM", "-KILL", "-TERM"] {
        let (status, rest, _) = running.stop(signal);
        assert!(!rest.contains("\"failed\""), "{rest}");
        if signal == "-TERM" {
            assert_eq!(status, Some(0));
            assert!(rest.lines().last().unwrap().contains("\"total\":1"), "{rest}");
        }
        let (next, published) = start(&alone);
        assert!(published, "it is not forgotten when that was");
        running = next;
    }
    running.stop("-TERM");
    let found = at(&node, &["pkarr", "resolve", KEY]).expect(0);
    assert_eq!(found.of_type("record").len(), 1);
    fs::write(&state, "dear diary").unwrap();
    let run = dht(&["pkarr", "keep-alive", "--state", &state, "--bootstrap", &through]).expect(2);
    assert!(run.stderr.contains("hint: move it away"), "{run:?}");
}

/// Packets of a directory; keys that are found, and one that is not; what fails is said, with numbers.
#[cfg(unix)]
#[test]
fn keep_alive_takes_what_it_can_and_says_what_it_leaves_out() {
    let node = Node::start("127.64.4.1:0", &["--no-bootstrap"]);
    let dir = TempDir::new();
    let packets = dir.file("packets");
    fs::create_dir(&packets).unwrap();
    for number in 0..5 {
        // Their names could be taken for digits.
        let (key, saved) = (dir.file(&format!("key{number}")), format!("{packets}/{number}0"));
        dht(&["pkarr", "keygen", &key]).expect(0);
        let publish = ["pkarr", "publish", "--key", &key, "@ A 192.0.2.1", "--save", &saved];
        if number == 0 {
            at(&node, &publish).expect(0);
        } else {
            dht(&[&publish[..], &["--dry-run"]].concat()).expect(0);
        }
    }
    let known = fs::read(format!("{packets}/00")).unwrap();
    fs::remove_file(format!("{packets}/00")).unwrap();
    let known: [u8; 32] = known[..32].try_into().unwrap();
    let known = dht_pkarr_client::pkarr::PublicKey::from_bytes(known).unwrap().to_string();
    let through = node.addr();
    let global = ["--bootstrap", &through, "--bind", "127.64.4.2:0", "--copies", "1"];
    let keys = dir.with("keys", format!("{known}\n\n https://www.{KEY}/ \r\n{known}"));
    let args = ["pkarr", "keep-alive", "--keys", &keys, "--packet", &packets, "--json"];
    let mut child = command(&[&args[..], &global].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let all = line["type"] == "keeping" && line["waiting"] == 0;
        lines.push(line);
        if all {
            break;
        }
    }
    let left_out = lines.iter().find(|line| line["what"] == "left_out").unwrap();
    assert_eq!(left_out["key"], KEY);
    let published = lines.iter().filter(|line| line["what"] == "published").count();
    assert_eq!(published, 5, "{lines:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["keys"], &last["published"]), (&5.into(), &5.into()), "{last}");
    child.kill().unwrap();
    child.wait().unwrap();
}
