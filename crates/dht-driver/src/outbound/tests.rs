use std::collections::VecDeque;

use super::*;
use crate::io::{Incoming, Outgoing, RecvBuffers, Sent};

/// A socket that does what its script says, call by call, and then takes everything.
#[derive(Default)]
struct FakeIo {
    script: VecDeque<Sent>,
    calls: usize,
    /// Ports of the datagrams taken.
    taken: Vec<u16>,
}

impl FakeIo {
    fn scripted(script: &[(usize, Option<Fault>)]) -> Self {
        let script = script.iter().map(|&(taken, fault)| Sent { taken, fault }).collect();
        Self { script, ..Self::default() }
    }

    fn always(fault: Fault) -> Self {
        Self::scripted(&[(0, Some(fault)); 100])
    }
}

impl Io for FakeIo {
    fn now(&mut self) -> Instant {
        Instant::ZERO
    }

    fn recv_batch(
        &mut self,
        _: &mut RecvBuffers,
        _: &mut [Incoming; RECV_BATCH],
    ) -> Result<usize, Fault> {
        Err(Fault::WouldBlock)
    }

    fn send_batch(&mut self, buffers: &[[u8; MAX_DATAGRAM]], transmits: &[Outgoing]) -> Sent {
        assert_eq!(buffers.len(), transmits.len());
        assert!(!transmits.is_empty(), "an empty batch is never sent");
        self.calls += 1;
        let sent = self.script.pop_front().unwrap_or(Sent { taken: transmits.len(), fault: None });
        for (transmit, buffer) in transmits.iter().zip(buffers).take(sent.taken) {
            assert_eq!(buffer[..2], transmit.to.port().to_be_bytes(), "bytes stay with address");
            self.taken.push(transmit.to.port());
        }
        sent
    }
}

struct Bench {
    out: Outbound,
    stats: IoStats,
    unreachable: Vec<u16>,
}

impl Bench {
    /// Datagrams to ports 1 to `count`, each carrying its port.
    fn with(count: u16) -> Self {
        let mut bench =
            Self { out: Outbound::new(true), stats: IoStats::default(), unreachable: Vec::new() };
        for port in 1..=count {
            bench.push(port);
        }
        bench
    }

    fn push(&mut self, port: u16) {
        let slot = self.out.slot().unwrap();
        slot[..2].copy_from_slice(&port.to_be_bytes());
        self.out.push(Outgoing { to: ([127, 0, 0, 1], port).into(), local: None, len: 2 });
    }

    fn flush(&mut self, io: &mut FakeIo, millis: u64) {
        let unreachable = &mut self.unreachable;
        self.out.flush(io, Instant::from_millis(millis), &mut self.stats, |to| {
            unreachable.push(to.port());
        });
    }

    fn is_open(&mut self, millis: u64) -> bool {
        self.out.is_open(Instant::from_millis(millis))
    }
}

#[test]
fn would_block_mid_batch_keeps_the_unsent_tail_for_when_the_socket_is_writable() {
    let mut bench = Bench::with(5);
    let mut io = FakeIo::scripted(&[(2, Some(Fault::WouldBlock))]);
    bench.flush(&mut io, 0);
    assert_eq!(io.taken, [1, 2]);
    assert!(bench.out.wants_writable());
    assert!(!bench.is_open(1), "no query is built for a full socket");
    bench.flush(&mut io, 1);
    assert_eq!(io.calls, 1, "a full socket is left alone");
    bench.out.set_writable();
    bench.flush(&mut io, 2);
    assert_eq!(io.taken, [1, 2, 3, 4, 5]);
    assert_eq!((bench.stats.sent, bench.stats.send_blocked), (5, 1));
}

#[test]
fn a_full_socket_is_tried_again_after_a_while_even_if_nobody_says_it_is_writable() {
    let mut bench = Bench::with(1);
    let mut io = FakeIo::scripted(&[(0, Some(Fault::WouldBlock))]);
    bench.flush(&mut io, 0);
    assert_eq!(bench.out.retry_at(), Some(Instant::ZERO + BLOCKED_RETRY));
    bench.flush(&mut io, 49);
    assert!(io.taken.is_empty());
    bench.flush(&mut io, 50);
    assert_eq!(io.taken, [1]);
    assert_eq!(bench.out.retry_at(), None);
}

#[test]
fn a_short_send_without_reason_goes_on_with_the_rest() {
    let mut bench = Bench::with(6);
    let mut io = FakeIo::scripted(&[(1, None), (2, None)]);
    bench.flush(&mut io, 0);
    assert_eq!(io.taken, [1, 2, 3, 4, 5, 6]);
    assert_eq!((io.calls, bench.stats.send_blocked), (3, 0));
}

#[test]
fn a_send_that_takes_nothing_and_says_nothing_counts_as_blocked() {
    let mut bench = Bench::with(1);
    let mut io = FakeIo::scripted(&[(0, None)]);
    bench.flush(&mut io, 0);
    assert!(bench.out.wants_writable());
}

