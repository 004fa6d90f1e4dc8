//! One system call per datagram: what every system has.

use std::io;
use std::net::UdpSocket;

use dht_driver::{Incoming, Outgoing, RECV_BATCH, RecvBuffers};
use dht_proto::MAX_DATAGRAM;

/// Receives until nothing is there or the batch is full.
pub(crate) fn recv(
    socket: &UdpSocket,
    buffers: &mut RecvBuffers,
    incoming: &mut [Incoming; RECV_BATCH],
) -> io::Result<usize> {
    let mut count = 0;
    for (buffer, slot) in buffers.iter_mut().zip(incoming) {
        match socket.recv_from(buffer) {
            Ok((len, from)) => *slot = Incoming { from, local: None, len },
            // What arrived before is delivered; the fault shows again if it lasts.
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
        count += 1;
    }
    Ok(count)
}

/// Sends until one datagram is not taken. Where from is the system's choice.
pub(crate) fn send(
    socket: &UdpSocket,
    buffers: &[[u8; MAX_DATAGRAM]],
    outgoing: &[Outgoing],
) -> io::Result<usize> {
    let mut count = 0;
    for (buffer, datagram) in buffers.iter().zip(outgoing) {
        let bytes = buffer.get(..datagram.len).unwrap_or(buffer);
        match socket.send_to(bytes, datagram.to) {
            Ok(_) => {}
            Err(_) if count > 0 => break,
            Err(error) => return Err(error),
        }
        count += 1;
    }
    Ok(count)
}
