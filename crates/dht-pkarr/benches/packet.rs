//! What a packet costs beyond its signature: ratios to a bare verification, in the same run.
//!
//! Wall time is noise on shared machines, so rounds of all cases alternate, the fastest of each
//! counts, and only ratios say something. Instructions would not: verification uses wide ones.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a panic is a failure that says where"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use dht_pkarr::record::{Rdata, Svcb};
use dht_pkarr::{Builder, Keypair, SignedPacket, Timestamp};
use dht_proto::ed25519_dalek::{Signer, SigningKey};
use dht_proto::item::{Item, bencode_bytes, verify_strict};

/// Operations of a case in a row, before the next case has its turn.
const BATCH: usize = 50;
const ROUNDS: usize = 200;

/// A case, and the ratio to `verify` of the same packet that it should not exceed, if there is one.
const CASES: &[(&str, Option<f64>)] = &[
    ("verify", None),
    ("parse_verify", Some(1.4)),
    ("item_to_packet", None),
    ("sign", None),
    ("build_sign_serialise", Some(40.0 / 45.0)),
];

fn main() {
    for size in ["typical", "largest"] {
        let bench = Bench::new(size);
        println!("{size}: {} bytes of DNS", bench.packet.dns().len());
        println!("  {:<22} {:>8} {:>8} {:>7}", "case", "ns", "/verify", "at most");
        let costs = bench.nanoseconds();
        for ((case, limit), cost) in CASES.iter().zip(&costs) {
            let most = limit.map_or(String::new(), |limit| format!("{limit:.2}"));
            println!("  {case:<22} {cost:>8.0} {:>8.3} {most:>7}", cost / costs[0]);
        }
    }
}

/// The packet that all cases of one size are about.
struct Bench {
    keypair: Keypair,
    signing: SigningKey,
    records: Builder,
    packet: SignedPacket,
    item: Item,
    /// What is signed.
    text: Vec<u8>,
}

impl Bench {
    fn new(size: &str) -> Self {
        let secret = [7; 32];
        let keypair = Keypair::from_secret(&secret);
        let mut records = SignedPacket::builder()
            .https("@", Svcb::here(1).with_port(443).with_alpn(["h3", "h2"]), 3_600)
            .a("@", [192, 0, 2, 1].into(), 3_600)
            .address("@", "2001:db8::1".parse().unwrap(), 3_600)
            .cname("www", "example.com".parse().unwrap(), 3_600)
            .txt("_service", "v=1 key=value", 60);
        if size == "largest" {
            let fill = (0..30).fold(records, |records, number| {
                records.a(&format!("host-{number:02}"), [192, 0, 2, number].into(), 3_600)
            });
            let now = fill.clone().sign(&keypair, Timestamp::UNIX_EPOCH).unwrap().dns().len();
            let rest = vec![0; dht_pkarr::MAX_DNS_LEN - now - 12];
            records = fill.data("@", Rdata::Other { kind: 65_280, data: rest }, 60);
        }
        let packet = records.clone().sign(&keypair, Timestamp::from_secs(1)).unwrap();
        let item = packet.to_item().unwrap();
        let text = [&b"3:seqi1000000e1:v"[..], &bencode_bytes(packet.dns())].concat();
        let signing = SigningKey::from_bytes(&secret);
        assert_eq!(signing.sign(&text).to_bytes(), *packet.signature());
        Self { keypair, signing, records, packet, item, text }
    }

    fn run(&self, case: &str, repetitions: usize) {
        let key = self.keypair.public_key();
        for _ in 0..repetitions {
            match case {
                "verify" => {
                    let signature = black_box(self.packet.signature());
                    assert!(verify_strict(key.as_bytes(), black_box(&self.text), signature));
                }
                "parse_verify" => {
                    let read = SignedPacket::from_bytes(black_box(self.packet.as_bytes()));
                    black_box(read.unwrap());
                }
                "item_to_packet" => {
                    black_box(SignedPacket::from_item(&key, black_box(&self.item)).unwrap());
                }
                "sign" => {
                    black_box(self.signing.sign(black_box(&self.text)));
                }
                "build_sign_serialise" => {
                    let records = black_box(&self.records).clone();
                    let packet = records.sign(&self.keypair, Timestamp::from_secs(1)).unwrap();
                    black_box(packet.relay_payload().to_vec());
                }
                other => panic!("no case {other}"),
            }
        }
    }

    /// The fastest round of each case, an operation of it.
    fn nanoseconds(&self) -> Vec<f64> {
        let mut best = [Duration::MAX; CASES.len()];
        for _ in 0..ROUNDS {
            for ((case, _), best) in CASES.iter().zip(&mut best) {
                let start = Instant::now();
                self.run(case, BATCH);
                *best = start.elapsed().min(*best);
            }
        }
        best.iter().map(|time| time.as_nanos() as f64 / BATCH as f64).collect()
    }
}
