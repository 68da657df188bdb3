//! What comes out plays: pictures of real encoders over a network that loses, delays and mixes up, in files that ffmpeg
//! reads without a complaint.

#[path = "shared/ffmpeg.rs"]
mod ffmpeg;

use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use ffmpeg::{Encoder, Folder, RATE, SECONDS, run};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rtc_rtp::codec::av1::Av1Payloader;
use rtc_rtp::codec::h264::H264Payloader;
use rtc_rtp::codec::h265::HevcPayloader;
use rtc_rtp::codec::vp8::Vp8Payloader;
use rtc_rtp::codec::vp9::Vp9Payloader;
use rtc_rtp::packetizer::Payloader;
use veche_recorder_core::container::{Patch, Track, look};
use veche_recorder_core::interleave::Interleaver;
use veche_recorder_core::opus::SILENCE;
use veche_recorder_core::order::Packet;
use veche_recorder_core::stream::{Stream, TimedFrame};
use veche_recorder_core::{mp4, webm};
use veche_sfu_core::media::{Codec, ExtensionIds};
use veche_sfu_core::receive::media_clock::NtpClock;
use veche_sfu_core::rtp::RtpHeader;

const MS: i64 = 1_000_000;

/// A form of file, and how it is written.
#[derive(Clone, Copy)]
enum Form {
    Webm,
    Mp4,
}

/// Packets of a stream with the times at which they arrive, of which some get lost and come again as repairs.
fn network(seed: u64, packets: Vec<(i64, Vec<u8>)>) -> Vec<Packet> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut arriving: Vec<Packet> = packets
        .into_iter()
        .map(|(sent, bytes)| {
            let repaired = rng.random_bool(0.05);
            let delay = if repaired { rng.random_range(100..700) } else { rng.random_range(20..50) };
            let header = RtpHeader::parse(&bytes).unwrap();
            Packet { arrived: sent + delay * MS, repaired, red: false, header, bytes }
        })
        .collect();
    arriving.sort_by_key(|packet| packet.arrived);
    arriving
}

fn packet(payload_type: u8, marker: bool, seq: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type | u8::from(marker) << 7];
    bytes.extend(seq.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend([0, 0, 0, payload_type]);
    bytes.extend(payload);
    bytes
}

fn pictures(codec: Codec, frames: &[Vec<u8>], payloader: &mut dyn Payloader) -> Vec<Packet> {
    let (mut seq, mut packets) = (65_500_u16, Vec::new());
    for (number, frame) in (0_i64..).zip(frames) {
        let payloads = payloader.payload(1_000, &Bytes::copy_from_slice(frame)).unwrap();
        for (index, payload) in payloads.iter().enumerate() {
            let marker = index + 1 == payloads.len();
            let timestamp = (number * 90_000 / RATE) as u32;
            let payload =
                if codec == Codec::Vp9 { with_prediction(frame, payload) } else { payload.to_vec() };
            packets.push((number * 1_000 / RATE * MS, packet(96, marker, seq, timestamp, &payload)));
            seq = seq.wrapping_add(1);
        }
    }
    network(1, packets)
}

/// The payload of VP9 with a mark that the frame is predicted from others, which the payloader does not set: P in RFC 9628.
fn with_prediction(frame: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    // In the first byte of a frame: two bits of a mark, two of the profile, one of a frame that is known, one of the type.
    if frame[0] & 0x04 != 0 {
        payload[0] = payload[0] & !0x10 | 0x40;
    }
    payload
}

fn sound() -> Vec<Packet> {
    let packets = (0..SECONDS * 50).map(|number| {
        let timestamp = (number as u32).wrapping_mul(960).wrapping_sub(10_000);
        (number * 20 * MS, packet(111, false, number as u16, timestamp, &SILENCE))
    });
    network(2, packets.collect())
}

