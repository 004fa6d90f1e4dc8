//! The life of a `dht node`: state, signals, metrics, configuration.

use core::net::SocketAddr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::{Node, TempDir, dht, wait_until};

const HELLO: &str = "e5f96f6f38320f0f33959cb4d3d656452117aadb";

/// A node with a state, and a neighbour that stores the same item.
fn with_state(net: u8, dir: &str) -> (Node, Node) {
    let neighbour = Node::start(&format!("127.{net}.0.1:0"), &["--no-bootstrap"]);
    let args = ["--bootstrap", &neighbour.addr(), "--data-dir", dir, "--save-interval", "0.1"];
    let node = Node::start(&format!("127.{net}.0.2:0"), &args);
    wait_until("both store the item", || {
        let args = ["put-immutable", "Hello World!", "--json", "--bootstrap", &node.addr()];
        dht(&args).done()["stored"] == 2
    });
    (node, neighbour)
}

fn state(dir: &str) -> Vec<u8> {
    fs::read(format!("{dir}/dht.state")).unwrap_or_default()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Restarts the node alone, and finds what it knew before.
fn comes_back(old_id: &str, addr: SocketAddr, dir: &str) -> Node {
    let node = Node::start(&addr.to_string(), &["--no-bootstrap", "--data-dir", dir]);
    assert_eq!(node.id, old_id);
    let args = ["get", HELLO, "--json", "--bootstrap", &node.addr(), "--timeout", "5"];
    assert_eq!(dht(&args).expect(0).of_type("item")[0]["value"], "Hello World!");
    node
}

#[test]
fn kill_9_loses_neither_id_nor_items_that_were_saved() {
    let dir = TempDir::new();
    let data = dir.file("data");
    let (node, neighbour) = with_state(63, &data);
    wait_until("the item is saved", || contains(&state(&data), b"Hello World!"));
    let (id, addr) = (node.id.clone(), node.addr);
    let (status, ..) = node.stop("-KILL");
    assert_eq!(status, None, "killed");
    drop(neighbour);
    comes_back(&id, addr, &data);
}

#[test]
fn a_new_id_is_saved_at_once() {
    let dir = TempDir::new();
    let data = dir.file("data");
    let node = Node::start("127.0.0.1:0", &["--no-bootstrap", "--data-dir", &data]);
    wait_until("a state is saved", || !state(&data).is_empty());
    let (id, addr) = (node.id.clone(), node.addr);
    node.stop("-KILL");
    let node = Node::start(&addr.to_string(), &["--no-bootstrap", "--data-dir", &data]);
    assert_eq!(node.id, id);
}

#[test]
fn kill_9_loses_no_item_that_is_two_seconds_old() {
    let dir = TempDir::new();
    let (data, key) = (dir.file("data"), dir.file("key"));
    dht(&["keygen", &key]).expect(0);
    // Nothing is saved for its age alone.
    let args = ["--no-bootstrap", "--data-dir", &data, "--save-interval", "3600"];
    let node = Node::start("127.71.0.1:0", &args);
    let through = node.addr();
    let put = |value: &str| {
        let args = ["put-mutable", "--key", &key, value, "--json", "--bootstrap", &through];
        dht(&args).expect(0).done()["target"].as_str().unwrap().to_owned()
    };
    let immutable = ["put-immutable", "Hello World!", "--bootstrap", &through];
    dht(&immutable).expect(0);
    wait_until("the item is saved", || contains(&state(&data), b"Hello World!"));
    // The number of items stays the same, what they are does not.
    let mut target = String::new();
    for value in ["first version", "second version"] {
        target = put(value);
        wait_until("the version is saved", || contains(&state(&data), value.as_bytes()));
    }
    let (id, addr) = (node.id.clone(), node.addr);
    node.stop("-KILL");
    let node = comes_back(&id, addr, &data);
    let run = dht(&["get", &target, "--json", "--bootstrap", &node.addr()]).expect(0);
    assert_eq!(run.of_type("item")[0]["value"], "second version");
}

#[test]
fn a_young_node_that_is_killed_comes_back_with_its_contacts() {
    let dir = TempDir::new();
    let data = dir.file("data");
    let neighbour = Node::start("127.72.0.1:0", &["--no-bootstrap"]);
    let args = ["--bootstrap", &neighbour.addr(), "--data-dir", &data];
    let node = Node::start("127.72.0.2:0", &args);
    let compact = |addr: SocketAddr| match addr {
        SocketAddr::V4(addr) => [&addr.ip().octets()[..], &addr.port().to_be_bytes()[..]].concat(),
        SocketAddr::V6(_) => panic!("{addr} is IPv6"),
    };
    wait_until("the neighbour is saved", || contains(&state(&data), &compact(neighbour.addr)));
    let addr = node.addr;
    node.stop("-KILL");
    let node = Node::start(&addr.to_string(), &["--no-bootstrap", "--data-dir", &data]);
    wait_until("the neighbour is found again, without bootstrap nodes", || {
        let args = ["find-node", &neighbour.id, "--json", "--bootstrap", &node.addr()];
        dht(&args).of_type("node").iter().any(|found| found["id"] == neighbour.id)
    });
}

#[test]
fn the_port_stays_the_same_after_a_restart() {
    let dir = TempDir::new();
    let data = dir.file("data");
    fs::create_dir(&data).unwrap();
    let port = free_udp_port();
    dir.with("data/dht.port", format!("{port}\n"));
    let start = || Node::start_anywhere(&["--no-bootstrap", "--data-dir", &data]);
    for _ in 0..2 {
        let node = start();
        assert_eq!(node.addr.port(), port);
        node.stop("-KILL");
    }
    // In use: another one for now, and the old one as soon as it is free.
    let holder = UdpSocket::bind(("127.73.0.1", port)).unwrap();
    let (status, stdout, stderr) = start().stop("-TERM");
    assert_eq!(status, Some(0));
    let message = format!("port {port} is in use; listening on port ");
    assert!(stderr.contains(&message) && stdout.contains(&message), "{stdout}{stderr}");
    drop(holder);
    assert_eq!(start().addr.port(), port);
}

#[test]
fn without_a_port_of_its_own_a_node_prefers_6881_and_keeps_what_it_got() {
    // Held here or by somebody else: it is in use.
    let _holder = UdpSocket::bind("127.74.0.1:6881");
    let dir = TempDir::new();
    let data = dir.file("data");
    let start = || Node::start_anywhere(&["--no-bootstrap", "--data-dir", &data]);
    let node = start();
    let port = node.addr.port();
    assert_ne!(port, 6881);
    let (_, _, stderr) = node.stop("-TERM");
    assert!(stderr.contains(&format!("port 6881 is in use; listening on port {port}")), "{stderr}");
    let node = start();
    assert_eq!(node.addr.port(), port);
    let (_, _, stderr) = node.stop("-TERM");
    assert!(!stderr.contains("in use"), "{stderr}");
    // Without a directory nothing is remembered.
    let node = Node::start_anywhere(&["--no-bootstrap"]);
    let (_, _, stderr) = node.stop("-TERM");
    assert!(stderr.contains("port 6881 is in use"), "{stderr}");
}

#[test]
fn sigterm_and_sigint_save_and_exit_0() {
    for (net, signal) in [(64, "-TERM"), (65, "-INT")] {
        let dir = TempDir::new();
        let data = dir.file("data");
        let (node, neighbour) = with_state(net, &data);
        drop(neighbour);
        let (id, addr) = (node.id.clone(), node.addr);
        let (status, stdout, stderr) = node.stop(signal);
        assert_eq!(status, Some(0), "{stderr}");
        let last = stdout.lines().last().unwrap().to_owned();
        assert_eq!(last, r#"{"type":"done","ok":true}"#);
        assert!(contains(&state(&data), b"Hello World!"));
        comes_back(&id, addr, &data);
    }
}

#[test]
fn a_damaged_state_is_set_aside_with_a_message() {
    let dir = TempDir::new();
    fs::create_dir(dir.file("data")).unwrap();
    let data = dir.file("data");
    dir.with("data/dht.state", "this is no state");
    let node = Node::start("127.0.0.1:0", &["--no-bootstrap", "--data-dir", &data]);
    let (status, stdout, stderr) = node.stop("-TERM");
    assert_eq!(status, Some(0));
    let aside = format!("{data}/dht.state.damaged-1");
    assert!(stderr.contains(&aside) && stderr.contains("damaged"), "{stderr}");
    assert!(stdout.contains("\"notice\""), "{stdout}");
    assert_eq!(fs::read(aside).unwrap(), b"this is no state");
}

#[test]
fn one_data_directory_serves_one_node() {
    let dir = TempDir::new();
    let data = dir.file("data");
    let _node = Node::start("127.0.0.1:0", &["--no-bootstrap", "--data-dir", &data]);
    let args = ["node", "--no-bootstrap", "--bind", "127.0.0.1:0", "--data-dir", &data];
    let run = dht(&args).expect(2);
    assert!(run.stderr.contains("in use by another node"), "{run:?}");
}

#[test]
fn metrics_count_what_happens() {
    let metrics = free_port();
    let node = Node::start("127.66.0.1:0", &["--no-bootstrap", "--metrics", &metrics.to_string()]);
    let before = scrape(metrics, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(before.starts_with("HTTP/1.1 200 OK\r\n"), "{before}");
    assert!(before.contains("dht_queries_answered_total{method=\"ping\"} 0\n"), "{before}");
    for _ in 0..3 {
        dht(&["ping", &node.addr()]).expect(0);
    }
    let after = scrape(metrics, "GET /metrics HTTP/1.1\r\n\r\n");
    assert!(after.contains("dht_queries_answered_total{method=\"ping\"} 3\n"), "{after}");
    assert!(after.contains("\n# TYPE dht_contacts gauge\n"), "{after}");
    let body = after.split_once("\r\n\r\n").unwrap().1;
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.split('{').next().unwrap();
        assert!(value.parse::<u64>().is_ok(), "{line}");
        for kind in ["HELP", "TYPE"] {
            assert!(body.contains(&format!("# {kind} {name} ")), "{line}");
        }
    }
}

#[test]
fn bad_requests_do_not_stop_the_metrics() {
    let metrics = free_port();
    let _node = Node::start("127.66.0.2:0", &["--no-bootstrap", "--metrics", &metrics.to_string()]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
        ("garbage\r\n\r\n", "400"),
    ] {
        let reply = scrape(metrics, request);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {reply}");
    }
    let head = scrape(metrics, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    // A request without an end is read up to a bound; the reply may be lost with the rest of it.
    let mut endless = TcpStream::connect(metrics).unwrap();
    drop(endless.write_all(&vec![b'x'; 20_000]));
    // Connections that say nothing take no more than their share, and give it back.
    let idle: Vec<_> = (0..20).map(|_| TcpStream::connect(metrics).unwrap()).collect();
    drop(idle);
    wait_until("metrics are served again", || {
        scrape(metrics, "GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK")
    });
}

#[test]
fn the_config_file_says_what_flags_could() {
    let dir = TempDir::new();
    let data = dir.file("data");
    let config = dir.with(
        "dht.toml",
        format!("no-bootstrap = true\ndata-dir = {data:?}\nmax-items = 1\npublic-ip = []\n"),
    );
    let node = Node::start("127.67.0.1:0", &["--config", &config]);
    let through = node.addr();
    let put = |value: &str| {
        dht(&["put-immutable", value, "--json", "--bootstrap", &through]).done()["target"].clone()
    };
    let targets = [put("one"), put("two")];
    let found = targets.iter().filter(|target| {
        dht(&["get", target.as_str().unwrap(), "--bootstrap", &through]).status == 0
    });
    assert_eq!(found.count(), 1, "max-items is 1");
    let (status, ..) = node.stop("-TERM");
    assert_eq!(status, Some(0));
    assert!(!state(&data).is_empty());
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends a request and reads the reply; empty if the connection was turned away.
fn scrape(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut reply = Vec::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut reply));
    String::from_utf8(reply).unwrap()
}
