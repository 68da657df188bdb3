//! What stands before the first fragment: which tracks there are, and what decoders must know of them.

use std::time::{SystemTime, UNIX_EPOCH};

use veche_sfu_core::media::{Codec, MediaKind};

use super::boxes::{put_each, put16, put32, put64, write as write_box, write_free, write_full};
use crate::container::Track;

/// Ticks of the file's own durations in a second; tracks have those of [`Codec::clock_rate`].
pub(super) const MOVIE_CLOCK: u64 = 1_000;

/// Left for the duration: a `mehd` box with eight bytes of it.
pub(super) const DURATION_BYTES: usize = 20;

/// From 1904, where the dates of MP4 begin, to 1970, in seconds.
const MP4_EPOCH: u64 = 2_082_844_800;

/// A picture as it is: neither turned nor stretched.
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// Writes the head of a file; returns where in it the place for the duration is. Track numbers are indices from 1 on.
pub(crate) fn write(tracks: &[Track], date: SystemTime, out: &mut Vec<u8>) -> usize {
    write_box(*b"ftyp", out, |out| {
        out.extend_from_slice(b"iso6\0\0\0\0iso6mp41");
        if tracks.iter().any(|track| track.codec == Codec::Av1) {
            out.extend_from_slice(b"av01");
        }
    });
    let date = date.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + MP4_EPOCH;
    let mut duration = 0;
    write_box(*b"moov", out, |out| {
        write_full(*b"mvhd", 1, 0, out, |out| {
            put64(date, out);
            put64(date, out);
            put32(MOVIE_CLOCK as u32, out);
            put64(0, out);
            put32(0x1_0000, out);
            put16(0x100, out);
            out.extend_from_slice(&[0; 10]);
            put_each(&MATRIX, out);
            out.extend_from_slice(&[0; 24]);
            put32(tracks.len() as u32 + 1, out);
        });
        for (number, track) in (1..).zip(tracks) {
            write_track(number, track, date, out);
        }
        write_box(*b"mvex", out, |out| {
            duration = out.len();
            write_free(DURATION_BYTES, out);
            for number in 1..=tracks.len() as u32 {
                // Its first sample entry; nothing else is the same for all samples.
                write_full(*b"trex", 0, 0, out, |out| put_each(&[number, 1, 0, 0, 0], out));
            }
        });
    });
    duration
}

fn write_track(number: u32, track: &Track, date: u64, out: &mut Vec<u8>) {
    let is_video = track.codec.kind() == MediaKind::Video;
    let (width, height) = track.size.unwrap_or_default();
    write_box(*b"trak", out, |out| {
        // It is used, and shown.
        write_full(*b"tkhd", 1, 3, out, |out| {
            put64(date, out);
            put64(date, out);
            put32(number, out);
            out.extend_from_slice(&[0; 4 + 8 + 8 + 2 + 2]);
            put16(if is_video { 0 } else { 0x100 }, out);
            put16(0, out);
            put_each(&MATRIX, out);
            put32(u32::from(width) << 16, out);
            put32(u32::from(height) << 16, out);
        });
        write_box(*b"mdia", out, |out| {
            write_full(*b"mdhd", 1, 0, out, |out| {
                put64(date, out);
                put64(date, out);
                put32(track.codec.clock_rate(), out);
                put64(0, out);
                // No language is told: "und" in three times five bits.
                put32(0x55c4_0000, out);
            });
            write_full(*b"hdlr", 0, 0, out, |out| {
                put32(0, out);
                out.extend_from_slice(if is_video { b"vide" } else { b"soun" });
                out.extend_from_slice(&[0; 12]);
                out.extend(track.name.bytes().filter(|byte| *byte != 0));
                out.push(0);
            });
            write_box(*b"minf", out, |out| write_media(track, is_video, out));
        });
    });
}

fn write_media(track: &Track, is_video: bool, out: &mut Vec<u8>) {
    if is_video {
        write_full(*b"vmhd", 0, 1, out, |out| out.extend_from_slice(&[0; 8]));
    } else {
        write_full(*b"smhd", 0, 0, out, |out| out.extend_from_slice(&[0; 4]));
    }
    write_box(*b"dinf", out, |out| {
        write_full(*b"dref", 0, 0, out, |out| {
            put32(1, out);
            // In this file.
            write_full(*b"url ", 0, 1, out, |_| {});
        });
    });
    write_box(*b"stbl", out, |out| {
        write_full(*b"stsd", 0, 0, out, |out| {
            put32(1, out);
            write_entry(track, out);
        });
        // All samples are in fragments.
        for name in [b"stts", b"stsc", b"stco"] {
            write_full(*name, 0, 0, out, |out| put32(0, out));
        }
        write_full(*b"stsz", 0, 0, out, |out| put64(0, out));
    });
}

/// The sample entry: how a track is encoded.
fn write_entry(track: &Track, out: &mut Vec<u8>) {
    let (entry, configuration) = match track.codec {
        Codec::H264 => (b"avc1", b"avcC"),
        Codec::H265 => (b"hvc1", b"hvcC"),
        Codec::Av1 => (b"av01", b"av1C"),
        Codec::Vp9 => (b"vp09", b"vpcC"),
        Codec::Vp8 => (b"vp08", b"vpcC"),
        Codec::Opus => (b"Opus", b"dOps"),
    };
    write_box(*entry, out, |out| {
        out.extend_from_slice(&[0; 6]);
        put16(1, out);
        if track.codec == Codec::Opus {
            write_sound(out);
            // Two channels, nothing to be skipped (the stream was joined somewhere), 48 kHz, no gain.
            write_box(*configuration, out, |out| {
                out.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0xbb, 0x80, 0, 0, 0]);
            });
            return;
        }
        write_picture(track.size.unwrap_or_default(), out);
        if matches!(track.codec, Codec::Vp8 | Codec::Vp9) {
            write_full(*configuration, 1, 0, out, |out| out.extend_from_slice(&track.private));
        } else {
            write_box(*configuration, out, |out| out.extend_from_slice(&track.private));
        }
    });
}

fn write_sound(out: &mut Vec<u8>) {
    put64(0, out);
    // Two channels of 16 bits.
    put32(0x2_0010, out);
    put32(0, out);
    put32(48_000 << 16, out);
}

fn write_picture((width, height): (u16, u16), out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 16]);
    put16(width, out);
    put16(height, out);
    // 72 dots in an inch.
    put32(72 << 16, out);
    put32(72 << 16, out);
    put32(0, out);
    put16(1, out);
    out.extend_from_slice(&[0; 32]);
    put16(0x18, out);
    put16(u16::MAX, out);
}
