//! One received media packet, and what all subscribers need to know of it: worked out once.

use crate::forward::forwarder::ForwardInput;
use crate::forward::picture::PictureFields;
use crate::forward::red;
use crate::media::{Codec, CodecProfile};
use crate::rtp::RtpHeader;
use crate::rtp::frame::FrameInfo;
use crate::rtp::targets::FrameTargets;
use crate::transport::PassedExtensions;

/// What a payload type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The codec.
    pub codec: Codec,
    /// Its stream format.
    pub profile: CodecProfile,
    /// Wrapped in RED (RFC 2198).
    pub red: bool,
}

/// A decrypted media packet.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Its extended sequence number.
    pub seq: u64,
    /// Counts how often its layer began anew.
    pub generation: u32,
    /// Its header.
    pub header: RtpHeader,
    /// Its format.
    pub format: Format,
    /// Its payload without padding; empty for padding alone.
    pub payload: &'a [u8],
    /// The header extensions that are passed on.
    pub passed: PassedExtensions<'a>,
    /// What its payload says of its frame.
    pub frame: FrameInfo,
    /// Its picture counters.
    pub picture: PictureFields,
    /// The server time of its sample, in nanoseconds since the engine's epoch.
    pub nanos: i64,
}

impl<'a> Incoming<'a> {
    /// Whether a decoder can begin with it, and with what it is part of.
    pub fn starts_key_frame(&self) -> bool {
        let begins = |t: &FrameTargets| t.key && t.switch & t.present != 0;
        self.frame.key_frame && self.frame.start_of_frame && self.frame.targets.as_ref().is_none_or(begins)
    }

    /// For the forwarder.
    pub fn forward_input(&self) -> ForwardInput {
        ForwardInput {
            seq: self.seq,
            generation: self.generation,
            timestamp: self.header.timestamp,
            nanos: self.nanos,
            starts_key_frame: self.starts_key_frame(),
            end_of_frame: self.frame.end_of_frame,
            marker: self.header.marker,
            frame: self.frame.targets,
            picture: self.picture,
        }
    }

    /// The payload without RED.
    pub fn primary(&self) -> &'a [u8] {
        if self.format.red { red::primary(self.payload) } else { self.payload }
    }
}

/// What the history keeps of a packet beside its bytes: enough to send it again.
#[derive(Clone, Copy, Debug)]
pub struct StoredMeta {
    /// Its header.
    pub header: RtpHeader,
    /// Its format.
    pub format: Format,
    /// Its picture counters.
    pub picture: PictureFields,
    /// Where its payload is in the bytes.
    pub payload: (u16, u16),
}
