//! The video track of a camera: its layers, what is wanted of them, and their packets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use veche_codecs::h264::{Encoder, Picture};
use veche_codecs::{Pool, Raster};
use veche_sfu::studio::{Ask, Guest};
use veche_sfu_core::ids::{PayloadType, Rid, Ssrc, TrackId};
use veche_sfu_core::media::{Codec, CodecProfile, ExtensionIds, MediaKind, NegotiatedCodec, Source};
use veche_sfu_core::rtp::HeaderWriter;
use veche_sfu_core::sdp::{PublishedLayer, PublishedSection};
use veche_sfu_core::studio::guest::GuestTrack;

use crate::frame::Frame;
use crate::jpeg::MAX_SIDE;

const PAYLOAD_TYPE: PayloadType = PayloadType(96);

/// Constrained baseline, which all browsers decode (RFC 6184 section 8.1).
const PROFILE: u16 = 0x42e0;

/// The layers, from the smallest to the largest.
const LAYERS: [LayerKind; 2] = [
    LayerKind { rid: "l", width: 640, height: 360, bits_per_second: 300_000 },
    LayerKind { rid: "h", width: 1280, height: 720, bits_per_second: 1_500_000 },
];

/// A layer: at most so large, about so many bits.
struct LayerKind {
    rid: &'static str,
    width: u32,
    height: u32,
    bits_per_second: u32,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was sent.
    Sent,
    /// Nobody wanted it.
    Unwanted,
    /// The codecs had no time.
    Skipped,
    /// It could not be decoded or encoded.
    Failed,
}

/// A camera's video track.
pub(super) struct Video {
    guest: Arc<Guest>,
    track: TrackId,
    /// One bit for each layer that somebody wants.
    wanted: u8,
    /// One bit for each layer of which a key frame is wanted.
    keys: u8,
    encoders: Arc<Mutex<Encoders>>,
    next_seq: [u16; LAYERS.len()],
    start: Instant,
}

/// The encoder of each layer, for the size that its pictures had last.
struct Encoders {
    per_second: f32,
    layers: [Option<((u32, u32), Encoder)>; LAYERS.len()],
}

impl Video {
    /// Publishes a track of at most so many pictures a second.
    pub(super) fn publish(guest: Arc<Guest>, per_second: f32) -> Self {
        let codec = NegotiatedCodec {
            payload_type: PAYLOAD_TYPE,
            codec: Codec::H264,
            profile: CodecProfile { profile: PROFILE, packetization_mode: 1, level: 31 },
            rtx: None,
            red: None,
            nack: false,
            pli: false,
            fir: false,
            transport_cc: false,
        };
        let layers =
            LAYERS.iter().map(|kind| PublishedLayer { rid: Rid::new(kind.rid), ..Default::default() });
        let section = PublishedSection {
            kind: MediaKind::Video,
            active: true,
            codecs: [codec].into_iter().collect(),
            layers: layers.collect(),
        };
        let extensions = ExtensionIds::default();
        let track = guest.publish(GuestTrack { source: Source::Camera, muted: false, section, extensions });
        let all = (1 << LAYERS.len()) - 1;
        Self {
            guest,
            track,
            wanted: all,
            keys: all,
            encoders: Arc::new(Mutex::new(Encoders { per_second, layers: [None, None] })),
            next_seq: [0; LAYERS.len()],
            start: Instant::now(),
        }
    }

    /// Takes what viewers ask for.
    pub(super) fn take(&mut self, ask: Ask) {
        match ask {
            Ask::KeyFrame { layer, .. } => self.keys |= 1 << layer,
            Ask::Wanted { layers, .. } => {
                // A layer that begins anew begins with a key frame.
                self.keys |= layers & !self.wanted;
                self.wanted = layers;
            }
        }
    }

    /// Sends a frame in all layers that are wanted.
    pub(super) async fn show(&mut self, pool: &Pool, frame: &Frame) -> Outcome {
        if self.wanted == 0 {
            return Outcome::Unwanted;
        }
        let (encoders, jpeg) = (self.encoders.clone(), frame.jpeg.clone());
        let (wanted, keys, at) = (self.wanted, self.keys, self.start.elapsed());
        let job = move || {
            let mut encoders = encoders.lock().unwrap_or_else(PoisonError::into_inner);
            encoders.encode(&jpeg, wanted, keys, at.as_millis() as u64)
        };
        let pictures = match pool.run(job).await {
            Ok(Ok(pictures)) => pictures,
            Ok(Err(error)) => {
                tracing::debug!(error, "a frame was not encoded");
                return Outcome::Failed;
            }
            Err(_) => return Outcome::Skipped,
        };
        let timestamp = (at.as_micros() as u64 * 9 / 100) as u32;
        for (layer, picture) in pictures.iter().enumerate() {
            if picture.is_key {
                self.keys &= !(1 << layer);
            }
            self.send(layer, picture, timestamp);
        }
        Outcome::Sent
    }

    /// Sends the packets of one picture.
    fn send(&mut self, layer: usize, picture: &Picture, timestamp: u32) {
        let last = picture.payloads.len().saturating_sub(1);
        for (index, payload) in picture.payloads.iter().enumerate() {
            let seq = self.next_seq[layer];
            self.next_seq[layer] = seq.wrapping_add(1);
            let header = HeaderWriter {
                marker: index == last,
                payload_type: PAYLOAD_TYPE,
                seq,
                timestamp,
                ssrc: Ssrc(layer as u32 + 1),
            };
            let mut packet = Vec::with_capacity(16 + payload.len());
            header.write(&[], &mut packet);
            packet.extend_from_slice(payload);
            // One for which there is no room is lost, as by a network: a key frame will be asked for.
            let _ = self.guest.send(self.track, layer as u8, packet);
        }
    }
}

impl Encoders {
    /// A picture for each layer; empty for those that nobody wants.
    fn encode(
        &mut self,
        jpeg: &Bytes,
        wanted: u8,
        keys: u8,
        at_ms: u64,
    ) -> Result<[Picture; LAYERS.len()], String> {
        let source = Raster::from_jpeg(jpeg, MAX_SIDE.into()).map_err(|error| error.to_string())?;
        let mut pictures = [Picture::default(), Picture::default()];
        for (layer, kind) in LAYERS.iter().enumerate().filter(|(layer, _)| wanted & 1 << layer != 0) {
            let size = source.fit(kind.width, kind.height);
            let scaled;
            let picture = if size == source.size() {
                &source
            } else {
                scaled = source.scaled(size.0, size.1).map_err(|error| error.to_string())?;
                &scaled
            };
            let slot = &mut self.layers[layer];
            if slot.as_ref().is_none_or(|(made_for, _)| *made_for != size) {
                let encoder = Encoder::new(size, self.per_second, kind.bits_per_second);
                *slot = Some((size, encoder.map_err(|error| error.to_string())?));
            }
            let Some((_, encoder)) = slot else { continue };
            let encoded = encoder.encode(picture, at_ms, keys & 1 << layer != 0);
            pictures[layer] = encoded.map_err(|error| error.to_string())?;
        }
        Ok(pictures)
    }
}
