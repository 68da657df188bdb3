//! Ends a file that its writer left unfinished: what is whole stays, and gets its index.

use std::io::{self, Read, Seek, SeekFrom};

use super::ebml::{Element, Head, MAX_HEAD};
use super::index::{CuePoint, Index};
use crate::container::Mend;

/// Looks through a file of [`super::Writer`]'s; `None` when it was finished, or is none of its.
pub fn look<F: Read + Seek>(file: &mut F) -> io::Result<Option<Mend>> {
    let end = file.seek(SeekFrom::End(0))?;
    let Some(ebml) = head_at(file, 0)?.filter(|head| head.element == Element::EBML) else { return Ok(None) };
    let segment_at = ebml.len as u64 + ebml.size.unwrap_or(0);
    let Some(segment) = head_at(file, segment_at)? else { return Ok(None) };
    if segment.element != Element::SEGMENT || segment.size.is_some() {
        return Ok(None);
    }
    let start = segment_at + segment.len as u64;
    let mut index = Index::new(start);
    let mut at = start;
    let (mut video, mut has_tracks) = (None, false);
    while let Some(head) = head_at(file, at)? {
        let Some(next) = head.size.map(|size| at + head.len as u64 + size).filter(|next| *next <= end) else {
            break;
        };
        let inside = at + head.len as u64;
        match head.element {
            Element::TRACKS => (video, has_tracks) = (first_video(file, inside, next)?, true),
            Element::CLUSTER => look_at_cluster(file, inside..next, at - start, video, &mut index)?,
            // An index that was written, but not yet told of: it is written again.
            Element::CUES => break,
            _ => {}
        }
        at = next;
    }
    if !has_tracks {
        return Ok(None);
    }
    let (append, patches) = index.finish(at - start);
    Ok(Some(Mend { keep: at, append, patches, duration_ms: index.through() }))
}

/// The number of the first track of pictures.
fn first_video<F: Read + Seek>(file: &mut F, mut at: u64, end: u64) -> io::Result<Option<u8>> {
    while let Some(entry) = head_at(file, at)?.filter(|_| at < end) {
        let entry_end = at + entry.len as u64 + entry.size.unwrap_or(0);
        let (mut inside, mut number, mut is_video) = (at + entry.len as u64, None, false);
        while let Some(head) = head_at(file, inside)?.filter(|_| inside < entry_end) {
            let value = byte_at(file, inside + head.len as u64)?;
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

/// Finds the key frame of a cluster that players may jump to, and when its last frame is.
fn look_at_cluster<F: Read + Seek>(
    file: &mut F,
    inside: std::ops::Range<u64>,
    cluster: u64,
    video: Option<u8>,
    index: &mut Index,
) -> io::Result<()> {
    let (mut at, mut base, mut has_cue) = (inside.start, 0_u64, false);
    while let Some(head) = head_at(file, at)?.filter(|_| at < inside.end) {
        let data = at + head.len as u64;
        let size = head.size.unwrap_or(0);
        let mut bytes = [0; 8];
        let read = read_at(file, data, &mut bytes[..size.min(8) as usize])?;
        match (head.element, bytes) {
            (Element::TIMESTAMP, _) => {
                base = bytes[..read].iter().fold(0, |time, b| time << 8 | u64::from(*b));
            }
            (Element::SIMPLE_BLOCK, [track, high, low, flags, ..]) if read >= 4 => {
                let time = base.saturating_add_signed(i16::from_be_bytes([high, low]).into());
                index.extend_to(time);
                let track = track & 0x7f;
                if !has_cue && flags & super::KEY != 0 && video.is_none_or(|video| video == track) {
                    index.cues.push(CuePoint { time, track, cluster });
                    has_cue = true;
                }
            }
            _ => {}
        }
        at = data + size;
    }
    Ok(())
}

fn head_at<F: Read + Seek>(file: &mut F, at: u64) -> io::Result<Option<Head>> {
    let mut bytes = [0; MAX_HEAD];
    let read = read_at(file, at, &mut bytes)?;
    Ok(Head::read(&bytes[..read]))
}

fn byte_at<F: Read + Seek>(file: &mut F, at: u64) -> io::Result<Option<u8>> {
    let mut byte = [0];
    Ok((read_at(file, at, &mut byte)? == 1).then_some(byte[0]))
}

/// Reads what there is, up to the length of `bytes`.
fn read_at<F: Read + Seek>(file: &mut F, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(at))?;
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}
