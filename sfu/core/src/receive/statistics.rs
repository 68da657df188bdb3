//! What receiver reports say of one stream (RFC 3550 section 6.4.1).

use std::time::Instant;

use crate::ids::Ssrc;
use crate::rtcp::ReportBlock;

/// Receiver statistics of one stream.
///
/// Repairs come on another SSRC and do not count here, so the loss is that of the network.
#[derive(Debug)]
pub struct ReceiverStatistics {
    clock_rate: u32,
    stream: Option<Stream>,
    sender_report: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Stream {
    /// The extended number that the wraps are counted from.
    cycle: u64,
    /// The number that packets are expected from; a jump moves it, so that the jump is not counted as loss.
    base: u64,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// The first packet's arrival, against which all are measured.
    epoch: Instant,
    /// The transit time and timestamp of the last packet that counted for jitter.
    last: (u32, u32),
    /// In 1/16 tick.
    jitter: u32,
}

/// A larger step forward is a stream that began again (`MAX_DROPOUT`, RFC 3550 appendix A.1).
const MAX_DROPOUT: u64 = 3000;

/// A larger change of the transit time, in seconds, is a clock that was set and no jitter.
const MAX_TRANSIT_STEP: u32 = 5;

impl ReceiverStatistics {
    /// Statistics of a stream with this RTP clock, in ticks a second.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate, stream: None, sender_report: None }
    }

    /// A packet of the stream came. `seq` is its extended sequence number, whose low 16 bits stand in the packet.
    pub fn on_packet(&mut self, now: Instant, seq: u64, rtp_timestamp: u32) {
        let clock_rate = self.clock_rate;
        let stream = self.stream.get_or_insert_with(|| Stream::new(now, seq, rtp_timestamp));
        stream.received += 1;
        if seq <= stream.highest {
            return;
        }
        if seq - stream.highest > MAX_DROPOUT {
            stream.base += seq - stream.highest - 1;
        }
        stream.highest = seq;
        stream.on_timestamp(now, rtp_timestamp, clock_rate);
    }

    /// A sender report of the stream came, with this NTP time (32.32 fixed point).
    pub fn on_sender_report(&mut self, now: Instant, ntp: u64) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// The report since the last one, about the stream's SSRC; `None` when nothing came since then.
    pub fn report(&mut self, now: Instant, ssrc: Ssrc) -> Option<ReportBlock> {
        let (last_sender_report, delay_since_last) = self
            .sender_report
            .map_or((0, 0), |(last_sender_report, at)| (last_sender_report, since(now, at)));
        let stream = self.stream.as_mut().filter(|s| s.received > s.received_before)?;
        let expected = stream.expected();
        let expected_now = expected - stream.expected_before;
        let lost_now = expected_now.saturating_sub(stream.received - stream.received_before);
        stream.expected_before = expected;
        stream.received_before = stream.received;
        Some(ReportBlock {
            ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            cumulative_lost: stream.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_seq: (stream.highest - stream.cycle) as u32,
            jitter: stream.jitter >> 4,
            last_sender_report,
            delay_since_last,
        })
    }
}

impl Stream {
    fn new(now: Instant, seq: u64, rtp_timestamp: u32) -> Self {
        Self {
            cycle: seq & !0xffff,
            base: seq,
            highest: seq,
            received: 0,
            expected_before: 0,
            received_before: 0,
            epoch: now,
            last: (0_u32.wrapping_sub(rtp_timestamp), rtp_timestamp),
            jitter: 0,
        }
    }

    fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }

    fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// RFC 3550 appendix A.8, with the first packet of each timestamp only: the packets of one picture are spread on
    /// purpose by its sender.
    fn on_timestamp(&mut self, now: Instant, rtp_timestamp: u32, clock_rate: u32) {
        let (last_transit, last_timestamp) = self.last;
        if rtp_timestamp == last_timestamp {
            return;
        }
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        // Whole seconds apart, so that the product cannot overflow in a long call.
        let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
        let rate = u64::from(clock_rate);
        let arrival = seconds.wrapping_mul(rate).wrapping_add(rest * rate / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(rtp_timestamp);
        let step = (transit.wrapping_sub(last_transit) as i32).unsigned_abs();
        self.last = (transit, rtp_timestamp);
        if step < clock_rate.saturating_mul(MAX_TRANSIT_STEP) {
            self.jitter = (self.jitter + step).saturating_sub((self.jitter + 8) >> 4);
        }
    }
}

