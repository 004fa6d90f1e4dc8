//! The relay as a program: sockets and time around [`Front`], on `async-io`.

use core::convert::Infallible;
use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use async_channel as channel;
use async_executor::Executor;
use async_io::{Async, Timer};
use dht_pkarr::resolve::Policy;
use dht_pkarr::{PublicKey, SignedPacket, Timestamp};
use futures_lite::FutureExt as _;

use crate::backend::{Backend, Found, PublishError, ResolveError};
use crate::dns;
use crate::front::{Front, Now, Options};
use crate::stats;

mod forward;
mod http;
mod patience;
mod slots;
mod sockets;
mod stream;

use slots::Slots;

/// What is going on when the relay is told to stop may take this long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Where a relay listens, and how much it does at a time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listen {
    /// HTTP: packets, the page, and DNS over HTTP, as [`Options`] say.
    pub http: Vec<SocketAddr>,
    /// DNS, over UDP, and over TCP on the same ports.
    pub dns: Vec<SocketAddr>,
    /// Metrics for Prometheus, over HTTP at `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// The DNS server that knows ordinary names. It is asked only if [`Options::forward`] is set.
    pub upstream: Option<SocketAddr>,
    /// Connections at a time, HTTP and DNS each; more are closed at once. Default: 1,024.
    pub max_connections: usize,
    /// Lookups, publications and forwarded queries at a time; more fail at once. Default: 512.
    pub max_work: usize,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: Vec::new(),
            dns: Vec::new(),
            metrics: None,
            upstream: None,
            max_connections: 1_024,
            max_work: 512,
        }
    }
}

/// A relay whose sockets are bound.
#[derive(Debug)]
pub struct Server<B> {
    shared: Arc<Shared<B>>,
    http: Vec<Async<TcpListener>>,
    udp: Vec<Async<UdpSocket>>,
    tcp: Vec<Async<TcpListener>>,
    metrics: Option<Async<TcpListener>>,
}

impl<B: Backend> Server<B> {
    /// Binds all sockets. Who connects is served once [`Server::run`] is polled.
    ///
    /// # Errors
    /// If an address cannot be bound, with the address.
    pub fn bind(listen: &Listen, options: Options, backend: B) -> io::Result<Self> {
        let udp = bound(&listen.dns, Async::<UdpSocket>::bind)?;
        let udp_addrs: Vec<_> =
            udp.iter().map(|socket| socket.get_ref().local_addr()).collect::<Result<_, _>>()?;
        let tcp = |addr| Async::<TcpListener>::bind(addr);
        let metrics: Vec<_> = listen.metrics.into_iter().collect();
        Ok(Self {
            http: bound(&listen.http, tcp)?,
            tcp: bound(&udp_addrs, tcp)?,
            udp,
            metrics: bound(&metrics, tcp)?.pop(),
            shared: Arc::new(Shared {
                backend,
                front: Mutex::new(Front::new(options)),
                begin: Instant::now(),
                upstream: listen.upstream,
                http: Slots::new(listen.max_connections),
                dns: Slots::new(listen.max_connections),
                work: Slots::new(listen.max_work),
            }),
        })
    }

    /// Where HTTP is.
    #[must_use]
    pub fn http_addrs(&self) -> Vec<SocketAddr> {
        self.http.iter().filter_map(|socket| socket.get_ref().local_addr().ok()).collect()
    }

    /// Where DNS is.
    #[must_use]
    pub fn dns_addrs(&self) -> Vec<SocketAddr> {
        self.udp.iter().filter_map(|socket| socket.get_ref().local_addr().ok()).collect()
    }

    /// Where the metrics are.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.get_ref().local_addr().ok()
    }

    /// Serves until `stop` ends; then takes nothing new, and waits for what is going on, for a while.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let executor = Arc::new(Executor::new());
        let (alive, ended) = channel::bounded::<Infallible>(1);
        let (stopping, stopped) = channel::bounded::<Infallible>(1);
        let tasks = Tasks { executor: Arc::clone(&executor), alive, stopped };
        let mut listeners = Vec::new();
        let relay = self.http.into_iter().map(|listener| (listener, false));
        for (listener, metrics) in relay.chain(self.metrics.map(|listener| (listener, true))) {
            let shared = Arc::clone(&self.shared);
            listeners.push(executor.spawn(http::accept(shared, tasks.clone(), listener, metrics)));
        }
        for listener in self.tcp {
            let shared = Arc::clone(&self.shared);
            listeners.push(executor.spawn(sockets::accept(shared, tasks.clone(), listener)));
        }
        for socket in self.udp {
            let shared = Arc::clone(&self.shared);
            listeners.push(executor.spawn(sockets::receive(shared, tasks.clone(), socket)));
        }
        drop(tasks);
        executor
            .run(async {
                stop.await;
                // Listeners close their sockets when they are dropped.
                drop(listeners);
                drop(stopping);
                let late = async {
                    Timer::after(STOP_PATIENCE).await;
                };
                let all_ended = async {
                    // All that goes on holds a sender; nothing is ever sent.
                    let _closed = ended.recv().await;
                };
                all_ended.or(late).await;
            })
            .await;
    }
}

