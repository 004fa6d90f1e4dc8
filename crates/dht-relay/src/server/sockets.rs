//! DNS over UDP and TCP.

use core::net::IpAddr;
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use async_io::{Async, Timer};
use dht_pkarr::PublicKey;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};

use super::udp::{Batch, Udp};
use super::{Shared, Tasks};
use crate::backend::Backend;
use crate::dns::{Step, Transport};

/// The longest query that is read over TCP.
const MAX_QUERY_LEN: usize = 4_096;
/// A TCP client may be silent for so long (RFC 7766, 6.2.3), and so may one that does not read.
const IDLE: Duration = Duration::from_secs(10);
/// Pause when the system has no sockets to give, or fails otherwise.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers datagrams until it is dropped.
pub(super) async fn receive<B: Backend>(shared: Arc<Shared<B>>, tasks: Tasks, socket: Udp) {
    let socket = Arc::new(socket);
    let mut batch = Batch::new();
    loop {
        socket.receive(&mut batch).await;
        for (from, query) in batch.iter() {
            match step(&shared, from.addr.ip(), Transport::Udp, query) {
                Step::Drop => {}
                Step::Reply(reply) => socket.send(&reply, from).await,
                step @ (Step::Read(_) | Step::Resolve(_) | Step::Forward(..)) => {
                    // `Shared::answer` keeps a bound of its own, but a reply that says so is work, too.
                    let Some(slot) = shared.dns.take() else { continue };
                    let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                    tasks.begin(async move {
                        if let Some(reply) = shared.answer(step).await {
                            socket.send(&reply, from).await;
                        }
                        drop(slot);
                    });
                }
            }
        }
    }
}

/// Takes connections until it is dropped.
pub(super) async fn accept<B: Backend>(
    shared: Arc<Shared<B>>,
    tasks: Tasks,
    listener: Async<TcpListener>,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            Timer::after(PAUSE).await;
            continue;
        };
        let Some(slot) = shared.dns.take() else { continue };
        let (shared, stopped) = (Arc::clone(&shared), tasks.stopped.clone());
        tasks.begin(async move {
            let stop = async {
                let _closed = stopped.recv().await;
            };
            // Whoever is being answered when the relay stops asks again, elsewhere.
            converse(&shared, stream, peer.ip()).or(stop).await;
            drop(slot);
        });
    }
}

/// Answers one query after another (RFC 7766).
async fn converse<B: Backend>(shared: &Shared<B>, mut stream: Async<TcpStream>, peer: IpAddr) {
    drop(stream.get_ref().set_nodelay(true));
    loop {
        let Ok(query) = in_time(read_framed(&mut stream, MAX_QUERY_LEN)).await else { return };
        let step = step(shared, peer, Transport::Tcp, &query);
        let Some(reply) = shared.answer(step).await else { return };
        if in_time(write_framed(&mut stream, &reply)).await.is_err() {
            return;
        }
    }
}

fn step<B: Backend>(shared: &Shared<B>, peer: IpAddr, transport: Transport, query: &[u8]) -> Step {
    let cached = |key: &PublicKey| shared.known(key);
    shared.front().handle_dns(shared.now(), peer.into(), transport, query, &cached)
}

async fn in_time<T>(done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(IDLE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    done.or(late).await
}

/// Reads a message behind its length (RFC 1035, 4.2.2).
pub(super) async fn read_framed(stream: &mut Async<TcpStream>, max: usize) -> io::Result<Vec<u8>> {
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
pub(super) async fn write_framed(stream: &mut Async<TcpStream>, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let framed = [&len.to_be_bytes()[..], message].concat();
    stream.write_all(&framed).await
}
