//! The body of an upload: taken as it comes, for as long as it comes at all.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};
use veche_doors::{Error, ErrorKind};

/// How long a client may be silent in the middle of a body.
const SILENCE: Duration = Duration::from_secs(30);
/// From when on a client must have sent at least `MIN_RATE` bytes a second: uploads are limited in number, and one that drips
/// keeps others out.
const GRACE: Duration = Duration::from_mins(1);
const MIN_RATE: u64 = 1024;

/// How much is read after an error, so that a client that writes everything before it reads hears of the error.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// A body on its way.
pub(super) struct Arriving {
    stream: BodyDataStream,
    began: Instant,
    bytes: u64,
    /// More is refused, whatever it is.
    most: u64,
    /// Whether the client waits for a word before it sends the body (`Expect: 100-continue`).
    waits: bool,
}

impl Arriving {
    pub(super) fn new(body: Body, headers: &HeaderMap, most: u64) -> Self {
        let waits = headers.contains_key(header::EXPECT);
        Self { stream: body.into_data_stream(), began: Instant::now(), bytes: 0, most, waits }
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Ok(next) = timeout(SILENCE, self.stream.next()).await else {
            let message = format!("nothing came for {} seconds", SILENCE.as_secs());
            return Err(Error::new(ErrorKind::Idle, message));
        };
        let Some(next) = next else { return Ok(None) };
        let data = next.map_err(|error| {
            Error::new(ErrorKind::BadRequest, format!("the body ended before its end: {error}"))
        })?;
        self.bytes += data.len() as u64;
        if self.bytes > self.most {
            let message = format!("a body may have {} bytes; send larger files in pieces", self.most);
            return Err(Error::new(ErrorKind::FileTooLarge, message));
        }
        if is_too_slow(self.began.elapsed(), self.bytes) {
            let message = format!("after the first minute an upload must bring {MIN_RATE} bytes a second");
            return Err(Error::new(ErrorKind::Idle, message));
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

fn is_too_slow(elapsed: Duration, bytes: u64) -> bool {
    elapsed > GRACE && bytes < elapsed.as_secs() * MIN_RATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_lines_have_a_minute_and_then_must_bring_something() {
        assert!(!is_too_slow(GRACE, 0));
        assert!(is_too_slow(GRACE * 2, 1000));
        assert!(!is_too_slow(GRACE * 2, 120 * 1024));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_or_drips_is_given_up() {
        let silent = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let mut arriving = Arriving::new(Body::from_stream(silent), &HeaderMap::new(), 1024);
        assert_eq!(arriving.next().await.unwrap_err().kind, ErrorKind::Idle);

        let dripping = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        let mut arriving = Arriving::new(Body::from_stream(dripping), &HeaderMap::new(), 1024);
        for _ in 0..3 {
            assert!(arriving.next().await.is_ok());
        }
        assert_eq!(arriving.next().await.unwrap_err().kind, ErrorKind::Idle);
    }
}
