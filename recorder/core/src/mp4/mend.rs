//! Ends a file that its writer left unfinished: what is whole stays, and gets its index.

use std::io::{self, Read, Seek, SeekFrom};

use veche_sfu_core::media::Codec;

use super::boxes::{self, HEAD, Name, get32, get64};
use super::fragment::{Clock, Run};
use super::head::DURATION_BYTES;
use super::index::{INDEX_BYTES, Index, Places};
use crate::container::Mend;

/// The head of a file, or of a fragment, is not longer: it lists a second of samples.
const LONGEST_HEAD: u64 = 1 << 20;

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
    while let Some((size, runs)) = fragment_at(file, at, end, clocks.len())? {
        index.push(size, &runs);
        at += size;
    }
    let duration_ms = index.duration_ms();
    Ok(Some(Mend { keep: at, append: Vec::new(), patches: index.finish(), duration_ms }))
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

/// The size of the fragment here, and what it has; `None` when it is cut off or none.
fn fragment_at<F: Read + Seek>(
    file: &mut F,
    at: u64,
    end: u64,
    tracks: usize,
) -> io::Result<Option<(u64, Vec<Run>)>> {
    let Some(size) = size_of(*b"moof", file, at, end)? else { return Ok(None) };
    let Some(moof) = inside(file, at, size)? else { return Ok(None) };
    let Some(data) = size_of(*b"mdat", file, at + size, end)? else { return Ok(None) };
    let runs: Option<Vec<Run>> =
        boxes::each(&moof).filter(|(name, _)| name == b"traf").map(|(_, inside)| run(inside)).collect();
    let runs = runs.filter(|runs| runs.iter().all(|run| run.track < tracks));
    Ok(runs.map(|runs| (size + data, runs)))
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
