//! A connection that was taken from HTTP, of which HTTP had read more than its request.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use sys::socket::FdSocket;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};

use crate::connection::Socket;

/// The bytes that were read, then the connection.
#[derive(Debug)]
pub(crate) struct Early {
    bytes: Bytes,
    socket: Socket,
}

impl Early {
    pub(crate) fn new(bytes: Bytes, socket: Socket) -> Self {
        Self { bytes, socket }
    }

    /// Descriptors that the client sends with a byte, after another byte said that it may: whatever it sent before that,
    /// HTTP would have read without them.
    pub(crate) async fn receive_descriptors(&mut self) -> io::Result<Vec<OwnedFd>> {
        let Socket::Unix(socket) = &mut self.socket else { return Err(io::ErrorKind::Unsupported.into()) };
        if self.bytes.has_remaining() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client sent something before it was asked to"));
        }
        socket.write_all(b"D").await?;
        let messages = FdSocket::new(socket.as_fd().try_clone_to_owned()?);
        let mut byte = [0];
        let received = socket.async_io(Interest::READABLE, || Ok(messages.recv(&mut byte)?)).await?;
        if received.len != 1 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(received.fds)
    }
}

impl AsyncRead for Early {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes.has_remaining() {
            let length = self.bytes.remaining().min(buf.remaining());
            buf.put_slice(&self.bytes.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
