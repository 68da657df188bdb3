//! The ways in which a video track can be shown, from the least to the most: its layers, and the sub-layers in them, with
//! what each takes. What was measured once is remembered while a layer does not flow.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::allocation::Level;
use crate::demand::LayerDemand;
use crate::layer::Layer;

/// The levels that a slot can choose from.
pub type Levels = SmallVec<[Level; 9]>;

/// One way to show the track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// Which, and what it takes.
    pub level: Level,
    /// The size of its pictures, as far as known.
    pub size: (u16, u16),
    /// Frames per second.
    pub frames: f32,
    /// Whether it arrives.
    pub flowing: bool,
    /// Since when it does.
    pub flowing_since: Option<Instant>,
    /// It has arrived long enough to be measured.
    pub measured: bool,
    /// Whether a picture of it has ever come: the largest layers of small cameras are only promised.
    pub seen: bool,
    /// Since when its publisher has been asked for it in vain.
    pub missing_since: Option<Instant>,
}

/// All ways to show a track, ascending.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    rungs: SmallVec<[Rung; 9]>,
    measured_at: Option<Instant>,
}

/// What the pictures of the largest layer are taken to be before one was seen.
const ASSUMED_SIZE: (u16, u16) = (1280, 720);

/// What a layer is taken to need before it was measured: tenths of a bit for each pixel of a second of 30 frames.
const ASSUMED_TENTHS_PER_PIXEL: u64 = 18;

/// What did not come for so long is not there: small cameras give fewer layers, and so do publishers whose network is slow.
const MISSING_FOR: Duration = Duration::from_secs(4);

/// Rates are those of the last second: before, they are of a key frame and little else.
const MEASURED_FOR: Duration = Duration::from_millis(1_100);

/// Each measurement replaces so much of what was measured before: more when it is higher, since pictures that stand still
/// for a moment will move again; not all, since a key frame is soon over.
const RISING_SHARE: f64 = 0.2;
const FALLING_SHARE: f64 = 0.05;

/// Fewer frames than this look like a fault, so that a smaller picture is better; but not of the smallest.
const LEAST_FRAMES: f32 = 12.0;

impl Ladder {
    /// Measures the layers, from the smallest to the largest, of which the publisher sends what it is asked for, if it can.
    pub fn refresh(&mut self, now: Instant, layers: &[Layer], asked: &LayerDemand) {
        let before = std::mem::take(&mut self.rungs);
        let sizes: SmallVec<[Option<(u16, u16)>; 4]> = layers.iter().map(|l| l.size).collect();
        for (index, layer) in layers.iter().enumerate() {
            let assumed = assumed_size(&sizes, index);
            for sub in layer.sublayers(now) {
                let seen = sub.size.or(layer.size);
                let size = seen.unwrap_or(assumed);
                let level = Level {
                    layer: index as u8,
                    spatial: sub.spatial,
                    temporal: sub.temporal,
                    bits: sub.bits,
                };
                // Measured at another size, it says nothing: another camera is sent.
                let known =
                    before.iter().find(|r| r.level.is_same(&level) && (sub.flowing || r.size == size));
                let since = known.and_then(|r| r.flowing_since).unwrap_or(now);
                let flowing_since = sub.flowing.then_some(since);
                let lasts = sub.flowing && now.saturating_duration_since(since) >= MEASURED_FOR;
                let measured = lasts || known.is_some_and(|r| r.measured);
                // What begins anew, or is being switched off, is what it was before.
                let counts = sub.flowing && (!measured || lasts && asked.told(index as u8));
                let bits = remember(known.map(|r| r.level.bits), sub.bits, counts, size);
                let frames = remember_frames(known.map(|r| r.frames), sub.frames, counts);
                // Not asked for, it may be there again: its network may have recovered meanwhile.
                let in_vain = asked.told(index as u8) && !sub.flowing;
                let missing_since = in_vain.then(|| known.and_then(|r| r.missing_since).unwrap_or(now));
                let (level, flowing, seen) = (Level { bits, ..level }, sub.flowing, seen.is_some());
                self.rungs.push(Rung {
                    level,
                    size,
                    frames,
                    flowing,
                    flowing_since,
                    measured,
                    seen,
                    missing_since,
                });
            }
        }
        self.put_in_order();
        self.measured_at = Some(now);
    }

