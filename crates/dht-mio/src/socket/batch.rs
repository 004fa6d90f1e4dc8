//! recvmmsg and sendmmsg: one system call per batch.

use core::cell::RefCell;
use core::net::SocketAddr;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use dht_driver::{Incoming, RECV_BATCH, RecvBuffers};
use dht_proto::{MAX_DATAGRAM, Transmit};
use mio::net::UdpSocket;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg, sendmmsg,
};

/// Datagrams per sendmmsg, at most.
const SEND_BATCH: usize = 32;

thread_local! {
    // The headers hold raw pointers, which would tie whatever owns them to one thread, so each
    // thread keeps its own. One pair per family: the system leaves the length of the last sender's
    // address in them, and cuts the next address to that length.
    static RECV_V4: RefCell<MultiHeaders<SockaddrIn>> =
        RefCell::new(MultiHeaders::preallocate(RECV_BATCH, None));
    static RECV_V6: RefCell<MultiHeaders<SockaddrIn6>> =
        RefCell::new(MultiHeaders::preallocate(RECV_BATCH, None));
    static SEND_V4: RefCell<MultiHeaders<SockaddrIn>> =
        RefCell::new(MultiHeaders::preallocate(SEND_BATCH, None));
    static SEND_V6: RefCell<MultiHeaders<SockaddrIn6>> =
        RefCell::new(MultiHeaders::preallocate(SEND_BATCH, None));
}

/// Receives what is there on a socket of one family, at most one batch.
pub(super) fn recv(
    socket: &UdpSocket,
    v4: bool,
    buffers: &mut RecvBuffers,
    incoming: &mut [Incoming; RECV_BATCH],
) -> io::Result<usize> {
    if v4 {
        RECV_V4.with_borrow_mut(|headers| recv_with(headers, socket, buffers, incoming))
    } else {
        RECV_V6.with_borrow_mut(|headers| recv_with(headers, socket, buffers, incoming))
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
        // A datagram without an address cannot be; if it is, it counts as cut, to be dropped.
        *slot = match message.address {
            Some(from) => Incoming { from: from.into(), len: message.bytes },
            None => Incoming { len: usize::MAX, ..Incoming::EMPTY },
        };
        count += 1;
    }
    Ok(count)
}

/// Sends datagrams of one family in order, until one is not taken.
pub(super) fn send(
    socket: &UdpSocket,
    v4: bool,
    buffers: &[[u8; MAX_DATAGRAM]],
    transmits: &[Transmit],
) -> io::Result<usize> {
    if v4 {
        SEND_V4.with_borrow_mut(|headers| send_with(headers, socket, buffers, transmits, to_v4))
    } else {
        SEND_V6.with_borrow_mut(|headers| send_with(headers, socket, buffers, transmits, to_v6))
    }
}

fn send_with<S: SockaddrLike + Copy>(
    headers: &mut MultiHeaders<S>,
    socket: &UdpSocket,
    buffers: &[[u8; MAX_DATAGRAM]],
    transmits: &[Transmit],
    convert: fn(SocketAddr) -> Option<S>,
) -> io::Result<usize> {
    let mut bodies = buffers
        .iter()
        .zip(transmits)
        .map(|(buffer, transmit)| [IoSlice::new(buffer.get(..transmit.len).unwrap_or(buffer))]);
    let bodies: [_; SEND_BATCH] =
        core::array::from_fn(|_| bodies.next().unwrap_or_else(|| [IoSlice::new(&[])]));
    let mut addrs = transmits.iter().map(|transmit| convert(transmit.to));
    let addrs: [_; SEND_BATCH] = core::array::from_fn(|_| addrs.next().flatten());
    let count = transmits.len().min(SEND_BATCH);
    let sent = sendmmsg(
        socket.as_raw_fd(),
        headers,
        bodies.iter().take(count),
        addrs,
        [],
        MsgFlags::MSG_DONTWAIT,
    )?;
    Ok(sent.count())
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
