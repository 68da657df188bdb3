//! Ends a file that its writer left unfinished: what is whole stays, and gets its index. What was damaged among it is stepped over.

use std::io::{self, Read, Seek, SeekFrom};

use veche_sfu_core::media::Codec;

use super::boxes::{self, HEAD, Name, get32, get64};
use super::fragment::{Clock, Run};
use super::head::DURATION_BYTES;
use super::index::{INDEX_BYTES, Index, Places};
use crate::container::{Mend, Patch};

/// The head of a file, or of a fragment, is not longer: that of a fragment lists some thousands of samples.
const LONGEST_HEAD: u64 = 1 << 20;

/// A fragment that ends later behind all before it is damaged, in seconds: nobody records nothing for so long.
const LONGEST_PAUSE: u64 = 86_400;

/// A fragment that is there from its beginning to its end.
struct Found {
    at: u64,
    size: u64,
    /// `None` when it is damaged.
    runs: Option<Vec<Run>>,
}

/// Where fragments end.
#[derive(Clone)]
struct Ends {
    /// Of each track the ticks in a second, and its end in ticks.
    tracks: Vec<(u32, u64)>,
    /// In seconds.
    all: u64,
}

/// Looks through a file of [`super::Writer`]'s; `None` when it was finished, or is none of its.
pub fn look<F: Read + Seek>(file: &mut F) -> io::Result<Option<Mend>> {
    let end = file.seek(SeekFrom::End(0))?;
    let Some(types) = size_of(*b"ftyp", file, 0, end)? else { return Ok(None) };
    let Some(size) = size_of(*b"moov", file, types, end)? else { return Ok(None) };
    let Some(moov) = inside(file, types, size)? else { return Ok(None) };
    let Some(duration) = unfinished(&moov) else { return Ok(None) };
    let Some(clocks) = clocks(&moov) else { return Ok(None) };
    let places = Places { duration: types + (HEAD + duration) as u64, index: types + size };
    let mut index = Index::new(places, &clocks);
    let mut at = places.index + INDEX_BYTES as u64;
    if at > end {
        return Ok(None);
    }
    let mut fragments = Vec::new();
    while let Some(fragment) = fragment_at(file, at, end)? {
        at += fragment.size;
        fragments.push(fragment);
    }
    let mut patches = step_over_damage(&mut fragments, &clocks);
    for fragment in &fragments {
        index.push(fragment.size, fragment.runs.as_deref().unwrap_or_default());
    }
    let duration_ms = index.duration_ms();
    patches.extend(index.finish());
    Ok(Some(Mend { keep: at, append: Vec::new(), patches, duration_ms }))
}

/// Forgets what damaged fragments have. Their heads become boxes of nothing, into which players do not look.
fn step_over_damage(fragments: &mut [Found], clocks: &[Clock]) -> Vec<Patch> {
    let mut ends = Ends { tracks: clocks.iter().map(|clock| (clock.rate(), 0)).collect(), all: 0 };
    let mut patches = Vec::new();
    for place in 0..fragments.len() {
        let next = fragments.get(place + 1).and_then(|next| next.runs.as_deref());
        let after = fragments[place].runs.as_deref().and_then(|runs| ends.after(runs));
        // What follows makes sense only without it.
        let is_wrong =
            |after: &Ends| next.is_some_and(|next| after.after(next).is_none() && ends.after(next).is_some());
        if let Some(after) = after.filter(|after| !is_wrong(after)) {
            ends = after;
        } else {
            fragments[place].runs = None;
            patches.push(Patch { position: fragments[place].at + 4, bytes: b"free".to_vec() });
        }
    }
    patches
}

impl Ends {
    /// Those behind the next fragment; `None` when it is of other tracks, or its times cannot be.
    fn after(&self, runs: &[Run]) -> Option<Self> {
        let mut ends = self.clone();
        for run in runs {
            let (rate, end) = ends.tracks.get_mut(run.track)?;
            let rate = u64::from(*rate);
            // Of the last picture it is only thought how long it lasts: up to a second.
            let can_be = run.from.saturating_add(rate) > *end && run.to / rate <= self.all + LONGEST_PAUSE;
            *end = can_be.then_some(run.to)?;
            ends.all = ends.all.max(run.to / rate);
        }
        (!runs.is_empty()).then_some(ends)
    }
}

/// Where in a `moov` box the place for the duration is, if nothing was put there yet.
fn unfinished(moov: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (name, inside) in boxes::each(moov) {
        if &name == b"mvex" {
            let (first, place) = boxes::each(inside).next()?;
            return (&first == b"free" && place.len() + HEAD == DURATION_BYTES).then_some(at + HEAD);
        }
        at += HEAD + inside.len();
    }
    None
}

/// The clocks of the tracks, whose numbers are their places.
fn clocks(moov: &[u8]) -> Option<Vec<Clock>> {
    let tracks = boxes::each(moov).filter(|(name, _)| name == b"trak");
    let clocks: Option<Vec<Clock>> = tracks
        .map(|(_, track)| {
            let media = boxes::find(*b"mdia", track)?;
            // All pictures have the same clock, and all sound.
            match boxes::find(*b"hdlr", media)?.get(8..12)? {
                b"vide" => Some(Clock::new(Codec::H264)),
                b"soun" => Some(Clock::new(Codec::Opus)),
                _ => None,
            }
        })
        .collect();
    clocks.filter(|clocks| !clocks.is_empty())
}

/// The fragment here; `None` when it is cut off or none.
fn fragment_at<F: Read + Seek>(file: &mut F, at: u64, end: u64) -> io::Result<Option<Found>> {
    let head = size_of(*b"moof", file, at, end)?;
    // A mend that was cut short had stepped over it.
    let stepped_over = if head.is_none() { size_of(*b"free", file, at, end)? } else { None };
    let Some(size) = head.or(stepped_over) else { return Ok(None) };
    let Some(data) = size_of(*b"mdat", file, at + size, end)? else { return Ok(None) };
    let moof = if head.is_some() { inside(file, at, size)? } else { None };
    let runs = moof.and_then(|moof| {
        boxes::each(&moof).filter(|(name, _)| name == b"traf").map(|(_, inside)| run(inside)).collect()
    });
    Ok(Some(Found { at, size: size + data, runs }))
}

fn run(traf: &[u8]) -> Option<Run> {
    // Each behind its version and flags.
    let number = get32(boxes::find(*b"tfhd", traf)?, 4)?;
    let from = get64(boxes::find(*b"tfdt", traf)?, 4)?;
    let samples = boxes::find(*b"trun", traf)?.get(12..)?;
    let key = get32(samples, 8)? & 0x0001_0000 == 0;
    let durations = samples.chunks_exact(12).filter_map(|sample| get32(sample, 0)).map(u64::from);
    let track = (number as usize).checked_sub(1)?;
    Some(Run { track, from, to: from.checked_add(durations.sum())?, key })
}

/// The size of the box here, if it has this name and all of it is there.
fn size_of<F: Read + Seek>(name: Name, file: &mut F, at: u64, end: u64) -> io::Result<Option<u64>> {
    if at + HEAD as u64 > end {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut head)?;
    let [a, b, c, d, found @ ..] = head;
    let size = u64::from(u32::from_be_bytes([a, b, c, d]));
    let is_whole = size >= HEAD as u64 && at + size <= end;
    Ok((is_whole && found == name).then_some(size))
}

/// What the box here holds, unless it is longer than any of ours.
fn inside<F: Read + Seek>(file: &mut F, at: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
    if size > LONGEST_HEAD {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize - HEAD];
    file.seek(SeekFrom::Start(at + HEAD as u64))?;
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}
