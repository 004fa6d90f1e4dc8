//! Asks single nodes in bare KRPC, without any implementation in between.
//!
//! It shows what a server stores, whichever client put it there, and what its answers say that no
//! client passes on: error codes and the bloom filters of BEP 33. It shares no code with the codec
//! under test.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use bendy::decoding::{Decoder, FromBencode as _};
use bendy::encoding::{Encoder, ToBencode as _};
use bendy::value::Value;
use dht_proto::id::{InfoHash, ItemId, Target};
use dht_proto::item::{Signable, bencode_bytes};
use ed25519_dalek::Signer as _;

use super::address::Network;
use super::patience::wait_until;
use super::{Mutable, PeerError, Result, Samples, Version, address};

/// How long an answer may take. Nothing else runs on the way.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often the receiving thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(200);
/// BEP 33: "bloom filter (256 bytes)".
const FILTER_LEN: usize = 256;
/// Deeper than any answer nests.
const MAX_DEPTH: usize = 8;

/// A bencoded dictionary.
pub type Dict = BTreeMap<Cow<'static, [u8]>, Value<'static>>;

/// What a node answered.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "tests match on both cases")]
pub enum Answer {
    /// The dictionary `r`.
    Response(Dict),
    /// The code and text of `e`.
    Error(i64, String),
}

/// What a node answered to `get_peers`.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "tests take it apart")]
pub struct PeersAnswer {
    /// The peers of `values`.
    pub peers: BTreeSet<SocketAddr>,
    /// The estimated number of seeds by `BFsd`, if the answer has one (BEP 33).
    pub seeds: Option<f64>,
    /// The estimated number of downloaders by `BFpe`, if the answer has one (BEP 33).
    pub downloaders: Option<f64>,
}

/// A node that asks, stores nothing, and answers every query like an empty node: some
/// implementations take whoever asks for a node whatever `ro` says, and would wait for it.
#[derive(Debug)]
pub struct Probe {
    shared: Arc<Shared>,
    next_transaction: AtomicU32,
}

/// Who waits for an answer, by whom was asked and the transaction id.
type Waiting = BTreeMap<(SocketAddr, Vec<u8>), mpsc::Sender<Answer>>;

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    id: [u8; 20],
    waiting: Mutex<Waiting>,
    /// Why the last datagram that could not be read could not.
    malformed: Mutex<Option<String>>,
    stopped: AtomicBool,
}

