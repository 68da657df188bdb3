//! Recorded media, sent in a loop: VP8 in IVF, H264 as an Annex B stream, Opus in Ogg.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use veche_sfu_core::media::Codec;

/// A recording, cut into the payloads of packets.
#[derive(Debug)]
pub struct Recording {
    /// Its codec.
    pub codec: Codec,
    /// From one frame to the next.
    pub interval: Duration,
    /// Its frames; there is at least one.
    pub frames: Vec<RecordedFrame>,
}

/// One frame of video, or one packet of sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFrame {
    /// A decoder can begin here.
    pub key: bool,
    /// What its packets carry. VP8's payload descriptors are not yet there: they count pictures.
    pub payloads: Vec<Vec<u8>>,
}

/// Bytes of a payload at most, as libwebrtc has it.
const MAX_PAYLOAD: usize = 1_100;
/// Annex B says nothing of time.
const H264_RATE: u32 = 30;

impl Recording {
    /// Reads a file; its beginning tells what it is.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&bytes).with_context(|| format!("{}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let recording = match bytes {
            [b'D', b'K', b'I', b'F', ..] => read_ivf(bytes)?,
            [b'O', b'g', b'g', b'S', ..] => read_ogg(bytes)?,
            [0, 0, 1, ..] | [0, 0, 0, 1, ..] => read_annex_b(bytes),
            _ => bail!("neither IVF nor Ogg nor an H264 stream"),
        };
        ensure!(!recording.frames.is_empty(), "it has no frames");
        ensure!(!recording.interval.is_zero(), "its frames take no time");
        ensure!(recording.frames[0].key, "it does not begin with a key frame");
        Ok(recording)
    }

    /// The next frame at or after this one at which a decoder can begin, around the end where needed.
    pub fn next_key(&self, from: usize) -> usize {
        let count = self.frames.len();
        let candidates = (0..count).map(|offset| (from + offset) % count);
        candidates.into_iter().find(|&index| self.frames[index].key).unwrap_or(0)
    }
}

/// A header of 32 bytes, then frames with a head of 12 (https://wiki.multimedia.cx/index.php/IVF).
fn read_ivf(bytes: &[u8]) -> Result<Recording> {
    let header = bytes.first_chunk::<32>().context("the IVF header is cut off")?;
    ensure!(header[8..12] == *b"VP80", "only VP8 is understood in IVF");
    let number = |at: usize| header[at..at + 4].iter().rev().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
    let (rate, scale) = (number(16), number(20));
    ensure!(rate > 0 && scale > 0 && rate / scale <= 240, "a frame rate of {rate}/{scale}");
    let mut rest = bytes.get(usize::from(header[6])..).context("the IVF header is cut off")?;
    let mut frames = Vec::new();
    while let Some((head, body)) = rest.split_first_chunk::<12>() {
        let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let frame = body.get(..len).context("the last frame is cut off")?;
        if let Some(first) = frame.first() {
            let payloads = frame.chunks(MAX_PAYLOAD).map(<[u8]>::to_vec).collect();
            frames.push(RecordedFrame { key: first & 1 == 0, payloads });
        }
        rest = &body[len..];
    }
    Ok(Recording { codec: Codec::Vp8, interval: Duration::from_secs(1) * scale / rate, frames })
}

/// NAL units behind start codes. A slice with `first_mb_in_slice` 0 begins a picture, and what precedes it belongs to it.
fn read_annex_b(bytes: &[u8]) -> Recording {
    let mut frames: Vec<RecordedFrame> = Vec::new();
    let mut units: Vec<&[u8]> = Vec::new();
    let mut picture = false;
    for unit in nal_units(bytes) {
        let (kind, begins) = (unit[0] & 0x1f, unit.get(1).is_some_and(|byte| byte & 0x80 != 0));
        let slice = matches!(kind, 1 | 5);
        // Access unit delimiters, parameter sets and SEI stand before a picture (ITU-T H.264 section 7.4.1.2.3).
        if picture && (!slice || begins) && matches!(kind, 1 | 5..=9) {
            frames.push(packetize_h264(&units));
            units.clear();
            picture = false;
        }
        picture |= slice;
        if kind != 9 {
            units.push(unit);
        }
    }
    if picture {
        frames.push(packetize_h264(&units));
    }
    // What comes before the first key frame cannot be decoded.
    let first = frames.iter().position(|frame| frame.key).unwrap_or(frames.len());
    frames.drain(..first);
    Recording { codec: Codec::H264, interval: Duration::from_secs(1) / H264_RATE, frames }
}

