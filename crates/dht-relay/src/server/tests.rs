use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use std::net::{TcpStream, UdpSocket};

use dht_pkarr::dns::{Message, Question, flag};
use dht_pkarr::record::{CLASS_IN, kind};
use dht_pkarr::{CachedPacket, Keypair, Name};
use futures_lite::future::{block_on, pending};

use super::*;
use dht_pkarr::resolve::Policy;

/// Nobody has anything, and nothing is known here.
struct Nothing;

impl Backend for Nothing {
    fn cached(&self, _: &PublicKey) -> Option<CachedPacket> {
        None
    }

    async fn resolve(&self, _: PublicKey, _: Policy) -> Result<Found, ResolveError> {
        Err(ResolveError::NotFound)
    }

    async fn publish(&self, _: SignedPacket, _: Option<Timestamp>) -> Result<u32, PublishError> {
        Err(PublishError::NotMostRecent)
    }
}

type Begun = channel::Receiver<(Resolution, Slot)>;

fn shared(change: impl FnOnce(&mut Listen)) -> (Arc<Shared<Nothing>>, Begun) {
    let mut listen = Listen::default();
    change(&mut listen);
    let (shared, begun) = Shared::new(&listen, Options::default(), Nothing);
    (Arc::new(shared), begun)
}

fn tasks() -> Tasks {
    let (alive, _) = channel::bounded(1);
    let (_, stopped) = channel::bounded(1);
    Tasks { executor: Arc::default(), alive, stopped }
}

fn query(name: Name) -> Vec<u8> {
    let mut message = Message::new(7, flag::RECURSION_DESIRED);
    message.questions.push(Question { name, kind: kind::A, class: CLASS_IN });
    message.to_bytes().unwrap()
}

fn of_key(number: u8) -> Vec<u8> {
    query(Name::of_key(&Keypair::from_secret(&[number; 32]).public_key()))
}

/// Polls something once that does not end.
fn poll_once(future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    block_on(poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    }));
}

#[test]
fn a_socket_that_is_kept_full_is_left_for_others() {
    const SENT: u64 = 100;
    let (shared, _begun) = shared(|_| {});
    let socket = Async::<UdpSocket>::bind(([127, 0, 0, 1], 0)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.get_ref().local_addr().unwrap()).unwrap();
    let query = query("example.com".parse().unwrap());
    for _ in 0..SENT {
        client.send(&query).unwrap();
    }
    poll_once(sockets::receive(Arc::clone(&shared), tasks(), socket));
    let answered = shared.front().stats().dns_udp;
    assert!(0 < answered && answered < SENT, "{answered} at once");
}

#[test]
fn a_connection_that_is_kept_full_is_left_for_others() {
    use std::io::Write as _;

    const SENT: u64 = 100;
    let (shared, _begun) = shared(|_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let query = query("example.com".parse().unwrap());
    let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
    client.write_all(&framed.repeat(SENT as usize)).unwrap();
    let (stream, peer) = listener.accept().unwrap();
    let stream = Async::new(stream).unwrap();
    poll_once(sockets::converse(&shared, &stream, peer.ip(), pending()));
    let answered = shared.front().stats().dns_tcp;
    assert!(0 < answered && answered < SENT, "{answered} at once");
}

#[test]
fn forged_datagrams_leave_places_for_others() {
    let (shared, begun) = shared(|listen| (listen.max_work, listen.max_udp_work) = (1, 1));
    let step = |transport, number| {
        let user = core::net::IpAddr::from([192, 0, 2, 1]).into();
        let query = of_key(number);
        shared.handle(|front| front.handle_dns(shared.now(), user, transport, &query, &|_| None))
    };
    let first = shared.answer(step(Transport::Udp, 1));
    // There is no place for the next: he is told so, and so are others who want that key.
    for number in [2, 2, 3] {
        let reply = block_on(shared.answer(step(Transport::Udp, number))).unwrap();
        assert_eq!(reply[3] & 15, 2);
    }
    let second = shared.answer(step(Transport::Tcp, 4));
    let reply = block_on(shared.answer(step(Transport::Tcp, 5))).unwrap();
    assert_eq!(reply[3] & 15, 2);
    assert_eq!(begun.len(), 2);
    // Who waits is told, even if it ended before he looked.
    for answer in [first, second] {
        let (resolution, slot) = begun.try_recv().unwrap();
        block_on(resolve(Arc::clone(&shared), resolution, slot));
        assert_eq!(block_on(answer).unwrap()[3] & 15, 3);
    }
    assert_eq!((shared.work.taken(), shared.udp_work.taken()), (0, 0));
}
