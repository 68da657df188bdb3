//! A way for STUN messages: UDP, or frames of a stream.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use veche_turn_core::{Frames, MAX_FRAME};

use crate::line::{Line, silence};

/// After how long a request over UDP is sent again for the first time; then it is twice as long each time.
const RETRANSMISSION: Duration = Duration::from_millis(250);

/// A way for STUN messages.
pub(crate) enum Wire {
    /// Each datagram is a message.
    Udp(UdpSocket),
    /// Messages tell their own length (RFC 8489 section 6.2.2).
    Stream(Box<Stream<Frames>>),
    /// Messages have it in front (RFC 4571), as ICE over TCP has them.
    Framed(Box<Stream<Vec<u8>>>),
}

/// A stream, and what came and was not taken yet.
pub(crate) struct Stream<T> {
    line: Line,
    partial: T,
    whole: std::collections::VecDeque<Vec<u8>>,
}

impl<T: Default> Stream<T> {
    fn new(line: Line) -> Self {
        Self { line, partial: T::default(), whole: std::collections::VecDeque::new() }
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4096];
        let len = self.line.read(&mut bytes).await?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl Wire {
    /// UDP to one address: what others send does not come, and what the system says of it does.
    pub(crate) async fn udp(to: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        Ok(Self::Udp(socket))
    }

    /// Frames as TURN has them.
    pub(crate) fn stream(line: Line) -> Self {
        Self::Stream(Box::new(Stream::new(line)))
    }

    /// Frames as ICE has them.
    pub(crate) fn framed(line: Line) -> Self {
        Self::Framed(Box::new(Stream::new(line)))
    }

    /// Sends a request, over UDP again and again, until something comes that `take` accepts. What `take` gives nothing for is
    /// passed over.
    pub(crate) async fn ask<T>(
        &mut self,
        request: &[u8],
        patience: Duration,
        mut take: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<T> {
        let deadline = Instant::now() + patience;
        let mut again = RETRANSMISSION;
        loop {
            self.send(request).await?;
            let wait = (Instant::now() + again).min(deadline);
            // A stream repeats by itself.
            let wait = if matches!(self, Self::Udp(_)) { wait } else { deadline };
            while let Ok(packet) = tokio::time::timeout_at(wait, self.receive()).await {
                if let Some(taken) = take(&packet?) {
                    return Ok(taken);
                }
            }
            if Instant::now() >= deadline {
                return Err(silence(patience));
            }
            again *= 2;
        }
    }

    /// Sends something that is not answered.
    pub(crate) async fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(packet).await.map(drop),
            Self::Stream(stream) => {
                stream.line.write_all(packet).await?;
                stream.line.flush().await
            }
            Self::Framed(stream) => {
                let framed = [&(packet.len() as u16).to_be_bytes()[..], packet].concat();
                stream.line.write_all(&framed).await?;
                stream.line.flush().await
            }
        }
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut bytes = vec![0; 2048];
                let len = socket.recv(&mut bytes).await?;
                bytes.truncate(len);
                Ok(bytes)
            }
            Self::Stream(stream) => loop {
                if let Some(frame) = stream.whole.pop_front() {
                    return Ok(frame);
                }
                let bytes = stream.read().await?;
                let Stream { partial, whole, .. } = &mut **stream;
                let taken = partial.take(&bytes, || MAX_FRAME, |frame| whole.push_back(frame.to_vec()));
                let nonsense =
                    || io::Error::new(io::ErrorKind::InvalidData, "what came is neither STUN nor TURN");
                taken.map_err(|_| nonsense())?;
            },
            Self::Framed(stream) => loop {
                if let Some((len, rest)) = stream.partial.split_first_chunk::<2>()
                    && let Some(frame) = rest.get(..usize::from(u16::from_be_bytes(*len)))
                {
                    let frame = frame.to_vec();
                    stream.partial.drain(..2 + frame.len());
                    return Ok(frame);
                }
                let bytes = stream.read().await?;
                stream.partial.extend_from_slice(&bytes);
            },
        }
    }
}