fn nal_units(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, code)| code == &[0, 0, 1]).map(|(at, _)| at + 3).collect();
    let ends = starts.iter().skip(1).map(|next| next - 3).chain([bytes.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &bytes[*start..end];
        // Zeros before the next start code belong to it.
        let len = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        &unit[..len]
    };
    starts.iter().zip(ends).map(unit).filter(|unit| !unit.is_empty()).collect()
}

/// RFC 6184 section 5.2.
const FU_A: u8 = 0x1c;

/// RFC 6184: units that fit are packets; larger ones are cut into FU-A (section 5.8).
fn packetize_h264(units: &[&[u8]]) -> RecordedFrame {
    let mut payloads = Vec::new();
    for unit in units {
        if unit.len() <= MAX_PAYLOAD {
            payloads.push(unit.to_vec());
            continue;
        }
        let (head, body) = (unit[0], &unit[1..]);
        let count = body.len().div_ceil(MAX_PAYLOAD - 2);
        for (index, part) in body.chunks(MAX_PAYLOAD - 2).enumerate() {
            let ends = u8::from(index == 0) << 7 | u8::from(index + 1 == count) << 6;
            let mut payload = vec![head & 0xe0 | FU_A, ends | head & 0x1f];
            payload.extend_from_slice(part);
            payloads.push(payload);
        }
    }
    RecordedFrame { key: units.iter().any(|unit| unit[0] & 0x1f == 5), payloads }
}

/// Packets of Ogg pages (RFC 3533), behind the two headers of Opus (RFC 7845 section 3).
fn read_ogg(bytes: &[u8]) -> Result<Recording> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut packet = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let header = rest.first_chunk::<27>().context("an Ogg page is cut off")?;
        ensure!(header.starts_with(b"OggS"), "an Ogg page is damaged");
        let segments = usize::from(header[26]);
        let table = rest.get(27..27 + segments).context("an Ogg page is cut off")?;
        let mut at = 27 + segments;
        for &len in table {
            let part = rest.get(at..at + usize::from(len)).context("an Ogg page is cut off")?;
            packet.extend_from_slice(part);
            at += usize::from(len);
            // A segment of less than 255 bytes ends its packet.
            if len < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        rest = &rest[at..];
    }
    ensure!(
        packets.first().is_some_and(|head| head.starts_with(b"OpusHead")),
        "only Opus is understood in Ogg"
    );
    let frames: Vec<RecordedFrame> = packets
        .into_iter()
        .skip(2)
        .filter(|packet| !packet.is_empty())
        .map(|packet| RecordedFrame { key: true, payloads: vec![packet] })
        .collect();
    let interval = frames.first().map_or(Duration::ZERO, |frame| opus_duration(&frame.payloads[0]));
    let even = frames.iter().all(|frame| opus_duration(&frame.payloads[0]) == interval);
    ensure!(even, "its packets differ in length");
    Ok(Recording { codec: Codec::Opus, interval, frames })
}

