//! DNS over UDP and TCP.

use core::future::{Future, poll_fn};
use core::net::IpAddr;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use async_io::{Async, Timer};
use dht_pkarr::PublicKey;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};

use super::turns::Turns;
use super::udp::{Batch, Peer, Udp};
use super::{PAUSE, Shared, Tasks};
use crate::backend::Backend;
use crate::dns::{Step, Transport};

/// The longest query that is read over TCP.
const MAX_QUERY_LEN: usize = 4_096;
/// A TCP client may be silent for so long when it waits for nothing (RFC 7766, 6.2.3), and so may one
/// that does not read.
const IDLE: Duration = Duration::from_secs(10);
/// After this time a connection is closed once its queries are answered: else whoever sends a byte now and
/// then would keep it.
const LIFETIME: Duration = Duration::from_secs(120);
/// Queries of a connection that are answered at a time (RFC 7766, 6.2.1.1); more are read later.
const MAX_PIPELINED: usize = 8;
/// Answers datagrams until it is dropped.
pub(super) async fn receive<B: Backend>(shared: Arc<Shared<B>>, tasks: Tasks, socket: Udp) {
    let socket = Arc::new(socket);
    let mut batch = Batch::new();
    let mut turns = Turns::default();
    loop {
        socket.receive(&mut batch).await;
        for (from, query) in batch.iter() {
            answer(&shared, &tasks, &socket, from, query).await;
            turns.took_one().await;
        }
    }
}

async fn answer<B: Backend>(
    shared: &Arc<Shared<B>>,
    tasks: &Tasks,
    socket: &Arc<Udp>,
    from: Peer,
    query: &[u8],
) {
    match step(shared, from.addr.ip(), Transport::Udp, query) {
        Step::Drop => {}
        Step::Reply(reply) => socket.send(&reply, from).await,
        waits @ (Step::Read(_) | Step::Resolve(_) | Step::Forward(..)) => {
            let Some(slot) = shared.queries.take() else {
                if let Some(reply) = shared.refuse(waits) {
                    socket.send(&reply, from).await;
                }
                return;
            };
            let (answer, socket) = (shared.answer(waits), Arc::clone(socket));
            tasks.begin(async move {
                if let Some(reply) = answer.await {
                    socket.send(&reply, from).await;
                }
                drop(slot);
            });
        }
    }
}

/// Takes connections until it is dropped.
pub(super) async fn accept<B: Backend>(
    shared: Arc<Shared<B>>,
    tasks: Tasks,
    listener: Async<TcpListener>,
) {
    let mut turns = Turns::default();
    loop {
        turns.took_one().await;
        let Ok((stream, peer)) = listener.accept().await else {
            Timer::after(PAUSE).await;
            continue;
        };
        let Some(slot) = shared.dns.take_for(peer.ip().into()) else { continue };
        let (shared, stopped) = (Arc::clone(&shared), tasks.stopped.clone());
        tasks.begin(async move {
            let stop = async {
                let _closed = stopped.recv().await;
            };
            converse(&shared, &stream, peer.ip(), stop).await;
            drop(slot);
        });
    }
}

/// Answers queries, a few at a time and each as soon as it can be (RFC 7766). After `told_to_stop` no more are
/// read, and those that were are answered.
pub(super) async fn converse<B: Backend>(
    shared: &Arc<Shared<B>>,
    stream: &Async<TcpStream>,
    peer: IpAddr,
    told_to_stop: impl Future<Output = ()>,
) {
    drop(stream.get_ref().set_nodelay(true));
    let ended = async {
        Timer::after(LIFETIME).await;
    };
    let mut over = pin!(told_to_stop.or(ended));
    let mut conversation = Conversation::new(stream);
    let mut turns = Turns::default();
    loop {
        turns.took_one().await;
        let stopped = async {
            over.as_mut().await;
            Event::Stopped
        };
        let event = if conversation.reading.is_some() {
            stopped.or(conversation.next()).await
        } else {
            conversation.next().await
        };
        let reply = match event {
            Event::Query(query) => match step(shared, peer, Transport::Tcp, &query) {
                Step::Reply(reply) => reply,
                Step::Drop => return,
                waits @ (Step::Read(_) | Step::Resolve(_) | Step::Forward(..)) => {
                    conversation.answers.push(Box::pin(shared.answer(waits)));
                    continue;
                }
            },
            Event::Reply(reply) => reply,
            Event::Stopped => {
                conversation.reading = None;
                continue;
            }
            Event::Ended => return,
        };
        if in_time(write_framed(stream, &reply)).await.is_err() {
            return;
        }
    }
}

type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What happens on a connection.
enum Event {
    Query(Vec<u8>),
    Reply(Vec<u8>),
    /// No more queries are wanted.
    Stopped,
    /// There are none, and all are answered.
    Ended,
}

/// A connection's queries.
struct Conversation<'a> {
    stream: &'a Async<TcpStream>,
    /// The next query; `None` if there will be none.
    reading: Option<Work<'a, io::Result<Vec<u8>>>>,
    /// Those that wait for something.
    answers: Vec<Work<'static, Option<Vec<u8>>>>,
}

impl<'a> Conversation<'a> {
    fn new(stream: &'a Async<TcpStream>) -> Self {
        Self { stream, reading: Some(read_query(stream)), answers: Vec::new() }
    }

    async fn next(&mut self) -> Event {
        loop {
            let event = async { Some(poll_fn(|cx| self.poll(cx)).await) };
            let silent = async {
                Timer::after(IDLE).await;
                None
            };
            match event.or(silent).await {
                Some(event) => return event,
                None if self.answers.is_empty() => return Event::Ended,
                // It is we who are silent.
                None => {}
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut answered = None;
        self.answers.retain_mut(|answer| {
            if answered.is_none()
                && let Poll::Ready(reply) = answer.as_mut().poll(cx)
            {
                answered = reply;
                return false;
            }
            true
        });
        if let Some(reply) = answered {
            return Poll::Ready(Event::Reply(reply));
        }
        if let Some(reading) = &mut self.reading
            && self.answers.len() < MAX_PIPELINED
            && let Poll::Ready(query) = reading.as_mut().poll(cx)
        {
            self.reading = query.is_ok().then(|| read_query(self.stream));
            if let Ok(query) = query {
                return Poll::Ready(Event::Query(query));
            }
        }
        if self.reading.is_none() && self.answers.is_empty() {
            return Poll::Ready(Event::Ended);
        }
        Poll::Pending
    }
}

fn read_query(stream: &Async<TcpStream>) -> Work<'_, io::Result<Vec<u8>>> {
    Box::pin(read_framed(stream, MAX_QUERY_LEN))
}

fn step<B: Backend>(shared: &Shared<B>, peer: IpAddr, transport: Transport, query: &[u8]) -> Step {
    let cached = |key: &PublicKey| shared.known(key);
    shared.handle(|front| front.handle_dns(shared.now(), peer.into(), transport, query, &cached))
}

async fn in_time<T>(done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(IDLE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    done.or(late).await
}

/// Reads a message behind its length (RFC 1035, 4.2.2).
pub(super) async fn read_framed(mut stream: &Async<TcpStream>, max: usize) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).await?;
    let len = usize::from(u16::from_be_bytes(len));
    if len > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message behind its length, at once, as some clients expect.
pub(super) async fn write_framed(mut stream: &Async<TcpStream>, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let framed = [&len.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}
