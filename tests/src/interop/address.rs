//! Addresses on loopback that no other node of this machine uses.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{PeerError, Result};

/// The port of every IPv4 node: with an address of its own each, they do not collide.
pub const PORT: u16 = 6881;

/// Which loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Network {
    /// 127.0.0.0/8.
    V4,
    /// `::1`, which is a single address: its nodes differ by port.
    V6,
}

/// The next free address.
///
/// # Errors
/// If there is none.
pub fn next(network: Network) -> Result<SocketAddr> {
    match network {
        Network::V4 => next_v4(),
        Network::V6 => UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
            .and_then(|socket| socket.local_addr())
            .map_err(|error| PeerError::Failed(format!("no port of ::1: {error}"))),
    }
}

/// Each lies in a /24 of its own, as nodes of the internet mostly do: many implementations keep
/// only one or few nodes per address, and only few per /24.
fn next_v4() -> Result<SocketAddr> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side start at different places.
    let start = std::process::id().wrapping_mul(251);
    for _ in 0..1_000 {
        let number = start.wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed));
        // 127.0 and 127.1 are left to whatever else runs on this machine.
        let [_, _, high, low] = (number % (254 << 8) + (2 << 8)).to_be_bytes();
        let addr = SocketAddr::from((Ipv4Addr::new(127, high, low, 1), PORT));
        if UdpSocket::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err(PeerError::Failed(format!("no free address with port {PORT} in 127.0.0.0/8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_a_24_of_its_own() {
        let mut seen: Vec<_> = (0..100)
            .map(|_| match next(Network::V4).unwrap() {
                SocketAddr::V4(addr) => addr.ip().octets(),
                SocketAddr::V6(addr) => panic!("{addr} is IPv6"),
            })
            .collect();
        assert!(seen.iter().all(|prefix| prefix[0] == 127 && prefix[1] >= 2));
        for ip in &mut seen {
            ip[3] = 0;
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }
}
