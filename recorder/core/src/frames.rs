//! Frames out of packets, as files hold them: what RTP adds is taken away.

mod av1;
mod h26x;
mod vp9;

use veche_sfu_core::media::Codec;
use veche_sfu_core::rtp::{FrameInfo, FrameState, RtpHeader, Vp8Descriptor};

/// A picture, or what one packet of sound has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// A decoder can begin with it.
    pub key: bool,
    /// On key frames: the size of the pictures, once known.
    pub size: Option<(u16, u16)>,
    /// VP8, Opus: as in RTP. VP9: with an index where the picture has several layers. H264, H265: units with their length in
    /// four bytes before each. AV1: OBUs with their sizes, without temporal delimiters.
    pub data: Vec<u8>,
}

/// A frame of more bytes is dropped: no encoder makes it.
const MAX_FRAME: usize = 16 << 20;

/// Puts the frames of one stream together. A frame of which a packet is missing is dropped, and with it, since decoders would
/// show ruins, all up to the next key frame.
#[derive(Debug)]
pub struct FrameBuilder {
    codec: Codec,
    state: FrameState,
    current: Option<Partial>,
    waits_for_key: bool,
}

/// A frame that is not whole yet.
#[derive(Debug, Default)]
struct Partial {
    frame: Frame,
    /// Something about it is wrong: it is not to come out.
    broken: bool,
    /// VP9: where its layers begin.
    layers: vp9::Layers,
    /// H264, H265: where the unit is that its last packet belongs to; AV1: the same of the OBU.
    open: Option<usize>,
}

impl FrameBuilder {
    /// For a stream that has just begun.
    pub fn new(codec: Codec) -> Self {
        let waits_for_key = codec != Codec::Opus;
        Self { codec, state: FrameState::default(), current: None, waits_for_key }
    }

    /// A key frame would help.
    pub fn wants_key_frame(&self) -> bool {
        self.waits_for_key
    }

    /// Takes the next packet of the stream, of which `payload` is without RED and without padding. Frames that are whole
    /// now come behind those in `out`.
    pub fn push(
        &mut self,
        header: &RtpHeader,
        payload: &[u8],
        descriptor: Option<&[u8]>,
        out: &mut Vec<Frame>,
    ) {
        if payload.is_empty() {
            return;
        }
        if self.codec == Codec::Opus {
            let timestamp = header.timestamp;
            return out.push(Frame { timestamp, key: true, size: None, data: payload.to_vec() });
        }
        if self.current.as_ref().is_some_and(|current| current.frame.timestamp != header.timestamp) {
            self.finish(out);
        }
        let info = FrameInfo::read(self.codec, header, payload, descriptor, &mut self.state);
        let current = self.current.get_or_insert_with(|| Partial {
            frame: Frame { timestamp: header.timestamp, ..Frame::default() },
            ..Partial::default()
        });
        current.frame.key |= info.key_frame;
        current.frame.size = current.frame.size.or(info.size);
        current.broken |=
            current.frame.data.len() > MAX_FRAME || current.append(self.codec, payload).is_none();
        if header.marker {
            self.finish(out);
        }
    }

    /// Packets are missing for good.
    pub fn gap(&mut self) {
        if self.codec != Codec::Opus {
            self.waits_for_key = true;
            self.current = None;
        }
    }

    fn finish(&mut self, out: &mut Vec<Frame>) {
        let Some(mut current) = self.current.take() else { return };
        if current.broken || current.open.is_some() || current.frame.data.is_empty() {
            self.waits_for_key = true;
            return;
        }
        if self.waits_for_key && !current.frame.key {
            return;
        }
        self.waits_for_key = false;
        current.layers.write_index(&mut current.frame.data);
        out.push(current.frame);
    }
}

impl Partial {
    /// Puts what a packet carries behind what is there; `None` when it makes no sense.
    fn append(&mut self, codec: Codec, payload: &[u8]) -> Option<()> {
        let data = &mut self.frame.data;
        match codec {
            Codec::Opus => data.extend_from_slice(payload),
            Codec::Vp8 => {
                let descriptor = Vp8Descriptor::parse(payload)?;
                if data.is_empty() && !descriptor.starts_frame() {
                    return None;
                }
                data.extend_from_slice(payload.get(usize::from(descriptor.len)..)?);
            }
            Codec::Vp9 => self.layers.append(payload, data)?,
            Codec::H264 => h26x::append_h264(payload, &mut self.open, data)?,
            Codec::H265 => h26x::append_h265(payload, &mut self.open, data)?,
            Codec::Av1 => av1::append(payload, &mut self.open, data)?,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
