//! The relay as a program: sockets and time around [`Front`], on `async-io`.

use core::convert::Infallible;
use core::future::Future;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_channel as channel;
use async_executor::Executor;
use async_io::{Async, Timer};
use dht_pkarr::{PublicKey, SignedPacket, Timestamp};
use futures_lite::FutureExt as _;

use crate::backend::{Backend, Found, PublishError, ResolveError};
use crate::dns::{self, Transport};
use crate::front::{Front, Known, Now, Options};
use crate::lookups::Resolution;
use crate::stats;

mod forward;
mod http;
mod patience;
mod resolving;
mod slots;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;
mod turns;
mod udp;

use resolving::Resolving;
use slots::{Slot, Slots};
use udp::Udp;

/// Lookups that wait for the executor, however many places there are.
const MAX_BEGUN: usize = 8_192;
/// Pause when the system has no sockets to give, or fails otherwise.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections to the metrics at a time.
const MAX_METRICS: usize = 16;

/// Where a relay listens, and how much it does at a time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listen {
    /// HTTP: packets, the page, and DNS over HTTP, as [`Options`] say.
    pub http: Vec<SocketAddr>,
    /// DNS, over UDP, and over TCP on the same ports; the wildcard of IPv6 is not that of IPv4.
    pub dns: Vec<SocketAddr>,
    /// Metrics for Prometheus, over HTTP at `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// The DNS server that knows ordinary names. It is asked only if [`Options::forward`] is set.
    pub upstream: Option<SocketAddr>,
    /// Connections at a time, HTTP and DNS each; more are closed at once. As many DNS queries over UDP
    /// may wait for something; more fail at once. Default: 1,024.
    pub max_connections: usize,
    /// Those of them that one user may have, HTTP and DNS each; behind a proxy, which has them all,
    /// HTTP knows no such limit. Default: 64.
    pub max_user_connections: usize,
    /// Lookups, publications and forwarded queries at a time; more fail at once. Default: 512.
    pub max_work: usize,
    /// And so many more lookups and forwarded queries that began with a datagram, whose source may be
    /// forged. Default: 128.
    pub max_udp_work: usize,
    /// What goes on when the relay is told to stop may take this long to end. A backend that is slower
    /// is cut off. Default: 15 seconds.
    pub stop_patience: Duration,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: Vec::new(),
            dns: Vec::new(),
            metrics: None,
            upstream: None,
            max_connections: 1_024,
            max_user_connections: 64,
            max_work: 512,
            max_udp_work: 128,
            stop_patience: Duration::from_secs(15),
        }
    }
}

/// A relay whose sockets are bound.
#[derive(Debug)]
pub struct Server<B> {
    shared: Arc<Shared<B>>,
    http: Vec<Async<TcpListener>>,
    udp: Vec<Udp>,
    tcp: Vec<Async<TcpListener>>,
    metrics: Option<Async<TcpListener>>,
    to_resolve: channel::Receiver<(Resolution, Slot)>,
    stop_patience: Duration,
}

