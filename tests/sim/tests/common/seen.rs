//! What a person sees and hears in a call, and the people in the stories about networks.

use std::time::{Duration, Instant};

use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::timeline::Decision;
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};
use veche_testkit::network::{Capacity, QueueConfig};
use veche_testkit::world::{BottleneckId, ClientId, World};

use super::{frames_of, millis};

/// A picture that stands still for longer than this is seen to.
const STILL: Duration = Duration::from_millis(250);

/// Bits.
pub const KBIT: u64 = 1_000;

/// As RFC 8867 has it.
pub const RFC_QUEUE: QueueConfig = QueueConfig::Time(Duration::from_millis(300));

/// A camera of 0.14, 0.5 and 1.7 Mbit/s, as browsers send 720p.
pub fn camera(codec: Codec) -> TrackConfig {
    let layer =
        |rid, size, packets, packet_len| LayerConfig { rid: Some(rid), size, rate: 30, packets, packet_len };
    let layers = vec![
        layer("q", (320, 180), 1, 600),
        layer("h", (640, 360), 2, 1050),
        layer("f", (1280, 720), 6, 1180),
    ];
    TrackConfig { layers, ..TrackConfig::simulcast(codec) }
}

/// Somebody who speaks and is seen in this track, and looks at nobody.
pub fn publish(world: &mut World, track: TrackConfig) -> ClientId {
    let tracks = vec![TrackConfig::microphone(), track];
    let id = world.join(1, ClientConfig { tracks, audio_slots: 0, video_slots: 0, ..Default::default() });
    world.with_client(id, |c, _| c.speak(Voice::SPEAKING));
    id
}

/// Somebody who looks at so many others, behind a bottleneck of their own.
pub fn viewer_behind(
    world: &mut World,
    pictures: usize,
    codec: Codec,
    bits: u64,
) -> (ClientId, BottleneckId) {
    let id = viewer(world, pictures, codec);
    let line = world.add_bottleneck(Capacity::constant(bits), RFC_QUEUE);
    world.put_down_behind(id, Some(line));
    (id, line)
}

/// Somebody who looks at so many others.
pub fn viewer(world: &mut World, pictures: usize, codec: Codec) -> ClientId {
    let config = ClientConfig { video_slots: pictures, decodes: vec![codec], ..ClientConfig::viewer() };
    world.join(1, config)
}

/// A client shows its first slots at these sizes, and what the server chooses in them.
pub fn shows_at(world: &mut World, id: ClientId, sizes: &[(u16, u16)]) {
    let wish = |(index, &(width, height)): (usize, &(u16, u16))| SlotWish {
        mid: slot_mid(MediaKind::Video, index),
        show: Show::Auto,
        width,
        height,
    };
    let wishes = sizes.iter().enumerate().map(wish).collect();
    world.subscribe(id, Subscription { auto: true, wishes, ..Default::default() });
}

/// The simulcast layer and the spatial layer of the last picture of `whom`, if there was one lately.
pub fn layer_of(world: &World, eye: ClientId, whom: ClientId) -> Option<(u8, u8)> {
    let frame = frames_of(world, eye, whom, world.ago(millis(500)));
    frame.iter().rfind(|f| f.codec.kind() == MediaKind::Video).map(|f| (f.stamp.layer, f.stamp.spatial))
}

/// When pictures of `whom` were shown.
fn pictures(world: &World, eye: ClientId, whom: ClientId, from: Instant) -> Vec<Instant> {
    let mut frames = frames_of(world, eye, whom, from);
    frames.retain(|f| f.codec.kind() == MediaKind::Video);
    frames.sort_by_key(|f| f.at);
    frames.iter().map(|f| f.at).collect()
}

/// How long the picture of `whom` stood still since then: at most at once, and in all.
pub fn frozen(world: &World, eye: ClientId, whom: ClientId, from: Instant) -> (Duration, Duration) {
    let times = pictures(world, eye, whom, from);
    let (mut last, mut longest, mut all) = (from, Duration::ZERO, Duration::ZERO);
    for at in times.into_iter().chain([world.now]) {
        let gap = at - last;
        longest = longest.max(gap);
        all += if gap > STILL { gap } else { Duration::ZERO };
        last = at;
    }
    (longest, all)
}

/// The longest piece of the voice of `whom` that was never heard since then, and the longest time in which none of it came.
pub fn sound_gap(world: &World, eye: ClientId, whom: ClientId, from: Instant) -> (Duration, Duration) {
    let mut frames = frames_of(world, eye, whom, from);
    frames.retain(|f| f.codec.kind() == MediaKind::Audio);
    let spoken = frames.windows(2).map(|w| w[1].stamp.captured.saturating_sub(w[0].stamp.captured));
    let lost = spoken.max().unwrap_or(world.now - from).saturating_sub(millis(20));
    let times = frames.iter().map(|f| f.at).chain([world.now]);
    let mut last = from;
    let waits = times.map(|at| at - std::mem::replace(&mut last, at)).max().unwrap_or_default();
    (lost, waits)
}

/// How long after they were taken the pictures of `whom` were shown since then: the median, and that of one in twenty.
pub fn delay(world: &World, eye: ClientId, whom: ClientId, from: Instant) -> (Duration, Duration) {
    let mut frames = frames_of(world, eye, whom, from);
    frames.retain(|f| f.codec.kind() == MediaKind::Video);
    let mut delays: Vec<Duration> = frames.iter().map(|f| f.at - (world.start + f.stamp.captured)).collect();
    delays.sort();
    let at = |share: usize| delays.get(delays.len() * share / 20).copied().unwrap_or(Duration::MAX);
    (at(10), at(19))
}

/// The times since the world began, in milliseconds, at which what is shown to a client was changed for whatever reason.
pub fn changes(world: &mut World, eye: ClientId) -> Vec<u64> {
    // The engine's clock begins at this NTP time, and NTP's epoch is 1900.
    let began = (0xec00_0000 - 2_208_988_800) * 1000;
    let entries = world.timeline(eye).into_iter();
    let shown = entries.filter(|e| matches!(e.decision, Decision::Layer { .. } | Decision::Paused { .. }));
    shown.map(|e| e.at_ms - began).collect()
}
