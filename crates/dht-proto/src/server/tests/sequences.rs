//! Arbitrary sequences of queries and times against a small server: the contract holds throughout.
//!
//! [`Bench::ask`] decodes every reply and checks its envelope, its length and all invariants.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Ask {
        host: u16,
        tid: usize,
        want: (bool, bool),
        what: What,
    },
    /// Milliseconds, forwards or backwards.
    Advance(i64),
    Timeout,
}

#[derive(Clone, Debug)]
enum What {
    Ping,
    FindNode(u8),
    GetPeers { hash: u8, noseed: bool, scrape: bool },
    Announce { hash: u8, port: u16, implied_port: bool, seed: bool, good_token: bool },
    Get { item: u8, seq: Option<i64> },
    Put { item: u8, seq: i64, cas: Option<i64>, good_token: bool, len: usize },
    Sample(u8),
    Unknown(Option<u8>),
}

fn what() -> impl Strategy<Value = What> {
    let flag = any::<bool>;
    prop_oneof![
        1 => Just(What::Ping),
        1 => any::<u8>().prop_map(What::FindNode),
        1 => (0..8_u8, flag(), flag())
            .prop_map(|(hash, noseed, scrape)| What::GetPeers { hash, noseed, scrape }),
        4 => (0..8_u8, 0..3_u16, flag(), flag(), prop::bool::weighted(0.9)).prop_map(
            |(hash, port, implied_port, seed, good_token)| {
                What::Announce { hash, port, implied_port, seed, good_token }
            }
        ),
        1 => (0..8_u8, prop::option::of(-2..4_i64)).prop_map(|(item, seq)| What::Get { item, seq }),
        4 => (0..8_u8, -1..4_i64, prop::option::of(0..3_i64), prop::bool::weighted(0.9), 0..1200_usize)
            .prop_map(|(item, seq, cas, good_token, len)| {
                What::Put { item, seq, cas, good_token, len }
            }),
        1 => any::<u8>().prop_map(What::Sample),
        1 => prop::option::of(any::<u8>()).prop_map(What::Unknown),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let tid = prop_oneof![9 => 0..40_usize, 1 => 0..1500_usize];
    prop_oneof![
        8 => (0..40_u16, tid, any::<(bool, bool)>(), what())
            .prop_map(|(host, tid, want, what)| Step::Ask { host, tid, want, what }),
        1 => (-5_000..600_000_i64).prop_map(Step::Advance),
        1 => Just(Step::Timeout),
    ]
}

fn ask<A: Addr>(bench: &mut Bench<A>, from: A, what: &What) -> Option<Vec<u8>> {
    let target = |byte: u8| Target::from_bytes([byte; 20]);
    let token = |bench: &Bench<A>, target, good: bool| {
        let period = Period::at(bench.now, bench.config.token_rotation);
        let mut token = bench.server.tokens.issue(period, from, target);
        token[0] ^= u8::from(!good);
        token
    };
    match *what {
        What::Ping => bench.ask(from, Method::Ping),
        What::FindNode(byte) => bench.ask(from, Method::FindNode { target: target(byte) }),
        What::GetPeers { hash, noseed, scrape } => {
            bench.ask(from, Method::GetPeers { info_hash: info_hash(hash), noseed, scrape })
        }
        What::Announce { hash, port, implied_port, seed, good_token } => {
            let info_hash = info_hash(hash);
            let token = &token(bench, info_hash.target(), good_token);
            bench.ask(from, Method::AnnouncePeer { info_hash, port, implied_port, seed, token })
        }
        What::Get { item, seq } => {
            let target = ItemId::of_mutable(&[item; 32], b"");
            bench.ask(from, Method::Get { target, seq })
        }
        What::Put { item, seq, cas, good_token, len } => {
            let v = crate::item::bencode_bytes(&std::vec![item; len]);
            let mutable = wire::PutMutable {
                public_key: &[item; 32],
                salt: b"",
                seq,
                signature: &[item; 64],
                cas,
            };
            let mutable = (item % 2 == 0).then_some(mutable);
            let id = match mutable {
                Some(mutable) => ItemId::of_mutable(mutable.public_key, b""),
                None => ItemId::of_immutable(&v),
            };
            let token = &token(bench, id.target(), good_token);
            bench.ask(from, Method::Put(Put { token, v: &v, mutable }))
        }
        What::Sample(byte) => bench.ask(from, Method::SampleInfohashes { target: target(byte) }),
        What::Unknown(byte) => {
            bench.ask(from, Method::Unknown { name: b"x", target: byte.map(target) })
        }
    }
}

fn run<A: Addr>(steps: &[Step], host: fn(u16) -> A) {
    fn verify(_: &[u8; 32], message: &[u8], _: &[u8; 64]) -> bool {
        !message.len().is_multiple_of(8)
    }
    let mut bench = Bench::new(Config {
        max_torrents: 4,
        max_peers_per_torrent: 5,
        max_announces_per_subnet: 3,
        max_items: 4,
        max_items_per_subnet: 2,
        subnet_bytes_per_sec: 500,
        subnet_burst_bytes: 3_000,
        throttle_slots: 128,
        verifications_per_sec: 3,
        verify,
        ..Config::default()
    });
    let (mut asked, mut answered) = (0, 0);
    for step in steps {
        match step {
            Step::Ask { host: n, tid, want: (n4, n6), what } => {
                bench.tid = std::vec![b't'; *tid];
                bench.want = Want { n4: *n4, n6: *n6 };
                asked += 1;
                answered += u64::from(ask(&mut bench, host(*n), what).is_some());
            }
            Step::Advance(millis) => {
                let micros = bench.now.as_micros().saturating_add_signed(millis * 1_000);
                bench.now = Instant::from_micros(micros);
            }
            Step::Timeout => bench.later(Duration::ZERO),
        }
    }
    let stats = bench.stats;
    assert_eq!(asked, answered + stats.throttled + stats.oversized_tids, "all are accounted for");
    assert_eq!(answered, stats.replies_out);
    bench.later(Duration::from_secs(24 * 3600));
    assert_eq!((bench.gauges().peers, bench.gauges().items), (0, 0), "everything expires");
    assert_eq!(bench.server.poll_timeout(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_sequence_of_queries_keeps_the_contract(steps in prop::collection::vec(step(), 1..150)) {
        run(&steps, host_v4);
        run(&steps, host_v6);
    }
}