/// A delay in 1/65536 s, as long as the field can say.
fn since(now: Instant, at: Instant) -> u32 {
    let nanos = now.saturating_duration_since(at).as_nanos();
    u32::try_from(nanos * 65_536 / 1_000_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const FIRST: u64 = (1 << 16) + 65_000;

    fn statistics() -> ReceiverStatistics {
        ReceiverStatistics::new(90_000)
    }

    #[test]
    fn reports_the_loss_since_the_last_report_and_since_the_start_through_a_wrap() {
        let start = Instant::now();
        let mut statistics = statistics();
        assert_eq!(statistics.report(start, Ssrc(7)), None);
        for n in (0..1000).filter(|n| n % 4 != 1) {
            statistics.on_packet(start, FIRST + n, 0);
        }
        let report = statistics.report(start, Ssrc(7)).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 250));
        assert_eq!(report.highest_seq, (1 << 16) + (65_000 + 999 - 65_536));
        assert_eq!(statistics.report(start, Ssrc(7)), None, "nothing new");

        for n in 1000..1100 {
            statistics.on_packet(start, FIRST + n, 0);
        }
        let report = statistics.report(start, Ssrc(7)).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 250));

        for _ in 0..300 {
            statistics.on_packet(start, FIRST + 1099, 0);
        }
        let report = statistics.report(start, Ssrc(7)).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, -50), "duplicates make it negative");
    }

    #[test]
    fn a_stream_that_begins_again_is_no_loss() {
        let start = Instant::now();
        let mut statistics = statistics();
        for n in (0..100).chain(20_000..20_100) {
            statistics.on_packet(start, FIRST + n, 0);
        }
        let report = statistics.report(start, Ssrc(7)).expect("packets came");
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 0));
        assert_eq!(u64::from(report.highest_seq), FIRST + 20_099 - (1 << 16));
    }

    #[test]
    fn jitter_is_the_mean_deviation_of_the_spacing() {
        let mut rng = StdRng::seed_from_u64(1);
        let start = Instant::now();
        let mut statistics = statistics();
        let mut even = ReceiverStatistics::new(90_000);
        for n in 0..2_000_u64 {
            let at = start + Duration::from_micros(n * 33_333);
            let timestamp = (u32::MAX - 90_000).wrapping_add((n * 3000) as u32);
            even.on_packet(at, FIRST + n, timestamp);
            let late = Duration::from_micros(rng.random_range(0..30_000));
            statistics.on_packet(at + late, FIRST + n, timestamp);
        }
        let jitter = |statistics: &mut ReceiverStatistics| {
            let ticks = statistics.report(start, Ssrc(7)).expect("packets came").jitter;
            Duration::from_micros(u64::from(ticks) * 100 / 9)
        };
        assert!(jitter(&mut even) < Duration::from_millis(1));
        // The mean difference of two uniform delays of 0..30 ms is 10 ms.
        let jitter = jitter(&mut statistics);
        assert!((Duration::from_millis(6)..Duration::from_millis(14)).contains(&jitter), "{jitter:?}");
    }

    #[test]
    fn the_last_sender_report_comes_back_with_its_delay() {
        let start = Instant::now();
        let mut statistics = statistics();
        statistics.on_packet(start, FIRST, 0);
        let report = statistics.report(start, Ssrc(7)).expect("a packet came");
        assert_eq!((report.last_sender_report, report.delay_since_last), (0, 0));
        statistics.on_sender_report(start, 0x1234_5678_9abc_def0);
        statistics.on_packet(start, FIRST + 1, 0);
        let report = statistics.report(start + Duration::from_millis(1500), Ssrc(7)).expect("a packet came");
        assert_eq!((report.last_sender_report, report.delay_since_last), (0x5678_9abc, 98_304));
    }
}
