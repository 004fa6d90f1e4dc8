//! Addresses in 127.0.0.0/8 that no other node of this machine uses.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{PeerError, Result};

/// The port of every node: with an address of its own each, they do not collide.
pub const PORT: u16 = 6881;

/// The next free address.
///
/// Each lies in a /24 of its own, as nodes of the internet mostly do: many implementations keep
/// only one or few nodes per address, and only few per /24.
///
/// # Errors
/// If none of the next 1,000 can be bound.
pub fn next() -> Result<SocketAddrV4> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side start at different places.
    let start = std::process::id().wrapping_mul(251);
    for _ in 0..1_000 {
        let number = start.wrapping_add(COUNTER.fetch_add(1, Ordering::Relaxed));
        // 127.0 and 127.1 are left to whatever else runs on this machine.
        let [_, _, high, low] = (number % (254 << 8) + (2 << 8)).to_be_bytes();
        let addr = SocketAddrV4::new(Ipv4Addr::new(127, high, low, 1), PORT);
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
        let mut seen: Vec<[u8; 3]> = (0..100)
            .map(|_| {
                let [a, b, c, _] = next().unwrap().ip().octets();
                [a, b, c]
            })
            .collect();
        assert!(seen.iter().all(|prefix| prefix[0] == 127 && prefix[1] >= 2));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
    }
}
