//! One stream on its way into a file: packets come, frames go, each with the time of its sample.

use veche_sfu_core::media::{Codec, ExtensionIds};
use veche_sfu_core::receive::media_clock::{MediaClock, NtpClock};
use veche_sfu_core::rtp::Extensions;

use crate::frames::{Frame, FrameBuilder};
use crate::order::{Next, Order, Packet};

/// A frame and when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedFrame {
    /// In server time (nanoseconds): later than that of the frame before.
    pub time: i64,
    /// The frame.
    pub frame: Frame,
}

/// A layer of a track, or its sound.
#[derive(Debug)]
pub struct Stream {
    extensions: ExtensionIds,
    order: Order,
    clock: MediaClock,
    builder: FrameBuilder,
    /// Frames that are whole.
    whole: Vec<Frame>,
    last: Option<i64>,
    /// Packets are missing since the last frame.
    broken: bool,
    gaps: Vec<Gap>,
}

/// A time of which frames are missing: from the frame before to the one after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// In server time (nanoseconds).
    pub from: i64,
    /// The same.
    pub to: i64,
}

/// How much later than its sample a packet may come and still find its place among those of other streams.
const JITTER: i64 = 300_000_000;

impl Stream {
    /// A stream that has just begun, or begun anew.
    pub fn new(codec: Codec, extensions: ExtensionIds) -> Self {
        Self {
            extensions,
            order: Order::default(),
            clock: MediaClock::new(codec.clock_rate()),
            builder: FrameBuilder::new(codec),
            whole: Vec::new(),
            last: None,
            broken: false,
            gaps: Vec::new(),
        }
    }

    /// Takes a packet. One that is known, or was given up, is refused.
    pub fn on_packet(&mut self, packet: Packet) -> bool {
        let (arrived, timestamp, repaired) = (packet.arrived, packet.header.timestamp, packet.repaired);
        let taken = self.order.insert(packet);
        if taken && !repaired {
            self.clock.on_packet(arrived, timestamp);
        }
        taken
    }

    /// Takes a sender report. `ntp_clock` is that of all streams of the same person: it is what keeps them together.
    pub fn on_report(&mut self, ntp_clock: &mut NtpClock, arrived: i64, ntp: u64, rtp_timestamp: u32) {
        self.clock.on_sender_report(ntp_clock, arrived, ntp, rtp_timestamp);
    }

    /// Puts the frames that are whole as of `now` behind those in `out`.
    pub fn take(&mut self, now: i64, out: &mut Vec<TimedFrame>) {
        while let Some(next) = self.order.take(now) {
            let Next::Packet(packet) = next else {
                self.builder.gap();
                self.broken = true;
                continue;
            };
            let extensions = Extensions::read(&packet.header, &packet.bytes, &self.extensions);
            let descriptor = extensions.dependency_descriptor;
            self.builder.push(&packet.header, packet.payload(), descriptor, &mut self.whole);
            for frame in self.whole.drain(..) {
                let time = self.clock.server_time(frame.timestamp).unwrap_or(packet.arrived);
                let time = self.last.map_or(time, |last| time.max(last + 1));
                let before = self.last.replace(time);
                if std::mem::take(&mut self.broken)
                    && let Some(from) = before
                {
                    self.gaps.push(Gap { from, to: time });
                }
                out.push(TimedFrame { time, frame });
            }
        }
    }

    /// No frame that is still to come is older than this, as far as can be known.
    pub fn complete_through(&self, now: i64) -> i64 {
        let waits_since = self.order.waits_since().unwrap_or(now).min(now);
        waits_since - JITTER
    }

    /// The times of which frames are missing, since this was asked last.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// A key frame would help.
    pub fn wants_key_frame(&self) -> bool {
        self.builder.wants_key_frame()
    }
}

#[cfg(test)]
mod tests;
