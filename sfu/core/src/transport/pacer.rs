//! Spreads what one transport sends, so that a key frame does not fill the queue of a slow network: sound goes at once,
//! then repairs, then pictures. Nothing waits while there is room, and what leaves together still makes trains.
//!
//! The pacer keeps one moment: when a line of the pacing rate would have carried all that was sent so far. As long as
//! that is no more than [`BURST`] ahead, there is room (a virtual scheduling clock, as in ITU-T I.371's GCRA).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::drops::DropReason;
use crate::ids::Ssrc;

/// How far ahead of the pacing rate packets may leave: bursts of so long.
pub const BURST: Duration = Duration::from_millis(5);

/// How far behind the pacing rate may fall at most.
const MAX_DEBT: Duration = Duration::from_millis(200);

/// What may wait, in bytes. Frames are refused long before (see [`Pacer::delay`]); only a source that sends a huge frame
/// over a very slow line comes here.
const MAX_WAITING: usize = 1024 * 1024;

/// Buffers that are kept to be used again, and how large they may be.
const MAX_SPARE: usize = 64;
const MAX_SPARE_LEN: usize = 2048;

/// What is sent first when not everything fits. Sound never waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once.
    Sound,
    /// At once: padding whose rate says what the network carries.
    Probe,
    /// Packets that were asked for again: somebody waits for them already.
    Repair,
    /// All other pictures.
    Picture,
}

/// A packet that waits: written, but neither numbered nor sealed.
#[derive(Debug)]
pub struct Waiting {
    /// The packet.
    pub bytes: Vec<u8>,
    /// How long its header is.
    pub header_len: usize,
    /// SRTP's roll-over counter for it.
    pub roll_over: u32,
}

/// Decides when the packets of one transport leave.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Pacer {
    /// How long one byte takes at the pacing rate; `None`: no limit.
    nanos_per_byte: Option<f64>,
    /// When a line of the pacing rate has carried all that was sent.
    free_at: Instant,
    waiting_bytes: usize,
    repairs: VecDeque<Waiting>,
    pictures: VecDeque<Waiting>,
    spare: Vec<Vec<u8>>,
    /// The most packets that waited together since the last [`Pacer::trim`].
    most: usize,
}

impl Pacer {
    /// A pacer without a limit.
    pub fn new(now: Instant) -> Self {
        Self {
            nanos_per_byte: None,
            free_at: now,
            repairs: VecDeque::new(),
            pictures: VecDeque::new(),
            waiting_bytes: 0,
            spare: Vec::new(),
            most: 0,
        }
    }

    /// Sends no faster than this many bits per second from now on; `None`: as fast as packets come.
    pub fn set_rate(&mut self, bits: Option<u64>) {
        self.nanos_per_byte = bits.map(|bits| 8e9 / bits.max(1) as f64);
    }

    /// Whether a packet may leave now. None overtakes another that is as urgent.
    pub fn has_room(&self, now: Instant, urgency: Urgency) -> bool {
        self.room(now, urgency).is_some()
    }

    /// How many bytes there is room for now: of packets that come together, one may leave when no more than this have left
    /// before it. `None` when it must wait.
    pub fn room(&self, now: Instant, urgency: Urgency) -> Option<usize> {
        let waits = match urgency {
            Urgency::Sound | Urgency::Probe => return Some(usize::MAX),
            Urgency::Repair => !self.repairs.is_empty(),
            Urgency::Picture => self.is_waiting(),
        };
        if waits {
            return None;
        }
        let Some(nanos) = self.nanos_per_byte else { return Some(usize::MAX) };
        let left = BURST.checked_sub(self.free_at.saturating_duration_since(now))?;
        Some((left.as_nanos() as f64 / nanos) as usize)
    }

    /// So many bytes have left.
    pub fn on_sent(&mut self, now: Instant, bytes: usize) {
        if let Some(nanos) = self.nanos_per_byte {
            let taken = Duration::from_nanos((nanos * bytes as f64) as u64);
            // Sound is sent though there is no room. It must not hold up pictures for longer than a moment.
            self.free_at = (self.free_at.max(now) + taken).min(now + MAX_DEBT);
        }
    }

