//! What media is: kinds, sources, codecs and header extensions. Shared vocabulary of the whole core.

use smallvec::SmallVec;

use crate::ids::PayloadType;

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a track shows, as its publisher says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A person's voice.
    Microphone,
    /// A person's picture.
    Camera,
    /// A shared screen or window.
    Screen,
    /// The sound of a shared screen or window.
    ScreenAudio,
}

/// A codec that can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// The AV1 RTP payload format of the Alliance for Open Media.
    Av1,
}

impl Codec {
    /// The kind of media that it carries.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus => MediaKind::Audio,
            _ => MediaKind::Video,
        }
    }

    /// RTP clock ticks in a second.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// The name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Av1 => "AV1",
        }
    }
}

/// The parameters by which two payload types of one codec are, or are not, the same stream format:
/// a packet of one may be forwarded as the other only when these are compatible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CodecProfile {
    /// H264: `profile-level-id` without the level (profile_idc and constraint flags). VP9 and AV1: the profile.
    /// H265: `profile-id`. Otherwise 0.
    pub profile: u16,
    /// H264 `packetization-mode`; 0 elsewhere.
    pub packetization_mode: u8,
    /// H264 level_idc, H265 `level-id`; not part of compatibility.
    pub level: u8,
}

impl CodecProfile {
    /// Whether a stream of `self` can be decoded by somebody who negotiated `other`: same profile and mode; levels
    /// are not compared, since browsers decode above the level they announce.
    pub fn compatible(self, other: CodecProfile) -> bool {
        self.profile == other.profile && self.packetization_mode == other.packetization_mode
    }
}

/// One payload type that offer and answer agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedCodec {
    /// The payload type of the media.
    pub payload_type: PayloadType,
    /// Its codec.
    pub codec: Codec,
    /// Its stream format.
    pub profile: CodecProfile,
    /// The payload type of its repairs (RFC 4588), where both sides have them.
    pub rtx: Option<PayloadType>,
    /// Opus: the payload type of RED (RFC 2198) around it, where both sides have it.
    pub red: Option<PayloadType>,
    /// `a=rtcp-fb: nack`.
    pub nack: bool,
    /// `a=rtcp-fb: nack pli`.
    pub pli: bool,
    /// `a=rtcp-fb: ccm fir`.
    pub fir: bool,
    /// `a=rtcp-fb: transport-cc`.
    pub transport_cc: bool,
}

/// The codecs of one section, in the order of preference.
pub type Codecs = SmallVec<[NegotiatedCodec; 4]>;

/// The RTP header extensions that the server understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid` (RFC 9143).
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id` (RFC 8852).
    Rid,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id` (RFC 8852).
    RepairedRid,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    TransportCc,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    AbsSendTime,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114).
    VideoOrientation,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`.
    DependencyDescriptor,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    PlayoutDelay,
}

impl Extension {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// All of them, in the order of their numbers.
    pub const ALL: [Extension; Self::COUNT] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::AudioLevel,
        Extension::TransportCc,
        Extension::AbsSendTime,
        Extension::VideoOrientation,
        Extension::DependencyDescriptor,
        Extension::PlayoutDelay,
    ];

    /// The URI in `a=extmap`.
    pub fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
            Extension::VideoOrientation => "urn:3gpp:video-orientation",
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
            Extension::PlayoutDelay => "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        }
    }
}

/// The ids that offer and answer agreed on for the extensions: 1..=14 fit the one-byte form of RFC 8285, up to 255
/// need the two-byte form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExtensionIds([u8; Extension::COUNT]);

impl ExtensionIds {
    /// Agrees on an id, 1..=255.
    pub fn set(&mut self, extension: Extension, id: u8) {
        self.0[extension as usize] = id;
    }

    /// The id of an extension; `None` when it was not agreed on.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        let id = self.0[extension as usize];
        (id != 0).then_some(id)
    }

    /// The extension that has this id.
    pub fn extension(&self, id: u8) -> Option<Extension> {
        Extension::ALL.into_iter().find(|&e| id != 0 && self.0[e as usize] == id)
    }

    /// Takes over all ids of another section of the same BUNDLE group, where they must be the same (RFC 9143).
    pub fn merge(&mut self, other: &ExtensionIds) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            if theirs != 0 {
                *mine = theirs;
            }
        }
    }
}
