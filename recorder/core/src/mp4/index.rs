//! What only the end of a file can tell, and the places that are left for it behind the head.

use veche_sfu_core::media::MediaKind;

use super::boxes::{put16, put32, put64, write_free, write_full};
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

/// Fragments from one to which players may jump up to the next such.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// The first time in it, in ticks of the listed track.
    from: u64,
    size: u64,
    key: bool,
}

/// The index lists at most so many places: of a longer file every second, third, …
const MOST_LISTED: usize = 1_000;

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
        match (listed, self.stretches.last_mut()) {
            (None, None) => self.before += size,
            (Some(Run { key: false, .. }) | None, Some(last)) => last.size += size,
            (Some(run), _) => self.stretches.push(Stretch { from: run.from, size, key: run.key }),
        }
    }

    /// How long the file is.
    pub fn duration_ms(&self) -> u64 {
        self.tracks.iter().map(|(rate, end)| end * 1_000 / u64::from(*rate)).max().unwrap_or(0)
    }

    /// What goes to the places at the end of the file.
    pub fn finish(&self) -> Vec<Patch> {
        let mut patches = Vec::new();
        let stretches = self.listed();
        if !stretches.is_empty() {
            let mut bytes = Vec::with_capacity(INDEX_BYTES);
            self.write_sidx(&stretches, &mut bytes);
            write_free(INDEX_BYTES - bytes.len(), &mut bytes);
            patches.push(Patch { position: self.places.index, bytes });
        }
        let ends = self.tracks.iter().map(|(rate, end)| end * MOVIE_CLOCK / u64::from(*rate));
        let mut bytes = Vec::with_capacity(DURATION_BYTES);
        write_full(*b"mehd", 1, 0, &mut bytes, |out| put64(ends.max().unwrap_or(0), out));
        patches.push(Patch { position: self.places.duration, bytes });
        patches
    }

    /// The stretches as they are listed: several as one where there are too many, or where they are short.
    fn listed(&self) -> Vec<Stretch> {
        let together = self.stretches.len().div_ceil(MOST_LISTED).max(1);
        let join =
            |group: &[Stretch]| Stretch { size: group.iter().map(|stretch| stretch.size).sum(), ..group[0] };
        self.stretches.chunks(together).map(join).collect()
    }

    /// ISO/IEC 14496-12 section 8.16.3.
    fn write_sidx(&self, stretches: &[Stretch], out: &mut Vec<u8>) {
        const STARTS_WITH_KEY: u32 = 0x9000_0000;
        let (rate, end) = self.tracks[self.listed];
        let bytes = SIDX_BYTES + stretches.len() * LISTED_BYTES;
        write_full(*b"sidx", 1, 0, out, |out| {
            put32(self.listed as u32 + 1, out);
            put32(rate, out);
            put64(stretches[0].from, out);
            // How far behind this box the first fragment of the list is.
            put64((INDEX_BYTES - bytes) as u64 + self.before, out);
            put16(0, out);
            put16(stretches.len() as u16, out);
            let ends = stretches.iter().skip(1).map(|next| next.from).chain([end]);
            for (stretch, end) in stretches.iter().zip(ends) {
                put32(u32::try_from(stretch.size).unwrap_or(u32::MAX) & 0x7fff_ffff, out);
                put32(end.saturating_sub(stretch.from) as u32, out);
                put32(if stretch.key { STARTS_WITH_KEY } else { 0 }, out);
            }
        });
    }
}
