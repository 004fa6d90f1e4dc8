//! recvmmsg and sendmmsg: one system call per batch, and which local address a datagram belongs to.

use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use dht_driver::{Incoming, Outgoing, RECV_BATCH, RecvBuffers};
use dht_proto::MAX_DATAGRAM;
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv4RecvErr, Ipv6RecvErr, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6,
    SockaddrLike, recvmmsg, sendmmsg, setsockopt,
};
use socket2::Socket;

/// Datagrams per sendmmsg, at most.
const SEND_BATCH: usize = 32;

/// What a socket was asked to tell. A socket that is bound to one address is never asked for the
/// local address of a datagram: it is known, and both sides of the call would pay for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Bound to one IPv4 address.
    V4,
    /// Bound to every IPv4 address.
    V4Any,
    /// Bound to one IPv6 address.
    V6,
    /// Bound to every IPv6 address.
    V6Any,
}

impl Mode {
    /// Asks a socket that is going to be bound to `addr` for all that it can tell.
    pub(crate) fn enable(socket: &Socket, addr: SocketAddr) -> io::Result<Self> {
        match addr.ip() {
            IpAddr::V4(ip) => {
                setsockopt(socket, Ipv4RecvErr, &true)?;
                if !ip.is_unspecified() {
                    return Ok(Self::V4);
                }
                setsockopt(socket, Ipv4PacketInfo, &true)?;
                Ok(Self::V4Any)
            }
            IpAddr::V6(ip) => {
                setsockopt(socket, Ipv6RecvErr, &true)?;
                if !ip.is_unspecified() {
                    return Ok(Self::V6);
                }
                setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
                Ok(Self::V6Any)
            }
        }
    }

    pub(crate) const fn is_v4(self) -> bool {
        matches!(self, Self::V4 | Self::V4Any)
    }
}

/// Headers for one kind of socket.
struct Headers<S> {
    recv: MultiHeaders<S>,
    /// For datagrams that may leave from any address.
    send: MultiHeaders<S>,
    /// For those that have to leave from a certain one.
    send_from: MultiHeaders<S>,
}

impl<S: SockaddrLike + Copy> Headers<S> {
    fn new(recv_space: Option<Vec<u8>>, send_space: Vec<u8>) -> RefCell<Self> {
        RefCell::new(Self {
            recv: MultiHeaders::preallocate(RECV_BATCH, recv_space),
            send: MultiHeaders::preallocate(SEND_BATCH, None),
            send_from: MultiHeaders::preallocate(SEND_BATCH, Some(send_space)),
        })
    }
}

thread_local! {
    // The headers hold raw pointers, which would tie whatever owns them to one thread, so each
    // thread keeps its own. One set per mode: after a receive call the system leaves in them how
    // long the sender's address and the control messages were, and cuts the next ones to that. Of
    // sockets of one mode, every datagram has the same.
    static V4: RefCell<Headers<SockaddrIn>> = Headers::new(None, cmsg_space!(in_pktinfo));
    static V4_ANY: RefCell<Headers<SockaddrIn>> =
        Headers::new(Some(cmsg_space!(in_pktinfo)), cmsg_space!(in_pktinfo));
    static V6: RefCell<Headers<SockaddrIn6>> = Headers::new(None, cmsg_space!(in6_pktinfo));
    static V6_ANY: RefCell<Headers<SockaddrIn6>> =
        Headers::new(Some(cmsg_space!(in6_pktinfo)), cmsg_space!(in6_pktinfo));
}

/// Receives what is there, at most one batch.
pub(crate) fn recv(
    socket: &UdpSocket,
    mode: Mode,
    buffers: &mut RecvBuffers,
    incoming: &mut [Incoming; RECV_BATCH],
) -> io::Result<usize> {
    match mode {
        Mode::V4 => V4.with_borrow_mut(|h| recv_with(&mut h.recv, socket, buffers, incoming)),
        Mode::V4Any => {
            V4_ANY.with_borrow_mut(|h| recv_with(&mut h.recv, socket, buffers, incoming))
        }
        Mode::V6 => V6.with_borrow_mut(|h| recv_with(&mut h.recv, socket, buffers, incoming)),
        Mode::V6Any => {
            V6_ANY.with_borrow_mut(|h| recv_with(&mut h.recv, socket, buffers, incoming))
        }
    }
}

