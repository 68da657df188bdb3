//! Offers as browsers write them, and as much of the answers as a client needs.

#![expect(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "an offer is written once, not per packet"
)]

use std::fmt::Write as _;
use std::net::SocketAddr;

use veche_sfu_core::ids::{Mid, Ssrc};
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, MediaKind};
use veche_sfu_core::sdp::{Fingerprint, IceCredentials};

use super::RedUse;

/// One codec with the payload types that the client gives it.
pub(super) fn payload_types(codec: Codec) -> (u8, u8) {
    match codec {
        Codec::Opus => (111, 0),
        Codec::Vp8 => (96, 97),
        Codec::Vp9 => (98, 99),
        Codec::H264 => (102, 103),
        Codec::Av1 => (45, 46),
        Codec::H265 => (116, 117),
    }
}

/// The payload type of RED around Opus.
pub(super) const RED: u8 = 63;

/// The ids that the client gives to header extensions.
pub(super) fn extension_ids() -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for (extension, id) in EXTENSIONS {
        ids.set(extension, id);
    }
    ids
}

const EXTENSIONS: [(Extension, u8); 8] = [
    (Extension::AudioLevel, 1),
    (Extension::AbsSendTime, 2),
    (Extension::TransportCc, 3),
    (Extension::Mid, 4),
    (Extension::DependencyDescriptor, 8),
    (Extension::Rid, 10),
    (Extension::RepairedRid, 11),
    (Extension::VideoOrientation, 13),
];

/// What a section of an offer is.
#[derive(Clone, Debug)]
pub(super) enum Section {
    /// The client sends.
    Publish {
        mid: Mid,
        codec: Codec,
        /// Of simulcast layers.
        rids: Vec<&'static str>,
        /// Media and repairs, without simulcast.
        ssrcs: Option<(Ssrc, Option<Ssrc>)>,
        active: bool,
    },
    /// The client receives.
    Slot { mid: Mid, kind: MediaKind },
    /// SCTP.
    Data { mid: Mid },
}

impl Section {
    fn mid(&self) -> &Mid {
        match self {
            Section::Publish { mid, .. } | Section::Slot { mid, .. } | Section::Data { mid } => mid,
        }
    }
}

/// What an offer says of its transport.
pub(super) struct OfferTransport<'a> {
    pub(super) session: u64,
    pub(super) version: u64,
    pub(super) ice: &'a IceCredentials,
    pub(super) fingerprint: Fingerprint,
}

/// Writes an offer. Slots take the codecs in `decodes`.
pub(super) fn write_offer(
    transport: &OfferTransport<'_>,
    sections: &[Section],
    decodes: &[Codec],
    red: RedUse,
) -> String {
    let mids: String = sections.iter().map(|s| format!(" {}", s.mid())).collect();
    let (session, version) = (transport.session, transport.version);
    let mut out = format!(
        "v=0\r\no=- {session} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{mids}\r\n\
         a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n"
    );
    for section in sections {
        match section {
            Section::Publish { codec, .. } => {
                media(&mut out, transport, section, codec.kind(), &[*codec], red == RedUse::Sent);
            }
            Section::Slot { kind: MediaKind::Audio, .. } => {
                media(&mut out, transport, section, MediaKind::Audio, &[Codec::Opus], red != RedUse::Unknown);
            }
            Section::Slot { kind: MediaKind::Video, .. } => {
                media(&mut out, transport, section, MediaKind::Video, decodes, false);
            }
            Section::Data { mid } => {
                out += "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n";
                write_transport(&mut out, transport, mid);
                out += "a=sctp-port:5000\r\na=max-message-size:262144\r\n";
            }
        }
    }
    out
}

fn media(
    out: &mut String,
    transport: &OfferTransport<'_>,
    section: &Section,
    kind: MediaKind,
    codecs: &[Codec],
    red: bool,
) {
    let red = red && codecs.contains(&Codec::Opus);
    let mut types: String = codecs
        .iter()
        .map(|codec| match payload_types(*codec) {
            (media, 0) => format!(" {media}"),
            (media, rtx) => format!(" {media} {rtx}"),
        })
        .collect();
    if red {
        types += &format!(" {RED}");
    }
    let name = if kind == MediaKind::Audio { "audio" } else { "video" };
    *out +=
        &format!("m={name} 9 UDP/TLS/RTP/SAVPF{types}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n");
    write_transport(out, transport, section.mid());
    for (extension, id) in EXTENSIONS {
        let audio_only = extension == Extension::AudioLevel;
        let general = matches!(extension, Extension::Mid | Extension::TransportCc | Extension::AbsSendTime);
        if general || audio_only == (kind == MediaKind::Audio) {
            *out += &format!("a=extmap:{id} {}\r\n", extension.uri());
        }
    }
    let direction = match section {
        Section::Publish { active: true, .. } => "sendonly",
        Section::Publish { active: false, .. } => "inactive",
        _ => "recvonly",
    };
    *out += &format!("a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
    for codec in codecs {
        write_codec(out, *codec);
    }
    if red {
        let opus = payload_types(Codec::Opus).0;
        *out += &format!("a=rtpmap:{RED} red/48000/2\r\na=fmtp:{RED} {opus}/{opus}\r\n");
    }
    write_streams(out, section);
}

fn write_transport(out: &mut String, transport: &OfferTransport<'_>, mid: &Mid) {
    let hash: Vec<String> = transport.fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
    let IceCredentials { ufrag, pwd } = transport.ice;
    *out += &format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=ice-options:trickle\r\na=fingerprint:sha-256 {}\r\n\
         a=setup:actpass\r\na=mid:{mid}\r\n",
        hash.join(":")
    );
}

