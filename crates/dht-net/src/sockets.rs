//! The sockets as the driver sees them: one per family, and the clock.

use core::net::SocketAddr;
use std::io;

use dht_driver::{Fault, Incoming, Io, Outgoing, RECV_BATCH, RecvBuffers, Sent};
use dht_proto::addr::Family;
use dht_proto::time::Instant;
use dht_proto::{MAX_DATAGRAM, Networks};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::udp::{Calls, UdpSocket};

/// What waits until a socket is ready: the part of a socket that differs between runtimes.
pub trait Watch: Sized {
    /// Watches a socket, of which this is a handle of its own.
    ///
    /// # Errors
    /// What the system said.
    fn watch(socket: std::net::UdpSocket) -> io::Result<Self>;

    /// Makes a call that may find the socket not ready, which some pollers have to hear of.
    ///
    /// # Errors
    /// Those of the call.
    fn call<T>(&self, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        call()
    }
}

/// At most one socket per family, and the clock.
#[derive(Debug)]
pub struct Sockets<W> {
    v4: Option<Socket<W>>,
    v6: Option<Socket<W>>,
    /// Which socket is read first, so that a flood on one does not starve the other.
    v6_first: bool,
    calls: Calls,
    clock: Clock,
}

#[derive(Debug)]
struct Socket<W> {
    udp: UdpSocket,
    watch: W,
    /// Readiness is reported once, so it is remembered until a call says that nothing is left.
    readable: bool,
    /// False after a call that found no room.
    writable: bool,
}

/// A socket, for whoever waits for it.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a view, taken apart by the runtimes")]
pub struct Watched<'a, W> {
    /// Which one.
    pub family: Family,
    /// What waits for it.
    pub watch: &'a mut W,
    /// Whether there may be something to receive. Cleared by a call that found nothing; to be set
    /// when there is something again.
    pub readable: &'a mut bool,
    /// Whether the last send call found room.
    pub writable: bool,
}

impl<W: Watch> Sockets<W> {
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

    /// The addresses that the sockets are bound to, v4 first.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.each().filter_map(|socket| socket.udp.local_addr().ok()).collect()
    }

    /// The sockets, for whoever waits for them.
    pub fn watched(&mut self) -> impl Iterator<Item = Watched<'_, W>> {
        let sockets = [(Family::V4, &mut self.v4), (Family::V6, &mut self.v6)];
        sockets.into_iter().filter_map(|(family, socket)| {
            let Socket { watch, readable, writable, .. } = socket.as_mut()?;
            Some(Watched { family, watch, readable, writable: *writable })
        })
    }

    /// The time on the clock of [`Io::now`].
    #[must_use]
    pub fn time(&self) -> Instant {
        self.clock.now()
    }

    fn each(&self) -> impl Iterator<Item = &Socket<W>> {
        self.v4.iter().chain(&self.v6)
    }
}

impl<W: Watch> Io for Sockets<W> {
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
            match socket.watch.call(|| socket.udp.recv(buffers, incoming)) {
                Err(Fault::WouldBlock) => socket.readable = false,
                other => return other,
            }
        }
        Err(Fault::WouldBlock)
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], outgoing: &[Outgoing]) -> Sent {
        let Some(first) = outgoing.first() else { return Sent { taken: 0, fault: None } };
        let socket = if first.to.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let Some(socket) = socket else {
            return Sent { taken: 0, fault: Some(Fault::Unreachable) };
        };
        let mut taken = 0;
        while taken < outgoing.len() {
            let (Some(buffers), Some(rest)) = (buffers.get(taken..), outgoing.get(taken..)) else {
                unreachable!("no more datagrams are taken than there are")
            };
            let sent = socket.watch.call(|| socket.udp.send(buffers, rest));
            socket.writable = sent != Err(Fault::WouldBlock);
            match sent {
                Ok(0) => break,
                Ok(sent) => taken += sent,
                Err(fault) => return Sent { taken, fault: Some(fault) },
            }
        }
        Sent { taken, fault: None }
    }
}

impl<W: Watch> Socket<W> {
    fn bind(addr: SocketAddr, calls: Calls) -> Result<Self, Error> {
        let bind = || {
            let udp = UdpSocket::bind(addr, calls)?;
            let watch = W::watch(udp.try_clone()?)?;
            Ok(Self { udp, watch, readable: true, writable: true })
        };
        bind().map_err(|error| Error::bind(addr, error))
    }
}

#[cfg(test)]
mod tests;