    /// Lets a packet wait. `write` appends it to an empty buffer and returns the length of its header.
    pub fn wait(
        &mut self,
        urgency: Urgency,
        roll_over: u32,
        write: impl FnOnce(&mut Vec<u8>) -> usize,
    ) -> Result<usize, DropReason> {
        if self.waiting_bytes >= MAX_WAITING {
            return Err(DropReason::SendBufferFull);
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        let header_len = write(&mut bytes);
        let len = bytes.len();
        self.waiting_bytes += len;
        let queue = if urgency == Urgency::Repair { &mut self.repairs } else { &mut self.pictures };
        queue.push_back(Waiting { bytes, header_len, roll_over });
        self.most = self.most.max(self.repairs.len() + self.pictures.len());
        Ok(len)
    }

    /// The next packet that may leave now. To be followed by [`Pacer::on_sent`] and [`Pacer::recycle`].
    pub fn poll(&mut self, now: Instant) -> Option<Waiting> {
        if !self.may_send(now) {
            return None;
        }
        let next = self.repairs.pop_front().or_else(|| self.pictures.pop_front())?;
        self.waiting_bytes -= next.bytes.len();
        Some(next)
    }

    /// Takes back the buffer of a packet that has left.
    pub fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < MAX_SPARE && bytes.capacity() <= MAX_SPARE_LEN {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Whether anything waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting_bytes > 0
    }

    /// How long a packet that came now would wait.
    pub fn delay(&self, now: Instant) -> Duration {
        let Some(nanos) = self.nanos_per_byte else { return Duration::ZERO };
        if !self.is_waiting() && self.may_send(now) {
            return Duration::ZERO;
        }
        let queued = Duration::from_nanos((nanos * self.waiting_bytes as f64) as u64);
        (self.free_at + queued).saturating_duration_since(now + BURST)
    }

    /// Forgets the packets of a stream that wait.
    pub fn drop_stream(&mut self, ssrc: Ssrc) {
        let Self { repairs, pictures, waiting_bytes, .. } = self;
        for queue in [repairs, pictures] {
            queue.retain(|waiting| {
                let keep = waiting.bytes.get(8..12) != Some(&ssrc.0.to_be_bytes());
                *waiting_bytes -= if keep { 0 } else { waiting.bytes.len() };
                keep
            });
        }
    }

    /// Forgets what waits: there is nobody to send it to any more.
    pub fn clear(&mut self) {
        self.repairs.clear();
        self.pictures.clear();
        self.waiting_bytes = 0;
    }

    /// Gives back the memory that was not needed since the last call.
    pub fn trim(&mut self) {
        let most = std::mem::take(&mut self.most);
        self.spare.truncate(most.saturating_sub(self.repairs.len() + self.pictures.len()));
        if most == 0 && !self.is_waiting() {
            self.spare = Vec::new();
            self.repairs = VecDeque::new();
            self.pictures = VecDeque::new();
        }
    }

    fn may_send(&self, now: Instant) -> bool {
        self.nanos_per_byte.is_none() || self.free_at <= now + BURST
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;

    fn packet(pacer: &mut Pacer, urgency: Urgency, name: u8) {
        let write = |out: &mut Vec<u8>| {
            out.resize(1000, name);
            12
        };
        pacer.wait(urgency, 0, write).unwrap();
    }

    /// What leaves until `until`, with the millisecond at which it does.
    fn leave(pacer: &mut Pacer, start: Instant, until: u64) -> Vec<(u64, u8)> {
        let mut left = Vec::new();
        for ms in 0..=until {
            let now = start + Duration::from_millis(ms);
            while let Some(waiting) = pacer.poll(now) {
                left.push((ms, waiting.bytes[0]));
                pacer.on_sent(now, waiting.bytes.len());
                pacer.recycle(waiting.bytes);
            }
        }
        left
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        for _ in 0..1000 {
            assert!(pacer.has_room(now, Urgency::Picture));
            pacer.on_sent(now, 1200);
        }
        assert_eq!(pacer.delay(now), Duration::ZERO);
    }

    #[test]
    fn a_key_frame_is_spread_and_a_burst_leaves_at_once() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        // 1,000 bytes take 2 ms.
        pacer.set_rate(Some(4_000_000));
        let mut at_once = 0;
        while pacer.has_room(now, Urgency::Picture) {
            pacer.on_sent(now, 1000);
            at_once += 1;
        }
        assert_eq!(at_once, 3);
        (0..10).for_each(|n| packet(&mut pacer, Urgency::Picture, n));
        let left = leave(&mut pacer, now, 100);
        assert_eq!(left.iter().map(|l| l.1).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!((left[0].0, left[9].0), (1, 19));
        assert!(!pacer.is_waiting());
    }

    #[test]
    fn the_room_is_what_leaves_at_once() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        assert_eq!(pacer.room(now, Urgency::Picture), Some(usize::MAX));
        pacer.set_rate(Some(4_000_000));
        for before in [0, 700, 2_400, 2_600, 9_000] {
            let mut pacer = Pacer::new(now);
            pacer.set_rate(Some(4_000_000));
            pacer.on_sent(now, before);
            let (room, mut left) = (pacer.room(now, Urgency::Picture), 0);
            while pacer.has_room(now, Urgency::Picture) {
                assert!(room.is_some_and(|room| left <= room), "{before}: {left} of {room:?}");
                pacer.on_sent(now, 500);
                left += 500;
            }
            assert!(room.is_none_or(|room| left > room), "{before}: {left} of {room:?}");
        }
        packet(&mut pacer, Urgency::Repair, 1);
        assert_eq!(pacer.room(now, Urgency::Picture), None);
    }

    #[test]
    fn sound_never_waits_and_repairs_go_before_pictures() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.set_rate(Some(800_000));
        pacer.on_sent(now, 1000);
        assert!(!pacer.has_room(now, Urgency::Picture));
        assert!(pacer.has_room(now, Urgency::Sound));
        packet(&mut pacer, Urgency::Picture, 1);
        packet(&mut pacer, Urgency::Picture, 2);
        packet(&mut pacer, Urgency::Repair, 3);
        assert_eq!(leave(&mut pacer, now, 100), [(5, 3), (15, 1), (25, 2)]);
    }

