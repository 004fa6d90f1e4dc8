//! `dht testnet` and its clients, every one a process of its own.

use std::net::UdpSocket;
use std::process::Command;

use serde_json::Value;

use crate::support::{Running, TempDir, dht};

const HASH: &str = "9a0364b9e99bb480dd25e1f0284c8555d2a2ab03";

/// A `dht testnet`.
struct Testnet {
    running: Running,
    ready: Value,
}

impl Testnet {
    /// Starts one and waits until it is ready, or returns how it failed.
    fn start(args: &[&str]) -> Result<Self, (Option<i32>, String)> {
        let all = [&["testnet", "--json", "--bind", "0.0.0.0:0"], args].concat();
        let (running, line) = Running::start(&all);
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        if ready["type"] != "listening" {
            let (status, _, stderr) = running.end();
            return Err((status, stderr));
        }
        Ok(Self { running, ready })
    }

    fn bootstrap(&self) -> Vec<String> {
        let addrs = self.ready["bootstrap"].as_array().unwrap();
        addrs.iter().map(|addr| addr.as_str().unwrap().to_owned()).collect()
    }

    /// See [`Running::stop`].
    fn stop(self, signal: &str) -> (Option<i32>, String, String) {
        self.running.stop(signal)
    }
}

#[test]
fn every_command_works_through_a_simulated_network() {
    let testnet =
        Testnet::start(&["--nodes", "500", "--seed", "3"]).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((&testnet.ready["nodes"], &testnet.ready["seed"]), (&500.into(), &3.into()));
    let nodes = testnet.bootstrap();
    let run = |args: &[&str], through: usize, bind: &str| {
        dht(&[args, &["--json", "--bootstrap", &nodes[through], "--bind", bind]].concat())
    };
    assert_eq!(dht(&["ping", &nodes[0], "--json"]).expect(0).of_type("node")[0]["addr"], nodes[0]);
    run(&["announce", HASH, "--port", "6881"], 1, "127.0.0.2:0").expect(0);
    let found = run(&["get-peers", HASH], 2, "127.0.0.3:0").expect(0);
    assert_eq!(found.of_type("peer")[0]["addr"], "127.0.0.2:6881");
    assert!(found.done()["depth"].as_u64().unwrap() >= 2, "{found:?}");
    let target = run(&["put-immutable", "Hello World!"], 3, "127.0.0.2:0").expect(0).done();
    let target = target["target"].as_str().unwrap().to_owned();
    let item = run(&["get", &target], 4, "127.0.0.3:0").expect(0);
    assert_eq!(item.of_type("item")[0]["value"], "Hello World!");
    let dir = TempDir::new();
    let key = dir.file("key");
    dht(&["keygen", &key]).expect(0);
    let put = run(&["put-mutable", "--key", &key, "signed"], 5, "127.0.0.2:0").expect(0).done();
    let public_key = put["public_key"].as_str().unwrap();
    let item = run(&["get", "--public-key", public_key], 6, "127.0.0.3:0").expect(0);
    assert_eq!(item.of_type("item")[0]["value"], "signed");
    let (status, stdout, stderr) = testnet.stop("-TERM");
    assert_eq!(
        (status, stdout.as_str()),
        (Some(0), "{\"type\":\"done\",\"ok\":true}\n"),
        "{stderr}"
    );
}

/// More nodes than store an item by default, and more than one reply names.
#[test]
fn packets_are_kept_alive_at_as_many_nodes_as_are_asked_for() {
    let testnet = ["--nodes", "200", "--seed", "5", "--profile", "lan"];
    let testnet = Testnet::start(&testnet).unwrap_or_else(|e| panic!("{e:?}"));
    let dir = TempDir::new();
    let (key, packet) = (dir.file("key"), dir.file("packet"));
    dht(&["keygen", &key]).expect(0);
    let publish = ["pkarr", "publish", "--key", &key, "@ A 192.0.2.1", "--dry-run"];
    dht(&[&publish[..], &["--save", &packet]].concat()).expect(0);
    let keep = ["pkarr", "keep-alive", "--packet", &packet, "--copies", "20", "--json"];
    let through = ["--bootstrap", &testnet.bootstrap()[0], "--bind", "127.0.0.4:0"];
    let (mut keeping, _) = Running::start(&[&keep[..], &through].concat());
    let published: Value = serde_json::from_str(&keeping.line()).unwrap();
    assert_eq!((&published["what"], &published["stored"]), (&"published".into(), &20.into()));
    let summary: Value = serde_json::from_str(&keeping.line()).unwrap();
    assert_eq!((&summary["published"], &summary["failing"]), (&1.into(), &0.into()), "{summary}");
}

#[test]
fn the_network_ends_with_its_time_or_by_a_signal() {
    let run =
        dht(&["testnet", "--nodes", "20", "--bind", "0.0.0.0:0", "--duration", "0.2"]).expect(0);
    assert!(run.stdout.starts_with("listening: 20 nodes in 127.0.0.0/8"), "{run:?}");
    assert!(run.stdout.contains("dht get-peers ") && run.stdout.ends_with("stopped\n"), "{run:?}");
    let testnet = Testnet::start(&["--nodes", "20", "-v"]).unwrap_or_else(|e| panic!("{e:?}"));
    let (status, stdout, stderr) = testnet.stop("-INT");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(
        stdout.contains("\"lateness_ms\"") && stderr.contains("datagrams in"),
        "{stdout}{stderr}"
    );
}