#[test]
fn no_buffers_is_retried_after_growing_pauses_and_gives_up_on_that_datagram_alone() {
    let mut bench = Bench::with(2);
    let mut io = FakeIo::scripted(&[(0, Some(Fault::NoBuffers)); NO_BUFFERS_TRIES as usize]);
    let mut now = Instant::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..NO_BUFFERS_TRIES {
        bench.out.flush(&mut io, now, &mut bench.stats, |_| {});
        assert!(!bench.out.wants_writable(), "no system reports when it has buffers again");
        let retry = bench.out.retry_at().unwrap();
        pauses.push(retry.since(now));
        now = retry;
    }
    let tries = pauses.len() - 1;
    assert!(pauses[..tries].is_sorted_by(|a, b| a < b), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= BLOCKED_RETRY * 2), "{pauses:?}");
    assert_eq!(bench.stats.no_buffers, u64::from(NO_BUFFERS_TRIES));
    assert_eq!(bench.stats.no_buffers_dropped, 1);
    bench.out.flush(&mut io, now, &mut bench.stats, |_| {});
    assert_eq!(io.taken, [2], "only the first datagram was given up");
}

#[test]
fn success_forgets_earlier_lack_of_buffers() {
    let mut bench = Bench::with(2);
    let mut io = FakeIo::scripted(&[(0, Some(Fault::NoBuffers)), (1, Some(Fault::NoBuffers))]);
    bench.flush(&mut io, 0);
    bench.flush(&mut io, 10);
    assert_eq!(bench.out.no_buffers_tries, 1);
    bench.flush(&mut io, 20);
    assert_eq!((io.taken, bench.stats.no_buffers_dropped), (vec![1, 2], 0));
}

#[test]
fn too_big_drops_that_datagram_and_counts_it() {
    let mut bench = Bench::with(3);
    let mut io = FakeIo::scripted(&[(1, Some(Fault::TooBig))]);
    bench.flush(&mut io, 0);
    assert_eq!(io.taken, [1, 3]);
    assert_eq!((bench.stats.too_big, bench.unreachable.len()), (1, 0));
}

#[test]
fn unreachable_is_told_for_that_address_and_the_rest_goes_on() {
    let mut bench = Bench::with(4);
    let mut io = FakeIo::scripted(&[(1, Some(Fault::Unreachable)), (0, Some(Fault::Unreachable))]);
    bench.flush(&mut io, 0);
    assert_eq!((io.taken, bench.unreachable), (vec![1, 4], vec![2, 3]));
    assert_eq!(bench.stats.unreachable, 2);
}

#[test]
fn refused_is_about_an_earlier_datagram_so_this_one_is_sent_again() {
    let mut bench = Bench::with(2);
    let about = SocketAddr::from(([127, 0, 0, 1], 99));
    let mut io = FakeIo::scripted(&[
        (0, Some(Fault::Refused(None))),
        (0, Some(Fault::Refused(Some(about)))),
    ]);
    bench.flush(&mut io, 0);
    assert_eq!((io.taken, bench.unreachable), (vec![1, 2], vec![99]));
    assert_eq!(bench.stats.refused, 2);
}

#[test]
fn interrupted_is_called_again_at_once_but_not_for_ever() {
    let mut bench = Bench::with(1);
    let mut io = FakeIo::scripted(&[(0, Some(Fault::Interrupted))]);
    bench.flush(&mut io, 0);
    assert_eq!((io.taken, io.calls), (vec![1], 2));
    let mut bench = Bench::with(1);
    let mut io = FakeIo::always(Fault::Interrupted);
    bench.flush(&mut io, 0);
    assert_eq!(io.calls, REPEATS as usize);
    assert!(bench.out.retry_at().is_some());
}

#[test]
fn other_errors_drop_that_datagram_and_count_it() {
    let mut bench = Bench::with(2);
    let mut io = FakeIo::scripted(&[(0, Some(Fault::Other(std::io::ErrorKind::Other)))]);
    bench.flush(&mut io, 0);
    assert_eq!((io.taken, bench.stats.send_errors), (vec![2], 1));
}

#[test]
fn a_socket_that_takes_nothing_is_failing_until_it_takes_one() {
    let mut bench = Bench::with(FAILURES as u16);
    let lost = [(0, Some(Fault::Unreachable)); FAILURES as usize];
    let mut io = FakeIo::scripted(&lost[1..]);
    bench.flush(&mut io, 0);
    assert!(!bench.out.is_failing(), "the last one left");
    for port in 1..=FAILURES as u16 {
        bench.push(port);
    }
    bench.flush(&mut FakeIo::scripted(&lost), 0);
    assert!(bench.out.is_failing());
    bench.push(1);
    bench.flush(&mut io, 0);
    assert!(!bench.out.is_failing());
}

#[test]
fn the_arena_is_bounded_and_free_again_once_all_is_out() {
    let mut bench = Bench::with(SLOTS as u16);
    assert!(bench.out.slot().is_none());
    let mut io = FakeIo::scripted(&[(SLOTS - 1, Some(Fault::WouldBlock))]);
    bench.flush(&mut io, 0);
    assert!(bench.out.slot().is_none(), "slots are free only after the last is sent");
    bench.out.set_writable();
    bench.flush(&mut io, 1);
    assert!(bench.out.slot().is_some());
    bench.push(7);
    bench.flush(&mut io, 2);
    assert_eq!(io.taken.len(), SLOTS + 1);
}

#[test]
fn an_io_that_claims_more_than_it_was_given_does_no_harm() {
    let mut bench = Bench::with(2);
    let mut io = FakeIo::default();
    io.script.push_back(Sent { taken: usize::MAX, fault: Some(Fault::WouldBlock) });
    bench.flush(&mut io, 0);
    assert_eq!(bench.stats.sent, 2);
    assert!(bench.is_open(0));
}
