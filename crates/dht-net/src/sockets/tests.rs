use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::net::UdpSocket as StdSocket;

use dht_driver::RECV_LEN;

use super::*;

/// Nobody waits for these sockets.
#[derive(Debug)]
struct Unwatched;

impl Watch for Unwatched {
    fn watch(_socket: StdSocket) -> io::Result<Self> {
        Ok(Self)
    }
}

struct Bench {
    sockets: Sockets<Unwatched>,
    buffers: Box<RecvBuffers>,
}

impl Bench {
    fn bind(addrs: &[&str], calls: Calls) -> Self {
        let addrs: Vec<SocketAddr> = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        let sockets = Sockets::<Unwatched>::bind(&addrs, calls).unwrap();
        let Ok(buffers) = vec![[0; RECV_LEN]; RECV_BATCH].try_into() else { unreachable!() };
        Self { sockets, buffers }
    }

    /// Receives `count` datagrams in as many batches as it takes, then expects silence.
    fn recv(&mut self, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        let mut incoming = [Incoming::EMPTY; RECV_BATCH];
        while all.len() < count {
            match self.sockets.recv_batch(&mut self.buffers, &mut incoming) {
                Ok(got) => all.extend(
                    (0..got)
                        .map(|i| (incoming[i].from, self.buffers[i][..incoming[i].len].to_vec())),
                ),
                Err(Fault::WouldBlock) => {
                    // Loopback delivers before send returns, but readiness is not ours to poll.
                    std::thread::yield_now();
                    self.sockets.watched().for_each(|socket| *socket.readable = true);
                }
                Err(fault) => panic!("{fault:?}"),
            }
        }
        let silence = self.sockets.recv_batch(&mut self.buffers, &mut incoming);
        assert_eq!(silence, Err(Fault::WouldBlock));
        all
    }

    fn send(&mut self, datagrams: &[(SocketAddr, Vec<u8>)]) -> Sent {
        let mut buffers = vec![[0; MAX_DATAGRAM]; datagrams.len()];
        let mut outgoing = Vec::new();
        for ((to, bytes), buffer) in datagrams.iter().zip(&mut buffers) {
            buffer[..bytes.len()].copy_from_slice(bytes);
            outgoing.push(Outgoing { to: *to, local: None, len: bytes.len() });
        }
        self.sockets.send_batch(&buffers, &outgoing)
    }
}

