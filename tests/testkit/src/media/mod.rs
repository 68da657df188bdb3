//! What clients send: voices and cameras. The payloads look like their codecs to an SFU, and inside carry a stamp that
//! tells a receiver what it sees: whose frame, which one, taken when, and whether it is whole.

mod payload;
mod scalability;
pub mod stamp;

use std::time::Duration;

use veche_sfu_core::media::{Codec, MediaKind, Source};

use payload::{Bits, FrameHead};
use scalability::FrameKind;
pub use scalability::Scalability;
pub use stamp::Stamp;

/// A voice: an Opus-like packet every 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    /// RFC 6464: 0 is the loudest, 127 is silence.
    pub level: u8,
    /// The encoder believes that it is a voice.
    pub speaking: bool,
}

impl Voice {
    /// Somebody who is silent.
    pub const SILENT: Voice = Voice { level: 127, speaking: false };
    /// Somebody who speaks.
    pub const SPEAKING: Voice = Voice { level: 30, speaking: true };

    /// The extension's byte in a packet: between syllables, a voice falls for a moment.
    pub(crate) fn level_of(self, packet: u32) -> u8 {
        let pause = self.speaking && packet % 20 >= 17;
        let level = if pause { self.level.saturating_add(50) } else { self.level };
        u8::from(self.speaking && !pause) << 7 | level.min(127)
    }

    /// Somebody who speaks this loud.
    pub fn speaking_at(level: u8) -> Self {
        Voice { level, speaking: true }
    }
}

/// The time between two packets of a voice.
pub const VOICE_INTERVAL: Duration = Duration::from_millis(20);

/// A track to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackConfig {
    /// What it shows.
    pub source: Source,
    /// Its codec.
    pub codec: Codec,
    /// Its streams; one without a rid, or several with. A voice has one, of which only the rid counts.
    pub layers: Vec<LayerConfig>,
    /// The sub-layers of each of them.
    pub scalability: Scalability,
    /// From the sample to the network.
    pub delay: Duration,
}

/// One stream of a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// With simulcast.
    pub rid: Option<&'static str>,
    /// Of the pictures.
    pub size: (u16, u16),
    /// Frames in a second.
    pub rate: u32,
    /// Packets of a frame; key frames have three times as many.
    pub packets: u8,
    /// Bytes in a packet.
    pub packet_len: usize,
}

impl LayerConfig {
    /// A layer of about 100 kbit/s at 15 frames a second.
    pub const SMALL: LayerConfig =
        LayerConfig { rid: None, size: (320, 180), rate: 15, packets: 1, packet_len: 800 };
}

impl TrackConfig {
    /// A microphone.
    pub fn microphone() -> Self {
        let layer = LayerConfig { rid: None, size: (0, 0), rate: 50, packets: 1, packet_len: 100 };
        Self {
            source: Source::Microphone,
            codec: Codec::Opus,
            layers: vec![layer],
            scalability: Scalability::L1T1,
            delay: Duration::from_millis(20),
        }
    }

    /// A camera with one stream.
    pub fn camera(codec: Codec) -> Self {
        let layer =
            LayerConfig { size: (640, 360), rate: 30, packets: 2, packet_len: 1000, ..LayerConfig::SMALL };
        let scalability = match codec {
            Codec::Vp8 | Codec::Vp9 => Scalability::L1T2,
            _ => Scalability::L1T1,
        };
        let delay = Duration::from_millis(40);
        Self { source: Source::Camera, codec, layers: vec![layer], scalability, delay }
    }

    /// A camera with one stream of 1280x720 that has sub-layers.
    pub fn scalable(codec: Codec, scalability: Scalability) -> Self {
        let layer = LayerConfig { rid: None, size: (1280, 720), rate: 30, packets: 4, packet_len: 1000 };
        Self { layers: vec![layer], scalability, ..Self::camera(codec) }
    }

    /// A camera with three streams of simulcast.
    pub fn simulcast(codec: Codec) -> Self {
        let layer =
            |rid, size, packets| LayerConfig { rid: Some(rid), size, rate: 30, packets, packet_len: 1000 };
        let layers = vec![layer("q", (320, 180), 1), layer("h", (640, 360), 2), layer("f", (1280, 720), 5)];
        Self { layers, ..Self::camera(codec) }
    }

    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }
}

