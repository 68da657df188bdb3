//! The body of a request on its way: who sends nothing of it, or hardly anything, is not waited for.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::error::{Error, ErrorKind};

/// What a body must bring in a second, on average, from its second pause on that it may make, in bytes. Even the worst
/// lines bring more.
const MIN_RATE: u64 = 1024;

/// A body that must go on coming.
pub struct Arriving {
    body: Body,
    /// The longest pause.
    idle: Duration,
    began: Instant,
    /// Since when the next bytes are awaited.
    waits: Option<Instant>,
    bytes: u64,
    timer: Pin<Box<Sleep>>,
}

/// Why a body is not waited for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooSlow {
    /// Nothing of it came for so long.
    #[error("nothing of it came for {} s", .0.as_secs())]
    Silent(Duration),
    /// After so long it had not brought enough.
    #[error("after {} s a body must have brought {MIN_RATE} bytes a second", .0.as_secs())]
    Drips(Duration),
}

impl TooSlow {
    /// Finds it in what reading a body ended with.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

impl From<&TooSlow> for Error {
    fn from(slow: &TooSlow) -> Self {
        Self::new(ErrorKind::Idle, format!("the body: {slow}"))
    }
}

impl Arriving {
    /// `idle` is the longest pause. Twice as long after the beginning the client must keep up a rate.
    pub fn new(body: Body, idle: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(idle));
        Self { body, idle, began: Instant::now(), waits: None, bytes: 0, timer }
    }

    fn is_too_slow(&self) -> bool {
        let elapsed = self.began.elapsed();
        elapsed > self.idle * 2 && self.bytes < elapsed.as_secs() * MIN_RATE
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let due = *self.waits.get_or_insert_with(Instant::now) + self.idle;
            loop {
                ready!(self.timer.as_mut().poll(context));
                if due <= self.timer.deadline() {
                    return Poll::Ready(Some(Err(TooSlow::Silent(self.idle).into())));
                }
                self.timer.as_mut().reset(due);
            }
        };
        self.waits = None;
        if let Some(Ok(frame)) = &frame {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if self.is_too_slow() {
                return Poll::Ready(Some(Err(TooSlow::Drips(self.idle * 2).into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;

    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    /// A piece of so many bytes each so often, as many as there are to be.
    fn pieces(bytes: usize, period: Duration, count: usize) -> Body {
        Body::from_stream(futures_util::stream::unfold(count, move |left| async move {
            tokio::time::sleep(period).await;
            let left = left.checked_sub(1)?;
            Some((Ok::<_, Infallible>(Bytes::from(vec![0; bytes])), left))
        }))
    }

    async fn taken(body: Body) -> Result<usize, String> {
        let body = Arriving::new(body, IDLE).collect().await;
        body.map(|body| body.to_bytes().len()).map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn who_pauses_too_long_is_not_waited_for_and_who_goes_on_in_time_is() {
        let error = taken(pieces(100_000, IDLE + Duration::from_secs(1), 2)).await.unwrap_err();
        assert!(error.contains("nothing of it came for 30 s"), "{error}");
        assert_eq!(taken(pieces(100_000, IDLE / 2, 20)).await, Ok(2_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_has_a_minute() {
        let started = Instant::now();
        let error = taken(pieces(100, Duration::from_secs(1), 1000)).await.unwrap_err();
        assert!(error.contains("1024 bytes a second"), "{error}");
        assert_eq!(started.elapsed().as_secs(), 61);
        assert_eq!(taken(pieces(100, Duration::from_secs(1), 50)).await, Ok(5_000));
        assert_eq!(taken(pieces(1100, Duration::from_secs(1), 200)).await, Ok(220_000));
    }
}
