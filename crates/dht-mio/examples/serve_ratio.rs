//! How fast a node answers over loopback, against a bare echo of the same sizes in the same run.
//!
//! ```text
//! cargo run --release -p dht-mio --example serve_ratio
//! cargo run --release -p dht-mio --example serve_ratio -- --any
//! ```
//!
//! With `--any` the node is bound to the wildcard, where it answers from the address that was asked;
//! the echo is not.
//!
//! The server has core 0, the generator core 1. Half of the queries are find_node, half are
//! get_peers for hashes with fifty peers; the routing table is full. The echo receives and sends in
//! batches of 32 and answers each query with as many bytes as the node does. Rounds alternate, and
//! medians count. Two ratios are printed: of answers per second, and of CPU time per answer; the
//! second does not depend on how fast the generator is.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn core::error::Error>> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use core::error::Error;
    use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
    use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use core::time::Duration;
    use std::io::{IoSlice, IoSliceMut, Write, stdout};
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use dht_mio::proto::MAX_DATAGRAM;
    use dht_mio::proto::config::{Config, Mode};
    use dht_mio::proto::id::{InfoHash, NodeId, Target};
    use dht_mio::proto::wire::{Body, Message, Method, Query, Reply, Want, decode};
    use dht_mio::{Builder, Dht};
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
    use nix::unistd::{Pid, gettid};

    type Anyhow<T> = Result<T, Box<dyn Error>>;

    const SERVER_CORE: usize = 0;
    const GENERATOR_CORE: usize = 1;
    const ROUNDS: usize = 5;
    const ROUND: Duration = Duration::from_secs(1);
    const WARM_UP: Duration = Duration::from_millis(200);
    const SOCKETS: usize = 8;
    /// Datagrams per system call, in the echo and in the generator.
    const BATCH: usize = 32;
    /// Queries in flight per generator socket.
    const WINDOW: usize = 2 * BATCH;
    const HASHES: u8 = 16;
    const PEERS: u8 = 50;
    const CONTACTS: usize = 300;

    pub(super) fn main() -> Anyhow<()> {
        let any = std::env::args().any(|arg| arg == "--any");
        let server = Server::node(if any { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST })?;
        let contacts = fill_table(&server)?;
        fill_peers(server.addr)?;
        let queries = queries();
        let sizes = reply_sizes(server.addr, &queries)?;
        let echo = Server::echo(sizes)?;
        pin(GENERATOR_CORE)?;
        let mut out = stdout();
        writeln!(
            out,
            "{contacts} contacts; find_node {} -> {} bytes, get_peers {} -> {} bytes",
            sizes.find_node_query, sizes.find_node, sizes.get_peers_query, sizes.get_peers
        )?;
        let (mut node_rounds, mut echo_rounds) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            for (name, server, rounds) in
                [("echo", &echo, &mut echo_rounds), ("node", &server, &mut node_rounds)]
            {
                let result = measure(server, &queries)?;
                writeln!(out, "round {round} {name}: {result}")?;
                rounds.push(result);
            }
        }
        let (node, echo_) = (Round::median(&node_rounds), Round::median(&echo_rounds));
        writeln!(out, "median echo: {echo_}")?;
        writeln!(out, "median node: {node}")?;
        writeln!(
            out,
            "answers per second, node / echo: {:.3}",
            node.per_second / echo_.per_second
        )?;
        writeln!(out, "CPU per answer, echo / node: {:.3}", echo_.cpu_ns / node.cpu_ns)?;
        server.stop();
        echo.stop();
        Ok(())
    }

    #[derive(Clone, Copy)]
    struct Round {
        per_second: f64,
        /// Of the server's thread, per answer.
        cpu_ns: f64,
        busy: f64,
        stalls: u32,
    }

    impl Round {
        fn median(rounds: &[Self]) -> Self {
            let by = |key: fn(&Self) -> f64| {
                let mut values: Vec<_> = rounds.iter().map(key).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied().unwrap_or_default()
            };
            Self {
                per_second: by(|round| round.per_second),
                cpu_ns: by(|round| round.cpu_ns),
                busy: by(|round| round.busy),
                stalls: rounds.iter().map(|round| round.stalls).sum(),
            }
        }
    }

    impl core::fmt::Display for Round {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            let Self { per_second, cpu_ns, busy, stalls } = self;
            let busy = busy * 100.0;
            write!(
                f,
                "{per_second:.0} answers/s, {cpu_ns:.0} ns CPU each, server {busy:.0} % busy, {stalls} stalls"
            )
        }
    }

    /// A server on a pinned thread.
    struct Server {
        addr: SocketAddr,
        tid: Arc<AtomicI32>,
        stop: Arc<AtomicBool>,
        thread: thread::JoinHandle<()>,
        /// Only the node has one.
        dht: Option<Dht>,
    }

    impl Server {
        fn node(ip: Ipv4Addr) -> Anyhow<Self> {
            let mut config = Config::default();
            config.subnet_bytes_per_sec = u32::MAX;
            config.subnet_burst_bytes = u32::MAX;
            config.total_bytes_per_sec = u32::MAX;
            config.max_announces_per_subnet = 1 << 20;
            config.max_candidates = CONTACTS;
            config.ping_interval = Duration::from_millis(1);
            config.verify_delay = Duration::ZERO;
            let builder = Builder::new().config(config).mode(Mode::Server).no_bootstrap();
            let mut event_loop = builder.bind((ip, 0).into()).build()?;
            let dht = event_loop.handle();
            let port = dht.local_addrs().first().ok_or("no address")?.port();
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let server = Self::spawn(addr, Some(dht), move |_| {
                while matches!(event_loop.turn(Duration::from_secs(1)), Ok(true)) {}
            });
            Ok(server)
        }

        fn echo(sizes: Sizes) -> Anyhow<Self> {
            let socket = bind(Ipv4Addr::LOCALHOST)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            let addr = socket.local_addr()?;
            Ok(Self::spawn(addr, None, move |stop| {
                let mut batch = Batch::new();
                while !stop.load(Ordering::Relaxed) {
                    let received = batch.recv(&socket, MsgFlags::MSG_WAITFORONE);
                    for len in batch.lens.iter_mut().take(received) {
                        *len = sizes.reply_to(*len);
                    }
                    batch.send(&socket, received);
                }
            }))
        }

        fn spawn(
            addr: SocketAddr,
            dht: Option<Dht>,
            body: impl FnOnce(&AtomicBool) + Send + 'static,
        ) -> Self {
            let (tid, stop) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
            let (its_tid, its_stop) = (Arc::clone(&tid), Arc::clone(&stop));
            let thread = thread::spawn(move || {
                its_tid.store(gettid().as_raw(), Ordering::Release);
                if pin(SERVER_CORE).is_ok() {
                    body(&its_stop);
                }
            });
            Self { addr, tid, stop, thread, dht }
        }

        /// CPU time of the server's thread, in nanoseconds.
        fn cpu_ns(&self) -> Anyhow<f64> {
            let tid = self.tid.load(Ordering::Acquire);
            let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat"))?;
            Ok(text.split_whitespace().next().ok_or("no schedstat")?.parse()?)
        }

        fn stop(self) {
            self.stop.store(true, Ordering::Relaxed);
            if let Some(dht) = self.dht {
                drop(dht.shutdown());
            }
            drop(self.thread.join());
        }
    }

    /// A socket with a receive buffer as large as a node's, so that nothing is lost.
    fn bind(ip: Ipv4Addr) -> Anyhow<UdpSocket> {
        let socket = UdpSocket::bind((ip, 0))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
        Ok(socket)
    }

    /// Keeps the calling thread on one core.
    fn pin(core: usize) -> Anyhow<()> {
        let mut set = CpuSet::new();
        set.set(core)?;
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }

    /// Buffers for one system call.
    struct Batch {
        buffers: Vec<[u8; MAX_DATAGRAM]>,
        lens: Vec<usize>,
        addrs: Vec<Option<SockaddrIn>>,
        recv: MultiHeaders<SockaddrIn>,
        send: MultiHeaders<SockaddrIn>,
    }

    impl Batch {
        fn new() -> Self {
            Self {
                buffers: vec![[0; MAX_DATAGRAM]; BATCH],
                lens: vec![0; BATCH],
                addrs: vec![None; BATCH],
                recv: MultiHeaders::preallocate(BATCH, None),
                send: MultiHeaders::preallocate(BATCH, None),
            }
        }

        /// Returns how many datagrams came.
        fn recv(&mut self, socket: &UdpSocket, flags: MsgFlags) -> usize {
            let mut slices: Vec<_> =
                self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
            let fd = socket.as_raw_fd();
            let Ok(received) = recvmmsg(fd, &mut self.recv, &mut slices, flags, None) else {
                return 0;
            };
            let mut count = 0;
            for ((message, len), addr) in received.zip(&mut self.lens).zip(&mut self.addrs) {
                (*len, *addr) = (message.bytes, message.address);
                count += 1;
            }
            count
        }

        /// Returns how many datagrams went.
        fn send(&mut self, socket: &UdpSocket, count: usize) -> usize {
            let mut sent = 0;
            while sent < count {
                let slices: Vec<_> = self
                    .buffers
                    .iter()
                    .zip(&self.lens)
                    .take(count)
                    .skip(sent)
                    .map(|(buffer, len)| [IoSlice::new(buffer.get(..*len).unwrap_or(buffer))])
                    .collect();
                let addrs = self.addrs.get(sent..count).unwrap_or_default();
                let flags = MsgFlags::empty();
                match sendmmsg(socket.as_raw_fd(), &mut self.send, &slices, addrs, [], flags) {
                    Ok(results) => sent += results.count().max(1),
                    Err(_) => break,
                }
            }
            sent
        }
    }

    /// Encoded queries; the generator replaces the transaction id.
    struct Queries {
        find_node: Vec<Vec<u8>>,
        get_peers: Vec<Vec<u8>>,
    }

    /// Reply sizes, in bytes.
    #[derive(Clone, Copy)]
    struct Sizes {
        find_node_query: usize,
        get_peers_query: usize,
        find_node: usize,
        get_peers: usize,
    }

    impl Sizes {
        const fn reply_to(&self, query_len: usize) -> usize {
            if query_len == self.find_node_query { self.find_node } else { self.get_peers }
        }
    }

    /// Bytes that look random, the same in every run.
    fn id(n: u64) -> [u8; 20] {
        let mut bytes = [0; 20];
        for (i, chunk) in bytes.chunks_mut(8).enumerate() {
            // The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
            let mut word = (n * 3 + i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^= word >> 31;
            for (to, from) in chunk.iter_mut().zip(word.to_le_bytes()) {
                *to = from;
            }
        }
        bytes
    }

    fn hash(n: u8) -> InfoHash {
        InfoHash::from_bytes(id(10_000 + u64::from(n)))
    }

    fn encode(body: Body<'_>, tid: &[u8]) -> Vec<u8> {
        let message =
            Message { tid, version: None, ip: None, read_only: false, unsorted: false, body };
        let mut buffer = [0; MAX_DATAGRAM];
        let len = message.encode(&mut buffer).unwrap_or(0);
        buffer.get(..len).unwrap_or_default().to_vec()
    }

    fn query(method: Method<'_>) -> Vec<u8> {
        let id = NodeId::from_bytes(id(77));
        encode(Body::Query(Query { id, want: Want::default(), method }), b"tttt")
    }

    fn queries() -> Queries {
        let target = |n| Target::from_bytes(id(n));
        let get_peers = |n| Method::GetPeers { info_hash: hash(n), noseed: false, scrape: false };
        Queries {
            find_node: (0..64).map(|n| query(Method::FindNode { target: target(n) })).collect(),
            get_peers: (0..HASHES).map(|n| query(get_peers(n))).collect(),
        }
    }

    /// Sends a query and returns the answer.
    fn ask(socket: &UdpSocket, to: SocketAddr, query: &[u8]) -> Anyhow<Vec<u8>> {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(query, to)?;
        let mut buffer = [0; 2_048];
        let (len, _) = socket.recv_from(&mut buffer)?;
        Ok(buffer.get(..len).unwrap_or_default().to_vec())
    }

    fn reply_sizes(to: SocketAddr, queries: &Queries) -> Anyhow<Sizes> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (Some(find_node), Some(get_peers)) =
            (queries.find_node.first(), queries.get_peers.first())
        else {
            return Err("no queries".into());
        };
        Ok(Sizes {
            find_node_query: find_node.len(),
            get_peers_query: get_peers.len(),
            find_node: ask(&socket, to, find_node)?.len(),
            get_peers: ask(&socket, to, get_peers)?.len(),
        })
    }

    /// Announces fifty peers for each hash, from fifty addresses.
    fn fill_peers(to: SocketAddr) -> Anyhow<()> {
        for peer in 1..=PEERS {
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 3, peer, 1), 0))?;
            for n in 0..HASHES {
                let info_hash = hash(n);
                let get = Method::GetPeers { info_hash, noseed: false, scrape: false };
                let answer = ask(&socket, to, &query(get))?;
                let Ok(Message { body: Body::Reply(Reply { token: Some(token), .. }), .. }) =
                    decode(&answer)
                else {
                    return Err("get_peers was not answered".into());
                };
                let (port, implied_port, seed) = (1_000, false, false);
                let announce = Method::AnnouncePeer { info_hash, port, implied_port, seed, token };
                ask(&socket, to, &query(announce))?;
            }
        }
        Ok(())
    }

    /// Answers the server's queries from many addresses until its table is full; returns how many
    /// contacts it has then.
    fn fill_table(server: &Server) -> Anyhow<u64> {
        let Some(dht) = &server.dht else { return Err("the echo has no table".into()) };
        let mut sockets = Vec::new();
        for n in 0..CONTACTS {
            let ip = Ipv4Addr::new(127, 2, (n / 250) as u8, (n % 250) as u8 + 1);
            let socket = UdpSocket::bind((ip, 0))?;
            socket.set_nonblocking(true)?;
            dht.add_contact(socket.local_addr()?, None)?;
            sockets.push((NodeId::from_bytes(id(20_000 + n as u64)), socket));
        }
        let (mut contacts, mut unchanged) = (0, Instant::now());
        while unchanged.elapsed() < Duration::from_secs(2) {
            for (id, socket) in &sockets {
                let mut buffer = [0; 2_048];
                while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let datagram = buffer.get(..len).unwrap_or_default();
                    let Ok(message) = decode(datagram) else { continue };
                    let reply = encode(Body::Reply(Reply::new(*id)), message.tid);
                    socket.send_to(&reply, from)?;
                }
            }
            let now = dht.stats()?.node.contacts;
            if now != contacts {
                (contacts, unchanged) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(contacts)
    }

    /// One round: keeps the server's queue full and counts the answers.
    fn measure(server: &Server, queries: &Queries) -> Anyhow<Round> {
        let SocketAddr::V4(to) = server.addr else { return Err("the server is on IPv4".into()) };
        let mut generator = Generator::new(to, queries)?;
        generator.run(WARM_UP);
        let (cpu, start) = (server.cpu_ns()?, Instant::now());
        let answers = f64::from(generator.run(ROUND));
        let wall = start.elapsed().as_secs_f64();
        let cpu_ns = server.cpu_ns()? - cpu;
        Ok(Round {
            per_second: answers / wall,
            cpu_ns: cpu_ns / answers,
            busy: cpu_ns / 1e9 / wall,
            stalls: generator.stalls,
        })
    }

    struct Generator<'a> {
        to: SocketAddrV4,
        queries: &'a Queries,
        sockets: Vec<(UdpSocket, usize)>,
        batch: Batch,
        next: usize,
        /// Times that answers were lost, which the generator waits out.
        stalls: u32,
    }

    impl<'a> Generator<'a> {
        fn new(to: SocketAddrV4, queries: &'a Queries) -> Anyhow<Self> {
            let mut sockets = Vec::new();
            for n in 0..SOCKETS {
                let socket = bind(Ipv4Addr::new(127, 4, n as u8, 1))?;
                socket.set_nonblocking(true)?;
                sockets.push((socket, 0));
            }
            Ok(Self { to, queries, sockets, batch: Batch::new(), next: 0, stalls: 0 })
        }

        /// Returns how many answers came.
        fn run(&mut self, duration: Duration) -> u32 {
            let start = Instant::now();
            let (mut answers, mut last) = (0, start);
            while start.elapsed() < duration {
                let before = answers;
                let mut sockets = core::mem::take(&mut self.sockets);
                for (socket, in_flight) in &mut sockets {
                    if *in_flight + BATCH <= WINDOW {
                        self.fill();
                        *in_flight += self.batch.send(socket, BATCH);
                    }
                    let received = self.batch.recv(socket, MsgFlags::MSG_DONTWAIT);
                    *in_flight = in_flight.saturating_sub(received);
                    answers += received as u32;
                }
                self.sockets = sockets;
                if answers > before {
                    last = Instant::now();
                } else if last.elapsed() > Duration::from_millis(20) {
                    // What was lost never comes.
                    self.stalls += 1;
                    self.sockets.iter_mut().for_each(|(_, in_flight)| *in_flight = 0);
                    last = Instant::now();
                }
            }
            answers
        }

        /// Writes a batch of queries, half of each kind.
        fn fill(&mut self) {
            let slots = self.batch.buffers.iter_mut().zip(&mut self.batch.lens);
            for ((buffer, len), addr) in slots.zip(&mut self.batch.addrs) {
                let n = self.next;
                self.next += 1;
                let all = if n.is_multiple_of(2) {
                    &self.queries.find_node
                } else {
                    &self.queries.get_peers
                };
                let Some(query) = all.get((n / 2) % all.len()) else { continue };
                for (to, from) in buffer.iter_mut().zip(query) {
                    *to = *from;
                }
                *len = query.len();
                *addr = Some(self.to.into());
            }
        }
    }
}