/// RFC 6716 section 3.1.
fn opus_duration(packet: &[u8]) -> Duration {
    let head = packet[0];
    let frame = match head >> 3 {
        config @ 0..=11 => [10_000, 20_000, 40_000, 60_000][usize::from(config & 3)],
        config @ 12..=15 => [10_000, 20_000][usize::from(config & 1)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config & 3)],
    };
    let count = match head & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1).map_or(1, |count| count & 0x3f)),
    };
    Duration::from_micros(frame) * count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ivf(frames: &[&[u8]]) -> Vec<u8> {
        let mut out = b"DKIF\0\0\x20\0VP80\x40\x01\xb4\0\x1e\0\0\0\x01\0\0\0".to_vec();
        out.resize(32, 0);
        for frame in frames {
            out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            out.extend_from_slice(&[0; 8]);
            out.extend_from_slice(frame);
        }
        out
    }

    fn page(packets: &[&[u8]]) -> Vec<u8> {
        let mut out = b"OggS".to_vec();
        out.resize(26, 0);
        let mut table = Vec::new();
        for packet in packets {
            table.resize(table.len() + packet.len() / 255, 255);
            table.push((packet.len() % 255) as u8);
        }
        out.push(table.len() as u8);
        out.extend_from_slice(&table);
        out.extend(packets.concat());
        out
    }

    #[test]
    fn frames_of_ivf_are_cut_into_payloads() {
        let key = [0x10; 2_500];
        let recording = Recording::parse(&ivf(&[&key, &[0x11; 300], &[0x10; 9]])).unwrap();
        assert_eq!((recording.codec, recording.interval), (Codec::Vp8, Duration::from_secs(1) / 30));
        let sizes: Vec<Vec<usize>> =
            recording.frames.iter().map(|frame| frame.payloads.iter().map(Vec::len).collect()).collect();
        assert_eq!(sizes, [vec![1_100, 1_100, 300], vec![300], vec![9]]);
        assert_eq!([0, 1, 2].map(|from| recording.next_key(from)), [0, 2, 2]);
        assert_eq!(recording.next_key(3), 0);
    }

    #[test]
    fn packets_of_ogg_come_out_behind_the_headers() {
        let long = [0xfc; 600];
        let file = [page(&[b"OpusHead"]), page(&[b"OpusTags"]), page(&[&[0xfc; 100], &long])].concat();
        let recording = Recording::parse(&file).unwrap();
        assert_eq!((recording.codec, recording.interval), (Codec::Opus, Duration::from_millis(20)));
        assert_eq!(recording.frames.len(), 2);
        assert_eq!(recording.frames[1].payloads, [long]);
    }

    #[test]
    fn units_of_annex_b_are_gathered_into_pictures() {
        let mut file =
            vec![0, 0, 0, 1, 0x09, 0xf0, 0, 0, 0, 1, 0x67, 1, 2, 0, 0, 1, 0x68, 3, 0, 0, 1, 0x65, 0x88];
        file.resize(file.len() + 2_000, 7);
        file.extend_from_slice(&[0, 0, 1, 0x65, 0x08, 5]);
        file.extend_from_slice(&[0, 0, 0, 1, 0x41, 0x9a, 4, 0, 0, 1, 0x41, 0x9b, 4]);
        let recording = Recording::parse(&file).unwrap();
        let keys: Vec<bool> = recording.frames.iter().map(|frame| frame.key).collect();
        assert_eq!(keys, [true, false, false]);
        let key = &recording.frames[0].payloads;
        assert_eq!(key[..2], [vec![0x67, 1, 2], vec![0x68, 3]]);
        assert_eq!((&key[2][..3], key[2].len()), (&[0x7c, 0x85, 0x88][..], 1_100));
        assert_eq!((&key[3][..2], key[3].len(), key.len()), (&[0x7c, 0x45][..], 2 + 2_001 - 1_098, 5));
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        for bytes in [&b""[..], b"RIFF", b"DKIF", b"OggS", &ivf(&[]), &ivf(&[&[0x11; 10]])] {
            assert!(Recording::parse(bytes).is_err());
        }
        let whole = [ivf(&[&[0x10; 50]]), page(&[b"OpusHead"])];
        for file in whole {
            for len in 0..file.len() {
                assert!(Recording::parse(&file[..len]).is_err());
            }
        }
    }
}
