//! The thread of one recording that runs: from what is heard to the disk.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use veche_recorder_core::manifest::{End, GapReason};
use veche_recorder_core::session::{Output, Plan, Profile, Sent, Session};
use veche_sfu::studio::{Heard, ListenError, Listener};

use crate::catalogue::Summary;
use crate::disk::Disk;

/// Tells of a peer what people call them.
pub(crate) type People = Arc<dyn Fn(&str) -> Profile + Send + Sync>;

/// How often what is due is written.
const TICK: Duration = Duration::from_millis(50);

/// How often what was written is brought to the disk, and looked whether all goes on.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// How often the manifest is written while nothing but times changes in it.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// What is heard between two looks at the clock.
const HEARD_PER_TURN: usize = 1_024;

/// When a recording ends by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// It is so long.
    pub(crate) longest: Duration,
    /// Nobody was there for so long.
    pub(crate) empty: Duration,
    /// Less is free, in bytes.
    pub(crate) min_free: u64,
}

/// A recording that runs.
pub(crate) struct Tape {
    listener: Listener,
    session: Session,
    disk: Disk,
    people: People,
    bounds: Bounds,
    stop: flume::Receiver<End>,
    /// What lists say of it.
    summary: Arc<Mutex<Summary>>,
    began: Instant,
    inhabited_at: Instant,
    synced_at: Instant,
    saved_at: Instant,
    /// How many files the manifest on the disk has.
    saved_files: usize,
    dropped: u64,
    /// Since when nothing was dropped, in server time.
    whole_at: i64,
}

impl Tape {
    /// A recording that begins now.
    pub(crate) fn new(
        listener: Listener,
        plan: Plan,
        disk: Disk,
        people: People,
        bounds: Bounds,
        stop: flume::Receiver<End>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let server_now = listener.server_time(now);
        let session = Session::new(plan, server_now, now, SystemTime::now());
        disk.save(session.manifest())?;
        let summary = Arc::new(Mutex::new(Summary::of(session.manifest())));
        Ok(Self {
            listener,
            session,
            disk,
            people,
            bounds,
            stop,
            summary,
            began: now,
            inhabited_at: now,
            synced_at: now,
            saved_at: now,
            saved_files: 0,
            dropped: 0,
            whole_at: server_now,
        })
    }

    /// What lists say of it, as of its last second.
    pub(crate) fn summary(&self) -> Arc<Mutex<Summary>> {
        self.summary.clone()
    }

    /// Records until it ends. Returns why, and what lists say of it then.
    pub(crate) fn run(mut self) -> (End, Summary) {
        let mut end = self.record();
        // Whatever it was, what is there is ended as well as can be.
        self.disk.release_reserve();
        let now = Instant::now();
        self.session.finish(self.listener.server_time(now), end);
        if let Err(error) = self.carry_out() {
            tracing::warn!(%error, recording = self.session.manifest().id, "the end of a recording was not written");
            end = if end == End::Stopped { failure(&error) } else { end };
            self.session.manifest_mut().end = Some(end);
            while let Some(output) = self.session.poll() {
                // The other files.
                let _ = self.carry(output);
            }
        }
        if let Err(error) = self.disk.save(self.session.manifest()) {
            tracing::error!(%error, recording = self.session.manifest().id, "the manifest of a recording was not written");
        }
        (end, Summary::of(self.session.manifest()))
    }

    fn record(&mut self) -> End {
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => {
                    tracing::error!(%error, recording = self.session.manifest().id, "a recording cannot be written");
                    return failure(&error);
                }
            }
        }
    }

    fn turn(&mut self) -> io::Result<Option<End>> {
        match self.listener.hear(TICK) {
            Ok(heard) => {
                self.take(heard);
                for _ in 0..HEARD_PER_TURN {
                    let Some(heard) = self.listener.try_hear() else { break };
                    self.take(heard);
                }
            }
            Err(ListenError::Timeout) => {}
            Err(ListenError::Ended) => return Ok(Some(End::ServerStopped)),
        }
        let now = Instant::now();
        self.session.handle_timeout(self.listener.server_time(now));
        self.carry_out()?;
        if now - self.synced_at >= SYNC_INTERVAL {
            self.synced_at = now;
            return self.look_around(now);
        }
        Ok(self.stop.try_recv().ok())
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::News(news) => {
                let now = self.listener.server_time(Instant::now());
                self.session.handle_news(now, &news, |peer| (self.people)(peer));
            }
            Heard::Packet(packet) => {
                let sent = Sent {
                    track: packet.track,
                    layer: packet.layer,
                    generation: packet.generation,
                    repaired: packet.repaired,
                    arrived: packet.arrived,
                    bytes: &packet.bytes,
                };
                self.session.handle_packet(packet.arrived, &sent);
            }
            Heard::Report(report) => self.session.handle_report(&report),
        }
    }

    /// Does what the session wants to be done.
    fn carry_out(&mut self) -> io::Result<()> {
        while let Some(output) = self.session.poll() {
            self.carry(output)?;
        }
        // A file that the manifest does not know would be lost by a crash.
        if self.session.manifest().files.len() != self.saved_files {
            self.save(Instant::now())?;
        }
        Ok(())
    }

    fn carry(&mut self, output: Output) -> io::Result<()> {
        match output {
            Output::Take { track, layers } => self.listener.take(track, layers),
            Output::KeyFrame { track, layer } => self.listener.request_key_frame(track, layer),
            Output::Open { file, name, bytes } => self.disk.open(file, &name, &bytes)?,
            Output::Write { file, bytes } => self.disk.append(file, &bytes)?,
            Output::Close { file, bytes, patches } => {
                let closed = self.disk.close(file, &bytes, &patches)?;
                if let Some((len, duration)) = closed
                    && let Some(file) = self.session.manifest_mut().files.get_mut(file.0)
                {
                    file.bytes = len;
                    file.duration_ms = duration.unwrap_or(file.duration_ms);
                    file.mended = duration.is_some();
                }
            }
        }
        Ok(())
    }

    /// Once a second: what was written is safe, and does it go on?
    fn look_around(&mut self, now: Instant) -> io::Result<Option<End>> {
        self.disk.sync()?;
        self.note_dropped(now);
        if now - self.saved_at >= SAVE_INTERVAL {
            self.save(now)?;
        }
        *self.summary.lock() = Summary::of(self.session.manifest());
        if let Ok(end) = self.stop.try_recv() {
            return Ok(Some(end));
        }
        if self.session.has_people() {
            self.inhabited_at = now;
        }
        if now - self.inhabited_at >= self.bounds.empty {
            return Ok(Some(End::RoomEmpty));
        }
        if now - self.began >= self.bounds.longest {
            return Ok(Some(End::Limit));
        }
        Ok((self.disk.free()? < self.bounds.min_free).then_some(End::DiskFull))
    }

    fn note_dropped(&mut self, now: Instant) {
        let (dropped, now) = (self.listener.dropped(), self.listener.server_time(now));
        if std::mem::replace(&mut self.dropped, dropped) != dropped {
            self.session.note_dropped(self.whole_at, now, GapReason::DiskSlow);
        }
        self.whole_at = now;
    }

    fn save(&mut self, now: Instant) -> io::Result<()> {
        self.saved_at = now;
        self.saved_files = self.session.manifest().files.len();
        self.disk.save(self.session.manifest())
    }
}

fn failure(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => End::DiskFull,
        _ => End::StorageFailed,
    }
}
