//! Ends a file that its writer left unfinished: what is whole stays, and gets its index.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::ebml::{Element, Head, MAX_HEAD};
use super::index::{CuePoint, Index};
use crate::container::Mend;

/// A file of which the piece that was looked at last is in memory: heads stand close together.
struct Window<'a, F> {
    file: &'a mut F,
    /// Where in the file the piece begins.
    at: u64,
    bytes: Vec<u8>,
}

/// How much is read at once: of an hour's file one such piece for each cluster.
const WINDOW: u64 = 4_096;

/// Looks through a file of [`super::Writer`]'s; `None` when it was finished, or is none of its.
pub fn look<F: Read + Seek>(file: &mut F) -> io::Result<Option<Mend>> {
    let end = file.seek(SeekFrom::End(0))?;
    let mut file = Window { file, at: 0, bytes: Vec::new() };
    let Some(ebml) = file.head(0)?.filter(|head| head.element == Element::EBML) else { return Ok(None) };
    let segment_at = ebml.len as u64 + ebml.size.unwrap_or(0);
    let Some(segment) = file.head(segment_at)? else { return Ok(None) };
    if segment.element != Element::SEGMENT || segment.size.is_some() {
        return Ok(None);
    }
    let start = segment_at + segment.len as u64;
    let mut index = Index::new(start);
    let mut at = start;
    let (mut video, mut has_tracks, mut last) = (None, false, start..start);
    while let Some(head) = file.head(at)? {
        let inside = at + head.len as u64;
        let Some(next) = head.size.and_then(|size| inside.checked_add(size)).filter(|next| *next <= end)
        else {
            break;
        };
        match head.element {
            Element::TRACKS => (video, has_tracks) = (first_video(&mut file, inside, next)?, true),
            Element::CLUSTER => {
                // The frame that players may jump to is the first of its cluster. Those behind it are not looked at: an hour has
                // hundreds of thousands.
                each_block(&mut file, inside..next, |Block { time, track, key }| {
                    index.extend_to(time);
                    if key && video.is_none_or(|video| video == track) {
                        index.cues.push(CuePoint { time, track, cluster: at - start });
                    }
                    false
                })?;
                last = inside..next;
            }
            // An index that was written, but not yet told of: it is written again.
            Element::CUES => break,
            _ => {}
        }
        at = next;
    }
    if !has_tracks {
        return Ok(None);
    }
    // Frames are in order: the last one is in the last cluster.
    each_block(&mut file, last, |block| {
        index.extend_to(block.time);
        true
    })?;
    let (append, patches) = index.finish(at - start);
    Ok(Some(Mend { keep: at, append, patches, duration_ms: index.through() }))
}

/// The number of the first track of pictures.
fn first_video<F: Read + Seek>(file: &mut Window<'_, F>, mut at: u64, end: u64) -> io::Result<Option<u8>> {
    while let Some(entry) = file.head(at)?.filter(|_| at < end) {
        let entry_end = at + entry.len as u64 + entry.size.unwrap_or(0);
        let (mut inside, mut number, mut is_video) = (at + entry.len as u64, None, false);
        while let Some(head) = file.head(inside)?.filter(|_| inside < entry_end) {
            let value = file.read(inside + head.len as u64, 1)?.first().copied();
            match head.element {
                Element::TRACK_NUMBER => number = value,
                Element::TRACK_TYPE => is_video = value == Some(1),
                _ => {}
            }
            inside += head.len as u64 + head.size.unwrap_or(0);
        }
        if is_video {
            return Ok(number);
        }
        at = entry_end;
    }
    Ok(None)
}

/// A block, without what it carries.
struct Block {
    /// In milliseconds from the beginning of the file.
    time: u64,
    track: u8,
    key: bool,
}

/// How much is read of a block, or of a cluster's time.
const PEEK: usize = 8;

/// Shows the blocks of a cluster, until `show` has seen enough.
fn each_block<F: Read + Seek>(
    file: &mut Window<'_, F>,
    inside: Range<u64>,
    mut show: impl FnMut(Block) -> bool,
) -> io::Result<()> {
    let (mut at, mut base) = (inside.start, 0_u64);
    while let Some(head) = file.head(at)?.filter(|_| at < inside.end) {
        let data = at + head.len as u64;
        let size = head.size.unwrap_or(0);
        let bytes = file.read(data, size.min(PEEK as u64) as usize)?;
        match (head.element, bytes) {
            (Element::TIMESTAMP, bytes) => base = bytes.iter().fold(0, |time, b| time << 8 | u64::from(*b)),
            (Element::SIMPLE_BLOCK, &[track, high, low, flags, ..]) => {
                let time = base.saturating_add_signed(i16::from_be_bytes([high, low]).into());
                if !show(Block { time, track: track & 0x7f, key: flags & super::KEY != 0 }) {
                    break;
                }
            }
            _ => {}
        }
        at = data + size;
    }
    Ok(())
}

impl<F: Read + Seek> Window<'_, F> {
    fn head(&mut self, at: u64) -> io::Result<Option<Head>> {
        Ok(Head::read(self.read(at, MAX_HEAD)?))
    }

    /// The bytes from `at` on: so many, not more than [`WINDOW`], or as many as there are.
    fn read(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.at + self.bytes.len() as u64;
        if at < self.at || at + len as u64 > end {
            self.bytes.clear();
            self.file.seek(SeekFrom::Start(at))?;
            self.file.by_ref().take(WINDOW).read_to_end(&mut self.bytes)?;
            self.at = at;
        }
        let from = (at - self.at) as usize;
        Ok(&self.bytes[from..self.bytes.len().min(from + len)])
    }
}