impl Probe {
    /// A probe at an address of its own.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn new(network: Network) -> Result<Self> {
        Self::at(address::next(network)?)
    }

    /// A probe at a certain address: that of a node which left, so that nobody waits for it.
    ///
    /// # Errors
    /// If it cannot be bound for a while.
    pub fn at(addr: SocketAddr) -> Result<Self> {
        let io = |error: std::io::Error| failed(addr, &error.to_string());
        let mut bound = UdpSocket::bind(addr);
        wait_until(TIMEOUT, || {
            if bound.is_err() {
                bound = UdpSocket::bind(addr);
            }
            Ok(bound.is_ok())
        })?;
        let socket = bound.map_err(io)?;
        socket.set_read_timeout(Some(TICK)).map_err(io)?;
        let shared = Arc::new(Shared {
            socket,
            // Any id will do; this one differs from probe to probe.
            id: *ItemId::of_immutable(addr.to_string().as_bytes()).as_bytes(),
            waiting: Mutex::default(),
            malformed: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let receiver = Arc::clone(&shared);
        thread::spawn(move || receiver.run());
        Ok(Self { shared, next_transaction: AtomicU32::new(0x6474_0000) })
    }

    /// Sends one query and waits for what comes back.
    ///
    /// # Errors
    /// If nothing readable comes back in time.
    pub fn ask(&self, server: SocketAddr, method: &'static str, mut args: Dict) -> Result<Answer> {
        // Four bytes, because the `mainline` crate answers nothing else.
        let transaction = self.next_transaction.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        args.insert(b"id".into(), bytes(&self.shared.id));
        let query = dict([
            ("a", Value::Dict(args)),
            ("q", bytes(method.as_bytes())),
            // BEP 43: nobody shall take the probe for a node.
            ("ro", Value::Integer(1)),
            ("t", bytes(&transaction)),
            ("y", bytes(b"q")),
        ]);
        let datagram = encode(query).map_err(|error| failed(server, &error))?;
        let (answered, answer) = mpsc::channel();
        lock(&self.shared.waiting).insert((server, transaction.to_vec()), answered);
        let sent = self.shared.socket.send_to(&datagram, server);
        sent.map_err(|error| failed(server, &error.to_string()))?;
        answer.recv_timeout(TIMEOUT).map_err(|_| {
            let malformed = lock(&self.shared.malformed).clone().unwrap_or_default();
            failed(server, &format!("no answer to {method}{malformed}"))
        })
    }

    /// Asks for peers, with `scrape` also for the filters of BEP 33. (libtorrent leaves `values`
    /// out of an answer that has filters.)
    ///
    /// # Errors
    /// If the node does not answer as it should.
    pub fn get_peers(
        &self,
        server: SocketAddr,
        info_hash: InfoHash,
        scrape: bool,
    ) -> Result<PeersAnswer> {
        let mut args = dict([("info_hash", bytes(info_hash.as_bytes()))]);
        if scrape {
            args.insert(b"scrape".into(), Value::Integer(1));
        }
        let response = self.response(server, "get_peers", args)?;
        let values = response.get(b"values".as_slice());
        let peers = match values {
            Some(Value::List(values)) => values.iter().filter_map(peer).collect(),
            _ => BTreeSet::new(),
        };
        Ok(PeersAnswer {
            peers,
            seeds: string(&response, "BFsd").and_then(estimate),
            downloaders: string(&response, "BFpe").and_then(estimate),
        })
    }

    /// Asks for an item and says what it holds: its version, 0 if it is immutable, and its value.
    ///
    /// # Errors
    /// If the node does not answer as it should.
    pub fn get(&self, server: SocketAddr, id: ItemId) -> Result<Option<Version>> {
        let response = self.response(server, "get", dict([("target", bytes(id.as_bytes()))]))?;
        let value = string(&response, "v").map(<[u8]>::to_vec);
        let seq = match response.get(b"seq".as_slice()) {
            Some(Value::Integer(seq)) => *seq,
            _ => 0,
        };
        Ok(value.map(|value| Version { seq, value }))
    }

    /// Puts a mutable item at one node; `Err` inside is the code and text of its refusal.
    ///
    /// # Errors
    /// If the node does not answer as it should.
    pub fn put(
        &self,
        server: SocketAddr,
        item: &Mutable,
    ) -> Result<core::result::Result<(), (i64, String)>> {
        let target = item.id();
        let response =
            self.response(server, "get", dict([("target", bytes(target.as_bytes()))]))?;
        let token = string(&response, "token").ok_or_else(|| failed(server, "gives no token"))?;
        let text = Signable::new(&item.salt, item.seq, &bencode_bytes(&item.value))
            .map_err(|error| failed(server, &error.to_string()))?;
        let signature = item.key.sign(text.as_bytes()).to_bytes();
        let mut args = dict([
            ("k", bytes(&item.public_key())),
            ("seq", Value::Integer(item.seq)),
            ("sig", bytes(&signature)),
            // The `mainline` crate insists on it; to others it is an unknown key.
            ("target", bytes(target.as_bytes())),
            ("token", bytes(token)),
            ("v", bytes(&item.value)),
        ]);
        if !item.salt.is_empty() {
            args.insert(b"salt".into(), bytes(&item.salt));
        }
        if let Some(cas) = item.cas {
            args.insert(b"cas".into(), Value::Integer(cas));
        }
        Ok(match self.ask(server, "put", args)? {
            Answer::Response(_) => Ok(()),
            Answer::Error(code, text) => Err((code, text)),
        })
    }

    /// Asks for a sample of infohashes (BEP 51).
    ///
    /// # Errors
    /// If the node does not answer as it should.
    pub fn sample(&self, server: SocketAddr, target: Target) -> Result<Samples> {
        let args = dict([("target", bytes(target.as_bytes()))]);
        let response = self.response(server, "sample_infohashes", args)?;
        let samples = string(&response, "samples").ok_or_else(|| failed(server, "no samples"))?;
        let num = match response.get(b"num".as_slice()) {
            Some(Value::Integer(num)) => *num,
            _ => return Err(failed(server, "no num beside the samples")),
        };
        Ok(Samples { samples: samples.chunks(20).filter_map(InfoHash::from_slice).collect(), num })
    }

    fn response(&self, server: SocketAddr, method: &'static str, args: Dict) -> Result<Dict> {
        match self.ask(server, method, args)? {
            Answer::Response(response) => Ok(response),
            Answer::Error(code, text) => {
                Err(failed(server, &format!("answers {method} with error {code}: {text}")))
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self) {
        let mut buffer = vec![0; 65_536];
        while !self.stopped.load(Ordering::Relaxed) {
            // An error is the end of a tick, or an ICMP message about a node that left.
            let Ok((len, from)) = self.socket.recv_from(&mut buffer) else {
                continue;
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            match parse(datagram) {
                Ok((transaction, None)) => self.answer(from, &transaction),
                Ok((transaction, Some(answer))) => {
                    if let Some(waiter) = lock(&self.waiting).remove(&(from, transaction)) {
                        // The waiter may have given up.
                        let _ = waiter.send(answer);
                    }
                }
                Err(why) => {
                    let text = String::from_utf8_lossy(datagram);
                    *lock(&self.malformed) = Some(format!("; {from} sent {why}: {text:?}"));
                }
            }
        }
    }

    fn answer(&self, from: SocketAddr, transaction: &[u8]) {
        let answer = dict([
            ("r", Value::Dict(dict([("id", bytes(&self.id)), ("nodes", bytes(b""))]))),
            ("t", bytes(transaction)),
            ("y", bytes(b"r")),
        ]);
        if let Ok(datagram) = encode(answer) {
            // Whoever asks will ask again, or do without.
            let _ = self.socket.send_to(&datagram, from);
        }
    }
}

/// No thread panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(server: SocketAddr, why: &str) -> PeerError {
    PeerError::Failed(format!("probe of {server}: {why}"))
}

/// A byte string.
fn bytes(bytes: &[u8]) -> Value<'static> {
    Value::Bytes(Cow::Owned(bytes.to_vec()))
}

fn dict<const N: usize>(pairs: [(&'static str, Value<'static>); N]) -> Dict {
    pairs.into_iter().map(|(key, value)| (Cow::Borrowed(key.as_bytes()), value)).collect()
}

fn string<'a>(dict: &'a Dict, key: &str) -> Option<&'a [u8]> {
    match dict.get(key.as_bytes())? {
        Value::Bytes(bytes) => Some(bytes),
        Value::Dict(_) | Value::Integer(_) | Value::List(_) => None,
    }
}

