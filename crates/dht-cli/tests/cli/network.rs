//! Twenty nodes and their users, every one a process of its own.

use core::sync::atomic::{AtomicU16, Ordering};
use std::fs;

use serde_json::Value;

use crate::support::{Node, Run, TempDir, dht, dht_with_input, hex, wait_until};

const HASH: &str = "9a0364b9e99bb480dd25e1f0284c8555d2a2ab03";
const NODES: usize = 20;

/// A network, entered through its first nodes.
struct Network {
    nodes: Vec<Node>,
}

impl Network {
    fn start() -> Self {
        let first = Node::start("127.61.0.1:0", &["--no-bootstrap"]);
        let through = first.addr();
        let mut nodes = vec![first];
        for index in 1..NODES {
            nodes.push(Node::start(&format!("127.61.{index}.1:0"), &["--bootstrap", &through]));
        }
        let network = Self { nodes };
        // Whoever is asked first, every node is found, and the same eight are nearest.
        for node in &network.nodes {
            wait_until("everybody is found through everybody", || {
                network.nodes.iter().all(|through| {
                    let found = nodes_near(&node.id, through);
                    found.len() == 8 && found[0] == node.id
                })
            });
        }
        wait_until("everybody agrees who is nearest", || {
            let first = nodes_near(HASH, &network.nodes[0]);
            network.nodes.iter().all(|through| nodes_near(HASH, through) == first)
        });
        network
    }

    /// Runs a command from an address of its own.
    fn run(&self, args: &[&str], bind: &str) -> Run {
        self.run_with_input(args, bind, b"")
    }

    fn run_with_input(&self, args: &[&str], bind: &str, input: &[u8]) -> Run {
        // Everybody enters through another node.
        let through = self.nodes[args.join("").len() % NODES].addr();
        let global = ["--json", "--bootstrap", &through, "--bind", bind];
        dht_with_input(&[args, &global].concat(), input)
    }

    fn get(&self, args: &[&str]) -> Value {
        let run = self.run(&[&["get"], args].concat(), "127.62.0.9:0").expect(0);
        let items = run.of_type("item");
        assert_eq!(items.len(), 1, "{run:?}");
        items[0].clone()
    }
}

/// Asks from an address that no other question comes from: a node answers less to a network prefix
/// that asks a lot.
fn nodes_near(id: &str, through: &Node) -> Vec<String> {
    let bind = fresh_addr();
    let run = dht(&["find-node", id, "--json", "--bootstrap", &through.addr(), "--bind", &bind]);
    run.of_type("node").iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
}

fn fresh_addr() -> String {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    format!("127.{}.{low}.1:0", 100 + high)
}

#[test]
fn twenty_nodes_serve_every_command() {
    let network = Network::start();
    ping_and_find(&network);
    announce_and_get_peers(&network);
    immutable_items(&network);
    mutable_items(&network);
}

fn ping_and_find(network: &Network) {
    let node = &network.nodes[7];
    let run = dht(&["ping", &node.addr(), "--json"]).expect(0);
    assert_eq!(run.of_type("node")[0]["id"], node.id);
    assert_eq!(run.done()["replies"], 1);
    let run = network.run(&["find-node", &node.id], "127.62.0.1:0").expect(0);
    let found = run.of_type("node");
    assert_eq!(found.len(), 8);
    assert_eq!(found[0]["id"], node.id, "the nearest comes first");
    assert_eq!(found[0]["addr"], node.addr());
    assert!(run.done()["queries"].as_u64().unwrap() >= 8);
}

fn announce_and_get_peers(network: &Network) {
    let none = network.run(&["get-peers", HASH], "127.62.0.1:0").expect(1);
    assert_eq!(none.done()["peers"], 0);
    let run =
        network.run(&["announce", HASH, "--port", "6881", "--seed"], "127.62.0.2:0").expect(0);
    assert_eq!(run.done()["stored"], 8, "{run:?}");
    network.run(&["announce", HASH], "127.62.0.3:40404").expect(0);
    let magnet = format!("magnet:?xt=urn:btih:{HASH}&tr=http%3A%2F%2Ft");
    for what in [HASH, &magnet] {
        let run = network.run(&["get-peers", what, "--scrape"], "127.62.0.4:0").expect(0);
        let mut peers: Vec<_> = run
            .of_type("peer")
            .iter()
            .map(|peer| peer["addr"].as_str().unwrap().to_owned())
            .collect();
        peers.sort();
        assert_eq!(peers, ["127.62.0.2:6881", "127.62.0.3:40404"]);
        let done = run.done();
        assert_eq!(done["peers"], 2);
        assert!((done["seeds"].as_f64().unwrap() - 1.0).abs() < 0.1, "{done}");
        assert!((done["downloaders"].as_f64().unwrap() - 1.0).abs() < 0.1, "{done}");
        assert!(done["first_value_ms"].as_f64().unwrap() <= done["duration_ms"].as_f64().unwrap());
    }
    let mut holders = 0;
    for node in &network.nodes {
        let sample = || dht(&["sample", &node.addr(), "--json", "--bind", &fresh_addr()]).expect(0);
        let hashes = sample().of_type("info_hash");
        holders += usize::from(hashes.iter().any(|line| line["info_hash"] == HASH));
        // A node that has just started does not know as many yet.
        wait_until("nodes that a crawler asks next", || sample().of_type("node").len() >= 8);
    }
    assert_eq!(holders, 8);
}

