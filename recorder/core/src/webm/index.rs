//! What only the end of a file can tell, and the places that are left for it at the beginning.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::container::Patch;

use super::ebml::{self, Element, LONG_SIZE, float, string, unsigned};

/// A place to which players may jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CuePoint {
    /// In milliseconds.
    pub time: u64,
    pub track: u8,
    /// Where its cluster is, from the beginning of the segment's data.
    pub cluster: u64,
}

/// What is known of a file while it grows.
#[derive(Debug)]
pub(super) struct Index {
    /// Where the segment's data begin in the file.
    segment: u64,
    pub cues: Vec<CuePoint>,
    /// The time of the newest frame, in milliseconds.
    through: u64,
}

/// Left for the list of what is where.
const SEEK_HEAD_BYTES: usize = 64;

/// Left for the duration: two bytes of id, one of size, eight of a number.
const DURATION_BYTES: usize = 11;

/// From 1970 to 2001, where Matroska's dates begin, in seconds.
const MATROSKA_EPOCH: u64 = 978_307_200;

/// Writes the places, and what is known from the beginning on.
pub(super) fn write_places(date: SystemTime, out: &mut Vec<u8>) {
    ebml::write_void(SEEK_HEAD_BYTES, out);
    ebml::write_master(Element::INFO, out, |out| {
        // First, so that it is found again.
        ebml::write_void(DURATION_BYTES, out);
        ebml::write(Element::TIMESTAMP_SCALE, &[&unsigned(1_000_000)], out);
        let since = date.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = since.as_nanos() as i64 - (MATROSKA_EPOCH * 1_000_000_000) as i64;
        ebml::write(Element::DATE, &[&nanos.to_be_bytes()], out);
        for app in [Element::MUXING_APP, Element::WRITING_APP] {
            ebml::write(app, &[string("veche")], out);
        }
    });
}

/// The length of the head of the `Info` element: four bytes of id, one of size.
const INFO_HEAD: u64 = 5;

impl Index {
    /// Of a file whose segment's data begin here.
    pub fn new(segment: u64) -> Self {
        Self { segment, cues: Vec::new(), through: 0 }
    }

    /// The file has a frame of this time.
    pub fn extend_to(&mut self, time: u64) {
        self.through = self.through.max(time);
    }

    /// The time of the newest frame, in milliseconds.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// The end of a file whose last cluster ends at `end`, from the beginning of the segment's data.
    pub fn finish(&self, end: u64) -> (Vec<u8>, Vec<Patch>) {
        let mut cues = Vec::new();
        if !self.cues.is_empty() {
            ebml::write_master(Element::CUES, &mut cues, |out| {
                self.cues.iter().for_each(|cue| cue.write(out));
            });
        }
        let mut seek_head = Vec::new();
        ebml::write_master(Element::SEEK_HEAD, &mut seek_head, |out| {
            write_seek(Element::INFO, SEEK_HEAD_BYTES as u64, out);
            if !cues.is_empty() {
                write_seek(Element::CUES, end, out);
            }
        });
        ebml::write_void(SEEK_HEAD_BYTES - seek_head.len(), &mut seek_head);
        let mut duration = Vec::new();
        ebml::write(Element::DURATION, &[&float(self.through as f64)], &mut duration);
        let size = ebml::long_size(end + cues.len() as u64).to_vec();
        // The size last: a file that has one counts as finished, and whoever is killed between two patches must not leave it so.
        let patches = vec![
            Patch { position: self.segment, bytes: seek_head },
            Patch { position: self.segment + SEEK_HEAD_BYTES as u64 + INFO_HEAD, bytes: duration },
            Patch { position: self.segment - LONG_SIZE as u64, bytes: size },
        ];
        (cues, patches)
    }
}

/// Says where an element is, always in as many bytes.
fn write_seek(element: Element, position: u64, out: &mut Vec<u8>) {
    ebml::write_master(Element::SEEK, out, |out| {
        ebml::write(Element::SEEK_ID, &[&element.0.to_be_bytes()], out);
        ebml::write(Element::SEEK_POSITION, &[&position.to_be_bytes()], out);
    });
}

impl CuePoint {
    fn write(&self, out: &mut Vec<u8>) {
        ebml::write_master(Element::CUE_POINT, out, |out| {
            ebml::write(Element::CUE_TIME, &[&unsigned(self.time)], out);
            ebml::write_master(Element::CUE_TRACK_POSITIONS, out, |out| {
                ebml::write(Element::CUE_TRACK, &[&[self.track]], out);
                ebml::write(Element::CUE_CLUSTER_POSITION, &[&unsigned(self.cluster)], out);
            });
        });
    }
}