fn peer(ip: impl Into<core::net::IpAddr>) -> (StdSocket, SocketAddr) {
    let socket = StdSocket::bind((ip.into(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Runs a test with all that the system can do, and with single calls.
fn both_ways(test: impl Fn(Calls)) {
    test(Calls::Best);
    test(Calls::Single);
}

#[test]
fn many_datagrams_of_both_families_arrive_whole_and_in_order() {
    both_ways(|calls| {
        let mut bench = Bench::bind(&["127.0.0.1:0", "[::1]:0"], calls);
        let ours = bench.sockets.local_addrs();
        let (v4, v4_addr) = peer(Ipv4Addr::LOCALHOST);
        let (v6, v6_addr) = peer(Ipv6Addr::LOCALHOST);
        // More than one batch each.
        for n in 0..80u8 {
            v4.send_to(&vec![n; usize::from(n)], ours[0]).unwrap();
            v6.send_to(&vec![n; 1 + usize::from(n)], ours[1]).unwrap();
        }
        let all = bench.recv(160);
        for (addr, extra) in [(v4_addr, 0), (v6_addr, 1)] {
            let from: Vec<_> = all.iter().filter(|(from, _)| *from == addr).collect();
            assert_eq!(from.len(), 80);
            for (n, (_, bytes)) in from.into_iter().enumerate() {
                assert_eq!(*bytes, vec![n as u8; n + extra]);
            }
        }
    });
}

#[test]
fn the_senders_address_is_whole_whatever_family_came_before() {
    both_ways(|calls| {
        let mut bench = Bench::bind(&["127.0.0.1:0", "[::1]:0"], calls);
        let ours = bench.sockets.local_addrs();
        let (v4, v4_addr) = peer(Ipv4Addr::LOCALHOST);
        let (v6, v6_addr) = peer(Ipv6Addr::LOCALHOST);
        for _ in 0..3 {
            v4.send_to(b"v4", ours[0]).unwrap();
            assert_eq!(bench.recv(1), [(v4_addr, b"v4".to_vec())]);
            v6.send_to(b"v6", ours[1]).unwrap();
            assert_eq!(bench.recv(1), [(v6_addr, b"v6".to_vec())]);
        }
    });
}

#[test]
fn each_family_goes_out_through_its_own_socket() {
    both_ways(|calls| {
        let mut bench = Bench::bind(&["127.0.0.1:0", "[::1]:0"], calls);
        let ours = bench.sockets.local_addrs();
        let (v4, v4_addr) = peer(Ipv4Addr::LOCALHOST);
        let (v6, v6_addr) = peer(Ipv6Addr::LOCALHOST);
        for (socket, to, from) in [(v4, v4_addr, ours[0]), (v6, v6_addr, ours[1])] {
            // More than one system call takes.
            let datagrams: Vec<_> = (0..90u8).map(|n| (to, vec![n; 20 + usize::from(n)])).collect();
            assert_eq!(bench.send(&datagrams), Sent { taken: 90, fault: None });
            for (_, bytes) in datagrams {
                let mut buffer = [0; 2_000];
                let (len, sender) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!((&buffer[..len], sender), (&bytes[..], from));
            }
        }
    });
}

#[test]
fn a_datagram_too_long_for_its_buffer_shows_as_cut() {
    both_ways(|calls| {
        let mut bench = Bench::bind(&["127.0.0.1:0"], calls);
        let ours = bench.sockets.local_addrs()[0];
        let (socket, _) = peer(Ipv4Addr::LOCALHOST);
        socket.send_to(&[1; RECV_LEN + 500], ours).unwrap();
        socket.send_to(&[2; RECV_LEN - 1], ours).unwrap();
        let all = bench.recv(2);
        assert_eq!((all[0].1.len(), all[1].1.len()), (RECV_LEN, RECV_LEN - 1));
    });
}

#[test]
fn a_datagram_that_cannot_be_sent_stops_the_batch_there() {
    both_ways(|calls| {
        let mut bench = Bench::bind(&["127.0.0.1:0"], calls);
        let (_socket, good) = peer(Ipv4Addr::LOCALHOST);
        // Port 0 is nobody's: the system refuses it.
        let bad = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sent = bench.send(&[(good, vec![1]), (bad, vec![2]), (good, vec![3])]);
        assert_eq!(sent, Sent { taken: 1, fault: Some(Fault::Unreachable) });
    });
}

#[test]
fn an_address_of_a_family_without_socket_is_unreachable() {
    both_ways(|calls| {
        let mut bench = Bench::bind(&["127.0.0.1:0"], calls);
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 9));
        let sent = bench.send(&[(v6, vec![2])]);
        assert_eq!(sent, Sent { taken: 0, fault: Some(Fault::Unreachable) });
    });
}

#[test]
fn an_ipv6_socket_leaves_its_port_free_for_ipv4() {
    let sockets = Sockets::<Unwatched>::bind(&["[::]:0".parse().unwrap()], Calls::Best).unwrap();
    let port = sockets.local_addrs()[0].port();
    StdSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
}

#[test]
fn one_address_per_family() {
    let addrs = ["127.0.0.1:0".parse().unwrap(), "127.0.0.2:0".parse().unwrap()];
    let error = Sockets::<Unwatched>::bind(&addrs, Calls::Best).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn errors_of_bind_name_the_next_step() {
    let (_holder, taken) = peer(Ipv4Addr::LOCALHOST);
    let error = Sockets::<Unwatched>::bind(&[taken], Calls::Best).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("another port"), "{error}");
    assert!(core::error::Error::source(&error).is_some());
    // TEST-NET-1 is never an address of this machine (RFC 5737).
    let error =
        Sockets::<Unwatched>::bind(&["192.0.2.1:0".parse().unwrap()], Calls::Best).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
}
