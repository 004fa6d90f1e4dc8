//! One system call per datagram: what every system has.

use dht_driver::{Fault, Incoming, RECV_BATCH, RecvBuffers};
use dht_proto::{MAX_DATAGRAM, Transmit};
use mio::net::UdpSocket;

/// Receives until nothing is there or the batch is full.
pub(super) fn recv(
    socket: &UdpSocket,
    buffers: &mut RecvBuffers,
    incoming: &mut [Incoming; RECV_BATCH],
) -> Result<usize, Fault> {
    let mut count = 0;
    for (buffer, slot) in buffers.iter_mut().zip(incoming) {
        match socket.recv_from(buffer) {
            Ok((len, from)) => *slot = Incoming { from, len },
            // What arrived before is delivered; the fault shows again if it lasts.
            Err(_) if count > 0 => break,
            Err(error) => return Err(Fault::of(&error)),
        }
        count += 1;
    }
    Ok(count)
}

/// Sends until one datagram is not taken.
pub(super) fn send(
    socket: &UdpSocket,
    buffers: &[[u8; MAX_DATAGRAM]],
    transmits: &[Transmit],
) -> Result<usize, Fault> {
    let mut count = 0;
    for (buffer, transmit) in buffers.iter().zip(transmits) {
        let bytes = buffer.get(..transmit.len).unwrap_or(buffer);
        match socket.send_to(bytes, transmit.to) {
            Ok(_) => {}
            Err(_) if count > 0 => break,
            Err(error) => return Err(Fault::of(&error)),
        }
        count += 1;
    }
    Ok(count)
}
