//! What only the end of a file can tell, and the places that are left for it behind the head.

use veche_sfu_core::media::MediaKind;

use super::boxes::{put_each, put16, put32, put64, write_free, write_full};
use super::fragment::{Clock, Run};
use super::head::{DURATION_BYTES, MOVIE_CLOCK};
use crate::container::Patch;

/// Where the places are in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// That for the duration, [`DURATION_BYTES`] long.
    pub duration: u64,
    /// That for the index, [`INDEX_BYTES`] long; the first fragment is behind it.
    pub index: u64,
}

/// What is known of a file while it grows.
#[derive(Debug)]
pub(super) struct Index {
    places: Places,
    /// Of each track the ticks in a second, and its end.
    tracks: Vec<(u32, u64)>,
    /// The track whose key frames are listed: the first of pictures.
    listed: usize,
    /// How much is before its first sample.
    before: u64,
    stretches: Vec<Stretch>,
}

/// Fragments from one to which players may jump up to the next such, or to where a place of the list can tell no more.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// The first time in it, in ticks of the listed track.
    from: u64,
    /// The last.
    to: u64,
    size: u64,
    key: bool,
}

/// The index lists at most so many places: of a longer file every second, third, …
const MOST_LISTED: usize = 1_000;

/// How large a place may be: its size has 31 bits.
const LONGEST_PLACE: u64 = 0x7fff_ffff;

/// A `sidx` box with none, and what each place in it takes.
const SIDX_BYTES: usize = 40;
const LISTED_BYTES: usize = 12;

/// What is left for the index: the longest, and a box of nothing behind it.
pub(super) const INDEX_BYTES: usize = SIDX_BYTES + MOST_LISTED * LISTED_BYTES + 8;

/// Writes the place for the index.
pub(super) fn write_places(duration: usize, out: &mut Vec<u8>) -> Places {
    let places = Places { duration: duration as u64, index: out.len() as u64 };
    write_free(INDEX_BYTES, out);
    places
}

impl Index {
    pub fn new(places: Places, clocks: &[Clock]) -> Self {
        let listed = clocks.iter().position(|clock| clock.kind() == MediaKind::Video).unwrap_or(0);
        let tracks = clocks.iter().map(|clock| (clock.rate(), 0)).collect();
        Self { places, tracks, listed, before: 0, stretches: Vec::new() }
    }

    /// The file has a fragment at the end, of so many bytes, with these runs.
    pub fn push(&mut self, size: u64, runs: &[Run]) {
        for run in runs {
            let end = &mut self.tracks[run.track].1;
            *end = run.to.max(*end);
        }
        let listed = runs.iter().find(|run| run.track == self.listed);
        let to = self.tracks[self.listed].1;
        let from = listed.map_or(to, |run| run.from);
        let stretch = Stretch { from, to, size, key: listed.is_some_and(|run| run.key) };
        match self.stretches.last_mut() {
            None if listed.is_none() => self.before += size,
            Some(last) if !stretch.key && last.has_room_for(&stretch) => last.join(&stretch),
            _ => self.stretches.push(stretch),
        }
    }

    /// How long the file is.
    pub fn duration_ms(&self) -> u64 {
        let ends = self.tracks.iter().map(|(rate, end)| {
            u64::try_from(u128::from(*end) * u128::from(MOVIE_CLOCK) / u128::from(*rate)).unwrap_or(u64::MAX)
        });
        ends.max().unwrap_or(0)
    }

    /// What goes to the places at the end of the file. The duration last: a file that has one counts as finished, and whoever is
    /// killed between two patches must not leave it so.
    pub fn finish(&self) -> Vec<Patch> {
        let mut patches = Vec::new();
        if let Some(mut bytes) = self.sidx() {
            write_free(INDEX_BYTES - bytes.len(), &mut bytes);
            patches.push(Patch { position: self.places.index, bytes });
        }
        let mut bytes = Vec::with_capacity(DURATION_BYTES);
        write_full(*b"mehd", 1, 0, &mut bytes, |out| put64(self.duration_ms(), out));
        patches.push(Patch { position: self.places.duration, bytes });
        patches
    }

    /// The stretches as they are listed: several as one where there are too many.
    fn listed(&self) -> Vec<Stretch> {
        let together = self.stretches.len().div_ceil(MOST_LISTED);
        let (mut listed, mut joined): (Vec<Stretch>, usize) = (Vec::new(), 0);
        for stretch in &self.stretches {
            match listed.last_mut() {
                Some(last) if joined < together && last.has_room_for(stretch) => {
                    last.join(stretch);
                    joined += 1;
                }
                _ => {
                    listed.push(*stretch);
                    joined = 1;
                }
            }
        }
        listed
    }