    /// A larger picture counts as more than all smaller ones: what was measured while its publisher had just begun, or had
    /// little to send with, would otherwise put it below them for good, and nobody would ask for it again.
    fn put_in_order(&mut self) {
        self.rungs.sort_by_key(|r| (area(r.size), r.level.bits));
        for index in 0..self.rungs.len() {
            let rung = self.rungs[index];
            let smaller = self.rungs[..index].iter().filter(|r| area(r.size) < area(rung.size));
            let most = smaller.map(|r| r.level.bits).max().unwrap_or(0);
            if self.is_top(&rung.level) {
                self.rungs[index].level.bits = rung.level.bits.max(most + most / 10);
            }
        }
        self.rungs.sort_by_key(|r| r.level.bits);
    }

    /// What a slot that is shown at this size can choose from: all that flows up to the first that fills the size; where
    /// nothing smaller flows, the smallest that does; where nothing flows at all, everything up to the size.
    pub fn levels(&self, wanted: (u16, u16)) -> Levels {
        let up_to = self.fitting(wanted);
        let flowing: Levels = up_to.clone().filter(|r| r.flowing).map(|r| r.level).collect();
        if !flowing.is_empty() {
            return flowing;
        }
        match self.rungs.iter().find(|r| r.flowing) {
            Some(larger) => SmallVec::from_slice(&[larger.level]),
            None => up_to.map(|r| r.level).collect(),
        }
    }

    /// The most that a slot of this size could use, whether it flows or not, unless it is missing.
    pub fn best(&self, wanted: (u16, u16)) -> Option<Level> {
        let there = self.fitting(wanted).filter(|r| !self.is_missing(r));
        there.last().or_else(|| self.fitting(wanted).last()).map(|r| r.level)
    }

    /// The levels up to this size that would be shown instead if they were sent: the best one that is better than what is
    /// shown and takes no more than `bits`, or that is small enough, where what is shown is too large. Those above it that
    /// never came, or were asked for in vain, are among them: they may come some day.
    pub fn dormant(&self, wanted: (u16, u16), shown: Option<&Level>, bits: u64) -> Levels {
        let too_large = shown.is_some_and(|s| !self.fitting(wanted).any(|r| r.level.is_same(s)));
        let shown = if too_large { 0 } else { shown.map_or(0, |s| s.bits) };
        let fits = |r: &&Rung| !r.flowing && r.level.bits > shown && r.level.bits <= bits;
        let mut dormant: SmallVec<[&Rung; 9]> = self.fitting(wanted).filter(fits).collect();
        let there = dormant.iter().rposition(|r| r.seen && !self.is_missing(r)).unwrap_or(0);
        dormant.drain(..there);
        dormant.iter().map(|r| r.level).collect()
    }

    fn is_missing(&self, rung: &Rung) -> bool {
        let asked_for = |since| Some(self.measured_at?.saturating_duration_since(since));
        rung.missing_since.and_then(asked_for).is_some_and(|asked| asked >= MISSING_FOR)
    }

    /// The level that takes the least, whether it flows or not.
    pub fn least(&self) -> Option<Level> {
        self.rungs.first().map(|r| r.level)
    }

    /// What a simulcast layer takes with the fewest frames, in bits per second, of those pictures of it that have this spatial layer or
    /// a higher one.
    pub fn least_of(&self, layer: u8, spatial: u8) -> Option<u64> {
        let of = |r: &&Rung| r.level.layer == layer && r.level.spatial >= spatial;
        self.rungs.iter().filter(of).map(|r| r.level.bits).min()
    }