/// A packet before it has a header.
#[derive(Clone, Debug)]
pub struct EncodedPacket {
    /// The payload.
    pub payload: Vec<u8>,
    /// The last one of its frame.
    pub marker: bool,
    /// The dependency descriptor, with AV1.
    pub descriptor: Option<Vec<u8>>,
}

/// Makes the frames of one stream.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec,
    source: u32,
    layer: u8,
    config: LayerConfig,
    scalability: Scalability,
    /// How many spatial layers it makes now.
    spatial: u8,
    /// Dependency descriptors tell so once they must.
    told_spatial: Option<u8>,
    next_picture: u32,
    /// Pictures since the last key picture.
    position: u32,
    /// Picture ids start anywhere.
    first_picture: u16,
    tl0: u8,
    /// The next frame is a key frame.
    key_wanted: bool,
    /// How many key frames were made.
    pub key_frames: u32,
}

impl Encoder {
    /// An encoder whose frames say that they are of `source`.
    pub fn new(
        codec: Codec,
        source: u32,
        layer: (u8, LayerConfig),
        scalability: Scalability,
        first_picture: u16,
    ) -> Self {
        Self {
            codec,
            source,
            layer: layer.0,
            config: layer.1,
            scalability,
            spatial: scalability.spatial,
            told_spatial: None,
            next_picture: 0,
            position: 0,
            first_picture,
            tl0: first_picture as u8,
            key_wanted: true,
            key_frames: 0,
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &LayerConfig {
        &self.config
    }

    /// Makes the next frame a key frame.
    pub fn want_key_frame(&mut self) {
        self.key_wanted = true;
    }

    /// Makes only so many spatial layers from now on. More than before begin with a key frame; that there are less is
    /// said nowhere but in dependency descriptors, and there only when it is `told`.
    pub fn set_spatial(&mut self, layers: u8, told: bool) {
        self.key_wanted |= layers > self.spatial;
        self.spatial = layers.clamp(1, self.scalability.spatial);
        self.told_spatial = told.then_some(self.spatial);
    }

    /// Encodes a sample that was taken at this time of the world.
    pub fn encode(&mut self, captured: Duration) -> Vec<EncodedPacket> {
        let video = self.codec.kind() == MediaKind::Video;
        let key = video && std::mem::take(&mut self.key_wanted);
        let picture = self.next_picture;
        self.next_picture += 1;
        self.key_frames += u32::from(key);
        self.position = if key { 0 } else { self.position + 1 };
        let mut packets = Vec::new();
        for spatial in 0..self.spatial {
            let kind = self.scalability.frame(self.position, spatial, self.scalability.spatial - 1);
            if spatial == 0 && kind.temporal == 0 {
                self.tl0 = self.tl0.wrapping_add(1);
            }
            self.encode_frame(kind, picture, captured, &mut packets);
        }
        if let Some(last) = packets.last_mut() {
            last.marker = video;
        }
        packets
    }

    fn encode_frame(&self, kind: FrameKind, picture: u32, captured: Duration, out: &mut Vec<EncodedPacket>) {
        let number = picture * u32::from(self.scalability.spatial) + u32::from(kind.spatial);
        let head = FrameHead {
            scalability: self.scalability,
            kind,
            picture: self.first_picture.wrapping_add(picture as u16) & 0x7fff,
            tl0: self.tl0,
            size: self.config.size,
            frame: number as u16,
            active: self.told_spatial,
        };
        let halvings = self.scalability.spatial - 1 - kind.spatial;
        let count = (self.config.packets >> halvings).max(1) * if kind.key { 3 } else { 1 };
        let video = self.codec.kind() == MediaKind::Video;
        let stamp = Stamp {
            source: self.source,
            layer: self.layer,
            key: kind.key && video,
            spatial: kind.spatial,
            temporal: kind.temporal,
            references: if video { kind.references } else { [0; 2] },
            index: 0,
            count: if video { count } else { 1 },
            frame: number,
            captured,
        };
        for index in 0..stamp.count {
            let (first, last) = (index == 0, index + 1 == stamp.count);
            let mut payload = head.write(self.codec, first, last);
            let body = self.config.packet_len.saturating_sub(payload.len()).max(Stamp::LEN);
            Stamp { index, ..stamp }.write(body, &mut payload);
            let descriptor = (self.codec == Codec::Av1).then(|| Bits::descriptor(&head, first, last));
            out.push(EncodedPacket { payload, marker: false, descriptor });
        }
    }
}
