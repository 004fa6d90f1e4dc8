//! UDP sockets.
//!
//! [`UdpSocket`] moves datagrams between the system and the buffers of `dht_driver`, without
//! waiting: what waits for readiness is the runtime's business. On Linux it
//!
//! * sends and receives many datagrams per system call (recvmmsg, sendmmsg);
//! * bound to the wildcard, tells which of the machine's addresses a datagram came to, and sends
//!   from the address that it is told to (`IP_PKTINFO`, `IPV6_PKTINFO`). One socket so serves every
//!   address of a multi-homed host, or a whole range of them;
//! * hears of ICMP messages about what it sent (`IP_RECVERR`, `IPV6_RECVERR`), so that nobody waits
//!   for an answer from a closed port.
//!
//! Elsewhere, or with [`Calls::Single`], it makes one system call per datagram and has none of this.
//! That path is compiled and tested on every system.

use core::net::SocketAddr;
#[cfg(all(target_os = "linux", not(dht_portable)))]
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::io;

use dht_driver::{Fault, Incoming, Outgoing, RECV_BATCH, RecvBuffers};
use dht_proto::MAX_DATAGRAM;
use socket2::{Domain, Protocol, Socket, Type};

use crate::single;
#[cfg(all(target_os = "linux", not(dht_portable)))]
use crate::{batch, errors};

/// Receive buffer asked of the system, in bytes: a burst of lookups brings hundreds of replies.
const RECV_BUFFER: usize = 4 << 20;

/// Connections that wait to be accepted, at most.
const BACKLOG: i32 = 128;

/// How a socket talks to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a choice of two")]
pub enum Calls {
    /// As well as the system can: many datagrams per call, local addresses, ICMP.
    #[default]
    Best,
    /// One call per datagram and nothing else, which every system has.
    Single,
}

/// A UDP socket of one address family that never blocks.
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    #[cfg(all(target_os = "linux", not(dht_portable)))]
    linux: Option<Linux>,
}

/// What Linux can do beyond single calls.
#[cfg(all(target_os = "linux", not(dht_portable)))]
#[derive(Debug)]
struct Linux {
    mode: batch::Mode,
    /// The queue of ICMP messages may hold one that no call failed for: sendmmsg keeps an error to
    /// itself if some datagrams were sent before it.
    hidden: AtomicBool,
}

impl UdpSocket {
    /// Binds an address; port 0 picks a free one. IPv6 sockets never carry IPv4.
    ///
    /// # Errors
    /// What the system said.
    pub fn bind(addr: SocketAddr, calls: Calls) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // The IPv4 network has a socket of its own.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // The system caps this silently or refuses; a smaller buffer only drops more in bursts.
        drop(socket.set_recv_buffer_size(RECV_BUFFER));
        #[cfg(all(target_os = "linux", not(dht_portable)))]
        let linux = match calls {
            Calls::Best => {
                let mode = batch::Mode::enable(&socket, addr)?;
                Some(Linux { mode, hidden: AtomicBool::new(false) })
            }
            Calls::Single => None,
        };
        #[cfg(any(not(target_os = "linux"), dht_portable))]
        let (Calls::Best | Calls::Single) = calls;
        socket.bind(&addr.into())?;
        Ok(Self {
            socket: socket.into(),
            #[cfg(all(target_os = "linux", not(dht_portable)))]
            linux,
        })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// What the system said.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Another handle of the same socket, for a poller that has to own what it watches.
    ///
    /// # Errors
    /// If the process has too many open files.
    pub fn try_clone(&self) -> io::Result<std::net::UdpSocket> {
        self.socket.try_clone()
    }

    /// Receives what is there, at most one batch, and returns how many datagrams it was.
    ///
    /// # Errors
    /// [`Fault::WouldBlock`] if nothing is there; [`Fault::Refused`] if an ICMP message came first.
    pub fn recv(
        &self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        #[cfg(all(target_os = "linux", not(dht_portable)))]
        if let Some(Linux { mode, hidden }) = &self.linux {
            if hidden.load(Relaxed) {
                match errors::next(&self.socket, *mode) {
                    Some(fault) => return Err(fault),
                    None => hidden.store(false, Relaxed),
                }
            }
            return batch::recv(&self.socket, *mode, buffers, incoming)
                .map_err(|error| errors::sort(&self.socket, *mode, &error));
        }
        single::recv(&self.socket, buffers, incoming).map_err(|error| Fault::of(&error))
    }

    /// Sends datagrams in order and returns how many are out: at least one, if there are any.
    ///
    /// # Errors
    /// Why the first was not taken, or [`Fault::Refused`]: an ICMP message about an earlier
    /// datagram was in the way, and this one has not been tried.
    pub fn send(
        &self,
        buffers: &[[u8; MAX_DATAGRAM]],
        outgoing: &[Outgoing],
    ) -> Result<usize, Fault> {
        #[cfg(all(target_os = "linux", not(dht_portable)))]
        if let Some(Linux { mode, hidden }) = &self.linux {
            let (tried, result) = batch::send(&self.socket, *mode, buffers, outgoing);
            if result.as_ref().is_ok_and(|sent| *sent < tried) {
                hidden.store(true, Relaxed);
            }
            return result.map_err(|error| errors::sort(&self.socket, *mode, &error));
        }
        single::send(&self.socket, buffers, outgoing).map_err(|error| Fault::of(&error))
    }
}

/// Listens for TCP on an address; like those of [`UdpSocket`], IPv6 sockets never carry IPv4, so that
/// both may have the same ports.
///
/// # Errors
/// What the system said.
pub fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As the standard library has it: a restart need not wait for connections to be forgotten.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(unix)]
impl std::os::fd::AsFd for UdpSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(windows)]
impl std::os::windows::io::AsSocket for UdpSocket {
    fn as_socket(&self) -> std::os::windows::io::BorrowedSocket<'_> {
        self.socket.as_socket()
    }
}

#[cfg(test)]
mod tests;