fn write_codec(out: &mut String, codec: Codec) {
    let (pt, rtx) = payload_types(codec);
    if codec == Codec::Opus {
        *out += &format!(
            "a=rtpmap:{pt} opus/48000/2\r\na=rtcp-fb:{pt} transport-cc\r\na=fmtp:{pt} minptime=10;useinbandfec=1\r\n"
        );
        return;
    }
    *out += &format!("a=rtpmap:{pt} {}/90000\r\n", codec.name());
    for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
        *out += &format!("a=rtcp-fb:{pt} {feedback}\r\n");
    }
    match codec {
        Codec::H264 => {
            *out += &format!(
                "a=fmtp:{pt} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"
            );
        }
        Codec::Vp9 => *out += &format!("a=fmtp:{pt} profile-id=0\r\n"),
        Codec::Av1 => *out += &format!("a=fmtp:{pt} level-idx=5;profile=0;tier=0\r\n"),
        _ => {}
    }
    *out += &format!("a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={pt}\r\n");
}

fn write_streams(out: &mut String, section: &Section) {
    let Section::Publish { mid, rids, ssrcs, .. } = section else { return };
    *out += &format!("a=msid:stream track-{mid}\r\n");
    if !rids.is_empty() {
        for rid in rids {
            *out += &format!("a=rid:{rid} send\r\n");
        }
        *out += &format!("a=simulcast:send {}\r\n", rids.join(";"));
        return;
    }
    let Some((media, rtx)) = ssrcs else { return };
    if let Some(rtx) = rtx {
        *out += &format!("a=ssrc-group:FID {media} {rtx}\r\n");
    }
    for ssrc in std::iter::once(media).chain(rtx) {
        let _ = write!(out, "a=ssrc:{ssrc} cname:client\r\na=ssrc:{ssrc} msid:stream track-{mid}\r\n");
    }
}

/// What a client takes from an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) ice: Option<IceCredentials>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) candidate: Option<SocketAddr>,
    pub(super) sections: Vec<AnsweredSection>,
}

/// One section of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct AnsweredSection {
    pub(super) mid: String,
    pub(super) stopped: bool,
    /// The stream id of `a=msid`.
    pub(super) stream: String,
    /// In the order of their lines.
    pub(super) ssrcs: Vec<Ssrc>,
    /// Media and repairs.
    pub(super) pair: Option<(Ssrc, Ssrc)>,
}

impl Answer {
    /// Reads an answer; what is missing stays empty.
    pub(super) fn parse(text: &str) -> Self {
        let mut answer = Answer::default();
        let (mut ufrag, mut pwd) = (None, None);
        for line in text.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                let stopped = media.split(' ').nth(1) == Some("0");
                answer.sections.push(AnsweredSection { stopped, ..AnsweredSection::default() });
            }
            let Some((name, value)) = line.strip_prefix("a=").and_then(|a| a.split_once(':')) else {
                continue;
            };
            match name {
                "ice-ufrag" => ufrag = Some(value.to_owned()),
                "ice-pwd" => pwd = Some(value.to_owned()),
                "fingerprint" => answer.fingerprint = parse_fingerprint(value),
                "candidate" if answer.candidate.is_none() => answer.candidate = parse_candidate(value),
                _ => {}
            }
            let Some(section) = answer.sections.last_mut() else { continue };
            let words: Vec<&str> = value.split(' ').collect();
            let ssrc = |index: usize| words.get(index).and_then(|w| w.parse().ok()).map(Ssrc);
            match name {
                "mid" => value.clone_into(&mut section.mid),
                "msid" => words[0].clone_into(&mut section.stream),
                "ssrc" => section.ssrcs.extend(ssrc(0)),
                "ssrc-group" => section.pair = ssrc(1).zip(ssrc(2)),
                _ => {}
            }
        }
        answer.ice = ufrag.zip(pwd).map(|(ufrag, pwd)| IceCredentials { ufrag, pwd });
        answer
    }
}

fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let bytes: Option<Vec<u8>> =
        value.strip_prefix("sha-256 ")?.split(':').map(|hex| u8::from_str_radix(hex, 16).ok()).collect();
    Some(Fingerprint(bytes?.try_into().ok()?))
}

/// UDP host candidates only.
fn parse_candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split(' ').collect();
    let udp = words.get(2)?.eq_ignore_ascii_case("udp");
    let address = SocketAddr::new(words.get(4)?.parse().ok()?, words.get(5)?.parse().ok()?);
    udp.then_some(address)
}
