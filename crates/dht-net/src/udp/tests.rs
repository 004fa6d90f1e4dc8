use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use dht_driver::RECV_LEN;

use super::*;

/// A socket and buffers for it.
struct Bench {
    socket: UdpSocket,
    buffers: Box<RecvBuffers>,
    incoming: [Incoming; RECV_BATCH],
}

impl Bench {
    fn bind(ip: impl Into<IpAddr>, calls: Calls) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(ip.into(), 0), calls).unwrap();
        let Ok(buffers) = vec![[0; RECV_LEN]; RECV_BATCH].try_into() else { unreachable!() };
        Self { socket, buffers, incoming: [Incoming::EMPTY; RECV_BATCH] }
    }

    /// What comes next. Loopback delivers before a send call returns.
    fn recv(&mut self) -> Result<&[Incoming], Fault> {
        let count = self.socket.recv(&mut self.buffers, &mut self.incoming)?;
        Ok(&self.incoming[..count])
    }

    fn at(&self, ip: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(ip.into(), self.socket.local_addr().unwrap().port())
    }

    /// Sends one byte to each, leaving from the address beside it.
    fn send(&self, to: &[(SocketAddr, Option<IpAddr>)]) -> Result<usize, Fault> {
        let outgoing: Vec<_> =
            to.iter().map(|&(to, local)| Outgoing { to, local, len: 1 }).collect();
        self.socket.send(&vec![[7; MAX_DATAGRAM]; to.len()], &outgoing)
    }
}