fn bound<T>(
    addrs: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    let with_addr = |addr| {
        move |error: io::Error| io::Error::new(error.kind(), format!("cannot bind {addr}: {error}"))
    };
    addrs.iter().map(|addr| bind(*addr).map_err(with_addr(*addr))).collect()
}

/// How tasks are begun, and told to end.
#[derive(Clone)]
struct Tasks {
    executor: Arc<Executor<'static>>,
    /// Held by whatever should be waited for at the end.
    alive: channel::Sender<Infallible>,
    /// Closed at the end.
    stopped: channel::Receiver<Infallible>,
}

impl Tasks {
    /// Begins something that is waited for at the end.
    fn begin(&self, work: impl Future<Output = ()> + Send + 'static) {
        let alive = self.alive.clone();
        let whole = async move {
            work.await;
            drop(alive);
        };
        self.executor.spawn(whole).detach();
    }
}

/// What all tasks see.
#[derive(Debug)]
struct Shared<B> {
    backend: B,
    front: Mutex<Front>,
    begin: Instant,
    upstream: Option<SocketAddr>,
    http: Slots,
    dns: Slots,
    work: Slots,
}

impl<B: Backend> Shared<B> {
    fn front(&self) -> MutexGuard<'_, Front> {
        // No code panics while holding the lock.
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).ok().and_then(Timestamp::from_micros);
        Now { wall: micros.unwrap_or_default(), elapsed: self.begin.elapsed() }
    }

    async fn resolve(&self, key: PublicKey, policy: Policy) -> Result<Found, ResolveError> {
        let Some(_slot) = self.work.take() else { return Err(ResolveError::NoAnswer) };
        self.backend.resolve(key, policy).await
    }

    async fn publish(
        &self,
        packet: &SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<u32, PublishError> {
        let Some(_slot) = self.work.take() else {
            return Err(PublishError::Failed("the relay is busy; try again later".to_owned()));
        };
        self.backend.publish(packet.clone(), cas).await
    }

    /// Does what a DNS query needs until there is a reply; `None` if there will be none.
    async fn answer(&self, mut step: dns::Step) -> Option<Vec<u8>> {
        loop {
            step = match step {
                dns::Step::Drop => return None,
                dns::Step::Reply(reply) => return Some(reply),
                dns::Step::Resolve(query) => {
                    let result = match query.wants() {
                        Some(key) => self.resolve(key, Policy::CacheFirst).await,
                        None => Err(ResolveError::NoAnswer),
                    };
                    let cached = |key: &PublicKey| self.backend.cached(key);
                    self.front().handle_dns_found(self.now(), query, result, &cached)
                }
                dns::Step::Forward(query, message) => {
                    let reply = match (self.upstream, self.work.take()) {
                        (Some(addr), Some(_slot)) => {
                            forward::ask(addr, query.transport(), message).await
                        }
                        _ => None,
                    };
                    self.front().handle_dns_forwarded(query, reply.as_deref())
                }
            }
        }
    }

    async fn metrics(&self) -> String {
        let own = {
            let front = self.front();
            let [http, dns, work] = front.users().map(|users| users as u64);
            stats::text(
                front.stats(),
                &[
                    ("pkarr_http_users", "Users with an HTTP bucket that is not full.", http),
                    ("pkarr_dns_users", "Users with a DNS bucket that is not full.", dns),
                    ("pkarr_work_users", "Users with a work bucket that is not full.", work),
                    ("pkarr_http_connections", "Open HTTP connections.", self.http.taken()),
                    ("pkarr_dns_connections", "Open DNS connections.", self.dns.taken()),
                    ("pkarr_work", "Lookups, publications, forwarded queries.", self.work.taken()),
                ],
            )
        };
        own + &self.backend.metrics().await
    }
}
