//! The sockets as the driver sees them: batches where the system has them, single calls elsewhere.

#[cfg(target_os = "linux")]
mod batch;
mod single;

use core::net::SocketAddr;
use std::io;

use dht_driver::{Fault, Incoming, Io, RECV_BATCH, RecvBuffers, Sent};
use dht_proto::addr::Family;
use dht_proto::time::Instant;
use dht_proto::{MAX_DATAGRAM, Networks, Transmit};
use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

/// Receive buffer asked of the system, in bytes: a burst of lookups brings hundreds of replies.
const RECV_BUFFER: usize = 4 << 20;

/// At most one socket per family, and the clock.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    /// Which socket is read first, so that a flood on one does not starve the other.
    v6_first: bool,
    batch_io: bool,
    clock: Clock,
}

#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    /// Readiness is reported once, so it is remembered until a call says that nothing is left.
    readable: bool,
}

impl Sockets {
    /// Binds the addresses, at most one per family.
    pub(crate) fn bind(addrs: &[SocketAddr], batch_io: bool) -> Result<Self, Error> {
        let mut sockets =
            Self { v4: None, v6: None, v6_first: false, batch_io, clock: Clock::new() };
        for &addr in addrs {
            sockets.add(addr)?;
        }
        Ok(sockets)
    }

    /// Binds one more address.
    pub(crate) fn add(&mut self, addr: SocketAddr) -> Result<(), Error> {
        let place = if addr.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if place.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("{addr} is the second address of its family; bind one of each"),
            ));
        }
        *place = Some(Socket { udp: open(addr)?, readable: true });
        Ok(())
    }

    pub(crate) const fn networks(&self) -> Option<Networks> {
        match (&self.v4, &self.v6) {
            (Some(_), Some(_)) => Some(Networks::Both),
            (Some(_), None) => Some(Networks::V4),
            (None, Some(_)) => Some(Networks::V6),
            (None, None) => None,
        }
    }

    pub(crate) fn local_addrs(&self) -> Vec<SocketAddr> {
        self.each().filter_map(|socket| socket.udp.local_addr().ok()).collect()
    }

    /// Asks for readiness events. The token is the index of the socket.
    pub(crate) fn register(&mut self, registry: &mio::Registry) -> io::Result<()> {
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        for (socket, token) in [(&mut self.v4, TOKEN_V4), (&mut self.v6, TOKEN_V6)] {
            if let Some(socket) = socket {
                registry.register(&mut socket.udp, token, interest)?;
            }
        }
        Ok(())
    }

    /// Notes that a socket has something to read.
    pub(crate) fn set_readable(&mut self, token: mio::Token) {
        let socket = match family(token) {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        if let Some(socket) = socket {
            socket.readable = true;
        }
    }

    pub(crate) fn time(&self) -> Instant {
        self.clock.now()
    }

    fn each(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }
}

pub(crate) const TOKEN_V4: mio::Token = mio::Token(4);
pub(crate) const TOKEN_V6: mio::Token = mio::Token(6);

/// The family of the socket that a token stands for.
pub(crate) fn family(token: mio::Token) -> Family {
    if token == TOKEN_V4 { Family::V4 } else { Family::V6 }
}

impl Io for Sockets {
    fn now(&mut self) -> Instant {
        self.time()
    }

    fn recv_batch(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        let batch_io = self.batch_io;
        self.v6_first = !self.v6_first;
        let mut sockets = [(true, &mut self.v4), (false, &mut self.v6)];
        if self.v6_first {
            sockets.reverse();
        }
        for (v4, socket) in sockets {
            let Some(socket) = socket.as_mut().filter(|socket| socket.readable) else { continue };
            match socket.recv(batch_io, v4, buffers, incoming) {
                Err(Fault::WouldBlock) => socket.readable = false,
                other => return other,
            }
        }
        Err(Fault::WouldBlock)
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], transmits: &[Transmit]) -> Sent {
        let Some(first) = transmits.first() else { return Sent { taken: 0, fault: None } };
        let v4 = first.to.is_ipv4();
        let socket = if v4 { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else {
            return Sent { taken: 0, fault: Some(Fault::Unreachable) };
        };
        let mut taken = 0;
        while taken < transmits.len() {
            let (Some(buffers), Some(rest)) = (buffers.get(taken..), transmits.get(taken..)) else {
                unreachable!("no more datagrams are taken than there are")
            };
            match socket.send(self.batch_io, v4, buffers, rest) {
                Ok(0) => break,
                Ok(sent) => taken += sent,
                Err(fault) => return Sent { taken, fault: Some(fault) },
            }
        }
        Sent { taken, fault: None }
    }
}

impl Socket {
    #[cfg(target_os = "linux")]
    fn recv(
        &self,
        batch_io: bool,
        v4: bool,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        if !batch_io {
            return single::recv(&self.udp, buffers, incoming);
        }
        self.udp.try_io(|| batch::recv(&self.udp, v4, buffers, incoming)).map_err(|e| Fault::of(&e))
    }

    #[cfg(not(target_os = "linux"))]
    fn recv(
        &self,
        _batch_io: bool,
        _v4: bool,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        single::recv(&self.udp, buffers, incoming)
    }

    #[cfg(target_os = "linux")]
    fn send(
        &self,
        batch_io: bool,
        v4: bool,
        buffers: &[[u8; MAX_DATAGRAM]],
        transmits: &[Transmit],
    ) -> Result<usize, Fault> {
        if !batch_io {
            return single::send(&self.udp, buffers, transmits);
        }
        self.udp
            .try_io(|| batch::send(&self.udp, v4, buffers, transmits))
            .map_err(|e| Fault::of(&e))
    }

    #[cfg(not(target_os = "linux"))]
    fn send(
        &self,
        _batch_io: bool,
        _v4: bool,
        buffers: &[[u8; MAX_DATAGRAM]],
        transmits: &[Transmit],
    ) -> Result<usize, Fault> {
        single::send(&self.udp, buffers, transmits)
    }
}

fn open(addr: SocketAddr) -> Result<UdpSocket, Error> {
    let bind = || -> io::Result<UdpSocket> {
        let socket = RawSocket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // The IPv4 network has a socket of its own.
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        // The system caps this silently or refuses; a smaller buffer only drops more in bursts.
        drop(socket.set_recv_buffer_size(RECV_BUFFER));
        socket.bind(&addr.into())?;
        Ok(UdpSocket::from_std(socket.into()))
    };
    bind().map_err(|error| Error::bind(addr, error))
}

#[cfg(test)]
mod tests;
