//! What clients send: voices and cameras. The payloads look like their codecs to an SFU, and inside carry a stamp that
//! tells a receiver what it sees: whose frame, which one, taken when, and whether it is whole.

mod payload;
pub mod stamp;

use std::time::Duration;

use veche_sfu_core::media::{Codec, MediaKind, Source};

use payload::{Bits, FrameHead};
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
            delay: Duration::from_millis(20),
        }
    }

    /// A camera with one stream.
    pub fn camera(codec: Codec) -> Self {
        let layer =
            LayerConfig { size: (640, 360), rate: 30, packets: 2, packet_len: 1000, ..LayerConfig::SMALL };
        Self { source: Source::Camera, codec, layers: vec![layer], delay: Duration::from_millis(40) }
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
    next_frame: u32,
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
    pub fn new(codec: Codec, source: u32, layer: u8, config: LayerConfig, first_picture: u16) -> Self {
        Self {
            codec,
            source,
            layer,
            config,
            next_frame: 0,
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

    /// Encodes a sample that was taken at this time of the world.
    pub fn encode(&mut self, captured: Duration) -> Vec<EncodedPacket> {
        let video = self.codec.kind() == MediaKind::Video;
        let key = video && std::mem::take(&mut self.key_wanted);
        let number = self.next_frame;
        self.next_frame += 1;
        self.key_frames += u32::from(key);
        let upper = !key && !number.is_multiple_of(2);
        if !upper {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let count = if key { self.config.packets * 3 } else { self.config.packets };
        let head = FrameHead {
            key,
            picture: self.first_picture.wrapping_add(number as u16) & 0x7fff,
            tl0: self.tl0,
            temporal: u8::from(upper),
            size: self.config.size,
            frame: number as u16,
        };
        (0..count).map(|index| self.packet(&head, number, index, count, captured)).collect()
    }

    fn packet(
        &self,
        head: &FrameHead,
        number: u32,
        index: u8,
        count: u8,
        captured: Duration,
    ) -> EncodedPacket {
        let (first, last) = (index == 0, index + 1 == count);
        let mut payload = head.write(self.codec, first, last);
        let stamp = Stamp {
            source: self.source,
            layer: self.layer,
            key: head.key,
            index,
            count,
            frame: number,
            captured,
        };
        let body = self.config.packet_len.saturating_sub(payload.len()).max(Stamp::LEN);
        stamp.write(body, &mut payload);
        let descriptor = (self.codec == Codec::Av1).then(|| Bits::descriptor(head, first, last));
        EncodedPacket { payload, marker: last && self.codec != Codec::Opus, descriptor }
    }
}
