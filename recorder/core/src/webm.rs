//! WebM files (RFC 9559, and the WebM guidelines): VP8, VP9, AV1 and Opus, written so that they play at any moment of being
//! written, and after the writer was killed.
//!
//! A file grows by whole clusters, whose size is known: of at most a second, or less where that is much. What only the end can tell is put into places
//! that were left for it: how long it is, and where its index is. [`mend`] does the same for a file that was never finished.

mod ebml;
mod index;
pub mod mend;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use veche_sfu_core::media::{Codec, MediaKind};

pub use crate::container::{Patch, Track};
use crate::stream::TimedFrame;
use ebml::{Element, float, string, unsigned};
use index::{CuePoint, Index};

/// Writes one file: each function gives the bytes that are to be put behind what is there.
#[derive(Debug)]
pub struct Writer {
    tracks: Vec<MediaKind>,
    /// The server time at which the file begins.
    began: i64,
    /// Where the next byte goes, from the beginning of the segment's data.
    position: u64,
    cluster: Option<Cluster>,
    index: Index,
}

/// A second, or less, of frames.
#[derive(Debug)]
struct Cluster {
    /// In milliseconds from the beginning of the file.
    time: u64,
    /// Its blocks.
    blocks: Vec<u8>,
    /// How many there are.
    count: usize,
    /// The key frames in it that the index shall name.
    cues: Vec<CuePoint>,
}

/// How long a cluster gets, in milliseconds of its media.
const CLUSTER_MS: u64 = 1_000;

/// And how large, in bytes and in blocks: the clock of media whose timestamps stand still does not end it.
const CLUSTER_BYTES: usize = 8 << 20;
const CLUSTER_BLOCKS: usize = 4_096;

/// Bits of a block's flags.
const KEY: u8 = 0x80;

/// What Opus wants to decode before it sounds right: 80 ms (RFC 7845 section 4.6).
const OPUS_SEEK_PREROLL: u64 = 80_000_000;

impl Writer {
    /// Begins a file at the server time `began`, which is `date` on the wall.
    pub fn new(tracks: &[Track], began: i64, date: SystemTime) -> (Self, Vec<u8>) {
        let mut head = Vec::new();
        ebml::write_header(&mut head);
        ebml::write_unknown_size(Element::SEGMENT, &mut head);
        let start = head.len();
        index::write_places(date, &mut head);
        ebml::write_master(Element::TRACKS, &mut head, |out| {
            for (number, track) in (1..).zip(tracks) {
                track.write(number, out);
            }
        });
        let kinds = tracks.iter().map(|track| track.codec.kind()).collect();
        let position = (head.len() - start) as u64;
        let index = Index::new(start as u64);
        (Self { tracks: kinds, began, position, cluster: None, index }, head)
    }

    /// Takes the next frame of the track with this index. Gives the bytes of the cluster before it, when it begins one.
    pub fn write(&mut self, track: usize, timed: &TimedFrame) -> Option<Vec<u8>> {
        let time = u64::try_from((timed.time - self.began) / 1_000_000).unwrap_or(0);
        let kind = *self.tracks.get(track)?;
        let is_cue =
            timed.frame.key && (kind == MediaKind::Video || !self.tracks.contains(&MediaKind::Video));
        // Each key frame of the pictures begins a cluster, so that whoever jumps there has nothing before it.
        let ends = |cluster: &Cluster| cluster.is_full(time) || is_cue && kind == MediaKind::Video;
        let finished = self.cluster.as_ref().is_some_and(ends).then(|| self.flush());
        let position = self.position;
        let cluster = self.cluster.get_or_insert_with(|| Cluster {
            time,
            blocks: Vec::new(),
            count: 0,
            cues: Vec::new(),
        });
        if is_cue && cluster.cues.is_empty() {
            cluster.cues.push(CuePoint { time, track: track as u8 + 1, cluster: position });
        }
        let relative = time as i64 - cluster.time as i64;
        let relative = relative.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16;
        let [high, low] = relative.to_be_bytes();
        let head = [0x81 + track as u8, high, low, if timed.frame.key { KEY } else { 0 }];
        ebml::write(Element::SIMPLE_BLOCK, &[&head, &timed.frame.data], &mut cluster.blocks);
        cluster.count += 1;
        self.index.extend_to(time);
        finished.flatten()
    }

