//! The sockets of a gateway, all on the wildcard: one for each port, and one for IPv6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::os::fd::AsFd as _;

use dht_driver::{Fault, Incoming, Outgoing, RECV_BATCH, RecvBuffers};
use dht_net::{Calls, UdpSocket};
use dht_proto::MAX_DATAGRAM;
use dht_proto::addr::Family;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;

use crate::{Error, Listen};

/// How often a free port is picked whose neighbours turn out to be taken, at most.
const TRIES: u32 = 64;

/// The sockets, those of IPv4 in the order of their ports, then that of IPv6.
#[derive(Debug)]
pub(crate) struct Sockets {
    all: Vec<Socket>,
    /// The first port, and the only one of IPv6: that is never translated.
    port: u16,
    /// Which is read next, so that a flood on one does not starve the others.
    turn: usize,
}

#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    family: Family,
    port: u16,
    /// Whether there may be something to receive.
    readable: bool,
}

impl Socket {
    fn bind(family: Family, port: u16) -> Result<Self, Error> {
        let addr = SocketAddr::new(wildcard(family), port);
        let bind = || {
            let udp = UdpSocket::bind(addr, Calls::Best)?;
            if family == Family::V6 {
                // A route can make a range of IPv6 addresses this machine's, but to send from one it
                // would have to be an interface's, too.
                SockRef::from(&udp).set_freebind_v6(true)?;
            }
            let port = udp.local_addr()?.port();
            Ok(Self { udp, family, port, readable: true })
        };
        bind().map_err(|error| Error::Bind(addr, error))
    }
}

const fn wildcard(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Sockets {
    /// Binds them. Port 0 picks a free one with as many free ones behind it as are asked for.
    pub(crate) fn bind(listen: &Listen) -> Result<Self, Error> {
        let Listen { port, ports, .. } = *listen;
        if port != 0 {
            return Self::bind_at(listen, port);
        }
        for _ in 0..TRIES {
            match Self::bind_at(listen, 0) {
                Err(Error::Bind(_, error)) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(Error::TooHigh { .. }) => {}
                result => return result,
            }
        }
        Err(Error::NoPorts(ports))
    }

    fn bind_at(listen: &Listen, mut port: u16) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        if listen.speaks(Family::V4) {
            let first = Socket::bind(Family::V4, port)?;
            port = first.port;
            sockets.push(first);
            let ports = listen.ports;
            let last = port.checked_add(ports.saturating_sub(1));
            let last = last.ok_or(Error::TooHigh { port, ports })?;
            for port in port + 1..=last {
                sockets.push(Socket::bind(Family::V4, port)?);
            }
        }
        if listen.speaks(Family::V6) {
            let socket = Socket::bind(Family::V6, port)?;
            port = socket.port;
            sockets.push(socket);
        }
        Ok(Self { all: sockets, port, turn: 0 })
    }

    /// The first port.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The address of the first port of each family.
    pub(crate) fn local_addrs(&self) -> Vec<SocketAddr> {
        let first = self.all.iter().filter(|socket| socket.port == self.port);
        first.map(|socket| SocketAddr::new(wildcard(socket.family), socket.port)).collect()
    }

    /// Whether a port is one of theirs.
    pub(crate) fn owns(&self, addr: SocketAddr) -> bool {
        self.number(addr).is_some()
    }

    /// Which socket stands for an address.
    pub(crate) fn number(&self, addr: SocketAddr) -> Option<usize> {
        let family = Family::of(&addr);
        self.all.iter().position(|socket| (socket.family, socket.port) == (family, addr.port()))
    }

    /// Waits until something is there to receive, for so many milliseconds at most.
    pub(crate) fn wait(&mut self, millis: u16) {
        let fds = self.all.iter().map(|socket| socket.udp.as_fd());
        let mut watched: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Interrupted or not, whoever calls looks at everything again.
        let _: nix::Result<i32> = poll(&mut watched, PollTimeout::from(millis));
        let ready: Vec<_> = watched.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        for (socket, ready) in self.all.iter_mut().zip(ready) {
            socket.readable |= ready;
        }
    }

    /// Receives a batch, and tells which port it came to. `None` if nothing is left.
    pub(crate) fn recv(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Option<(usize, u16)> {
        let count = self.all.len();
        for index in (self.turn..count).chain(0..self.turn.min(count)) {
            let Some(socket) = self.all.get_mut(index).filter(|socket| socket.readable) else {
                continue;
            };
            self.turn = index + 1;
            match socket.udp.recv(buffers, incoming) {
                Ok(count) => {
                    // A batch that is not full was all; `wait` tells of more.
                    socket.readable = count == RECV_BATCH;
                    return Some((count, socket.port));
                }
                // What ICMP says is what a simulated node would not hear from a real one.
                Err(Fault::Refused(_) | Fault::Interrupted) => return Some((0, socket.port)),
                Err(_) => socket.readable = false,
            }
        }
        None
    }

    /// Sends datagrams through one socket, in order, and returns how many are out.
    pub(crate) fn send(
        &self,
        number: usize,
        bytes: &[[u8; MAX_DATAGRAM]],
        outgoing: &[Outgoing],
    ) -> Result<usize, Fault> {
        match self.all.get(number) {
            Some(socket) => socket.udp.send(bytes, outgoing),
            None => Err(Fault::Unreachable),
        }
    }
}
