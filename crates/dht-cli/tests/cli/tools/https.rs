//! Relays by HTTPS.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::{relay, script};
use crate::serve::Server;
use crate::support::{TempDir, dht};

/// A relay by HTTPS, as long as this lives.
struct ByHttps {
    script: Child,
    url: String,
    cert: String,
}

impl ByHttps {
    fn new(relay: &Server) -> Self {
        let mut script = script("https", relay);
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { script, url: text("url"), cert: text("cert") }
    }
}

impl Drop for ByHttps {
    fn drop(&mut self) {
        // It takes its certificate away when its input ends.
        drop(self.script.stdin.take());
        drop(self.script.wait());
    }
}

/// Packets go through a relay that is reached by HTTPS, if somebody who is trusted vouches for it and for
/// the name by which it is called; if not, nothing is sent, and it is said what to do.
#[test]
#[ignore = "needs node and openssl"]
fn relays_by_https_are_used_if_their_certificate_is_trusted() {
    let (_node, relay, packet) = relay(85);
    let dir = TempDir::new();
    let key = dir.file("key");
    let https = ByHttps::new(&relay);
    let made = dht(&["pkarr", "keygen", &key, "--json"]).expect(0).done();
    let through = ["--no-dht", "--relay", &https.url, "--relay-ca", &https.cert, "--json"];
    let publish = ["pkarr", "publish", "--key", &key, "@ A 192.0.2.1"];
    let published = dht(&[&publish[..], &through].concat()).expect(0).done();
    assert_eq!(published["stored"], 1, "{published}");
    for key in [made["key"].as_str().unwrap(), &packet.public_key().to_string()] {
        let found = dht(&[&["pkarr", "resolve", key], &through[..]].concat()).expect(0);
        assert_eq!(found.of_type("packet")[0]["relay"], *https.url, "{found:?}");
    }
    // Not the one that its certificate is for; and not one that Mozilla has heard of.
    let by_name = https.url.replace("127.0.0.1", "localhost");
    for (through, word) in [
        (&["--relay", &by_name, "--relay-ca", &https.cert][..], "not valid for name"),
        (&["--relay", &https.url], "UnknownIssuer"),
    ] {
        for command in [&publish[..], &["pkarr", "resolve", made["key"].as_str().unwrap()]] {
            let run = dht(&[command, &["--no-dht"], through].concat()).expect(3);
            for word in [word, "certificate", "name the authority", "--relay-ca"] {
                assert!(run.stderr.contains(word), "{run:?}");
            }
        }
    }
    let no_pem = dir.with("no-pem", "my diary");
    for (file, word) in [(&*no_pem, "none in PEM"), ("no such file", "no such file")] {
        let run = dht(&[&publish[..], &["--relay", &https.url, "--relay-ca", file]].concat());
        let run = run.expect(2);
        assert!(run.stderr.contains(word) && run.stderr.contains("BEGIN CERTIFICATE"), "{run:?}");
    }
}