/// The frames of what arrives, in the order in which a file has them.
fn received(codec: Codec, camera: Vec<Packet>, voice: Vec<Packet>) -> Vec<(usize, TimedFrame)> {
    let mut streams = [codec, Codec::Opus].map(|codec| Stream::new(codec, ExtensionIds::default()));
    let (mut clock, mut interleaver) = (NtpClock::default(), Interleaver::default());
    let mut arriving: Vec<(usize, Packet)> = camera
        .into_iter()
        .map(|packet| (0, packet))
        .chain(voice.into_iter().map(|packet| (1, packet)))
        .collect();
    arriving.sort_by_key(|(_, packet)| packet.arrived);
    let mut arriving = arriving.into_iter().peekable();
    let (mut frames, mut ordered) = (Vec::new(), Vec::new());
    for now in (0..(SECONDS + 3) * 1_000).step_by(20).map(|ms| ms * MS) {
        while let Some((track, packet)) = arriving.next_if(|(_, packet)| packet.arrived <= now) {
            assert!(streams[track].on_packet(packet));
        }
        if now % (1_000 * MS) == 0 {
            let ntp = (now as u64 / 1_000_000_000 + 5_000) << 32;
            streams[0].on_report(&mut clock, now + 20 * MS, ntp, (now / MS * 90) as u32);
            let sound = ((now / MS * 48) as u32).wrapping_sub(10_000);
            streams[1].on_report(&mut clock, now + 20 * MS, ntp, sound);
        }
        for (track, stream) in streams.iter_mut().enumerate() {
            stream.take(now, &mut frames);
            frames.drain(..).for_each(|frame| interleaver.push(track, frame));
        }
        let complete = streams.iter().map(|stream| stream.complete_through(now)).min().unwrap();
        ordered.extend(std::iter::from_fn(|| interleaver.take(complete)));
    }
    assert!(interleaver.take(i64::MAX).is_none());
    ordered
}

/// Writes the frames: the file as it is without an end, and what ends it.
fn written(form: Form, codec: Codec, frames: &[(usize, TimedFrame)]) -> (Vec<u8>, Vec<u8>, Vec<Patch>) {
    let (_, first) = frames.iter().find(|(track, _)| *track == 0).unwrap();
    let camera = Track::of(codec, &first.frame, "Ana's camera".to_owned()).unwrap();
    assert!(frames.iter().all(|(track, timed)| *track == 1 || camera.goes_on_with(&timed.frame)));
    let voice = Track::of(Codec::Opus, &first.frame, String::new()).unwrap();
    // Frames are one type for both forms; their writers are, too.
    macro_rules! write {
        ($writer:ty) => {{
            let (mut writer, mut file) = <$writer>::new(&[camera, voice], 0, SystemTime::now());
            for (track, timed) in frames {
                file.extend(writer.write(*track, timed).unwrap_or_default());
            }
            file.extend(writer.flush().unwrap_or_default());
            let (end, patches) = writer.finish();
            (file, end, patches)
        }};
    }
    match form {
        Form::Webm => write!(webm::Writer),
        Form::Mp4 => write!(mp4::Writer),
    }
}

