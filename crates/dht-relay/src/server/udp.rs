//! A UDP socket that answers from the address that was asked, as clients expect (RFC 1123, 2.3), also
//! if it is bound to the wildcard of a machine with several.

use core::net::{IpAddr, SocketAddr};
use std::io;

use async_io::{Async, Timer};
use dht_driver::{Fault, Incoming, Outgoing, RECV_BATCH, RECV_LEN, RecvBuffers};
use dht_net::{Calls, UdpSocket};
use dht_proto::MAX_DATAGRAM;
use futures_lite::future::yield_now;

use super::PAUSE;

/// The socket; of IPv6, it has no IPv4.
#[derive(Debug)]
pub(super) struct Udp {
    socket: UdpSocket,
    /// Another handle of it.
    watch: Async<std::net::UdpSocket>,
}

/// What came in at a time.
pub(super) struct Batch {
    buffers: Box<RecvBuffers>,
    incoming: [Incoming; RECV_BATCH],
    count: usize,
}

/// Whom a reply goes to, and from which of our addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    local: Option<IpAddr>,
}

impl Udp {
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(addr, Calls::Best)?;
        let watch = Async::new_nonblocking(socket.try_clone()?)?;
        Ok(Self { socket, watch })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for datagrams.
    pub(super) async fn receive(&self, batch: &mut Batch) {
        loop {
            match self.socket.recv(&mut batch.buffers, &mut batch.incoming) {
                Ok(count) => {
                    batch.count = count;
                    return;
                }
                Err(Fault::WouldBlock) => self.wait(self.watch.readable()).await,
                // Somebody to whom a reply was sent is gone. There may be many such, and there are others.
                Err(Fault::Refused(_) | Fault::Interrupted) => yield_now().await,
                Err(_) => drop(Timer::after(PAUSE).await),
            }
        }
    }

    /// Sends a reply. One that does not leave is one that got lost.
    pub(super) async fn send(&self, reply: &[u8], to: Peer) {
        let mut buffer = [0; MAX_DATAGRAM];
        let Some(start) = buffer.get_mut(..reply.len()) else { return };
        start.copy_from_slice(reply);
        let outgoing = [Outgoing { to: to.addr, local: to.local, len: reply.len() }];
        loop {
            match self.socket.send(&[buffer], &outgoing) {
                Err(Fault::WouldBlock) => self.wait(self.watch.writable()).await,
                // It has not been tried.
                Err(Fault::Refused(_) | Fault::Interrupted) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    async fn wait(&self, ready: impl Future<Output = io::Result<()>>) {
        if ready.await.is_err() {
            Timer::after(PAUSE).await;
        }
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        let Ok(buffers) = vec![[0; RECV_LEN]; RECV_BATCH].try_into() else {
            unreachable!("the vector has the length of the array")
        };
        Self { buffers, incoming: [Incoming::EMPTY; RECV_BATCH], count: 0 }
    }

    /// Who sent what; what was cut is no message and left out.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Peer, &[u8])> {
        let datagrams = self.buffers.iter().zip(&self.incoming).take(self.count);
        datagrams.filter(|(_, datagram)| !datagram.is_truncated()).map(|(buffer, datagram)| {
            let peer = Peer { addr: datagram.from, local: datagram.local };
            (peer, buffer.get(..datagram.len).unwrap_or_default())
        })
    }
}