fn recv_with<S: SockaddrLike + Copy + Into<SocketAddr>>(
    headers: &mut MultiHeaders<S>,
    socket: &UdpSocket,
    buffers: &mut RecvBuffers,
    incoming: &mut [Incoming; RECV_BATCH],
) -> io::Result<usize> {
    let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
    let received =
        recvmmsg(socket.as_raw_fd(), headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?;
    let mut count = 0;
    for (message, slot) in received.zip(incoming) {
        let local = message.cmsgs().ok().and_then(|mut cmsgs| cmsgs.find_map(|c| local_of(&c)));
        // A datagram without an address cannot be; if it is, it counts as cut, to be dropped.
        *slot = match message.address {
            Some(from) => Incoming { from: from.into(), local, len: message.bytes },
            None => Incoming { len: usize::MAX, ..Incoming::EMPTY },
        };
        count += 1;
    }
    Ok(count)
}

/// The address to answer from.
fn local_of(message: &ControlMessageOwned) -> Option<IpAddr> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the system may tell all sorts of things")]
    match message {
        // Not `ipi_addr`, which is where the datagram was sent to and may be a broadcast address.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            // A link-local address would need its interface; the peer's own address names that.
            (!ip.is_multicast() && !ip.is_unicast_link_local()).then_some(ip.into())
        }
        _ => None,
    }
}

/// Sends datagrams of one family in order, until one is not taken or is to leave from another
/// address than those before it. Returns also how many were tried.
pub(crate) fn send(
    socket: &UdpSocket,
    mode: Mode,
    buffers: &[[u8; MAX_DATAGRAM]],
    outgoing: &[Outgoing],
) -> (usize, io::Result<usize>) {
    let Some(first) = outgoing.first() else { return (0, Ok(0)) };
    // Control messages are the same for a whole call.
    let run = outgoing.iter().take_while(|datagram| datagram.local == first.local);
    let tried = run.take(SEND_BATCH).count();
    let (Some(buffers), Some(outgoing)) = (buffers.get(..tried), outgoing.get(..tried)) else {
        unreachable!("both slices have the same length")
    };
    let sent = match mode {
        Mode::V4 => V4.with_borrow_mut(|h| send_run(h, socket, buffers, outgoing, to_v4)),
        Mode::V4Any => V4_ANY.with_borrow_mut(|h| send_run(h, socket, buffers, outgoing, to_v4)),
        Mode::V6 => V6.with_borrow_mut(|h| send_run(h, socket, buffers, outgoing, to_v6)),
        Mode::V6Any => V6_ANY.with_borrow_mut(|h| send_run(h, socket, buffers, outgoing, to_v6)),
    };
    (tried, sent)
}

/// Sends datagrams that all leave from the same address.
fn send_run<S: SockaddrLike + Copy>(
    headers: &mut Headers<S>,
    socket: &UdpSocket,
    buffers: &[[u8; MAX_DATAGRAM]],
    outgoing: &[Outgoing],
    convert: fn(SocketAddr) -> Option<S>,
) -> io::Result<usize> {
    let mut bodies = buffers
        .iter()
        .zip(outgoing)
        .map(|(buffer, datagram)| [IoSlice::new(buffer.get(..datagram.len).unwrap_or(buffer))]);
    let bodies: [_; SEND_BATCH] =
        core::array::from_fn(|_| bodies.next().unwrap_or_else(|| [IoSlice::new(&[])]));
    let bodies = bodies.iter().take(outgoing.len());
    let mut addrs = outgoing.iter().map(|datagram| convert(datagram.to));
    let addrs: [_; SEND_BATCH] = core::array::from_fn(|_| addrs.next().flatten());
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let sent = match outgoing.first().and_then(|first| first.local) {
        None => sendmmsg(fd, &mut headers.send, bodies, addrs, [], flags)?.count(),
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr: in_addr { s_addr: 0 } };
            let from = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmmsg(fd, &mut headers.send_from, bodies, addrs, from, flags)?.count()
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = in6_addr { s6_addr: ip.octets() };
            let info = in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            let from = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmmsg(fd, &mut headers.send_from, bodies, addrs, from, flags)?.count()
        }
    };
    Ok(sent)
}

fn to_v4(addr: SocketAddr) -> Option<SockaddrIn> {
    match addr {
        SocketAddr::V4(addr) => Some(addr.into()),
        SocketAddr::V6(_) => None,
    }
}

fn to_v6(addr: SocketAddr) -> Option<SockaddrIn6> {
    match addr {
        SocketAddr::V4(_) => None,
        SocketAddr::V6(addr) => Some(addr.into()),
    }
}
