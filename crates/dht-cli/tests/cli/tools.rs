//! Programs that know nothing of PKARR meet names that are keys: `dig`, `curl`, Chromium.
//!
//! They are not on every machine; CI installs them and runs these tests (`just interop-relay`).

use std::process::Command;

use dht_pkarr_client::now;
use dht_pkarr_client::pkarr::record::Txt;
use dht_pkarr_client::pkarr::{Keypair, SignedPacket};
use serde_json::Value;

use crate::serve::{Server, http};
use crate::support::Node;

#[cfg(feature = "https")]
mod https;

/// A relay that serves everything, and has a packet whose names lead to this machine.
fn relay(net: u8) -> (Node, Server, SignedPacket) {
    let node = Node::start(&format!("127.{net}.0.1:0"), &["--no-bootstrap"]);
    let any = "127.0.0.1:0";
    let bind = format!("127.{net}.0.2:0");
    let args = ["relay", "--http", any, "--dns", any, "--bind", &bind, "--bootstrap", &node.addr()];
    let relay = Server::start(&args, 2);
    let keypair = Keypair::from_secret(&[net; 32]);
    let packet = SignedPacket::builder()
        .address("www", [127, 0, 0, 1].into(), 300)
        .cname("alias", format!("www.{}", keypair.public_key()).parse().unwrap(), 300)
        .txt("long", Txt::new([b'x'; 700]), 300)
        .txt("note", "<b>bold</b>", 300)
        .sign(&keypair, now())
        .unwrap();
    let path = format!("PUT /{}", packet.public_key());
    let (status, head, _) = http(relay.addr("http"), &path, packet.relay_payload());
    assert_eq!(status, 204, "{head}");
    (node, relay, packet)
}

fn dig(relay: &Server, args: &[&str]) -> String {
    let addr = relay.addr("dns");
    let server = [format!("@{}", addr.ip()), "-p".to_owned(), addr.port().to_string()];
    let output = Command::new("dig").args(server).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs dig"]
fn dig_understands_every_answer() {
    let (_node, relay, packet) = relay(81);
    let key = packet.public_key().to_string();
    let www = format!("www.{key}");
    assert_eq!(dig(&relay, &["+short", &www]), "127.0.0.1\n");
    assert_eq!(dig(&relay, &["+short", "+tcp", &www]), "127.0.0.1\n");
    assert_eq!(dig(&relay, &["+short", "+noedns", &www]), "127.0.0.1\n");
    assert_eq!(dig(&relay, &["+short", &format!("alias.{key}")]), format!("{www}.\n127.0.0.1\n"));
    // Too long for a datagram without EDNS: dig comes again over TCP by itself.
    let long = dig(&relay, &["+noedns", "TXT", &format!("long.{key}")]);
    assert!(long.contains("retrying in TCP mode") && long.contains("xxx"), "{long}");
    for (name, kind, status) in [
        (&*www, "AAAA", "NOERROR"),
        (&format!("no.{key}"), "A", "NXDOMAIN"),
        ("example.com", "A", "REFUSED"),
    ] {
        let text = dig(&relay, &[name, kind]);
        assert!(text.contains(&format!("status: {status}")), "{text}");
        assert_eq!(text.contains("SOA"), status != "REFUSED", "{text}");
        for complaint in ["WARNING", "malformed", "Warning"] {
            assert!(!text.contains(complaint), "{text}");
        }
    }
    let any = dig(&relay, &["+notcp", "ANY", &www]);
    assert!(any.contains("HINFO") && any.contains("RFC8482"), "{any}");
}

/// The script, which is told what to do with a relay.
fn script(what: &str, relay: &Server) -> Command {
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/browser.mjs"));
    node.args([what, &format!("http://{}/", relay.addr("http"))]);
    node
}

/// What the script prints.
fn run(what: &str, relay: &Server, name: &str) -> Value {
    let output = script(what, relay).arg(name).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
#[ignore = "needs node, openssl and curl"]
fn curl_finds_a_web_server_by_its_key() {
    let (_node, relay, packet) = relay(82);
    let found = run("curl", &relay, &format!("alias.{}", packet.public_key()));
    assert_eq!(found["shown"], "hello from the owner of the key");
    assert_eq!(found["asked"], serde_json::json!(["POST /dns-query"]));
}

#[test]
#[ignore = "needs node, openssl and chromium"]
fn chromium_finds_a_web_server_by_its_key() {
    let (_node, relay, packet) = relay(83);
    let found = run("chromium", &relay, &format!("www.{}", packet.public_key()));
    assert_eq!(found["shown"], "hello from the owner of the key");
    assert!(found["asked"][0].as_str().unwrap().ends_with(" /dns-query"), "{found}");
}

#[test]
#[ignore = "needs node and chromium"]
fn the_page_works_in_chromium_with_and_without_a_script() {
    let (_node, relay, packet) = relay(84);
    let key = packet.public_key().to_string();
    let shown = run("page", &relay, &key);
    for part in ["typed", "plain"] {
        let text = shown[part].as_str().unwrap();
        assert!(text.contains("127.0.0.1") && text.contains("\"<b>bold</b>\""), "{shown}");
    }
    assert_eq!(shown["inPlace"], true, "{shown}");
    let typed = shown["typed"].as_str().unwrap();
    assert!(
        typed.contains(&key) && typed.contains("the cache") && typed.contains("TTL"),
        "{shown}"
    );
    assert_eq!(shown["failed"], "a key has 52 characters");
}
