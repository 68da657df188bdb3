//! The body of an upload: taken as it comes. How long it is waited for is said at the server's door.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use veche_doors::arriving::TooSlow;
use veche_doors::{Error, ErrorKind};

/// How much is read after an error, so that a client that writes everything before it reads hears of the error.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// A body on its way.
pub(super) struct Arriving {
    stream: BodyDataStream,
    bytes: u64,
    /// More is refused, whatever it is.
    most: u64,
    /// Whether the client waits for a word before it sends the body (`Expect: 100-continue`).
    waits: bool,
}

impl Arriving {
    pub(super) fn new(body: Body, headers: &HeaderMap, most: u64) -> Self {
        let waits = headers.contains_key(header::EXPECT);
        Self { stream: body.into_data_stream(), bytes: 0, most, waits }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(next) = self.stream.next().await else { return Ok(None) };
        let data = next.map_err(|error| {
            let cut = || Error::new(ErrorKind::BadRequest, format!("the body ended before its end: {error}"));
            TooSlow::find(&error).map_or_else(cut, Error::from)
        })?;
        self.bytes += data.len() as u64;
        if self.bytes > self.most {
            let message = format!("a body may have {} bytes; send larger files in pieces", self.most);
            return Err(Error::new(ErrorKind::FileTooLarge, message));
        }
        Ok(Some(data))
    }

    /// Reads on for nothing, within bounds.
    pub(super) async fn discard(mut self) {
        // Who waits has not sent anything yet, and need not.
        if self.waits && self.bytes == 0 {
            return;
        }
        let discarding = async {
            let mut discarded = 0;
            while let Some(Ok(data)) = self.stream.next().await {
                discarded += data.len();
                if discarded > MAX_DISCARDED {
                    break;
                }
            }
        };
        let _ = timeout(DISCARD_TIME, discarding).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_told_so_and_one_that_breaks_that_it_broke() {
        let silent = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let patient =
            veche_doors::arriving::Arriving::new(Body::from_stream(silent), Duration::from_secs(30));
        let mut arriving = Arriving::new(Body::new(patient), &HeaderMap::new(), 1024);
        assert_eq!(arriving.next().await.unwrap_err().kind, ErrorKind::Idle);

        let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]);
        let mut arriving = Arriving::new(Body::from_stream(broken), &HeaderMap::new(), 1024);
        assert_eq!(arriving.next().await.unwrap_err().kind, ErrorKind::BadRequest);
    }
}