    /// Whether a level flows now.
    pub fn flows(&self, level: &Level) -> bool {
        self.rungs.iter().any(|r| r.flowing && r.level.is_same(level))
    }

    /// Whether the level has all frames of its size.
    fn is_top(&self, level: &Level) -> bool {
        let same = |l: &Level| (l.layer, l.spatial) == (level.layer, level.spatial);
        !self.rungs.iter().any(|r| same(&r.level) && r.level.temporal > level.temporal)
    }

    /// The rungs up to the smallest picture that fills the size, without those of too few frames.
    fn fitting(&self, wanted: (u16, u16)) -> impl Iterator<Item = &Rung> + Clone {
        let largest = self.rungs.iter().filter(|r| fills(r.size, wanted)).map(|r| area(r.size)).min();
        let smallest = self.rungs.iter().map(|r| area(r.size)).min().unwrap_or(0);
        self.rungs.iter().filter(move |r| {
            let small_enough = largest.is_none_or(|largest| area(r.size) <= largest);
            let smooth = r.frames >= LEAST_FRAMES || self.is_top(&r.level);
            small_enough && (smooth || area(r.size) == smallest)
        })
    }
}

fn remember(known: Option<u64>, measured: u64, flowing: bool, size: (u16, u16)) -> u64 {
    match known {
        Some(known) if !flowing || measured == 0 => known,
        Some(known) if measured < known => known - ((known - measured) as f64 * FALLING_SHARE) as u64,
        Some(known) => known + ((measured - known) as f64 * RISING_SHARE) as u64,
        None if flowing && measured > 0 => measured,
        None => u64::from(area(size)) * ASSUMED_TENTHS_PER_PIXEL / 10,
    }
}

/// A layer that stops is measured to have fewer and fewer frames until it is known not to flow.
fn remember_frames(known: Option<f32>, measured: f32, flowing: bool) -> f32 {
    match known {
        Some(known) if !flowing => known,
        Some(known) if measured < known => known - (known - measured) * FALLING_SHARE as f32,
        _ => measured,
    }
}

/// Whether a picture is large enough. A tenth less than the shown size is not visible; letterboxed pictures touch the frame
/// on one axis only.
fn fills((width, height): (u16, u16), wanted: (u16, u16)) -> bool {
    let known = wanted.0 > 0 && wanted.1 > 0;
    let wide = u32::from(width) * 10 >= u32::from(wanted.0) * 9;
    let high = u32::from(height) * 10 >= u32::from(wanted.1) * 9;
    known && (wide || high)
}

fn area((width, height): (u16, u16)) -> u32 {
    u32::from(width) * u32::from(height)
}