impl<B: Backend> Server<B> {
    /// Binds all sockets. Who connects is served once [`Server::run`] is polled.
    ///
    /// # Errors
    /// If an address cannot be bound, with the address.
    pub fn bind(listen: &Listen, options: Options, backend: B) -> io::Result<Self> {
        let udp = bound(&listen.dns, Udp::bind)?;
        let udp_addrs: Vec<_> = udp.iter().map(Udp::local_addr).collect::<Result<_, _>>()?;
        let tcp = |addr| Async::<TcpListener>::bind(addr);
        let metrics: Vec<_> = listen.metrics.into_iter().collect();
        let (shared, to_resolve) = Shared::new(listen, options, backend);
        Ok(Self {
            http: bound(&listen.http, tcp)?,
            tcp: bound(&udp_addrs, |addr| Async::new(dht_net::listen(addr)?))?,
            udp,
            metrics: bound(&metrics, tcp)?.pop(),
            shared: Arc::new(shared),
            to_resolve,
            stop_patience: listen.stop_patience,
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
        self.udp.iter().filter_map(|socket| socket.local_addr().ok()).collect()
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
        let resolve = async {
            while let Ok((resolution, slot)) = self.to_resolve.recv().await {
                // Nobody waits for it at the end but those who want its result.
                executor.spawn(resolve(Arc::clone(&self.shared), resolution, slot)).detach();
            }
        };
        let serve = async {
            stop.await;
            // Listeners close their sockets when they are dropped.
            drop(listeners);
            drop(stopping);
            let late = async {
                Timer::after(self.stop_patience).await;
            };
            let all_ended = async {
                // All that goes on holds a sender; nothing is ever sent.
                let _closed = ended.recv().await;
            };
            all_ended.or(late).await;
        };
        executor.run(serve.or(resolve)).await;
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
    metrics: Slots,
    /// DNS queries over UDP that wait for something.
    queries: Slots,
    work: Slots,
    /// The same for what began with a datagram, which takes nothing away from others.
    udp_work: Slots,
    resolving: Resolving,
    to_resolve: channel::Sender<(Resolution, Slot)>,
}

impl<B: Backend> Shared<B> {
    /// With what is to be resolved.
    fn new(
        listen: &Listen,
        options: Options,
        backend: B,
    ) -> (Self, channel::Receiver<(Resolution, Slot)>) {
        // As many as there are places for, and no more than is sensible; a channel for none there is not.
        let places = listen.max_work.saturating_add(listen.max_udp_work).clamp(1, MAX_BEGUN);
        let (to_resolve, receiver) = channel::bounded(places);
        let per_user = listen.max_user_connections;
        let http_per_user =
            if options.behind_proxy.is_some() { listen.max_connections } else { per_user };
        let shared = Self {
            backend,
            front: Mutex::new(Front::new(options)),
            begin: Instant::now(),
            upstream: listen.upstream,
            http: Slots::new(listen.max_connections).per_user(http_per_user),
            dns: Slots::new(listen.max_connections).per_user(per_user),
            metrics: Slots::new(MAX_METRICS),
            queries: Slots::new(listen.max_connections),
            work: Slots::new(listen.max_work),
            udp_work: Slots::new(listen.max_udp_work),
            resolving: Resolving::default(),
            to_resolve,
        };
        (shared, receiver)
    }

    fn front(&self) -> MutexGuard<'_, Front> {
        // No code panics while holding the lock.
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the front handle something, and begins what it wants resolved for that.
    fn handle<T>(&self, handle: impl FnOnce(&mut Front) -> T) -> T {
        let mut front = self.front();
        let handled = handle(&mut front);
        while let Some(resolution) = front.poll_resolution() {
            let begun = self.place(resolution.transport()).and_then(|slot| {
                self.resolving.begin(resolution.ticket());
                self.to_resolve.try_send((resolution, slot)).ok()
            });
            if begun.is_none() {
                let failed = ResolveError::NoAnswer;
                self.resolving.end(resolution.ticket(), Err(failed));
                front.handle_resolved(self.now(), &resolution, Err(failed));
            }
        }
        handled
    }

    fn now(&self) -> Now {
        Now { wall: dht_pkarr_client::now(), elapsed: self.begin.elapsed() }
    }

    /// What the cache has of a key, without waiting for the disk.
    fn known(&self, key: &PublicKey) -> Known {
        match self.backend.cached(key) {
            None if self.backend.has_disk() => Known::Unread,
            packet => packet.into(),
        }
    }

    /// The same, of a key that was looked for on disk.
    async fn read(&self, key: PublicKey) -> impl Fn(&PublicKey) -> Known {
        let read = Known::from(self.backend.read(key).await);
        move |other| if *other == key { read.clone() } else { self.known(other) }
    }

    /// A place for work, if there is one.
    fn place(&self, transport: Transport) -> Option<Slot> {
        match transport {
            Transport::Udp => self.udp_work.take(),
            Transport::Tcp | Transport::Http => self.work.take(),
        }
    }

    async fn publish(
        &self,
        packet: &SignedPacket,
        cas: Option<Timestamp>,
    ) -> Result<u32, PublishError> {
        let Some(_slot) = self.place(Transport::Http) else {
            return Err(PublishError::Failed("the relay is busy; try again later".to_owned()));
        };
        self.backend.publish(packet.clone(), cas).await
    }

    /// Does what a DNS query needs until there is a reply; `None` if there will be none. What it waits
    /// for may end before this is polled.
    fn answer(
        self: &Arc<Self>,
        mut step: dns::Step,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send + use<B> {
        let shared = Arc::clone(self);
        let mut resolved = shared.resolved_for(&step);
        async move {
            loop {
                step = match step {
                    dns::Step::Drop => return None,
                    dns::Step::Reply(reply) => return Some(reply),
                    dns::Step::Read(query) => {
                        let cached = shared.read(query.wants()?).await;
                        shared.handle(|front| front.handle_dns_read(shared.now(), query, &cached))
                    }
                    dns::Step::Resolve(query) => {
                        let result = resolved.await;
                        shared.found(query, result)
                    }
                    dns::Step::Forward(query, message) => {
                        let place = shared.place(query.transport());
                        let reply = match (shared.upstream, place) {
                            (Some(addr), Some(_slot)) => forward::ask(addr, &query, message).await,
                            _ => None,
                        };
                        shared.front().handle_dns_forwarded(query, reply.as_deref())
                    }
                };
                resolved = shared.resolved_for(&step);
            }
        }
    }

    /// Waits for what a DNS query waits for.
    fn resolved_for(
        &self,
        step: &dns::Step,
    ) -> impl Future<Output = Result<Found, ResolveError>> + Send + use<B> {
        self.resolving.wait(match step {
            dns::Step::Resolve(query) => query.ticket(),
            dns::Step::Drop | dns::Step::Reply(_) | dns::Step::Read(_) | dns::Step::Forward(..) => {
                None
            }
        })
    }

    fn found(&self, query: Box<dns::Query>, result: Result<Found, ResolveError>) -> dns::Step {
        let cached = |key: &PublicKey| self.known(key);
        self.handle(|front| front.handle_dns_found(self.now(), query, result, &cached))
    }

    /// The reply to a query for which there is no place.
    fn refuse(&self, step: dns::Step) -> Option<Vec<u8>> {
        let step = match step {
            dns::Step::Read(query) | dns::Step::Resolve(query) => {
                self.found(query, Err(ResolveError::NoAnswer))
            }
            dns::Step::Forward(query, _) => self.front().handle_dns_forwarded(query, None),
            step @ (dns::Step::Drop | dns::Step::Reply(_)) => step,
        };
        if let dns::Step::Reply(reply) = step { Some(reply) } else { None }
    }

    async fn metrics(&self) -> String {
        let own = {
            let front = self.front();
            let [http, dns, dns_udp, work, work_udp] = front.users().map(|users| users as u64);
            stats::text(
                front.stats(),
                &[
                    ("pkarr_http_users", "Users with an HTTP bucket that is not full.", http),
                    ("pkarr_dns_users", "Users with a DNS bucket that is not full.", dns),
                    ("pkarr_dns_udp_users", "The same of DNS over UDP.", dns_udp),
                    ("pkarr_work_users", "Users with a work bucket that is not full.", work),
                    ("pkarr_work_udp_users", "The same for DNS over UDP.", work_udp),
                    ("pkarr_http_connections", "Open HTTP connections.", self.http.taken()),
                    ("pkarr_dns_connections", "Open DNS connections.", self.dns.taken()),
                    ("pkarr_dns_waiting", "DNS queries over UDP that wait.", self.queries.taken()),
                    ("pkarr_work", "Lookups, publications, forwarded queries.", self.work.taken()),
                    ("pkarr_work_udp", "The same for DNS over UDP.", self.udp_work.taken()),
                ],
            )
        };
        own + &self.backend.metrics().await
    }
}

/// Resolves a key for all who wait for it.
async fn resolve<B: Backend>(shared: Arc<Shared<B>>, resolution: Resolution, slot: Slot) {
    let result = shared.backend.resolve(resolution.key(), resolution.policy()).await;
    drop(slot);
    let told = result.as_ref().map_err(|error| *error);
    shared.front().handle_resolved(shared.now(), &resolution, told);
    shared.resolving.end(resolution.ticket(), result);
}
