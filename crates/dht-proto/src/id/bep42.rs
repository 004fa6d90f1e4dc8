//! Node ids that are bound to an IP address (BEP 42, "DHT Security Extension").

use core::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use crc::{CRC_32_ISCSI, Crc, Table};

use super::{ID_LEN, NodeId};
use crate::addr::{Addr, Scope};
use crate::seed::Stream;

/// CRC-32C, the checksum that BEP 42 names.
static CRC_32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// The bits of an id that the address decides: the first 21.
const BOUND: u32 = 0xffff_f800;

/// A fresh node id for a node that others see at `ip`.
///
/// The address of a local network binds nothing: nodes there get random ids. Bound ones would not be
/// spread evenly, because the checksum is linear and such addresses have few bits that differ.
#[must_use]
pub fn derive(ip: IpAddr, stream: &mut Stream) -> NodeId {
    let mut bytes = [0; ID_LEN];
    rand_core::Rng::fill_bytes(stream, &mut bytes);
    if is_exempt(ip) {
        return NodeId::from_bytes(bytes);
    }
    // The last byte of the id tells others which three bits went into the checksum.
    let [a, b, c, d, .., rand] = bytes;
    let free = u32::from_be_bytes([a, b, c, d]) & !BOUND;
    let prefix = (checksum(ip, rand) & BOUND) | free;
    for (byte, bound) in bytes.iter_mut().zip(prefix.to_be_bytes()) {
        *byte = bound;
    }
    NodeId::from_bytes(bytes)
}

/// Whether a node at `ip` may have this id.
///
/// Nodes in local networks (RFC 1918, link-local, loopback) are exempt and may have any.
#[must_use]
pub fn is_valid(id: NodeId, ip: IpAddr) -> bool {
    let [a, b, c, d, .., rand] = *id.as_bytes();
    let prefix = u32::from_be_bytes([a, b, c, d]);
    (checksum(ip, rand) ^ prefix) & BOUND == 0 || is_exempt(ip)
}

/// The checksum of the masked address, with three bits of `rand` mixed in at the top.
///
/// "crc32c((ip & 0x030f3fff) | (r << 29))", and for IPv6
/// "crc32c((ip & 0x0103070f1f3f7fff) | (r << 61))" over the high half of the address.
fn checksum(ip: IpAddr, rand: u8) -> u32 {
    let r = rand & 7;
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // The text speaks of eight bytes, but all its vectors are over the four of the address.
            let bound = (u32::from(ip) & 0x030f_3fff) | (u32::from(r) << 29);
            CRC_32C.checksum(&bound.to_be_bytes())
        }
        IpAddr::V6(ip) => {
            let high = (u128::from(ip) >> 64) as u64;
            let bound = (high & 0x0103_070f_1f3f_7fff) | (u64::from(r) << 61);
            CRC_32C.checksum(&bound.to_be_bytes())
        }
    }
}

fn is_exempt(ip: IpAddr) -> bool {
    let scope = match ip.to_canonical() {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, 0).scope(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, 0, 0, 0).scope(),
    };
    matches!(scope, Scope::Loopback | Scope::Private)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::{Domain, Seed};

    #[test]
    fn ids_in_a_local_network_are_spread_evenly() {
        let mut stream = Seed::from_bytes([5; 32]).stream(Domain::NodeId);
        // The first 14 bits: all of them occur, also of addresses that differ in 20 bits only.
        let mut seen = alloc::vec![false; 1 << 14];
        for i in 0..200_000_u32 {
            let ip = IpAddr::from((0x7f00_0000 | (i * 5)).to_be_bytes());
            let [a, b, ..] = *derive(ip, &mut stream).as_bytes();
            seen[usize::from(u16::from_be_bytes([a, b]) >> 2)] = true;
        }
        assert!(seen.into_iter().all(|seen| seen));
    }

    /// Address, rand, id, checksum: BEP 42 "Test vectors", and one for IPv6 that other
    /// implementations test with.
    const VECTORS: [(&str, u8, &str, u32); 6] = [
        ("124.31.75.21", 1, "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401", 0x5fbf_bdb2),
        ("21.75.31.124", 86, "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256", 0x5a3c_e9b0),
        ("65.23.51.170", 22, "a5d43220bc8f112a3d426c84764f8c2a1150e616", 0xa5d4_344a),
        ("84.124.73.14", 65, "1b0321dd1bb1fe518101ceef99462b947a01ff41", 0x1b03_217b),
        ("43.213.53.83", 90, "e56f6cbf5b7c4be0237986d5243b87aa6d51305a", 0xe56f_6972),
        (
            "2001:b829:2123:be84:e16c:d6ae:5290:49f1",
            4,
            "0a8ad123be84e16cd6ae529049f1f1bbe9ebb304",
            0x0a8a_d1aa,
        ),
    ];

    #[test]
    fn dht_verify_node_address() {
        for (ip, rand, id, crc) in VECTORS {
            let ip: IpAddr = ip.parse().unwrap();
            let id: NodeId = id.parse().unwrap();
            assert_eq!(checksum(ip, rand), crc, "{ip}");
            assert_eq!(id.as_bytes()[19], rand);
            assert!(is_valid(id, ip), "{ip}");
        }
    }

    #[test]
    fn each_bound_bit_matters_and_no_other() {
        for (ip, _, id, _) in VECTORS {
            let ip: IpAddr = ip.parse().unwrap();
            for bit in 0..160 {
                let mut bytes = *id.parse::<NodeId>().unwrap().as_bytes();
                bytes[bit / 8] ^= 0x80 >> (bit % 8);
                let bound = !(21..157).contains(&bit);
                assert_eq!(is_valid(NodeId::from_bytes(bytes), ip), !bound, "{ip} bit {bit}");
            }
        }
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(CRC_32C.checksum(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn derived_ids_are_valid_for_their_address_only() {
        let mut stream = Seed::from_bytes([1; 32]).stream(Domain::NodeId);
        for (ip, ..) in VECTORS {
            let ip: IpAddr = ip.parse().unwrap();
            let (a, b) = (derive(ip, &mut stream), derive(ip, &mut stream));
            assert_ne!(a, b);
            assert!(is_valid(a, ip) && is_valid(b, ip));
            assert!(!is_valid(a, "8.8.8.8".parse().unwrap()));
        }
    }

    #[test]
    fn local_networks_are_exempt() {
        let id = NodeId::from_bytes([0; ID_LEN]);
        for ip in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "::1", "fe80::1"] {
            assert!(is_valid(id, ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "2600::1", "::ffff:8.8.8.8", "0.0.0.0"] {
            assert!(!is_valid(id, ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn mapped_addresses_count_as_v4() {
        let id = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse().unwrap();
        assert!(is_valid(id, "::ffff:124.31.75.21".parse().unwrap()));
    }
}
