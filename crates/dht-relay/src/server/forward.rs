//! Asking another DNS server.

use core::future::Future;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::net::{TcpStream, UdpSocket};

use async_io::{Async, Timer};
use futures_lite::FutureExt as _;

use super::sockets::{read_framed, write_framed};
use super::turns::Turns;
use crate::dns::{MAX_STREAM_LEN, Query, Transport};

/// A datagram may get lost: then it is sent once more.
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(2);

/// The reply to what is forwarded of a query, which gets an id that nobody can guess; `None` if there is
/// none in time.
pub(super) async fn ask(addr: SocketAddr, query: &Query, mut message: Vec<u8>) -> Option<Vec<u8>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    message.get_mut(..2)?.copy_from_slice(&id);
    let transport = query.transport();
    let fits = |reply: &[u8]| reply.get(..2) == Some(&id) && query.is_answered_by(reply);
    let tries = if transport == Transport::Udp { TRIES } else { 1 };
    for _ in 0..tries {
        let asked = async {
            match transport {
                Transport::Udp => over_udp(addr, &message, fits).await,
                Transport::Tcp | Transport::Http => over_tcp(addr, &message, fits).await,
            }
        };
        if let Ok(reply) = in_time(asked).await {
            return Some(reply);
        }
    }
    None
}

async fn in_time<T>(asked: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(PATIENCE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    asked.or(late).await
}

/// From a port of its own, so that whoever forges a reply has to guess that, too.
async fn over_udp(
    addr: SocketAddr,
    message: &[u8],
    fits: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let own = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = Async::<UdpSocket>::bind(own)?;
    socket.get_ref().connect(addr)?;
    socket.send(message).await?;
    let (mut buffer, mut turns) = (vec![0; MAX_STREAM_LEN], Turns::default());
    loop {
        let len = socket.recv(&mut buffer).await?;
        let reply = buffer.get(..len).unwrap_or_default();
        if fits(reply) {
            return Ok(reply.to_vec());
        }
        turns.took_one().await;
    }
}

async fn over_tcp(
    addr: SocketAddr,
    message: &[u8],
    fits: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let stream = Async::<TcpStream>::connect(addr).await?;
    write_framed(&stream, message).await?;
    let reply = read_framed(&stream, MAX_STREAM_LEN).await?;
    if fits(&reply) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}
