//! What the sub-layers of one stream cost, over the last second: for each decode target the bits and frames that a slot
//! gets which shows it.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::rtp::targets::FrameTargets;

/// So many targets are measured; no browser's structure has more than nine.
const TARGETS: usize = 16;

/// Eight whole eighths of a second and the one that is being filled.
const BUCKETS: u64 = 9;
const EIGHTH: Duration = Duration::from_millis(125);

/// A stream that is younger than this is measured as if it were so old: its first burst is no rate.
const YOUNG: Duration = Duration::from_millis(250);

/// What it takes to forward a stream up to one of its sub-layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubLayerView {
    /// The spatial layer.
    pub spatial: u8,
    /// The temporal layer.
    pub temporal: u8,
    /// The size of its pictures, where the stream tells.
    pub size: Option<(u16, u16)>,
    /// Bits in a second, everything included that it needs.
    pub bits: u64,
    /// Pictures in a second.
    pub frames: f32,
    /// Whether packets of it arrive.
    pub flowing: bool,
}

/// Measures the sub-layers of a stream.
#[derive(Debug)]
pub struct SubLayerRates {
    epoch: Instant,
    /// When the stream began, or went on after a pause.
    since: Instant,
    last: Option<Instant>,
    buckets: Box<[Bucket; BUCKETS as usize]>,
    /// The layer of each target, and when a frame of just this layer came last.
    seen: [Option<((u8, u8), Instant)>; TARGETS],
}

/// What came in an eighth of a second, by target.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    number: u64,
    bytes: [u32; TARGETS],
    frames: [u16; TARGETS],
}

impl SubLayerRates {
    /// Nothing came yet. No packet may come before `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            since: now,
            last: None,
            buckets: Box::new([Bucket::default(); BUCKETS as usize]),
            seen: [None; TARGETS],
        }
    }

    /// A packet of `bytes` came; `begins` when it is the first of its frame.
    pub fn on_packet(&mut self, now: Instant, bytes: usize, begins: bool, frame: &FrameTargets) {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= EIGHTH * 8) {
            self.since = now;
        }
        self.last = Some(now);
        let number = eighth(self.epoch, now);
        let bucket = &mut self.buckets[(number % BUCKETS) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        let mut present = frame.present & ((1 << TARGETS) - 1);
        while present != 0 {
            let target = present.trailing_zeros() as usize;
            present &= present - 1;
            let layer = frame.layer(target as u8);
            bucket.bytes[target] += bytes as u32;
            bucket.frames[target] += u16::from(begins && layer.0 == frame.spatial);
            if layer == (frame.spatial, frame.temporal) {
                self.seen[target] = Some((layer, now));
            }
        }
    }

    /// The sub-layers that came last, from the lowest to the highest: by size first, then by frame rate. `idle` is how
    /// long one may be silent and still count as flowing; `size` tells the size of a spatial layer.
    pub fn views(
        &self,
        now: Instant,
        idle: Duration,
        size: impl Fn(u8) -> Option<(u16, u16)>,
    ) -> SmallVec<[SubLayerView; 9]> {
        let number = eighth(self.epoch, now);
        let oldest = self.epoch + EIGHTH * number.saturating_sub(BUCKETS - 1) as u32;
        let seconds = now.saturating_duration_since(oldest.max(self.since)).max(YOUNG).as_secs_f32();
        let recent = || self.buckets.iter().filter(|b| b.number + BUCKETS > number && b.number <= number);
        let view = |target: usize| {
            let (layer, last) = self.seen[target]?;
            let silent = now.saturating_duration_since(last);
            let bytes: f64 = recent().map(|b| f64::from(b.bytes[target])).sum();
            let missed = self.last.map_or(silent, |stream| stream.saturating_duration_since(last));
            (missed < FORGOTTEN).then(|| SubLayerView {
                spatial: layer.0,
                temporal: layer.1,
                size: size(layer.0),
                bits: (bytes * 8.0 / f64::from(seconds)) as u64,
                frames: recent().map(|b| f32::from(b.frames[target])).sum::<f32>() / seconds,
                flowing: silent < idle,
            })
        };
        let mut views: SmallVec<[SubLayerView; 9]> = (0..TARGETS).filter_map(view).collect();
        views.sort_by_key(|view| (view.spatial, view.temporal));
        views
    }
}

/// A sub-layer that was silent for so long while others came is no part of the stream any more. Where all are silent the
/// stream is switched off, and will have what it had.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// Which eighth of a second since the epoch.
fn eighth(epoch: Instant, now: Instant) -> u64 {
    let elapsed = now.saturating_duration_since(epoch);
    elapsed.as_secs() * 8 + u64::from(elapsed.subsec_nanos() / 125_000_000)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;
    use crate::rtp::mutation::hex;
    use crate::rtp::vp8::Vp8Descriptor;

    #[test]
    fn each_sublayer_costs_what_it_needs() {
        let start = Instant::now();
        let mut rates = SubLayerRates::new(start);
        let ms = Duration::from_millis;
        // 40 pictures a second of 1,000 bytes: temporal layers 0 2 1 2.
        let frames = ["90f0923417 00 11", "90f0923417 a0 11", "90f0923417 60 11", "90f0923417 80 11"]
            .map(|text| FrameTargets::vp8(&Vp8Descriptor::parse(&hex(text)).unwrap(), false));
        for picture in 0..80_u64 {
            rates.on_packet(start + ms(picture * 25), 1000, true, &frames[picture as usize % 4]);
        }
        let now = start + ms(1_999);
        let views = rates.views(now, ms(700), |_| Some((640, 360)));
        assert_eq!(
            views.iter().map(|v| (v.spatial, v.temporal)).collect::<Vec<_>>(),
            [(0, 0), (0, 1), (0, 2)]
        );
        for (view, rate) in views.iter().zip([10.0, 20.0, 40.0_f32]) {
            assert!((view.frames / rate - 1.0).abs() < 0.12, "{view:?}");
            assert!((view.bits as f32 / (rate * 8_000.0) - 1.0).abs() < 0.12, "{view:?}");
            assert!(view.flowing && view.size == Some((640, 360)));
        }
        assert!(rates.views(now + ms(800), ms(700), |_| None).iter().all(|v| !v.flowing));
    }

    #[test]
    fn a_sublayer_is_forgotten_when_others_go_on_without_it() {
        let start = Instant::now();
        let mut rates = SubLayerRates::new(start);
        let ms = Duration::from_millis;
        let [base, top] = ["90f0923417 00 11", "90f0923417 a0 11"]
            .map(|text| FrameTargets::vp8(&Vp8Descriptor::parse(&hex(text)).unwrap(), false));
        rates.on_packet(start, 1000, true, &base);
        rates.on_packet(start + ms(50), 1000, true, &top);
        let known = |rates: &SubLayerRates, at| rates.views(start + ms(at), ms(700), |_| None).len();
        assert_eq!(known(&rates, 3_600_000), 2, "a stream that is switched off keeps its sub-layers");
        for at in (3_600_000..3_606_000).step_by(100) {
            rates.on_packet(start + ms(at), 1000, true, &base);
        }
        assert_eq!(known(&rates, 3_606_000), 1);
    }
}
