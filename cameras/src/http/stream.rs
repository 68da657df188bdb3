//! A viewer's answer that does not end. The next frame is looked for when the one before has left, so that of a viewer who reads
//! slowly one frame waits here, and it is replaced by none that is older.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::viewing::{Next, Viewing};

/// How long a viewer may take to read one frame.
const WRITE_WAIT: Duration = Duration::from_mins(1);

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As parts that take the place of each other.
    Mjpeg,
    /// As events.
    Events,
}

struct Stream {
    viewing: Viewing,
    form: Form,
    /// What of a frame is still to be given to the connection.
    pieces: VecDeque<Bytes>,
    /// Tells when the last piece of the frame before was written.
    left: Option<oneshot::Receiver<()>>,
    ended: bool,
}

/// A piece that tells when it is no longer needed.
struct Last {
    bytes: &'static [u8],
    _gone: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl Form {
    /// What stands before everything.
    fn greeting(self) -> &'static [u8] {
        match self {
            Self::Mjpeg => b"--veche-frame\r\n",
            Self::Events => b"retry: 1000\n\n",
        }
    }

    /// What stands behind each frame.
    fn tail(self) -> &'static [u8] {
        match self {
            Self::Mjpeg => b"\r\n--veche-frame\r\n",
            Self::Events => b"\n",
        }
    }
}

/// The body of an answer for this viewer.
pub(crate) fn body(viewing: Viewing, form: Form) -> Body {
    let greeting = Bytes::from_static(form.greeting());
    let stream = Stream { viewing, form, pieces: [greeting].into(), left: None, ended: false };
    Body::from_stream(stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((piece, stream))
    }))
}

impl Stream {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(Ok(piece));
            }
            if self.ended {
                return None;
            }
            if let Some(left) = self.left.take()
                && timeout(WRITE_WAIT, left).await.is_err()
            {
                self.ended = true;
                return Some(Err(io::ErrorKind::TimedOut.into()));
            }
            match self.viewing.next().await {
                Next::Frame(frame) => {
                    let (gone, left) = oneshot::channel();
                    let last = Bytes::from_owner(Last { bytes: self.form.tail(), _gone: gone });
                    match self.form {
                        Form::Mjpeg => {
                            self.pieces.extend([frame.part_head(), frame.jpeg.clone(), last]);
                        }
                        Form::Events => {
                            self.pieces.extend([frame.event(&self.viewing.camera.name), last]);
                        }
                    }
                    self.left = Some(left);
                    self.viewing.written(self.pieces.iter().map(Bytes::len).sum());
                }
                Next::Heartbeat if self.form == Form::Events => {
                    self.pieces.push_back(Bytes::from_static(b": heartbeat\n\n"));
                }
                Next::Heartbeat => {}
                Next::End(error) => {
                    self.ended = true;
                    if self.form == Form::Events {
                        let code = error.kind.code();
                        let event = format!(
                            "event: disconnect\ndata: {{\"type\":\"disconnect\",\"reason\":\"{code}\"}}\n\n"
                        );
                        self.pieces.push_back(event.into());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::BOUNDARY;

    #[test]
    fn what_divides_frames_is_the_boundary_that_is_announced() {
        let is_there =
            |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().contains(&format!("--{BOUNDARY}\r\n"));
        assert!(is_there(Form::Mjpeg.greeting()) && is_there(Form::Mjpeg.tail()));
    }
}
