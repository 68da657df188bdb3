//! Recordings of people who come late, mute, lose packets, switch layers, and whose clocks drift: what is in the files stands where
//! it belongs, as ffprobe reads them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use smallvec::SmallVec;
use veche_recorder_core::container::Patch;
use veche_recorder_core::manifest::{Codec as FileCodec, End, File, Manifest};
use veche_recorder_core::session::{FileId, Output, Plan, Profile, Sent, Session};
use veche_sfu_core::allocation::Level;
use veche_sfu_core::bridge::packet::{BridgeReport, StreamId};
use veche_sfu_core::bridge::{LayerView, News, TrackNews};
use veche_sfu_core::ids::{Mid, ParticipantId, PayloadType, Rid, TrackId};
use veche_sfu_core::media::{Codec, CodecProfile, ExtensionIds, MediaKind, NegotiatedCodec, Source};
use veche_sfu_core::receive::sublayers::SubLayerView;
use veche_sfu_core::sdp::{PublishedLayer, PublishedSection};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;

/// When the recording begins, in server time: the server has been there for a while.
const BEGAN: i64 = 77 * SECOND;

/// A recording, and what it has written.
struct Stage {
    session: Session,
    now: i64,
    files: BTreeMap<FileId, (String, Vec<u8>)>,
    taken: BTreeMap<TrackId, u8>,
    /// Key frames that were asked for and not yet made.
    asked: Vec<(TrackId, u8)>,
    queue: Vec<(i64, Event)>,
}

/// Something that comes at its time.
enum Event {
    Packet { track: TrackId, layer: u8, generation: u32, repaired: bool, bytes: Vec<u8> },
    Report(BridgeReport),
}

/// A stream of somebody: a clock that may drift, and numbers.
struct Sender {
    track: TrackId,
    layer: u8,
    rate: i64,
    /// Parts in a million that its clock is too fast.
    drift: f64,
    generation: u32,
    seq: u16,
    size: (u16, u16),
    wants_key: bool,
}

impl Stage {
    fn new() -> Self {
        let plan = Plan { id: "one".to_owned(), room: "tea".to_owned(), ..Plan::default() };
        let session = Session::new(plan, BEGAN, Instant::now(), SystemTime::UNIX_EPOCH);
        let (files, taken) = (BTreeMap::new(), BTreeMap::new());
        Self { session, now: BEGAN, files, taken, asked: Vec::new(), queue: Vec::new() }
    }

    fn news(&mut self, news: &News) {
        let profile = |peer: &str| Profile { name: peer.to_uppercase(), user: None };
        self.session.handle_news(self.now, news, profile);
        self.carry_out();
    }

    fn join(&mut self, participant: u64, peer: &str) {
        self.news(&News::Joined { participant: ParticipantId(participant), peer: peer.into() });
    }

    /// Somebody's microphone is track 10 n, their camera 10 n + 1.
    fn publish(&mut self, participant: u64, source: Source, layers: usize, muted: bool) -> TrackId {
        let kind = if source == Source::Microphone { MediaKind::Audio } else { MediaKind::Video };
        let codec = if kind == MediaKind::Audio { Codec::Opus } else { Codec::Vp8 };
        let track = TrackId(participant * 10 + u64::from(kind == MediaKind::Video));
        let codec = NegotiatedCodec {
            payload_type: PayloadType(96),
            codec,
            profile: CodecProfile::default(),
            rtx: None,
            red: None,
            nack: true,
            pli: true,
            fir: false,
            transport_cc: false,
        };
        let rid = |n: usize| if layers > 1 { Rid::new(&n.to_string()) } else { None };
        let section = PublishedSection {
            kind,
            active: true,
            codecs: SmallVec::from_iter([codec]),
            layers: (0..layers)
                .map(|n| PublishedLayer { rid: rid(n), ..PublishedLayer::default() })
                .collect(),
        };
        self.news(&News::Track(Box::new(TrackNews {
            participant: ParticipantId(participant),
            reachable: true,
            id: track,
            mid: Mid::new("0").unwrap(),
            section,
            source,
            muted,
            published: self.now,
            extensions: ExtensionIds::default(),
        })));
        track
    }

    fn flowing(&mut self, participant: u64, track: TrackId, layers: &[bool]) {
        let view = |flowing: &bool| LayerView {
            size: None,
            sublayers: vec![SubLayerView {
                spatial: Level::ALL,
                temporal: Level::ALL,
                size: None,
                bits: 1_000,
                frames: 10.0,
                flowing: *flowing,
            }],
        };
        let layers = layers.iter().map(view).collect();
        let participant = ParticipantId(participant);
        self.news(&News::Layers { participant, track, asked: u8::MAX, layers });
    }

