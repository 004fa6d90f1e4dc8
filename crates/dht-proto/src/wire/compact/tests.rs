use alloc::vec::Vec;

use super::*;

fn id(first: u8) -> NodeId {
    let mut bytes = [7; ID_LEN];
    bytes[0] = first;
    NodeId::from_bytes(bytes)
}

fn check_nodes<A: Addr>(addrs: &[A]) {
    let written: Vec<_> = (0..).map(id).zip(addrs.iter().copied()).collect();
    let mut out = alloc::vec![0; A::NODE_LEN * addrs.len()];
    for (room, (id, addr)) in out.chunks_mut(A::NODE_LEN).zip(&written) {
        assert_eq!(write_node(*id, *addr, room), Some(A::NODE_LEN));
    }
    assert!(nodes::<A>(&out).eq(written.iter().copied()));
    out.push(1);
    assert_eq!(nodes::<A>(&out).count(), addrs.len());
    out.truncate(A::NODE_LEN - 1);
    assert_eq!(nodes::<A>(&out).count(), 0);
    assert_eq!(write_node(id(0), addrs[0], &mut out), None);
}

#[test]
fn compact_nodes_are_read_as_written() {
    check_nodes::<SocketAddrV4>(&["1.2.3.4:5".parse().unwrap(), "9.8.7.6:65535".parse().unwrap()]);
    check_nodes::<SocketAddrV6>(&[
        "[2001:db8::1]:5".parse().unwrap(),
        "[::1]:65535".parse().unwrap(),
    ]);
}

#[test]
fn compact_peers_are_read_as_written() {
    let v4 = [1, 2, 3, 4, 0, 5, 9, 8, 7, 6, 0xff, 0xff, 1, 2, 3, 4, 0, 0, 1];
    let expected: Vec<SocketAddr> =
        ["1.2.3.4:5", "9.8.7.6:65535"].iter().map(|text| text.parse().unwrap()).collect();
    assert!(Values::of::<SocketAddrV4>(&v4).iter().eq(expected));
    let v6: SocketAddrV6 = "[2001:db8::1]:6881".parse().unwrap();
    assert!(Values::of::<SocketAddrV6>(&v6.compact()).iter().eq([SocketAddr::V6(v6)]));
    assert_eq!(Values::of::<SocketAddrV6>(&v4[..17]).iter().count(), 0);
}