    /// The bytes of what was taken since the last ones.
    pub fn flush(&mut self) -> Option<Vec<u8>> {
        let cluster = self.cluster.take()?;
        let mut time = Vec::new();
        ebml::write(Element::TIMESTAMP, &[&unsigned(cluster.time)], &mut time);
        let mut bytes = Vec::with_capacity(cluster.blocks.len() + 32);
        ebml::write(Element::CLUSTER, &[&time, &cluster.blocks], &mut bytes);
        self.position += bytes.len() as u64;
        self.index.cues.extend(cluster.cues);
        Some(bytes)
    }

    /// Ends the file, after the last [`Writer::flush`]: the bytes to be put behind, and those that go to places before.
    pub fn finish(self) -> (Vec<u8>, Vec<Patch>) {
        self.index.finish(self.position)
    }
}

impl Cluster {
    fn is_full(&self, time: u64) -> bool {
        let is_large = self.blocks.len() >= CLUSTER_BYTES || self.count >= CLUSTER_BLOCKS;
        is_large || time >= self.time + CLUSTER_MS
    }
}

impl Track {
    fn write(&self, number: u8, out: &mut Vec<u8>) {
        ebml::write_master(Element::TRACK_ENTRY, out, |out| {
            let kind = self.codec.kind();
            ebml::write(Element::TRACK_NUMBER, &[&unsigned(number.into())], out);
            ebml::write(Element::TRACK_UID, &[&unsigned(number.into())], out);
            ebml::write(Element::TRACK_TYPE, &[&[if kind == MediaKind::Video { 1 } else { 2 }]], out);
            ebml::write(Element::FLAG_LACING, &[&[0]], out);
            ebml::write(Element::CODEC_ID, &[string(codec_id(self.codec))], out);
            if !self.name.is_empty() {
                ebml::write(Element::NAME, &[string(&self.name)], out);
            }
            if self.codec == Codec::Opus {
                ebml::write(Element::CODEC_PRIVATE, &[&opus_head()], out);
                ebml::write(Element::SEEK_PRE_ROLL, &[&unsigned(OPUS_SEEK_PREROLL)], out);
                ebml::write_master(Element::AUDIO, out, |out| {
                    ebml::write(Element::SAMPLING_FREQUENCY, &[&float(48_000.0)], out);
                    ebml::write(Element::CHANNELS, &[&[2]], out);
                });
            } else if !matches!(self.codec, Codec::Vp8 | Codec::Vp9) && !self.private.is_empty() {
                ebml::write(Element::CODEC_PRIVATE, &[&self.private], out);
            }
            if let Some((width, height)) = self.size {
                ebml::write_master(Element::VIDEO, out, |out| {
                    ebml::write(Element::PIXEL_WIDTH, &[&unsigned(width.into())], out);
                    ebml::write(Element::PIXEL_HEIGHT, &[&unsigned(height.into())], out);
                });
            }
        });
    }
}

fn codec_id(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "A_OPUS",
        Codec::Vp8 => "V_VP8",
        Codec::Vp9 => "V_VP9",
        Codec::Av1 => "V_AV1",
        // Matroska has them; WebM does not.
        Codec::H264 => "V_MPEG4/ISO/AVC",
        Codec::H265 => "V_MPEGH/ISO/HEVC",
    }
}

/// RFC 7845 section 5.1: two channels, nothing to be skipped (the stream was joined somewhere), 48 kHz, no gain.
fn opus_head() -> [u8; 19] {
    let mut head = *b"OpusHead\x01\x02\0\0\0\0\0\0\0\0\0";
    head[12..16].copy_from_slice(&48_000u32.to_le_bytes());
    head
}