#[test]
fn the_same_seed_makes_the_same_network() {
    let addrs = |seed: &str| {
        let testnet = Testnet::start(&["--nodes", "50", "--seed", seed]);
        let testnet = testnet.unwrap_or_else(|e| panic!("{e:?}"));
        let without_port = |addr: String| addr.split(':').next().unwrap().to_owned();
        testnet.bootstrap().into_iter().map(without_port).collect::<Vec<_>>()
    };
    assert_eq!(addrs("9"), addrs("9"));
    assert_ne!(addrs("9"), addrs("10"));
}

#[test]
fn a_namespace_is_made_or_how_to_make_one_is_told() {
    let args = ["--nodes", "300", "--profile", "lan", "--netns", "--family", "both"];
    match Testnet::start(&args) {
        Ok(testnet) => {
            let nodes = testnet.bootstrap();
            let v4 = nodes.iter().find(|node| node.starts_with("198.1")).unwrap();
            let v6 = nodes.iter().find(|node| node.starts_with("[3fff:")).unwrap();
            assert_eq!(dht(&["ping", v4, "--timeout", "0.5"]).status, 1, "it is not out here");
            let pid = testnet.running.pid();
            let inside = |args: &[&str]| {
                let dht = env!("CARGO_BIN_EXE_dht");
                let output = Command::new("nsenter")
                    .args([&["-t", &pid, "-n", dht], args, &["--json"]].concat())
                    .output()
                    .unwrap();
                let stdout = String::from_utf8(output.stdout).unwrap();
                assert_eq!(output.status.code(), Some(0), "{args:?}: {stdout}");
                stdout
            };
            // No --bind: clients with their default settings, and IPv6 ones from then on.
            for (node, peer) in [(v4, "\"198.18.0.1:6881\""), (v6, "\"[3fff::1]:6881\"")] {
                inside(&["announce", HASH, "--port", "6881", "--bootstrap", node]);
                let found = inside(&["get-peers", HASH, "--bootstrap", node]);
                assert!(found.contains(peer), "{found}");
            }
        }
        Err((status, stderr)) => {
            assert_eq!(status, Some(2), "{stderr}");
            for words in ["unshare --net", "lo up", "198.18.0.1/15 dev lo", "3fff::/20 dev lo"] {
                assert!(stderr.contains(words), "{stderr}");
            }
        }
    }
}

#[test]
fn nodes_come_and_go_if_they_are_told_to() {
    let args = ["--nodes", "200", "--profile", "lan", "--churn", "60000", "-v"];
    let testnet = Testnet::start(&args).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(testnet.ready["churn"], 60_000);
    // Who is to be started from stays.
    let node = &testnet.bootstrap()[0];
    dht(&["ping", node]).expect(0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    dht(&["ping", node]).expect(0);
    let (status, stdout, stderr) = testnet.stop("-INT");
    assert_eq!(status, Some(0), "{stderr}");
    let last = stdout.lines().find(|line| line.contains("\"status\"")).unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert!(last["left"].as_u64() > Some(0) && last["came"].as_u64() > Some(0), "{last}");
}

#[test]
fn what_makes_no_network_is_refused() {
    let holder = UdpSocket::bind("0.0.0.0:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for (args, words) in [
        (&["--profile", "moon"][..], "lan, internet"),
        (&["--seed", "x"], "--seed"),
        (&["--nodes", "0"], "--nodes"),
        (&["--nodes", "many"], "--nodes"),
        (&["--nodes", "1000", "--range", "127.9.0.0/24"], "253 addresses"),
        (&["--range", "127.9.0.1/24"], "127.0.0.0/8"),
        (&["--range", "192.0.2.0/24", "--nodes", "9"], "ip link set lo up"),
        (&["--bind", "127.0.0.1:0"], "0.0.0.0:0"),
        (&["--bind", "[::1]:0"], "--range"),
        (&["--bind", "0.0.0.0:1", "--bind", "[::]:1"], "more than one --bind"),
        (&["--bind", "0.0.0.0:65500"], "a port up to 65472"),
        (&["--family", "v5"], "both"),
        (&["--churn", "0"], "1 to 100000"),
        (&["--churn", "often"], "1 to 100000"),
        // Nobody has these addresses without having made them local.
        (&["--family", "v6", "--nodes", "9"], "ip -6 route add local 3fff::/20"),
        (&["--family", "both", "--nodes", "9"], "198.18.0.1/15"),
        (&["--bind", &taken], "in use"),
        (&["--duration", "soon"], "seconds"),
        (&["--bootstrap", "127.0.0.1:1"], "--bootstrap"),
    ] {
        let run = dht(&[&["testnet"], args].concat()).expect(2);
        assert!(run.stderr.contains(words), "{args:?}: no {words:?} in {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
        let json = dht(&[&["testnet", "--json"], args].concat()).expect(2);
        assert_eq!(json.of_type("error")[0]["code"], 2, "{json:?}");
    }
}