fn encode(dict: Dict) -> core::result::Result<Vec<u8>, String> {
    let mut encoder = Encoder::new().with_max_depth(MAX_DEPTH);
    let value = Value::Dict(dict);
    let written = encoder.emit_with(|item| value.encode(item));
    written.and_then(|()| encoder.get_output()).map_err(|error| error.to_string())
}

/// The transaction id of a message, and what it says if it is no query.
fn parse(datagram: &[u8]) -> core::result::Result<(Vec<u8>, Option<Answer>), String> {
    let mut decoder = Decoder::new(datagram).with_max_depth(MAX_DEPTH);
    let object = decoder.next_object().map_err(|error| error.to_string())?;
    let object = object.ok_or("nothing")?;
    let value = Value::decode_bencode_object(object).map_err(|error| error.to_string())?;
    let Value::Dict(mut message) = value.into_owned() else {
        return Err("no dictionary".into());
    };
    let transaction = string(&message, "t").ok_or("no t")?.to_vec();
    let answer = match string(&message, "y").ok_or("no y")? {
        b"q" => None,
        b"r" => match message.remove(b"r".as_slice()) {
            Some(Value::Dict(response)) => Some(Answer::Response(response)),
            _ => return Err("no r".into()),
        },
        b"e" => match message.remove(b"e".as_slice()) {
            Some(Value::List(error)) => match error.as_slice() {
                [Value::Integer(code), Value::Bytes(text), ..] => {
                    Some(Answer::Error(*code, String::from_utf8_lossy(text).into_owned()))
                }
                _ => return Err("a malformed e".into()),
            },
            _ => return Err("no e".into()),
        },
        _ => return Err("an unknown y".into()),
    };
    Ok((transaction, answer))
}

/// A compact peer of IPv4 (BEP 5) or IPv6 (BEP 32).
fn peer(value: &Value<'_>) -> Option<SocketAddr> {
    let Value::Bytes(bytes) = value else { return None };
    let (ip, port) = bytes.split_last_chunk()?;
    let port = u16::from_be_bytes(*port);
    match ip {
        &[a, b, c, d] => Some(([a, b, c, d], port).into()),
        ip => Some((Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?), port).into()),
    }
}

/// How many addresses a filter holds.
///
/// BEP 33: c = min(m - 1, zero bits), size = ln(c / m) / (k * ln(1 - 1 / m)), m = 2048, k = 2.
fn estimate(filter: &[u8]) -> Option<f64> {
    if filter.len() != FILTER_LEN {
        return None;
    }
    let zeros: u32 = filter.iter().map(|byte| byte.count_zeros()).sum();
    let bits = 2048.0;
    let zeros = f64::from(zeros.min(2047));
    Some((zeros / bits).ln() / (2.0 * (1.0_f64 - 1.0 / bits).ln()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_filter_holds_less_than_one_and_two_bits_are_one_address() {
        let mut filter = [0; FILTER_LEN];
        assert!(estimate(&filter).unwrap() < 0.6);
        filter[213] = 0x80;
        filter[228] = 0x80;
        let one = estimate(&filter).unwrap();
        assert!((one - 1.0).abs() < 0.01, "{one}");
        assert_eq!(estimate(&filter[1..]), None);
    }

    #[test]
    fn answers_are_read_by_y() {
        let (t, answer) = parse(b"d1:eli302e3:olde1:t4:abcd1:y1:ee").unwrap();
        assert_eq!(t, b"abcd");
        assert!(matches!(answer, Some(Answer::Error(302, text)) if text == "old"));
        let (_, answer) = parse(b"d1:rd2:id1:xe1:t1:a1:y1:re").unwrap();
        assert!(matches!(answer, Some(Answer::Response(r)) if string(&r, "id") == Some(b"x")));
        assert!(matches!(parse(b"d1:ade1:q4:ping1:t1:a1:y1:qe"), Ok((_, None))));
        for bad in ["", "le", "d1:y1:re", "d1:t1:a1:y1:re", "d1:ei1e1:t1:a1:y1:ee", "d1:t1:a"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
