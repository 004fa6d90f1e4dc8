//! Counters of what happens between the protocol and the sockets.

/// What the driver counted since it started. Every field only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoStats {
    /// Datagrams given to the system.
    pub sent: u64,
    /// Datagrams received.
    pub received: u64,
    /// Dropped: received datagrams that were cut or too long for any message.
    pub truncated: u64,
    /// Dropped: replies that found every send buffer taken, while the socket was full.
    pub replies_dropped: u64,
    /// Times that the socket was full (EAGAIN).
    pub send_blocked: u64,
    /// Times that the system had no buffers (ENOBUFS).
    pub no_buffers: u64,
    /// Dropped: datagrams that the system never found a buffer for.
    pub no_buffers_dropped: u64,
    /// Dropped: datagrams too big for the path (EMSGSIZE).
    pub too_big: u64,
    /// Dropped: datagrams to addresses that cannot be reached from here.
    pub unreachable: u64,
    /// ICMP messages about earlier datagrams.
    pub refused: u64,
    /// Dropped: datagrams refused for another reason.
    pub send_errors: u64,
    /// Failed receive calls, for reasons other than the above.
    pub recv_errors: u64,
    /// Dropped: peers, items and samples of lookups whose consumer was too slow.
    pub values_dropped: u64,
    /// Dropped: notices that nobody fetched.
    pub notices_dropped: u64,
    /// Times that the loop woke much later than it asked for: the machine was suspended, or
    /// starved of CPU.
    pub clock_jumps: u64,
    /// Times that the clock ran backwards. Time stands still until it catches up.
    pub clock_reversals: u64,
}
