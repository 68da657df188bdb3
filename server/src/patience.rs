//! How long connections may be silent before they have said anything, and how long their network may be.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::gate::Permit;

/// How long a client may take for its first bytes, by which protocols are told apart, TLS handshakes among them; and then for
/// those by which HTTP/1 and HTTP/2 are. What comes after is held to the limits of each.
pub(crate) const OPENING_WAIT: Duration = Duration::from_secs(10);

/// How an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long what was sent may stay unacknowledged, or find no room with the receiver, until the system gives the
/// connection up.
const UNACKNOWLEDGED_WAIT: Duration = Duration::from_mins(1);

/// How long a connection may be without any traffic until the system asks whether the other side is still there.
const KEEPALIVE_WAIT: Duration = Duration::from_mins(1);

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    /// Until its first bytes are there.
    opening: Option<Opening>,
    _permit: Permit,
}

#[derive(Debug)]
struct Opening {
    deadline: Pin<Box<Sleep>>,
    /// How much of the preface has come.
    matched: usize,
}

/// The peer may be gone without a word, or read nothing for ever.
pub(crate) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_WAIT.as_millis() as u32)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_WAIT)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S, permit: Permit) -> Self {
        let deadline = Box::pin(tokio::time::sleep(OPENING_WAIT));
        Self { stream, opening: Some(Opening { deadline, matched: 0 }), _permit: permit }
    }
}

impl Opening {
    /// Whether the first bytes are all there: it is no preface of HTTP/2, or a whole one. Nothing at all is the end of the
    /// stream.
    fn is_over(&mut self, received: &[u8]) -> bool {
        let expected = &PREFACE[self.matched..];
        let length = received.len().min(expected.len());
        self.matched += length;
        received.is_empty() || received[..length] != expected[..length] || self.matched == PREFACE.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(opening) = &mut self.opening else { return polled };
        if polled.is_pending() {
            ready!(opening.deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if opening.is_over(&buffer.filled()[before..]) {
            self.opening = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
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
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::config::Http;
    use crate::gate::Gate;

    fn guarded() -> (Guarded<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1024);
        let gate = Gate::new(&Http::default());
        (Guarded::new(ours, gate.enter([192, 0, 2, 1].into()).unwrap()), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_only_a_part_of_a_preface_is_cut() {
        for part in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM"] {
            let (mut ours, mut theirs) = guarded();
            theirs.write_all(part).await.unwrap();
            let mut received = Vec::new();
            let error = ours.read_to_end(&mut received).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(received, part);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_begun_is_waited_for() {
        for part in [&b"G"[..], b"PRX", PREFACE] {
            let (mut ours, mut theirs) = guarded();
            // Byte by byte, so that what came before counts.
            for byte in part {
                theirs.write_all(&[*byte]).await.unwrap();
                assert_eq!(ours.read_u8().await.unwrap(), *byte);
            }
            let silence = tokio::time::timeout(OPENING_WAIT * 10, ours.read_u8()).await;
            assert!(silence.is_err(), "{part:?} was cut");
        }
    }
}