    #[test]
    fn the_delay_is_what_a_packet_would_wait() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.set_rate(Some(800_000));
        assert_eq!(pacer.delay(now), Duration::ZERO);
        pacer.on_sent(now, 1000);
        packet(&mut pacer, Urgency::Picture, 1);
        assert_eq!(pacer.delay(now), Duration::from_millis(15));
        pacer.clear();
        assert!(pacer.poll(now + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn spare_memory_is_what_was_needed_of_late() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        pacer.set_rate(Some(1_000_000));
        let burst = |pacer: &mut Pacer, packets: u8, second: u64| {
            (0..packets).for_each(|n| packet(pacer, Urgency::Picture, n));
            leave(pacer, now + Duration::from_secs(second), 900);
            pacer.trim();
            pacer.spare.len()
        };
        assert_eq!(burst(&mut pacer, 30, 1), 30);
        assert_eq!(burst(&mut pacer, 4, 2), 4);
        assert_eq!(burst(&mut pacer, 0, 3), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pacer = Pacer::new(Instant::now());
        pacer.set_rate(Some(1000));
        let full = (0..5000).find_map(|_| {
            pacer
                .wait(Urgency::Picture, 0, |out| {
                    out.resize(1000, 0);
                    12
                })
                .err()
        });
        assert_eq!(full, Some(DropReason::SendBufferFull));
        assert!(pacer.waiting_bytes < MAX_WAITING + 1000);
    }
}
