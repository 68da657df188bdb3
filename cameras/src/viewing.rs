//! One viewer of a camera, whatever door they came through: what they are to be sent next.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use veche_doors::Error;

use crate::camera::{Camera, Shown};
use crate::counters::{Counted, Tally, ViewerKind};
use crate::frame::Frame;
use crate::pace::Pace;
use crate::visitor::Visitor;

/// How often it is looked whether a viewer of a silent camera still may look.
const LOOK: Duration = Duration::from_secs(1);

/// A viewer.
#[derive(Debug)]
pub(crate) struct Viewing {
    pub(crate) camera: Arc<Camera>,
    newest: watch::Receiver<Shown>,
    pace: Pace,
    /// The number of the frame that was sent last.
    seen: u64,
    visitor: Visitor,
    tally: Arc<Tally>,
    heartbeat: Duration,
    heartbeat_at: Instant,
    _counted: Counted,
    _permit: OwnedSemaphorePermit,
}

/// What a viewer is sent.
#[derive(Debug)]
pub(crate) enum Next {
    /// The newest frame.
    Frame(Arc<Frame>),
    /// There was none for a while: a sign of life.
    Heartbeat,
    /// No more, since the camera is gone or they may not look any more.
    End(Error),
}

impl Viewing {
    pub(crate) fn new(
        camera: Arc<Camera>,
        visitor: Visitor,
        pace: Pace,
        (tally, kind): (&Arc<Tally>, ViewerKind),
        heartbeat: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        camera.count_viewer(true);
        Self {
            newest: camera.watch(),
            camera,
            pace,
            seen: 0,
            visitor,
            tally: tally.clone(),
            heartbeat,
            heartbeat_at: Instant::now() + heartbeat,
            _counted: tally.viewer(kind),
            _permit: permit,
        }
    }

    /// Waits for what comes next. Frames that came meanwhile are passed over, but for the newest.
    pub(crate) async fn next(&mut self) -> Next {
        sleep_until(self.pace.due()).await;
        loop {
            if let Err(error) = self.visitor.check().await {
                return Next::End(error);
            }
            let now = Instant::now();
            {
                let shown = self.newest.borrow_and_update();
                if let Some(end) = shown.end {
                    return Next::End(end.error());
                }
                if let Some(frame) = shown.frame.as_ref().filter(|frame| frame.number > self.seen) {
                    let skipped = if self.seen == 0 { 0 } else { frame.number - self.seen - 1 };
                    self.tally.frames_skipped.add(skipped);
                    self.seen = frame.number;
                    self.pace.sent(now);
                    self.heartbeat_at = now + self.heartbeat;
                    return Next::Frame(frame.clone());
                }
            }
            if now >= self.heartbeat_at {
                self.heartbeat_at = now + self.heartbeat;
                return Next::Heartbeat;
            }
            // An error is the camera's end, which it has told.
            let _ = timeout_at(self.heartbeat_at.min(now + LOOK), self.newest.changed()).await;
        }
    }

    /// Counts a frame that was written.
    pub(crate) fn written(&self, bytes: usize) {
        self.tally.frames_out.add(1);
        self.tally.bytes_out.add(bytes as u64);
    }

    /// They have this frame already.
    pub(crate) fn has_seen(&mut self, frame: &Frame) {
        self.seen = frame.number;
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.camera.count_viewer(false);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::Semaphore;
    use tokio::time::sleep;
    use veche_access::{Action, Authority, Identity};

    use super::*;
    use crate::camera::{End, Owner};
    use crate::jpeg::Jpeg;
    use crate::visitor::Caller;

    const JPEG: Jpeg = Jpeg { width: 8, height: 8, len: 3 };

    fn camera() -> Arc<Camera> {
        Arc::new(Camera::new("tea".into(), "door".into(), Owner::of(&Identity::default()), 100))
    }

    fn viewing(camera: &Arc<Camera>, fps: Option<f32>) -> Viewing {
        let caller = Caller(Identity::anonymous(true));
        let visitor = Visitor::new(caller, Authority::open(), "tea", Action::Subscribe).unwrap();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let pace = Pace::new(fps, Instant::now()).unwrap();
        let tally = Arc::default();
        let heartbeat = Duration::from_secs(15);
        Viewing::new(camera.clone(), visitor, pace, (&tally, ViewerKind::Mjpeg), heartbeat, permit)
    }

    /// A camera of 30 frames a second for so many seconds, which then goes.
    fn run(camera: Arc<Camera>, seconds: u32) {
        tokio::spawn(async move {
            let mut frames = tokio::time::interval(Duration::from_micros(33_333));
            for _ in 0..30 * seconds {
                frames.tick().await;
                camera.show(Bytes::from_static(b"123"), JPEG);
            }
            frames.tick().await;
            camera.end(End::Removed);
        });
    }

    /// The frames that a viewer gets who takes so long to read each, and when.
    async fn watched(camera: &Arc<Camera>, fps: Option<f32>, reading: Duration) -> Vec<(u64, Duration)> {
        let start = Instant::now();
        let mut viewing = viewing(camera, fps);
        let mut frames = Vec::new();
        loop {
            match viewing.next().await {
                Next::Frame(frame) => frames.push((frame.number, start.elapsed())),
                Next::Heartbeat => {}
                Next::End(error) => {
                    assert_eq!(error.kind.code(), "camera_not_found");
                    return frames;
                }
            }
            sleep(reading).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_viewer_gets_frames_at_its_own_pace_and_always_the_newest() {
        let camera = camera();
        run(camera.clone(), 10);
        let ms = Duration::from_millis;
        let (quick, ten, slow, both) = tokio::join!(
            watched(&camera, None, Duration::ZERO),
            watched(&camera, Some(10.0), Duration::ZERO),
            watched(&camera, None, ms(490)),
            watched(&camera, Some(20.0), ms(1)),
        );
        assert_eq!(quick.len(), 300);
        assert!((99..=101).contains(&ten.len()), "{}", ten.len());
        assert!((190..=201).contains(&both.len()), "{}", both.len());
        let gaps = ten.windows(2).map(|pair| pair[1].1.saturating_sub(pair[0].1).as_millis());
        assert!(gaps.clone().all(|gap| (60..=140).contains(&gap)), "{:?}", gaps.collect::<Vec<_>>());
        // The slow one reads two a second, and none of them is older than a frame's time.
        assert!((19..=21).contains(&slow.len()), "{}", slow.len());
        for (number, at) in slow {
            let newest = at.as_micros() as u64 / 33_333 + 1;
            assert!(number + 1 >= newest, "{number} at {at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_camera_gives_signs_of_life_and_no_frame_comes_twice() {
        let camera = camera();
        camera.show(Bytes::from_static(b"123"), JPEG);
        let mut viewing = viewing(&camera, None);
        assert_eq!(camera.viewers(), 1);
        assert!(matches!(viewing.next().await, Next::Frame(frame) if frame.number == 1));
        let start = Instant::now();
        assert!(matches!(viewing.next().await, Next::Heartbeat));
        assert_eq!(start.elapsed().as_secs(), 15);
        camera.show(Bytes::from_static(b"456"), JPEG);
        assert!(matches!(viewing.next().await, Next::Frame(frame) if frame.number == 2));
        drop(viewing);
        assert_eq!(camera.viewers(), 0);
    }
}
