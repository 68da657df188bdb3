//! What every part of the engine shares while it handles one input.

use std::collections::VecDeque;
use std::time::Instant;

use crate::bridge::lanes::Bridges;
use crate::control::Event;
use crate::demux::Place;
use crate::drops::{DropCounts, DropReason};
use crate::rtcp::CompoundWriter;
use crate::transport::send_buffer::SendBuffer;

/// The moment, in every form that the engine needs.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The caller's clock.
    pub instant: Instant,
    /// Nanoseconds since the engine's epoch.
    pub nanos: i64,
    /// The 32.32 fixed-point NTP timestamp (RFC 5905).
    pub ntp: u64,
}

impl Now {
    /// The moment `instant`, where `epoch` had the NTP timestamp `epoch_ntp`.
    pub fn new(instant: Instant, epoch: Instant, epoch_ntp: u64) -> Self {
        let elapsed = instant.saturating_duration_since(epoch);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = epoch_ntp.wrapping_add((elapsed.as_secs() << 32) | fraction);
        Self { instant, nanos: elapsed.as_nanos() as i64, ntp }
    }

    /// Milliseconds since the Unix epoch; 0 before it.
    pub fn unix_ms(&self) -> u64 {
        /// 1970 on the NTP clock (RFC 5905 section 6).
        const UNIX_EPOCH: u64 = 2_208_988_800;
        let millis = ((self.ntp & 0xffff_ffff) * 1000) >> 32;
        (self.ntp >> 32).saturating_sub(UNIX_EPOCH) * 1000 + millis
    }

    /// The 24-bit absolute send time: seconds as 6.18 fixed point.
    pub fn abs_send_time(&self) -> [u8; 3] {
        let [_, a, b, c] = ((self.ntp >> 14) as u32).to_be_bytes();
        [a, b, c]
    }
}

/// Shared state of the engine, lent to the room that handles an input.
pub struct Context<'a> {
    /// The moment of the input.
    pub now: Now,
    /// Where events for the control plane go.
    pub events: &'a mut VecDeque<Event>,
    /// The transports that have something to send.
    pub dirty: &'a mut Vec<Place>,
    /// What goes to other workers.
    pub bridges: &'a mut Bridges,
    /// The rooms that have kept packets for the end of the batch.
    pub waiting: &'a mut Vec<u32>,
    /// A send buffer for who is served and sent to at once.
    pub spare: &'a mut SendBuffer,
    /// All drops of the engine.
    pub drops: &'a mut DropCounts,
    /// Where RTCP packets are put together.
    pub rtcp: &'a mut CompoundWriter,
    /// Where missing sequence numbers are put together.
    pub missing: &'a mut Vec<u16>,
    /// Where arrivals for transport-wide feedback are put together.
    pub arrived: &'a mut Vec<(u16, i64)>,
}

impl Context<'_> {
    /// Counts a dropped packet, in total and for its participant.
    pub fn drop_packet(&mut self, participant: &mut DropCounts, reason: DropReason) {
        self.drops.count(reason);
        participant.count(reason);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_ntp_clock_follows_the_epoch() {
        let epoch = Instant::now();
        let now = Now::new(epoch + Duration::from_millis(1500), epoch, 7 << 32);
        assert_eq!(now.ntp, (8 << 32) | (1 << 31));
        assert_eq!(now.nanos, 1_500_000_000);
        assert_eq!(now.abs_send_time(), [0x22, 0, 0]);
    }
}