    /// A sample of now is sent, and comes after this delay.
    fn send(&mut self, sender: &mut Sender, delay: i64, repaired: bool) {
        let bytes = sender.packet(self.now);
        let Sender { track, layer, generation, .. } = *sender;
        self.queue.push((self.now + delay, Event::Packet { track, layer, generation, repaired, bytes }));
    }

    fn report(&mut self, sender: &Sender, clock_drift: f64) {
        let Sender { track, layer, generation, .. } = *sender;
        let stream = StreamId { track, layer, generation };
        let ntp =
            ((self.now as f64 * (1.0 + clock_drift / 1e6)) / 1e9 * 2f64.powi(32)) as u64 + (7_000 << 32);
        let arrived = self.now + 25 * MS;
        let rtp_timestamp = sender.timestamp(self.now);
        self.queue.push((arrived, Event::Report(BridgeReport { stream, arrived, ntp, rtp_timestamp })));
    }

    /// Time goes on, and what is due comes.
    fn go_on(&mut self, time: i64) {
        self.now += time;
        let now = self.now;
        let mut due: Vec<_> = self.queue.extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        for (arrived, event) in due {
            match event {
                Event::Packet { track, layer, generation, repaired, bytes } => {
                    let is_sound = track.0.is_multiple_of(10);
                    if is_sound || self.taken.get(&track).is_some_and(|taken| taken & 1 << layer != 0) {
                        let bytes = &bytes;
                        let sent = Sent { track, layer, generation, repaired, arrived, bytes };
                        self.session.handle_packet(arrived, &sent);
                    }
                }
                Event::Report(report) => self.session.handle_report(&report),
            }
        }
        self.session.handle_timeout(now);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Take { track, layers } => drop(self.taken.insert(track, layers)),
                Output::KeyFrame { track, layer } => self.asked.push((track, layer)),
                Output::Open { file, name, bytes } => drop(self.files.insert(file, (name, bytes))),
                Output::Write { file, bytes } => self.files.get_mut(&file).unwrap().1.extend(bytes),
                Output::Close { file, bytes, patches } => {
                    let whole = &mut self.files.get_mut(&file).unwrap().1;
                    whole.extend(bytes);
                    for Patch { position, bytes } in patches {
                        let at = position as usize;
                        whole[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> Manifest {
        self.session.finish(self.now, End::Stopped);
        self.carry_out();
        let manifest = self.session.manifest().clone();
        for (file, (name, bytes)) in self.files.values().enumerate() {
            assert_eq!((name, bytes.len() as u64), (&manifest.files[file].name, manifest.files[file].bytes));
        }
        manifest
    }

    /// When the frames of a kind in a file are, in milliseconds of the recording.
    fn times(&self, manifest: &Manifest, file: &File, kind: &str) -> Vec<i64> {
        let path =
            std::env::temp_dir().join(format!("veche-session-{}-{self:p}-{}", std::process::id(), file.name));
        let index = manifest.files.iter().position(|other| other == file).unwrap();
        std::fs::write(&path, &self.files[&FileId(index)].1).unwrap();
        let probe =
            ["-v", "error", "-select_streams", kind, "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
        let output =
            Command::new("ffprobe").args(probe).arg(&path).output().expect("scripts/need media installs it");
        std::fs::remove_file(&path).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let seconds = text.lines().map(|line| line.trim_end_matches(',').parse::<f64>().unwrap());
        seconds.map(|at| (at * 1_000.0) as i64 + file.offset_ms as i64).collect()
    }
}

impl Sender {
    fn new(track: TrackId, layer: u8, size: (u16, u16)) -> Self {
        let rate = if track.0.is_multiple_of(10) { 48_000 } else { 90_000 };
        Self { track, layer, rate, drift: 0.0, generation: 0, seq: 65_000, size, wants_key: true }
    }

    fn timestamp(&self, now: i64) -> u32 {
        let samples = (now - BEGAN) as f64 / 1e9 * self.rate as f64 * (1.0 + self.drift / 1e6);
        (samples as i64 + 0xffff_0000) as u32
    }

    fn packet(&mut self, now: i64) -> Vec<u8> {
        let is_sound = self.rate == 48_000;
        let mut bytes = vec![0x80, 0x60 | if is_sound { 0 } else { 0x80 }];
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.timestamp(now).to_be_bytes());
        bytes.extend([0, 0, 0, 1]);
        self.seq = self.seq.wrapping_add(1);
        if is_sound {
            bytes.extend([0xf8, 0xff, 0xfe]);
        } else if std::mem::take(&mut self.wants_key) {
            // RFC 7741 section 4.2, RFC 6386 section 9.1.
            bytes.extend([0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a]);
            bytes.extend(self.size.0.to_le_bytes());
            bytes.extend(self.size.1.to_le_bytes());
            bytes.extend([0; 20]);
        } else {
            bytes.extend([0x10, 0x11, 0x02, 0x00, 1, 2, 3]);
        }
        bytes
    }

    /// Makes a key frame where one was asked for.
    fn listen(&mut self, stage: &mut Stage) {
        let before = stage.asked.len();
        stage.asked.retain(|asked| *asked != (self.track, self.layer));
        self.wants_key |= stage.asked.len() < before;
    }
}

#[test]
fn two_hours_with_clocks_that_drift_stay_in_step() {
    let mut stage = Stage::new();
    stage.join(1, "ann");
    let (voice, camera) =
        (stage.publish(1, Source::Microphone, 1, false), stage.publish(1, Source::Camera, 1, false));
    let mut voice = Sender { drift: 200.0, ..Sender::new(voice, 0, (0, 0)) };
    let mut camera = Sender { drift: -200.0, ..Sender::new(camera, 0, (320, 180)) };
    let mut rng = StdRng::seed_from_u64(5);
    let (mut tick, mut spoken, mut shown) = (0_i64, Vec::new(), Vec::new());
    while stage.now < BEGAN + 7_200 * SECOND {
        let at = (stage.now - BEGAN) / MS;
        // Enough of both to see them at the same moments.
        let jitter = rng.random_range(0..20) * MS;
        stage.send(&mut voice, 30 * MS + jitter, false);
        spoken.push(at);
        if tick % 2 == 0 {
            camera.listen(&mut stage);
            stage.send(&mut camera, 40 * MS + jitter, false);
            shown.push(at);
        }
        if tick % 10 == 0 {
            stage.report(&voice, 100.0);
            stage.report(&camera, 100.0);
        }
        stage.go_on(100 * MS);
        tick += 1;
    }
    for _ in 0..20 {
        stage.go_on(100 * MS);
    }
    let manifest = stage.finish();
    assert_eq!(manifest.files.len(), 1, "{:?}", manifest.files);
    let (sound, pictures) =
        (stage.times(&manifest, &manifest.files[0], "a"), stage.times(&manifest, &manifest.files[0], "v"));
    assert_eq!((sound.len(), pictures.len()), (spoken.len(), shown.len()));
    let late = |written: &[i64], taken: &[i64]| -> Vec<i64> {
        written.iter().zip(taken).map(|(written, taken)| written - taken).collect()
    };
    let (sound, pictures) = (late(&sound, &spoken), late(&pictures, &shown));
    let apart = pictures.iter().enumerate().map(|(n, late)| (late - sound[n * 2]).abs()).max().unwrap();
    println!(
        "sound and picture are at most {apart} ms apart; late by {:?} and {:?} at the end",
        sound.last(),
        pictures.last()
    );
    assert!(apart <= 40, "{apart} ms apart");
    assert!(sound.iter().all(|late| (-20..150).contains(late)), "on the server's clock: {:?}", sound.last());
}

#[test]
fn silence_keeps_its_length_and_who_comes_late_begins_late() {
    let mut stage = Stage::new();
    stage.join(1, "ann");
    let voice = stage.publish(1, Source::Microphone, 1, false);
    let mut ann = Sender::new(voice, 0, (0, 0));
    let mut bob = None;
    let mut tick = 0;
    while stage.now < BEGAN + 12 * SECOND {
        let at = (stage.now - BEGAN) / MS;
        match at {
            3_000 => drop(stage.publish(1, Source::Microphone, 1, true)),
            6_000 => {
                stage.publish(1, Source::Microphone, 1, false);
                // What was sent meanwhile was not heard, and the stream began anew.
                ann = Sender { generation: 1, seq: 9, ..ann };
            }
            7_000 => {
                stage.join(2, "bob");
                let voice = stage.publish(2, Source::Microphone, 1, false);
                let camera = stage.publish(2, Source::Camera, 1, false);
                bob = Some((Sender::new(voice, 0, (0, 0)), Sender::new(camera, 0, (640, 360))));
            }
            10_000 => stage.news(&News::Left { participant: ParticipantId(1) }),
            _ => {}
        }
        if !(3_000..6_000).contains(&at) && at < 10_000 {
            stage.send(&mut ann, 30 * MS, false);
        }
        if let Some((voice, camera)) = &mut bob {
            stage.send(voice, 30 * MS, false);
            camera.listen(&mut stage);
            if tick % 2 == 0 {
                stage.send(camera, 45 * MS, false);
            }
        }
        stage.go_on(20 * MS);
        tick += 1;
    }
    let manifest = stage.finish();
    let names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["001-ann-person-1.webm", "002-bob-person-1.webm"]);
    let people: Vec<_> =
        manifest.participants.iter().map(|p| (p.name.as_str(), p.joined_ms, p.left_ms)).collect();
    assert_eq!(people, [("ANN", 0, Some(10_000)), ("BOB", 7_000, Some(12_000))]);
    let sound = stage.times(&manifest, &manifest.files[0], "a");
    // The last came when she had left.
    assert_eq!(sound.len(), 349);
    let (gap, after) = sound.windows(2).map(|pair| (pair[1] - pair[0], pair[1])).max().unwrap();
    assert!((2_960..3_060).contains(&gap), "{gap} ms of silence");
    assert!((6_000..6_060).contains(&after), "{after}");
    assert!((6_990..7_080).contains(&manifest.files[1].offset_ms), "{:?}", manifest.files[1]);
    let codecs: Vec<_> = manifest.files[1].tracks.iter().map(|track| track.codec).collect();
    assert_eq!(codecs, [FileCodec::Vp8, FileCodec::Opus]);
    assert_eq!(manifest.gaps, []);
}

#[test]
fn a_better_layer_goes_on_in_another_file_without_a_gap_in_time() {
    let mut stage = Stage::new();
    stage.join(1, "ann");
    let camera = stage.publish(1, Source::Camera, 2, false);
    let mut layers = [Sender::new(camera, 0, (320, 180)), Sender::new(camera, 1, (1280, 720))];
    while stage.now < BEGAN + 12 * SECOND {
        let at = (stage.now - BEGAN) / MS;
        let high = (4_000..8_000).contains(&at);
        match at {
            0 | 8_400 => stage.flowing(1, camera, &[true, false]),
            4_040 => stage.flowing(1, camera, &[true, true]),
            _ => {}
        }
        for layer in &mut layers {
            layer.listen(&mut stage);
            if layer.layer == 0 || high {
                stage.send(layer, 40 * MS, false);
            }
        }
        stage.go_on(40 * MS);
    }
    assert_eq!(stage.taken[&camera], 0b11, "the one that comes, and the best, should it come again");
    let manifest = stage.finish();
    let sizes: Vec<_> = manifest.files.iter().map(|file| file.tracks[0].size.unwrap()).collect();
    assert_eq!(sizes, [(320, 180), (1280, 720), (320, 180)]);
    for pair in manifest.files.windows(2) {
        let gap = pair[1].offset_ms as i64 - pair[0].end_ms() as i64;
        // The second change waits until it is known that nothing comes.
        assert!((0..700).contains(&gap), "{gap} ms between {pair:?}");
    }
    let first = manifest.files[1].offset_ms as i64 - manifest.files[0].end_ms() as i64;
    assert!(first <= 40, "the next picture is in the next file: {first} ms");
}

#[test]
fn what_is_lost_for_good_is_said_and_shifts_nothing() {
    let mut stage = Stage::new();
    stage.join(1, "ann");
    let (voice, camera) =
        (stage.publish(1, Source::Microphone, 1, false), stage.publish(1, Source::Camera, 1, false));
    let (mut voice, mut camera) = (Sender::new(voice, 0, (0, 0)), Sender::new(camera, 0, (320, 180)));
    let mut rng = StdRng::seed_from_u64(8);
    let (mut tick, mut sent, mut lost) = (0, 0, 0);
    while stage.now < BEGAN + 30 * SECOND {
        let senders: &mut [&mut Sender] =
            if tick % 2 == 0 { &mut [&mut voice, &mut camera] } else { &mut [&mut voice] };
        for sender in senders {
            sender.listen(&mut stage);
            sent += 1;
            match rng.random_range(0..100) {
                0..5 => stage.send(sender, rng.random_range(100..800) * MS, true),
                5 => {
                    lost += 1;
                    sender.packet(stage.now);
                }
                _ => stage.send(sender, rng.random_range(20..45) * MS, false),
            }
        }
        stage.go_on(20 * MS);
        tick += 1;
    }
    for _ in 0..100 {
        stage.go_on(20 * MS);
    }
    let manifest = stage.finish();
    assert!(lost > 10, "{lost} of {sent}");
    assert_eq!(manifest.files.len(), 1, "{:?}", manifest.files);
    let sound = stage.times(&manifest, &manifest.files[0], "a");
    // Where it stands is when it was said, whatever is missing before it.
    assert!((29_900..30_060).contains(sound.last().unwrap()), "{:?}", sound.last());
    assert!(sound.len() > 1_450, "{}", sound.len());
    let pictures: Vec<_> = manifest.gaps.iter().filter(|gap| gap.duration_ms > 30).collect();
    assert!(!pictures.is_empty(), "gaps of pictures are told: {:?}", manifest.gaps);
    let shown = stage.times(&manifest, &manifest.files[0], "v");
    let missing: i64 = shown.windows(2).map(|pair| pair[1] - pair[0] - 40).filter(|gap| *gap > 20).sum();
    let told: i64 = pictures.iter().map(|gap| gap.duration_ms as i64 - 40).sum();
    assert!((missing - told).abs() < 400, "{missing} ms are missing, {told} are told");
}
