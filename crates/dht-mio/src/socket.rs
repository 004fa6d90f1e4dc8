//! The sockets as the driver sees them: one per family, and the clock.

use core::net::SocketAddr;
use std::io;

use dht_driver::{Fault, Incoming, Io, Outgoing, RECV_BATCH, RecvBuffers, Sent};
use dht_net::{Calls, UdpSocket};
use dht_proto::time::Instant;
use dht_proto::{MAX_DATAGRAM, Networks};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

/// At most one socket per family, and the clock.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    /// Which socket is read first, so that a flood on one does not starve the other.
    v6_first: bool,
    calls: Calls,
    clock: Clock,
}

#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    /// The same socket, for the poller.
    watched: mio::net::UdpSocket,
    /// Readiness is reported once, so it is remembered until a call says that nothing is left.
    readable: bool,
}

impl Sockets {
    /// Binds the addresses, at most one per family.
    pub(crate) fn bind(addrs: &[SocketAddr], calls: Calls) -> Result<Self, Error> {
        let mut sockets = Self { v4: None, v6: None, v6_first: false, calls, clock: Clock::new() };
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
        *place = Some(Socket::bind(addr, self.calls)?);
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
                registry.register(&mut socket.watched, token, interest)?;
            }
        }
        Ok(())
    }

    /// Notes that a socket has something to read.
    pub(crate) fn set_readable(&mut self, token: mio::Token) {
        let socket = if token == TOKEN_V4 { &mut self.v4 } else { &mut self.v6 };
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

impl Io for Sockets {
    fn now(&mut self) -> Instant {
        self.time()
    }

    fn recv_batch(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        self.v6_first = !self.v6_first;
        let mut sockets = [&mut self.v4, &mut self.v6];
        if self.v6_first {
            sockets.reverse();
        }
        for socket in sockets {
            let Some(socket) = socket.as_mut().filter(|socket| socket.readable) else { continue };
            match socket.call(|udp| udp.recv(buffers, incoming)) {
                Err(Fault::WouldBlock) => socket.readable = false,
                other => return other,
            }
        }
        Err(Fault::WouldBlock)
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], outgoing: &[Outgoing]) -> Sent {
        let mut taken = 0;
        loop {
            let (Some(buffers), Some(rest)) = (buffers.get(taken..), outgoing.get(taken..)) else {
                unreachable!("no more datagrams are taken than there are")
            };
            let Some(first) = rest.first() else { return Sent { taken, fault: None } };
            // A run of one family goes out through one socket, in one call.
            let v4 = first.to.is_ipv4();
            let run = rest.iter().take_while(|datagram| datagram.to.is_ipv4() == v4).count();
            let socket = if v4 { &self.v4 } else { &self.v6 };
            let Some(socket) = socket else {
                return Sent { taken, fault: Some(Fault::Unreachable) };
            };
            let (Some(buffers), Some(run)) = (buffers.get(..run), rest.get(..run)) else {
                unreachable!("both slices have the same length")
            };
            match socket.call(|udp| udp.send(buffers, run)) {
                Ok(0) => return Sent { taken, fault: None },
                Ok(sent) => taken += sent,
                Err(fault) => return Sent { taken, fault: Some(fault) },
            }
        }
    }
}

impl Socket {
    fn bind(addr: SocketAddr, calls: Calls) -> Result<Self, Error> {
        let bind = || {
            let udp = UdpSocket::bind(addr, calls)?;
            let watched = mio::net::UdpSocket::from_std(udp.try_clone()?);
            Ok(Self { udp, watched, readable: true })
        };
        bind().map_err(|error| Error::bind(addr, error))
    }

    /// Makes a call that may find the socket not ready, which the poller has to hear of.
    fn call<T>(&self, call: impl FnOnce(&UdpSocket) -> Result<T, Fault>) -> Result<T, Fault> {
        let tried = self.watched.try_io(|| match call(&self.udp) {
            Err(Fault::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other),
        });
        tried.unwrap_or_else(|error| Err(Fault::of(&error)))
    }
}

#[cfg(test)]
mod tests;
