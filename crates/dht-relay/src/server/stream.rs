//! A TCP connection as hyper reads and writes it.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::{self, ErrorKind, IoSlice, Read as _};
use std::net::TcpStream;

use async_io::Async;
use futures_lite::AsyncWrite;
use hyper::rt::{Read, ReadBufCursor, Write};

/// What is read at a time: requests are shorter. hyper's buffers are larger, and would have to be filled with
/// zeros each time.
const CHUNK: usize = 2_048;

/// A connection.
#[derive(Debug)]
pub(super) struct Stream {
    stream: Async<TcpStream>,
    /// The last read took all there was, so that it takes no other to know that there is nothing.
    drained: bool,
}

impl Stream {
    pub(super) const fn new(stream: Async<TcpStream>) -> Self {
        Self { stream, drained: false }
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let len = buf.remaining().min(CHUNK);
        let room = chunk.get_mut(..len).unwrap_or_default();
        loop {
            if self.drained {
                ready!(self.stream.poll_readable(cx))?;
                self.drained = false;
            }
            let mut stream: &TcpStream = self.stream.get_ref();
            match stream.read(room) {
                Ok(len) => {
                    self.drained = len > 0 && len < room.len();
                    buf.put_slice(room.get(..len).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.drained = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