/// Each simulcast layer is usually half the size of the next: told from the nearest one that was seen.
fn assumed_size(sizes: &[Option<(u16, u16)>], index: usize) -> (u16, u16) {
    let seen = sizes.iter().enumerate().filter_map(|(i, size)| Some((i, (*size)?)));
    let (like, (width, height)) =
        seen.min_by_key(|(i, _)| i.abs_diff(index)).unwrap_or((sizes.len().saturating_sub(1), ASSUMED_SIZE));
    let steps = like.abs_diff(index).min(4);
    let scaled = |pixels: u16| {
        if index < like { pixels >> steps } else { pixels.saturating_mul(1 << steps) }
    };
    (scaled(width), scaled(height))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::media::MediaKind;
    use crate::receive::sublayers::SubLayerView;
    use crate::sdp::PublishedLayer;

    fn ladder(flowing: [bool; 3]) -> Ladder {
        let sizes = [(320, 180), (640, 360), (1280, 720)];
        let rung = |i: usize| Rung {
            level: Level {
                layer: i as u8,
                spatial: Level::ALL,
                temporal: Level::ALL,
                bits: 150_000 << (2 * i),
            },
            size: sizes[i],
            frames: 30.0,
            flowing: flowing[i],
            flowing_since: None,
            measured: true,
            seen: true,
            missing_since: None,
        };
        Ladder { rungs: [0, 1, 2].into_iter().map(rung).collect(), measured_at: None }
    }

    fn layers(flowing: [bool; 3], wanted: (u16, u16)) -> Vec<u8> {
        indices(&ladder(flowing).levels(wanted))
    }

    fn indices(levels: &[Level]) -> Vec<u8> {
        levels.iter().map(|l| l.layer).collect()
    }

    #[test]
    fn the_shown_size_is_the_ceiling() {
        assert_eq!(layers([true; 3], (160, 90)), [0]);
        assert_eq!(layers([true; 3], (340, 195)), [0]);
        assert_eq!(layers([true; 3], (400, 300)), [0, 1]);
        assert_eq!(layers([true; 3], (1920, 1080)), [0, 1, 2]);
        assert_eq!(layers([true; 3], (0, 0)), [0, 1, 2]);
    }

    #[test]
    fn what_does_not_flow_is_replaced_by_the_nearest_that_does() {
        assert_eq!(layers([true, false, true], (640, 360)), [0]);
        assert_eq!(layers([false, false, true], (160, 90)), [2]);
        assert_eq!(layers([false; 3], (640, 360)), [0, 1], "all wait to be sent");
        assert!(Ladder::default().levels((1, 1)).is_empty());
    }

    #[test]
    fn a_layer_that_sleeps_is_wanted_when_it_would_fit() {
        let ladder = ladder([true, true, false]);
        let shown = ladder.rungs[1].level;
        assert_eq!(indices(&ladder.dormant((0, 0), Some(&shown), 3_000_000)), [2]);
        assert!(ladder.dormant((0, 0), Some(&shown), 2_000_000).is_empty(), "the network does not carry it");
        assert!(ladder.dormant((640, 360), Some(&shown), 3_000_000).is_empty(), "nobody needs it");
        assert_eq!(ladder.best((0, 0)).map(|l| l.layer), Some(2));
    }

    #[test]
    fn a_smaller_layer_that_sleeps_is_wanted_when_what_is_shown_is_too_large() {
        let ladder = ladder([false, false, true]);
        let shown = ladder.rungs[2].level;
        assert_eq!(ladder.levels((160, 90)).to_vec(), [shown]);
        assert_eq!(indices(&ladder.dormant((160, 90), Some(&shown), 3_000_000)), [0]);
        assert_eq!(indices(&ladder.dormant((640, 360), Some(&shown), 3_000_000)), [1]);
    }

    #[test]
    fn what_was_asked_for_in_vain_is_neither_counted_nor_in_the_way() {
        let start = Instant::now();
        let mut ladder = ladder([true, false, false]);
        let shown = ladder.rungs[0].level;
        ladder.rungs[2].missing_since = Some(start);
        ladder.measured_at = Some(start + Duration::from_secs(3));
        assert_eq!(indices(&ladder.dormant((0, 0), Some(&shown), 3_000_000)), [2], "it may still come");
        assert_eq!(ladder.best((0, 0)).map(|l| l.layer), Some(2));
        ladder.measured_at = Some(start + Duration::from_secs(4));
        assert_eq!(indices(&ladder.dormant((0, 0), Some(&shown), 3_000_000)), [1, 2]);
        assert_eq!(ladder.best((0, 0)).map(|l| l.layer), Some(1));
        ladder.rungs[1].missing_since = Some(start);
        assert_eq!(indices(&ladder.dormant((0, 0), Some(&shown), 3_000_000)), [1, 2], "both may come again");
        assert_eq!(ladder.best((0, 0)).map(|l| l.layer), Some(0), "what flows is there");
        ladder.rungs[1].missing_since = None;
        ladder.rungs[2] = Rung { missing_since: None, seen: false, ..ladder.rungs[2] };
        assert_eq!(indices(&ladder.dormant((0, 0), Some(&shown), 3_000_000)), [1, 2], "one is only promised");
    }

    #[test]
    fn a_larger_picture_that_was_measured_too_early_is_still_the_better_one() {
        let mut ladder = ladder([true, false, false]);
        ladder.rungs[1].level.bits = 40_000;
        ladder.put_in_order();
        let shown = ladder.levels((640, 360))[0];
        assert_eq!((shown.layer, shown.bits), (0, 150_000));
        assert_eq!(ladder.best((640, 360)).map(|l| (l.layer, l.bits)), Some((1, 165_000)));
        assert_eq!(indices(&ladder.dormant((640, 360), Some(&shown), 200_000)), [1]);
    }

    #[test]
    fn sizes_are_told_from_those_that_were_seen() {
        assert_eq!([0, 1, 2].map(|i| assumed_size(&[None; 3], i)), [(320, 180), (640, 360), (1280, 720)]);
        let small = [Some((160, 90)), Some((320, 180)), None];
        assert_eq!(assumed_size(&small, 2), (640, 360));
        assert_eq!(assumed_size(&[None, None, Some((960, 540))], 0), (240, 135));
    }

    #[test]
    fn rates_are_remembered_and_fall_slowly() {
        assert_eq!(remember(None, 0, false, (1280, 720)), 1_658_880);
        assert_eq!(remember(None, 700_000, true, (1280, 720)), 700_000);
        assert_eq!(remember(Some(700_000), 900_000, true, (1280, 720)), 740_000);
        assert_eq!(remember(Some(700_000), 500_000, true, (1280, 720)), 690_000);
        assert_eq!(remember(Some(700_000), 0, false, (1280, 720)), 700_000);
        let stopping =
            (0..7).fold(30.0, |known, n| remember_frames(Some(known), 30.0 - 4.0 * n as f32, true));
        let silent = remember_frames(Some(stopping), 0.0, false);
        assert!(stopping > 26.0 && (silent - stopping).abs() < 0.01, "{stopping}");
    }

    /// A layer that is measured like this.
    fn measured(bits: u64, flowing: bool) -> Layer {
        let mut layer = Layer::new(MediaKind::Video, 90_000, &PublishedLayer::default(), Instant::now());
        layer.told.get_or_insert_default().sublayers = smallvec![SubLayerView {
            spatial: Level::ALL,
            temporal: Level::ALL,
            size: Some((640, 360)),
            bits,
            frames: 30.0,
            flowing,
        }];
        layer
    }

    #[test]
    fn rates_of_less_than_a_second_are_not_believed_where_one_is_known() {
        let start = Instant::now();
        let mut ladder = Ladder::default();
        let mut asked = LayerDemand::default();
        let mut refresh = |ms, bits, asked: &LayerDemand| {
            let now = start + Duration::from_millis(ms);
            ladder.refresh(now, &[measured(bits, bits > 0)], asked);
            (ladder.rungs[0].level.bits, ladder.rungs[0].measured)
        };
        // Of what has just begun for the first time nothing better is known.
        assert_eq!(refresh(0, 3_000_000, &asked), (3_000_000, false));
        assert_eq!(refresh(1_099, 600_000, &asked), (2_880_000, false));
        assert_eq!(refresh(1_100, 880_000, &asked), (2_780_000, true));
        // It stops, and begins again with a key frame: for a whole second it takes what it took before.
        assert_eq!(refresh(2_000, 0, &asked), (2_780_000, true));
        for ms in [2_500, 2_600, 3_599] {
            assert_eq!(refresh(ms, 9_000_000, &asked), (2_780_000, true), "{ms}");
        }
        assert_eq!(refresh(3_600, 2_880_000, &asked), (2_800_000, true));
        // Its publisher is asked for it no more: what still comes says nothing.
        asked.set_told(0);
        assert_eq!(refresh(3_700, 400_000, &asked), (2_800_000, true));
        asked.set_told(1);
        assert_eq!(refresh(3_800, 400_000, &asked), (2_680_000, true));
    }
}
