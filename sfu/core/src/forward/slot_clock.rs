//! The clock of a slot: which RTP timestamp a moment of server time has.
//!
//! All that a slot ever shows is on one linear time line, whatever its source: `base + rate x server time`. It goes on
//! while the slot is idle, so that lip sync and jitter buffers survive every switch.

/// Nanoseconds of one second.
const SECOND: i64 = 1_000_000_000;

/// An Opus frame as every browser sends it, in ticks of 48 kHz.
pub const AUDIO_GRID: i32 = 960;

/// More than the packets that are replayed at the start of speech cannot overlap.
const MAX_OVERLAP: i32 = 6 * AUDIO_GRID;

/// A linear map of server time to RTP timestamps.
#[derive(Clone, Copy, Debug)]
pub struct SlotClock {
    base: u32,
    rate: u32,
}

impl SlotClock {
    /// A clock of `rate` ticks a second that shows `base` at the engine's epoch.
    pub fn new(base: u32, rate: u32) -> Self {
        Self { base, rate }
    }

    /// The timestamp of a moment, in nanoseconds since the engine's epoch.
    pub fn at(&self, nanos: i64) -> u32 {
        // In two parts, so that it fits 64 bits for ever: this is worked out for every packet that is sent.
        let rate = i64::from(self.rate);
        let ticks = (nanos / SECOND).wrapping_mul(rate) + nanos % SECOND * rate / SECOND;
        self.base.wrapping_add(ticks as u32)
    }

    /// Ticks in a second.
    pub fn rate(&self) -> u32 {
        self.rate
    }
}

/// Moves an audio timestamp to the 20 ms grid of the packets that were sent before, so that the receiver conceals
/// nothing over a change of speaker. `None` for a packet that overlaps with what was sent: its moment was heard already.
pub fn snap_to_grid(timestamp: u32, last: u32) -> Option<u32> {
    let distance = timestamp.wrapping_sub(last) as i32;
    let steps = distance.saturating_add(AUDIO_GRID / 2).div_euclid(AUDIO_GRID);
    if steps > 0 {
        Some(last.wrapping_add((steps * AUDIO_GRID) as u32))
    } else if distance > -MAX_OVERLAP {
        None
    } else {
        // The time line of the slot ran ahead of its clock: it goes on from there.
        Some(last.wrapping_add(AUDIO_GRID as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_linear_over_days_and_wraps() {
        let clock = SlotClock::new(u32::MAX - 10, 90_000);
        assert_eq!(clock.at(0), u32::MAX - 10);
        assert_eq!(clock.at(1_000_000), 79);
        let day = 86_400_000_000_000;
        assert_eq!(clock.at(day + 1_000_000_000).wrapping_sub(clock.at(day)), 90_000);
        for nanos in [-1, -11_112, -3_000_000_001, 33_333_333, 1_000 * day + 7, i64::MAX, i64::MIN] {
            let ticks = i128::from(nanos) * 90_000 / 1_000_000_000;
            assert_eq!(clock.at(nanos), clock.at(0).wrapping_add(ticks as u32), "{nanos}");
        }
    }

    #[test]
    fn audio_snaps_to_the_grid_and_never_goes_back() {
        assert_eq!(snap_to_grid(1000 + 960, 1000), Some(1960));
        assert_eq!(snap_to_grid(1000 + 1300, 1000), Some(1960));
        assert_eq!(snap_to_grid(1000 + 1500, 1000), Some(1000 + 1920));
        assert_eq!(snap_to_grid(1000 + 400, 1000), None);
        assert_eq!(snap_to_grid(500, 1000), None);
        assert_eq!(snap_to_grid(100, u32::MAX - 859), Some(100));
    }
}
