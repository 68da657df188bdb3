//! What comes out plays: pictures of real encoders over a network that loses, delays and mixes up, in files that ffmpeg
//! reads without a complaint.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rtc_rtp::codec::av1::Av1Payloader;
use rtc_rtp::codec::vp8::Vp8Payloader;
use rtc_rtp::codec::vp9::Vp9Payloader;
use rtc_rtp::packetizer::Payloader;
use veche_recorder_core::interleave::Interleaver;
use veche_recorder_core::order::Packet;
use veche_recorder_core::stream::Stream;
use veche_recorder_core::webm::mend::look;
use veche_recorder_core::webm::{Patch, Track, Writer};
use veche_sfu_core::media::{Codec, ExtensionIds};
use veche_sfu_core::receive::media_clock::NtpClock;
use veche_sfu_core::rtp::RtpHeader;

const MS: i64 = 1_000_000;
const SECONDS: i64 = 4;
const RATE: i64 = 25;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("veche-playable-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("scripts/need media installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The frames that an encoder makes, as they are in an IVF file.
fn encoded(folder: &Path, options: &[&str]) -> Vec<Vec<u8>> {
    let file = folder.join("camera.ivf");
    let source = format!("testsrc2=size=320x180:rate={RATE}:duration={SECONDS}");
    let arguments =
        [&["-v", "error", "-y", "-f", "lavfi", "-i", &source], options, &[file.to_str().unwrap()]].concat();
    run("ffmpeg", &arguments);
    let bytes = std::fs::read(file).unwrap();
    let (mut rest, mut frames) = (&bytes[32..], Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<12>() {
        let len = u32::from_le_bytes(*head.first_chunk().unwrap()) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    frames
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

fn pictures(frames: &[Vec<u8>], payloader: &mut dyn Payloader) -> Vec<Packet> {
    let (mut seq, mut packets) = (65_500_u16, Vec::new());
    for (number, frame) in (0_i64..).zip(frames) {
        let payloads = payloader.payload(1_000, &Bytes::copy_from_slice(frame)).unwrap();
        for (index, payload) in payloads.iter().enumerate() {
            let marker = index + 1 == payloads.len();
            let timestamp = (number * 90_000 / RATE) as u32;
            packets.push((number * 1_000 / RATE * MS, packet(96, marker, seq, timestamp, payload)));
            seq = seq.wrapping_add(1);
        }
    }
    network(1, packets)
}

/// A silence of Opus.
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

fn sound() -> Vec<Packet> {
    let packets = (0..SECONDS * 50).map(|number| {
        let timestamp = (number as u32).wrapping_mul(960).wrapping_sub(10_000);
        (number * 20 * MS, packet(111, false, number as u16, timestamp, &SILENCE))
    });
    network(2, packets.collect())
}

/// Records what arrives: the file as it is without an end, and what ends it.
fn record(codec: Codec, camera: Vec<Packet>, voice: Vec<Packet>) -> (Vec<u8>, Vec<u8>, Vec<Patch>) {
    let track = |codec, size| Track { codec, size, private: Vec::new(), name: String::new() };
    let tracks = [track(codec, Some((320, 180))), track(Codec::Opus, None)];
    let (mut writer, mut file) = Writer::new(&tracks, 0, SystemTime::now());
    let mut streams = [codec, Codec::Opus].map(|codec| Stream::new(codec, ExtensionIds::default()));
    let (mut clock, mut interleaver) = (NtpClock::default(), Interleaver::default());
    let mut arriving: Vec<(usize, Packet)> = camera
        .into_iter()
        .map(|packet| (0, packet))
        .chain(voice.into_iter().map(|packet| (1, packet)))
        .collect();
    arriving.sort_by_key(|(_, packet)| packet.arrived);
    let mut arriving = arriving.into_iter().peekable();
    let mut frames = Vec::new();
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
        while let Some((track, timed)) = interleaver.take(complete) {
            file.extend(writer.write(track, &timed).unwrap_or_default());
        }
    }
    assert!(interleaver.take(i64::MAX).is_none());
    file.extend(writer.flush().unwrap_or_default());
    let (end, patches) = writer.finish();
    (file, end, patches)
}

fn put(file: &Path, bytes: &[u8], end: &[u8], patches: &[Patch]) {
    let mut whole = [bytes, end].concat();
    for Patch { position, bytes } in patches {
        let at = *position as usize;
        whole[at..at + bytes.len()].copy_from_slice(bytes);
    }
    std::fs::write(file, whole).unwrap();
}

/// How long the file is, and how many packets its tracks have; ffmpeg decodes all of it.
fn played(file: &Path) -> (f64, Vec<usize>) {
    let file = file.to_str().unwrap();
    run("ffmpeg", &["-v", "warning", "-xerror", "-i", file, "-f", "null", "-"]);
    let entries = "format=duration:stream=nb_read_packets";
    let probed =
        run("ffprobe", &["-v", "error", "-count_packets", "-show_entries", entries, "-of", "csv=p=0", file]);
    let mut lines: Vec<&str> = probed.lines().collect();
    let duration = lines.pop().unwrap().parse().unwrap();
    (duration, lines.iter().map(|line| line.trim_end_matches(',').parse().unwrap()).collect())
}

fn plays(name: &str, codec: Codec, options: &[&str], payloader: &mut dyn Payloader) {
    let folder = Folder::new(name);
    let frames = encoded(&folder.0, options);
    assert_eq!(frames.len() as i64, SECONDS * RATE);
    let (file, end, patches) = record(codec, pictures(&frames, payloader), sound());
    let path = folder.0.join("recording.webm");
    put(&path, &file, &end, &patches);
    let (duration, packets) = played(&path);
    assert_eq!(packets, [frames.len(), (SECONDS * 50) as usize], "nothing is lost");
    assert!((duration - SECONDS as f64).abs() < 0.1, "{duration}");

    // Killed somewhere: as far as it is whole it plays, as it is and mended.
    let cut = file.len() * 3 / 5;
    std::fs::write(&path, &file[..cut]).unwrap();
    let mend = look(&mut std::fs::File::open(&path).unwrap()).unwrap().unwrap();
    put(&path, &file[..mend.keep as usize], &mend.append, &mend.patches);
    let (duration, packets) = played(&path);
    assert!(duration > 0.9 && packets[0] as i64 >= RATE && packets[1] >= 45, "{duration} s, {packets:?}");
}

#[test]
fn vp8_plays() {
    let options = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "50", "-b:v", "500k"];
    plays("vp8", Codec::Vp8, &options, &mut Vp8Payloader::default());
}

#[test]
fn vp9_plays() {
    let options = [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "50",
        "-b:v",
        "500k",
        "-lag-in-frames",
        "0",
    ];
    plays("vp9", Codec::Vp9, &options, &mut Vp9Payloader::default());
}

#[test]
fn av1_plays() {
    let options = [
        "-c:v",
        "libaom-av1",
        "-usage",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "50",
        "-b:v",
        "500k",
        "-lag-in-frames",
        "0",
    ];
    plays("av1", Codec::Av1, &options, &mut Av1Payloader::default());
}
