//! What ICMP says about datagrams sent earlier.
//!
//! With `IP_RECVERR` the system keeps such messages in a queue, with the address that the datagram
//! went to, and makes the next call on the socket fail with the error of the first: whatever that
//! call was about. Every message that is taken out arms the next one.

use core::net::SocketAddr;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use dht_driver::Fault;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_pktinfo, in6_pktinfo, sock_extended_err, sockaddr_in, sockaddr_in6};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg,
};

use crate::batch::Mode;

/// `ee_origin` of messages that came as ICMP, and as ICMPv6 (linux/errqueue.h).
const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;

/// Sorts the error of a call: it is about an earlier datagram if there is one in the queue.
pub(crate) fn sort(socket: &UdpSocket, mode: Mode, error: &io::Error) -> Fault {
    let fault = Fault::of(error);
    if matches!(fault, Fault::WouldBlock | Fault::Interrupted | Fault::NoBuffers) {
        return fault;
    }
    next(socket, mode).unwrap_or(fault)
}

/// Takes one message out of the queue, as a [`Fault::Refused`].
pub(crate) fn next(socket: &UdpSocket, mode: Mode) -> Option<Fault> {
    if mode.is_v4() { take::<SockaddrIn>(socket) } else { take::<SockaddrIn6>(socket) }
}

fn take<S: SockaddrLike + Into<SocketAddr>>(socket: &UdpSocket) -> Option<Fault> {
    // Nobody reads what the message quotes of the datagram.
    let mut quoted = [IoSliceMut::new(&mut [])];
    let mut control =
        cmsg_space!(in_pktinfo, in6_pktinfo, sock_extended_err, sockaddr_in, sockaddr_in6);
    let message = recvmsg::<S>(
        socket.as_raw_fd(),
        &mut quoted,
        Some(&mut control),
        MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT,
    )
    .ok()?;
    let unreachable = message.cmsgs().ok()?.any(|message| says_unreachable(&message));
    let about = message.address.filter(|_| unreachable);
    Some(Fault::Refused(about.map(Into::into)))
}

fn says_unreachable(message: &ControlMessageOwned) -> bool {
    let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) =
        message
    else {
        return false;
    };
    // Errors of this machine's own are returned by the call that they are about.
    let remote = matches!(error.ee_origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6);
    let errno = Errno::from_raw(error.ee_errno.cast_signed());
    remote && matches!(errno, Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH)
}
