//! The stream of a WebSocket, from which what a stranger has said can be read again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use veche_doors::websocket::CLOSE_WAIT;

/// A client's stream.
pub(super) struct Line {
    stream: TokioIo<Upgraded>,
    /// What is read again before anything new.
    again: Bytes,
    memory: Option<Box<Memory>>,
}

/// What was read since a moment, of which there may be only so much.
struct Memory {
    bytes: Vec<u8>,
    limit: usize,
}

impl Line {
    /// At the first byte behind the handshake.
    pub(super) fn new(stream: TokioIo<Upgraded>) -> Self {
        Self { stream, again: Bytes::new(), memory: None }
    }

    /// Everything that is read from now on is remembered; where that would be more than `limit`, reading fails.
    pub(super) fn remember(&mut self, limit: usize) {
        self.memory = Some(Box::new(Memory { bytes: Vec::new(), limit }));
    }

    /// Whether as much has been read as may be.
    pub(super) fn is_full(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.bytes.len() >= memory.limit)
    }

    /// Ends remembering. What stands behind the first message is read again, if there was one.
    pub(super) fn rewind(&mut self, was_message: bool) {
        let Some(memory) = self.memory.take().filter(|_| was_message) else { return };
        let mut bytes = Bytes::from(memory.bytes);
        bytes.advance(end_of_message(&bytes));
        self.again = bytes;
    }

    /// Says no more, and waits a little for the client to say no more, so that what it was told last arrives even if it
    /// goes on sending.
    pub(super) async fn hang_up(&mut self) {
        let silence = async {
            self.shutdown().await?;
            tokio::io::copy(self, &mut tokio::io::sink()).await
        };
        let _ = timeout(CLOSE_WAIT, silence).await;
    }
}

/// Where the first message ends: with the first frame that ends one, frames of pings between them passed over (RFC 6455,
/// section 5.2).
fn end_of_message(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((is_end, length)) = frame(rest) {
        rest = rest.get(length..).unwrap_or_default();
        if is_end {
            break;
        }
    }
    bytes.len() - rest.len()
}

/// Whether the frame at the beginning ends a message, and how long it is. `None`: its head is not all there.
fn frame(bytes: &[u8]) -> Option<(bool, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, width) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 8),
        short => (usize::from(short), 0),
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let is_last = first & 0x80 != 0;
    let is_control = first & 0x08 != 0;
    Some((is_last && !is_control, length.saturating_add(2 + width + mask)))
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.again.is_empty() {
            let piece = self.again.len().min(buffer.remaining());
            buffer.put_slice(&self.again.split_to(piece));
            return Poll::Ready(Ok(()));
        }
        if self.is_full() {
            return Poll::Ready(Err(io::Error::other("more than a stranger may send")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(memory) = &mut self.memory {
            memory.bytes.extend_from_slice(&buffer.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_its_last_frame_whatever_stands_between_them() {
        let ping = [0x89, 0x80, 1, 2, 3, 4];
        let begin = [0x01, 0x82, 1, 2, 3, 4, b'a', b'b'];
        let mut long = vec![0x80, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        long.extend([0; 256]);
        let message = [&ping[..], &begin, &ping, &long].concat();
        let with_more = [&message[..], &ping, &begin].concat();
        assert_eq!(end_of_message(&with_more), message.len());
        assert_eq!(end_of_message(&message), message.len());
        let mut huge = vec![0x82, 0xff];
        huge.extend(u64::MAX.to_be_bytes());
        assert_eq!(end_of_message(&huge), huge.len());
        assert_eq!(end_of_message(&[]), 0);
    }
}