fn peer(ip: impl Into<IpAddr>) -> (std::net::UdpSocket, SocketAddr) {
    let socket = std::net::UdpSocket::bind((ip.into(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Where a datagram came from.
fn source(socket: &std::net::UdpSocket) -> IpAddr {
    socket.recv_from(&mut [0; 16]).unwrap().1.ip()
}

#[test]
fn single_calls_move_datagrams_and_tell_no_more_than_every_system_can() {
    for (any, one) in [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::LOCALHOST)),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()),
    ] {
        let mut bench = Bench::bind(any, Calls::Single);
        let (socket, from) = peer(one);
        assert_eq!(bench.recv(), Err(Fault::WouldBlock));
        let to = bench.at(one);
        for len in 0..40 {
            socket.send_to(&vec![1; len], to).unwrap();
        }
        let all: Vec<_> = (0..RECV_BATCH).map(|len| Incoming { from, local: None, len }).collect();
        assert_eq!(bench.recv().unwrap(), all);
        assert_eq!(bench.recv().unwrap().len(), 8);
        // Where it leaves from is not its choice, and is not taken for a failure.
        assert_eq!(bench.send(&[(from, None), (from, Some(one))]), Ok(2));
        assert_eq!((source(&socket), source(&socket)), (one, one));
        assert_eq!(bench.send(&[]), Ok(0));
    }
}

#[test]
fn single_calls_do_not_hear_of_closed_ports() {
    let mut bench = Bench::bind(Ipv4Addr::LOCALHOST, Calls::Single);
    let (socket, closed) = peer(Ipv4Addr::LOCALHOST);
    drop(socket);
    assert_eq!(bench.send(&[(closed, None)]), Ok(1));
    assert_eq!(bench.recv(), Err(Fault::WouldBlock));
}

#[cfg(all(target_os = "linux", not(dht_portable)))]
mod linux {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    #[test]
    fn a_wildcard_socket_tells_which_address_a_datagram_came_to() {
        let mut bench = Bench::bind(Ipv4Addr::UNSPECIFIED, Calls::Best);
        let (socket, from) = peer(Ipv4Addr::LOCALHOST);
        for round in 0..3 {
            for last in 1..=20 {
                socket.send_to(&[round], bench.at(v4(last))).unwrap();
            }
            let came: Vec<_> =
                (1..=20).map(|last| Incoming { from, local: Some(v4(last)), len: 1 }).collect();
            assert_eq!(bench.recv().unwrap(), came);
            assert_eq!(bench.recv(), Err(Fault::WouldBlock));
        }
    }

    #[test]
    fn a_wildcard_socket_of_ipv6_tells_it_too() {
        let mut bench = Bench::bind(Ipv6Addr::UNSPECIFIED, Calls::Best);
        let (socket, from) = peer(Ipv6Addr::LOCALHOST);
        socket.send_to(&[1], bench.at(Ipv6Addr::LOCALHOST)).unwrap();
        let local = Some(Ipv6Addr::LOCALHOST.into());
        assert_eq!(bench.recv().unwrap(), [Incoming { from, local, len: 1 }]);
        assert_eq!(bench.send(&[(from, local)]), Ok(1));
        assert_eq!(source(&socket), Ipv6Addr::LOCALHOST);
    }

    #[test]
    fn a_socket_on_one_address_is_not_asked_for_it() {
        let mut bench = Bench::bind(Ipv4Addr::LOCALHOST, Calls::Best);
        // Another socket of the same thread tells; neither disturbs the other.
        let mut any = Bench::bind(Ipv4Addr::UNSPECIFIED, Calls::Best);
        let (socket, from) = peer(Ipv4Addr::LOCALHOST);
        for _ in 0..3 {
            socket.send_to(&[1], bench.at(v4(1))).unwrap();
            assert_eq!(bench.recv().unwrap(), [Incoming { from, local: None, len: 1 }]);
            socket.send_to(&[1], any.at(v4(9))).unwrap();
            assert_eq!(any.recv().unwrap(), [Incoming { from, local: Some(v4(9)), len: 1 }]);
        }
    }

    #[test]
    fn datagrams_leave_from_the_address_they_are_told_to() {
        let bench = Bench::bind(Ipv4Addr::UNSPECIFIED, Calls::Best);
        let (socket, to) = peer(Ipv4Addr::LOCALHOST);
        // One call has one source, so the run ends where that changes.
        let all = [
            (to, Some(v4(7))),
            (to, Some(v4(7))),
            (to, None),
            (to, Some(v4(8))),
            (to, Some(v4(7))),
        ];
        let mut sent = 0;
        for run in [2, 1, 1, 1] {
            assert_eq!(bench.send(&all[sent..]), Ok(run));
            sent += run;
        }
        let from: Vec<_> = all.iter().map(|_| source(&socket)).collect();
        assert_eq!(from, [v4(7), v4(7), v4(1), v4(8), v4(7)]);
    }

    #[test]
    fn an_address_that_is_not_ours_is_refused() {
        let bench = Bench::bind(Ipv4Addr::UNSPECIFIED, Calls::Best);
        let (_socket, to) = peer(Ipv4Addr::LOCALHOST);
        // TEST-NET-1 is never an address of this machine (RFC 5737).
        let foreign = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(bench.send(&[(to, Some(foreign))]), Err(Fault::Unreachable));
    }

    #[test]
    fn a_closed_port_is_heard_of_by_the_next_call_whichever_it_is() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            for bound in [ip, if ip.is_ipv4() { [0; 4].into() } else { [0; 16].into() }] {
                let mut bench = Bench::bind(bound, Calls::Best);
                let closed = peer(ip).1;
                let (socket, open) = peer(ip);
                assert_eq!(bench.send(&[(closed, None)]), Ok(1));
                assert_eq!(bench.recv(), Err(Fault::Refused(Some(closed))));
                assert_eq!(bench.recv(), Err(Fault::WouldBlock));
                assert_eq!(bench.send(&[(closed, None)]), Ok(1));
                assert_eq!(bench.send(&[(open, None)]), Err(Fault::Refused(Some(closed))));
                // That one was not at fault, and leaves now.
                assert_eq!(bench.send(&[(open, None)]), Ok(1));
                assert_eq!(source(&socket), ip);
            }
        }
    }

    #[test]
    fn every_closed_port_of_a_batch_is_heard_of() {
        let mut bench = Bench::bind(Ipv4Addr::LOCALHOST, Calls::Best);
        let (socket, open) = peer(Ipv4Addr::LOCALHOST);
        let closed: Vec<_> = (0..5).map(|_| peer(Ipv4Addr::LOCALHOST).1).collect();
        let mut line: Vec<_> = closed.iter().map(|to| (*to, None)).collect();
        line.extend([(open, None); 3]);
        let mut heard = Vec::new();
        let mut note = |fault| {
            let Fault::Refused(Some(about)) = fault else { panic!("{fault:?}") };
            heard.push(about);
        };
        let mut sent = 0;
        while sent < line.len() {
            match bench.send(&line[sent..]) {
                Ok(count) => sent += count,
                Err(fault) => note(fault),
            }
        }
        loop {
            match bench.recv() {
                Err(Fault::WouldBlock) => break,
                Err(fault) => note(fault),
                Ok(datagrams) => panic!("{datagrams:?}"),
            }
        }
        assert_eq!(heard, closed);
        assert_eq!((0..3).map(|_| source(&socket)).filter(|ip| *ip == v4(1)).count(), 3);
    }

    #[test]
    fn a_message_does_not_hide_a_datagram() {
        let mut bench = Bench::bind(Ipv4Addr::LOCALHOST, Calls::Best);
        let (socket, from) = peer(Ipv4Addr::LOCALHOST);
        let closed = peer(Ipv4Addr::LOCALHOST).1;
        socket.send_to(&[1], bench.at(v4(1))).unwrap();
        assert_eq!(bench.send(&[(closed, None)]), Ok(1));
        let mut came = 0;
        let mut refused = 0;
        loop {
            match bench.recv() {
                Ok(datagrams) => came += datagrams.iter().filter(|d| d.from == from).count(),
                Err(Fault::Refused(Some(about))) => refused += usize::from(about == closed),
                Err(Fault::WouldBlock) => break,
                Err(fault) => panic!("{fault:?}"),
            }
        }
        assert_eq!((came, refused), (1, 1));
    }
}