fn immutable_items(network: &Network) {
    let run = network.run(&["put-immutable", "Hello World!"], "127.62.0.5:0").expect(0);
    let done = run.done();
    assert_eq!(done["target"], "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    assert_eq!(done["stored"], 8);
    let item = network.get(&["e5f96f6f38320f0f33959cb4d3d656452117aadb"]);
    assert_eq!(item["value"], "Hello World!");
    assert_eq!(item["bencode"], "31323a48656c6c6f20576f726c6421");
    assert!(item["seq"].is_null());

    // Bytes that are no text, of the greatest length.
    let bytes: Vec<u8> = (0..996_u32).map(|i| (i * 7) as u8).collect();
    let run = network.run_with_input(&["put-immutable", "-"], "127.62.0.5:0", &bytes).expect(0);
    let target = run.done()["target"].as_str().unwrap().to_owned();
    let item = network.get(&[&target]);
    assert!(item["value"].is_null());
    let bencode = hex(&[b"996:", bytes.as_slice()].concat());
    assert_eq!(item["bencode"], bencode);

    let args = ["put-immutable", "--bencode", "d3:agei42ee"];
    let target = network.run(&args, "127.62.0.5:0").expect(0).done()["target"].clone();
    assert_eq!(network.get(&[target.as_str().unwrap()])["bencode"], hex(b"d3:agei42ee"));

    let human = dht(&["get", &"00".repeat(20), "--bootstrap", &network.nodes[3].addr()]).expect(1);
    assert!(human.stdout.starts_with("not found"), "{human:?}");
}

fn mutable_items(network: &Network) {
    let dir = TempDir::new();
    let key = dir.file("key");
    let public_key = dht(&["keygen", &key, "--json"]).expect(0).done()["public_key"].clone();
    let public_key = public_key.as_str().unwrap();
    let put = |args: &[&str]| {
        network.run(&[&["put-mutable", "--key", &key], args].concat(), "127.62.0.6:0")
    };
    let get = |args: &[&str]| network.get(&[&["--public-key", public_key], args].concat());

    let first = put(&["one"]).expect(0).done();
    assert_eq!((&first["seq"], &first["stored"]), (&1.into(), &8.into()));
    assert_eq!(first["public_key"], public_key);
    assert_eq!(get(&[])["value"], "one");
    let second = put(&["two"]).expect(0).done();
    assert_eq!(second["seq"], 2, "one more than the newest");
    let item = get(&[]);
    assert_eq!((&item["value"], &item["seq"]), (&"two".into(), &2.into()));
    assert_eq!(item["target"], second["target"]);

    let stale = put(&["stale", "--seq", "1"]).expect(1).done();
    assert_eq!(stale["stored"], 0);
    assert_eq!(stale["errors"]["302"], 8, "{stale}");
    let mismatch = put(&["lost", "--cas", "1"]).expect(1).done();
    assert_eq!(mismatch["errors"]["301"], 8, "{mismatch}");
    assert_eq!(get(&[])["value"], "two");
    assert_eq!(put(&["three", "--cas", "2"]).expect(0).done()["seq"], 3);
    assert_eq!(get(&[])["value"], "three");

    let salted = put(&["salted", "--salt", "blog"]).expect(0).done();
    assert_eq!(salted["seq"], 1, "an item of its own");
    let item = get(&["--salt-hex", "626c6f67"]);
    assert_eq!((&item["value"], &item["salt"]), (&"salted".into(), &"blog".into()));
    assert_eq!(get(&[])["value"], "three");

    let run = put(&["x", "--salt", "new", "--cas", "1"]).expect(2);
    assert!(run.stderr.contains("leave out --cas"), "{run:?}");
    put(&["highest", "--salt", "top", "--seq", "9223372036854775807"]).expect(0);
    let run = put(&["more", "--salt", "top"]).expect(2);
    assert!(run.stderr.contains("highest seq"), "{run:?}");
    key_files_others_can_read_are_warned_about(&key, &put(&["four"]), || put(&["five"]));
}

fn key_files_others_can_read_are_warned_about(key: &str, private: &Run, put: impl Fn() -> Run) {
    assert_eq!(private.stderr, "");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
        let run = put().expect(0);
        assert!(run.stderr.contains("chmod 600"), "{run:?}");
    }
}

#[test]
fn bootstrap_names_are_resolved_before_anybody_is_asked() {
    let node = Node::start("127.0.0.1:0", &["--no-bootstrap"]);
    let name = format!("localhost:{}", node.addr.port());
    // Each command is a process that has known nobody before.
    for _ in 0..5 {
        let run = dht(&["get-peers", HASH, "--json", "--bootstrap", &name]).expect(1);
        assert_eq!(run.done()["peers"], 0);
    }
    dht(&["announce", HASH, "--port", "7", "--bootstrap", &name]).expect(0);
    let run = dht(&["get-peers", HASH, "--json", "--bootstrap", &name]).expect(0);
    assert_eq!(run.of_type("peer")[0]["addr"], "127.0.0.1:7");
    // Names that lead nowhere, beside one that does not.
    let nowhere = too_long_a_name();
    let args = ["get-peers", HASH, "--bootstrap", &nowhere, "--bootstrap", &name];
    dht(&args).expect(0);
}

#[test]
fn a_bootstrap_name_without_address_is_named_and_the_next_step_too() {
    let nowhere = too_long_a_name();
    for command in [&["get-peers", HASH][..], &["put-immutable", "x"], &["find-node", HASH]] {
        let run = dht(&[command, &["--json", "--bootstrap", &nowhere]].concat()).expect(3);
        let errors = run.of_type("error");
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.contains(&nowhere), "{run:?}");
        let hint = errors[0]["hint"].as_str().unwrap();
        assert!(hint.contains("--bootstrap ADDR:PORT"), "{run:?}");
    }
}

/// A name that fails without anybody being asked: no label may be longer than 63 letters.
fn too_long_a_name() -> String {
    format!("{}.invalid:6881", "x".repeat(64))
}