fn put(file: &Path, bytes: &[u8], end: &[u8], patches: &[Patch]) {
    let mut whole = [bytes, end].concat();
    for Patch { position, bytes } in patches {
        let at = *position as usize;
        whole[at..at + bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(file, whole).unwrap();
}

/// How long the file is, where it tells, and how many packets its tracks have; ffmpeg decodes all of it.
fn played(file: &Path) -> (f64, Vec<usize>) {
    let file = file.to_str().unwrap();
    run("ffmpeg", &["-v", "warning", "-xerror", "-i", file, "-f", "null", "-"]);
    let entries = "format=duration:stream=nb_read_packets";
    let probed =
        run("ffprobe", &["-v", "error", "-count_packets", "-show_entries", entries, "-of", "csv=p=0", file]);
    let mut lines: Vec<&str> = probed.lines().collect();
    let duration = lines.pop().unwrap().parse().unwrap_or(f64::NAN);
    (duration, lines.iter().map(|line| line.trim_end_matches(',').parse().unwrap()).collect())
}

/// The time of the first picture that a player reads when it jumps to `at` seconds.
fn jumped(file: &Path, at: &str) -> f64 {
    let arguments = ["-v", "error", "-noaccurate_seek", "-copyts", "-ss", at, "-i", file.to_str().unwrap()];
    let one = ["-map", "0:v", "-c", "copy", "-frames:v", "1", "-f", "framecrc", "-"];
    let printed = run("ffmpeg", &[&arguments[..], &one].concat());
    let clock = printed.lines().find_map(|line| line.strip_prefix("#tb 0: 1/")).unwrap();
    let time = printed.lines().last().unwrap().split(',').nth(2).unwrap();
    time.trim().parse::<f64>().unwrap() / clock.parse::<f64>().unwrap()
}

fn plays(encoder: Encoder, codec: Codec, forms: &[Form], payloader: &mut dyn Payloader) {
    for form in forms {
        let name = match form {
            Form::Webm => "webm",
            Form::Mp4 => "mp4",
        };
        let folder = Folder::new(&format!("playable-{}-{name}", codec.name()));
        let frames = encoder.frames(&folder.0);
        assert_eq!(frames.len() as i64, SECONDS * RATE);
        let received = received(codec, pictures(codec, &frames, payloader), sound());
        let (file, end, patches) = written(*form, codec, &received);
        let path = folder.0.join(format!("recording.{name}"));
        put(&path, &file, &end, &patches);
        let (duration, packets) = played(&path);
        assert_eq!(packets, [frames.len(), (SECONDS * 50) as usize], "nothing is lost");
        assert!((duration - SECONDS as f64).abs() < 0.1, "{duration}");
        // There is a key frame each two seconds.
        let at = jumped(&path, "3");
        assert!((at - 2.0).abs() < 0.1, "{at}");
        is_mended(&path, &file);
    }
}

/// Killed somewhere: as far as it is whole a file plays, as it is and mended.
fn is_mended(path: &Path, file: &[u8]) {
    let mut rng = StdRng::seed_from_u64(3);
    for cut in std::iter::repeat_with(|| rng.random_range(file.len() / 2..file.len())).take(5) {
        std::fs::write(path, &file[..cut]).unwrap();
        let mend = look(&mut std::fs::File::open(path).unwrap()).unwrap().unwrap();
        let kept = &file[..mend.keep as usize];
        put(path, kept, &[], &[]);
        let as_it_is = played(path);
        put(path, kept, &mend.append, &mend.patches);
        let (duration, packets) = played(path);
        assert_eq!(packets, as_it_is.1);
        assert!(duration > 0.9 && packets[0] as i64 >= RATE && packets[1] >= 45, "{duration} s, {packets:?}");
        assert!((duration - packets[1] as f64 / 50.0).abs() < 0.1, "{duration} s, {packets:?}");
    }
}

#[test]
fn vp8_plays() {
    plays(Encoder::Vp8, Codec::Vp8, &[Form::Webm, Form::Mp4], &mut Vp8Payloader::default());
}

#[test]
fn vp9_plays() {
    plays(Encoder::Vp9, Codec::Vp9, &[Form::Webm, Form::Mp4], &mut Vp9Payloader::default());
}

#[test]
fn av1_plays() {
    plays(Encoder::Av1, Codec::Av1, &[Form::Webm, Form::Mp4], &mut Av1Payloader::default());
}

#[test]
fn h264_plays() {
    plays(Encoder::H264, Codec::H264, &[Form::Mp4], &mut H264Payloader::default());
}

#[test]
fn h265_plays() {
    plays(Encoder::H265, Codec::H265, &[Form::Mp4], &mut HevcPayloader);
}
