//! A trace as a capture file: datagrams with the headers that they would have had.
//!
//! The classic format with nanoseconds (magic number `a1b23c4d`), link type RAW: each packet begins
//! with its IP header. Wireshark recognises BitTorrent's DHT in it by itself.

use core::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Record, Recorder, Verb};

const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const SNAP_LEN: u32 = 65_535;
/// LINKTYPE_RAW: "Raw IP; the packet begins with an IPv4 or IPv6 header".
const LINKTYPE_RAW: u32 = 101;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;

/// Writes datagrams as they are sent.
pub struct Pcap<W>(Arc<Mutex<Sink<W>>>);

struct Sink<W> {
    out: W,
    result: io::Result<()>,
}

impl<W> Clone for Pcap<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> fmt::Debug for Pcap<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pcap")
    }
}

impl<W: Write> Pcap<W> {
    /// Writes to `out`, beginning with the header of the file.
    #[must_use]
    pub fn new(mut out: W) -> Self {
        let mut head = Vec::with_capacity(24);
        head.extend(MAGIC_NANOS.to_le_bytes());
        head.extend(2_u16.to_le_bytes());
        head.extend(4_u16.to_le_bytes());
        head.extend([0; 8]);
        head.extend(SNAP_LEN.to_le_bytes());
        head.extend(LINKTYPE_RAW.to_le_bytes());
        let result = out.write_all(&head);
        Self(Arc::new(Mutex::new(Sink { out, result })))
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    /// The first error there was since the start.
    pub fn close(self) -> io::Result<()> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        core::mem::replace(&mut sink.result, Ok(()))?;
        sink.out.flush()
    }
}

impl<W: Write + Send> Recorder for Pcap<W> {
    fn record(&mut self, record: &Record<'_>) {
        if record.verb != Verb::Sent {
            return;
        }
        let Some(packet) = packet(record.from, record.to, record.bytes) else { return };
        let micros = record.at.as_micros();
        let mut block = Vec::with_capacity(16 + packet.len());
        block.extend(((micros / 1_000_000) as u32).to_le_bytes());
        block.extend(((micros % 1_000_000) as u32 * 1_000).to_le_bytes());
        block.extend((packet.len() as u32).to_le_bytes());
        block.extend((packet.len() as u32).to_le_bytes());
        block.extend(packet);
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.result.is_ok() {
            sink.result = sink.out.write_all(&block);
        }
    }
}

/// A datagram with its headers; `None` if the families differ or it is too long for them.
fn packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let (mut packet, mut sum) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut head = vec![0x45, 0];
            head.extend(len.checked_add(20)?.to_be_bytes());
            // No identification, "don't fragment", 64 hops.
            head.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
            head.extend(from.octets());
            head.extend(to.octets());
            let checksum = finish(ones_sum(&head, 0));
            if let Some(field) = head.get_mut(10..12) {
                field.copy_from_slice(&checksum.to_be_bytes());
            }
            (head, ones_sum(&to.octets(), ones_sum(&from.octets(), 0)))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut head = vec![0x60, 0, 0, 0];
            head.extend(len.to_be_bytes());
            head.extend([UDP, 64]);
            head.extend(from.octets());
            head.extend(to.octets());
            (head, ones_sum(&to.octets(), ones_sum(&from.octets(), 0)))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    };
    let mut udp = Vec::with_capacity(usize::from(len));
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    // RFC 768: the pseudo header has the addresses, the protocol and the length.
    sum = ones_sum(&udp, sum + u32::from(UDP) + u32::from(len));
    let checksum = match finish(sum) {
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(field) = udp.get_mut(6..8) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    packet.extend(udp);
    Some(packet)
}

fn ones_sum(bytes: &[u8], sum: u32) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        let sum = sum + u32::from(u16::from_be_bytes([high, low]));
        (sum & 0xffff) + (sum >> 16)
    })
}

const fn finish(sum: u32) -> u16 {
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dht_proto::time::Instant;

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_sum_is_the_internet_s() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(ones_sum(&bytes, 0), 0xddf2);
        assert_eq!(finish(0xddf2), !0xddf2);
    }

    #[test]
    fn headers_check_out_on_both_networks() {
        for (from, to, head) in
            [("1.2.3.4:5", "6.7.8.9:10", 20), ("[2600::1]:5", "[2600::2]:10", 40)]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for payload in [&b"odd"[..], b"even"] {
                let packet = packet(from, to, payload).unwrap();
                assert_eq!(packet.len(), head + 8 + payload.len());
                assert_eq!(&packet[head + 8..], payload);
                assert_eq!(packet[head..head + 4], [0, 5, 0, 10]);
                let addrs = if head == 20 { &packet[12..20] } else { &packet[8..40] };
                // A receiver sums everything, checksum included, and gets all ones.
                let len = (8 + payload.len()) as u32;
                let sum = ones_sum(&packet[head..], ones_sum(addrs, 17 + len));
                assert_eq!(finish(sum), 0);
                if head == 20 {
                    assert_eq!(finish(ones_sum(&packet[..20], 0)), 0);
                    assert_eq!(u16::from_be_bytes([packet[2], packet[3]]) as usize, packet.len());
                }
            }
        }
        assert!(packet("1.2.3.4:5".parse().unwrap(), "[::1]:5".parse().unwrap(), b"").is_none());
    }

    /// Reads the file back by its specification.
    #[test]
    fn the_file_reads_back() {
        let mut pcap = Pcap::new(Vec::new());
        let (from, to) = ("1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap());
        for (at, verb) in [(1_000_001, Verb::Sent), (2, Verb::Arrived), (5_999_999, Verb::Sent)] {
            let at = Instant::from_micros(at);
            pcap.record(&Record { at, verb, from, to, bytes: b"payload" });
        }
        let sink = pcap.0.lock().unwrap();
        let word = |at: usize| u32::from_le_bytes(sink.out[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 101));
        let mut at = 24;
        let mut times = Vec::new();
        while at < sink.out.len() {
            times.push((word(at), word(at + 4)));
            assert_eq!((word(at + 8), word(at + 12)), (35, 35));
            at += 16 + 35;
        }
        assert_eq!(times, [(1, 1_000), (5, 999_999_000)]);
    }
}
