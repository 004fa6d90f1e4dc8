//! What a runtime supplies: a clock and batches of datagrams.

use core::net::{IpAddr, SocketAddr};
use std::io;

use dht_proto::time::Instant;
use dht_proto::{MAX_DATAGRAM, Transmit};

/// Datagrams received at a time, at most.
pub const RECV_BATCH: usize = 32;
/// Size of a receive buffer, in bytes.
///
/// A datagram that fills its buffer may have been cut by the system, so it is dropped. Nothing that
/// the DHT exchanges comes near this size.
pub const RECV_LEN: usize = 2_048;

/// Receive buffers of one batch.
pub type RecvBuffers = [[u8; RECV_LEN]; RECV_BATCH];

/// A received datagram: its bytes are the first `len` of the buffer of the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "filled in by whoever implements Io")]
pub struct Incoming {
    /// Who sent it.
    pub from: SocketAddr,
    /// Which address of ours it was sent to, if the socket has several and tells.
    pub local: Option<IpAddr>,
    /// How many bytes of the buffer it fills; [`RECV_LEN`] if it was cut.
    pub len: usize,
}

impl Incoming {
    /// An entry that no datagram has filled yet.
    pub const EMPTY: Self = Self {
        from: SocketAddr::V4(core::net::SocketAddrV4::new(core::net::Ipv4Addr::UNSPECIFIED, 0)),
        local: None,
        len: 0,
    };

    /// Whether bytes of the datagram may be missing.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.len >= RECV_LEN
    }
}

/// A datagram to be sent: its bytes are the first `len` of the buffer of the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "read by whoever implements Io")]
pub struct Outgoing {
    /// Where it goes.
    pub to: SocketAddr,
    /// Which address of ours it shall come from; `None` leaves that to the system.
    ///
    /// A reply that comes from another address than the one asked matches no query.
    pub local: Option<IpAddr>,
    /// How many bytes of the buffer it fills.
    pub len: usize,
}

impl From<Transmit> for Outgoing {
    fn from(Transmit { to, len }: Transmit) -> Self {
        Self { to, local: None, len }
    }
}

/// How far a batch of datagrams got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_structs, reason = "returned by whoever implements Io")]
pub struct Sent {
    /// The first so many datagrams are out of our hands.
    pub taken: usize,
    /// Why the datagram after them is not; `None` if the system did not say.
    pub fault: Option<Fault>,
}

/// Sockets and clock, as a runtime has them. Nothing here ever blocks.
///
/// There is at most one socket per address family; an implementation picks it by the address.
pub trait Io {
    /// The time on a clock that never runs backwards and, where the system has one, counts the
    /// time that the machine was suspended.
    fn now(&mut self) -> Instant;

    /// Receives what is there, at most one batch, and returns how many datagrams it was.
    ///
    /// # Errors
    /// [`Fault::WouldBlock`] if nothing is there. Any other fault leaves the rest for the next
    /// call.
    fn recv_batch(
        &mut self,
        buffers: &mut RecvBuffers,
        incoming: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault>;

    /// Sends datagrams, all to one address family, in order, stopping at the first that is not
    /// taken.
    ///
    /// Both slices have the same length.
    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], outgoing: &[Outgoing]) -> Sent;
}

/// The ways in which a socket call fails, sorted by what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// EAGAIN: the socket's buffer is full (or empty). Wait for readiness.
    WouldBlock,
    /// EINTR: a signal came first. Call again.
    Interrupted,
    /// ENOBUFS, ENOMEM: the system is out of buffers, and reports no readiness when it has some.
    NoBuffers,
    /// EMSGSIZE: this datagram can never leave.
    TooBig,
    /// ECONNREFUSED, ECONNRESET: an ICMP message about an earlier datagram, to this address if the
    /// system told which.
    Refused(Option<SocketAddr>),
    /// EPERM, EACCES, ENETUNREACH, EHOSTUNREACH, ...: this address cannot be reached from here.
    Unreachable,
    /// Anything else.
    Other(io::ErrorKind),
}

impl Fault {
    /// Sorts an error of the operating system.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.raw_os_error() {
            Some(os::ENOBUFS) => return Self::NoBuffers,
            Some(os::EMSGSIZE) => return Self::TooBig,
            Some(_) | None => {}
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
        match error.kind() {
            Kind::WouldBlock => Self::WouldBlock,
            Kind::Interrupted => Self::Interrupted,
            Kind::OutOfMemory => Self::NoBuffers,
            Kind::ConnectionRefused | Kind::ConnectionReset => Self::Refused(None),
            // EINVAL and EADDRNOTAVAIL: what sending to port 0 or to a scope without an interface
            // gives. EAFNOSUPPORT has no kind of its own and lands in `Other`.
            Kind::PermissionDenied
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::InvalidInput => Self::Unreachable,
            other => Self::Other(other),
        }
    }
}

/// The two error numbers that the standard library gives no name.
mod os {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    mod numbers {
        pub(crate) const ENOBUFS: i32 = 105;
        pub(crate) const EMSGSIZE: i32 = 90;
    }
    #[cfg(windows)]
    mod numbers {
        pub(crate) const ENOBUFS: i32 = 10_055;
        pub(crate) const EMSGSIZE: i32 = 10_040;
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
    mod numbers {
        // The BSDs and macOS agree.
        pub(crate) const ENOBUFS: i32 = 55;
        pub(crate) const EMSGSIZE: i32 = 40;
    }
    pub(super) use numbers::{EMSGSIZE, ENOBUFS};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn error_numbers_of_linux_are_sorted_by_what_to_do() {
        // Numbers from errno(3) on x86 and arm.
        for (errno, fault) in [
            (1, Fault::Unreachable),
            (4, Fault::Interrupted),
            (11, Fault::WouldBlock),
            (12, Fault::NoBuffers),
            (13, Fault::Unreachable),
            (22, Fault::Unreachable),
            (90, Fault::TooBig),
            (99, Fault::Unreachable),
            (100, Fault::Unreachable),
            (101, Fault::Unreachable),
            (104, Fault::Refused(None)),
            (105, Fault::NoBuffers),
            (111, Fault::Refused(None)),
            (113, Fault::Unreachable),
        ] {
            assert_eq!(Fault::of(&io::Error::from_raw_os_error(errno)), fault, "errno {errno}");
        }
        let odd = io::Error::from_raw_os_error(9);
        assert_eq!(Fault::of(&odd), Fault::Other(odd.kind()));
    }

    #[test]
    fn a_datagram_that_fills_its_buffer_counts_as_cut() {
        assert!(Incoming { len: RECV_LEN, ..Incoming::EMPTY }.is_truncated());
        assert!(!Incoming { len: RECV_LEN - 1, ..Incoming::EMPTY }.is_truncated());
    }
}