    /// ISO/IEC 14496-12 section 8.16.3. `None` when there is nothing to list, or more than its numbers can say, as where a track
    /// pauses for half a day: players then look through the file.
    fn sidx(&self) -> Option<Vec<u8>> {
        const STARTS_WITH_KEY: u32 = 0x9000_0000;
        let stretches = self.listed();
        let (rate, end) = self.tracks[self.listed];
        let first = stretches.first().filter(|_| stretches.len() <= MOST_LISTED)?;
        let ends = stretches.iter().skip(1).map(|next| next.from).chain([end]);
        let places = stretches.iter().zip(ends).map(|(stretch, end)| {
            let size = u32::try_from(stretch.size).ok().filter(|_| stretch.size <= LONGEST_PLACE)?;
            let duration = u32::try_from(end.saturating_sub(stretch.from)).ok()?;
            Some([size, duration, if stretch.key { STARTS_WITH_KEY } else { 0 }])
        });
        let places = places.collect::<Option<Vec<_>>>()?;
        let mut bytes = Vec::with_capacity(INDEX_BYTES);
        write_full(*b"sidx", 1, 0, &mut bytes, |out| {
            put32(self.listed as u32 + 1, out);
            put32(rate, out);
            put64(first.from, out);
            // How far behind this box the first fragment of the list is.
            let len = SIDX_BYTES + places.len() * LISTED_BYTES;
            put64((INDEX_BYTES - len) as u64 + self.before, out);
            put16(0, out);
            put16(places.len() as u16, out);
            for place in &places {
                put_each(place, out);
            }
        });
        Some(bytes)
    }
}

impl Stretch {
    /// One place can tell of both.
    fn has_room_for(&self, next: &Self) -> bool {
        let duration = next.to.saturating_sub(self.from);
        self.size.saturating_add(next.size) <= LONGEST_PLACE && duration <= u32::MAX.into()
    }

    fn join(&mut self, next: &Self) {
        self.size += next.size;
        self.to = self.to.max(next.to);
    }
}

#[cfg(test)]
mod tests {
    use veche_sfu_core::media::Codec;

    use super::*;
    use crate::mp4::boxes::{find, get32};

    /// The places of the index of a file with such fragments of pictures: their sizes, when they begin and end, and whether with a
    /// key frame.
    fn places(fragments: impl IntoIterator<Item = (u64, u64, u64, bool)>) -> Vec<[u32; 3]> {
        let mut index = Index::new(Places { duration: 0, index: 100 }, &[Clock::new(Codec::H264)]);
        for (size, from, to, key) in fragments {
            index.push(size, &[Run { track: 0, from, to, key }]);
        }
        let patches = index.finish();
        let Some(sidx) = find(*b"sidx", &patches[0].bytes) else { return Vec::new() };
        let place = |place: &[u8]| [0, 4, 8].map(|at| get32(place, at).unwrap());
        sidx[32..].chunks_exact(12).map(place).collect()
    }

    const KEY: u32 = 0x9000_0000;

    #[test]
    fn two_gibibytes_without_a_key_frame_take_several_places() {
        let second = |at: u64| (1 << 20, at * 90_000, (at + 1) * 90_000, at == 0);
        let places = places((0..5_000).map(second));
        let full = 2_047;
        assert_eq!(places[0], [full << 20, full * 90_000, KEY]);
        assert_eq!(places[1], [full << 20, full * 90_000, 0]);
        assert_eq!(places[2], [906 << 20, 906 * 90_000, 0]);
        assert_eq!(places.len(), 3);
    }

    #[test]
    fn half_a_day_without_a_key_frame_takes_several_places() {
        let minute = |at: u64| (1 << 10, at * 5_400_000, (at + 1) * 5_400_000, at == 0);
        let places = places((0..1_000).map(minute));
        assert_eq!(places, [[795 << 10, 795 * 5_400_000, KEY], [205 << 10, 205 * 5_400_000, 0]]);
    }

    #[test]
    fn places_are_joined_as_far_as_their_size_can_be_told() {
        let large = |at: u64| (600 << 20, at * 90_000, (at + 1) * 90_000, true);
        let joined = places((0..2_400).map(large));
        assert_eq!(joined.len(), 800, "three at a time fit in one");
        assert!(joined.iter().all(|place| *place == [1_800 << 20, 270_000, KEY]));
        let larger = |at: u64| (1 << 30, at * 90_000, (at + 1) * 90_000, true);
        assert_eq!(places((0..1_001).map(larger)), [[0; 3]; 0], "it would take too many places");
    }

    #[test]
    fn what_cannot_be_told_is_not_told_wrong() {
        let day = 86_400 * 90_000;
        assert_eq!(places([(1, 0, 1, true), (1, day, day + 1, true)]), [[0; 3]; 0]);
        let mut index = Index::new(Places { duration: 0, index: 100 }, &[Clock::new(Codec::H264)]);
        index.push(1, &[Run { track: 0, from: 1 << 63, to: u64::MAX, key: true }]);
        assert_eq!(index.duration_ms(), u64::MAX / 90);
    }
}
