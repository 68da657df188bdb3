//! Codecs: what `a=rtpmap`, `a=fmtp` and `a=rtcp-fb` of a section offer, matched with what the server forwards.

use std::fmt::Write as _;

use smallvec::SmallVec;

use super::OfferError;
use super::parser::{Attributes as _, MediaLines, error, quoted};
use crate::ids::PayloadType;
use crate::media::{Codec, CodecProfile, MediaKind, NegotiatedCodec};

/// The RTCP feedback that the server gives and takes.
const FEEDBACK: [&str; 5] = ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"];

/// A codec that both sides have, and what its answer says beyond [`NegotiatedCodec`].
#[derive(Clone, Debug)]
pub(super) struct MatchedCodec {
    pub(super) negotiated: NegotiatedCodec,
    /// `goog-remb` was offered.
    remb: bool,
    /// The format parameters to answer; empty for none.
    parameters: String,
}

/// Which side of the answer sends: the parameters of Opus depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    FromClient,
    ToClient,
}

/// One payload type as it was offered.
#[derive(Debug)]
struct Format<'a> {
    payload_type: u8,
    name: &'a str,
    clock_rate: u32,
    channels: u8,
    parameters: &'a str,
    /// The payload type that this one repairs.
    apt: Option<u8>,
    /// Those of [`FEEDBACK`] that were offered.
    feedback: SmallVec<[&'static str; 5]>,
}

/// Matches the payload types of a section, in the client's order of preference.
pub(super) fn match_codecs(
    media: &MediaLines<'_>,
    kind: MediaKind,
    flow: Flow,
) -> Result<Vec<MatchedCodec>, OfferError> {
    let formats = read_formats(media)?;
    let mut matched = Vec::new();
    for format in &formats {
        let Some((codec, profile)) = format.codec(kind) else { continue };
        let companion = |name: &str, belongs: &dyn Fn(&Format<'_>) -> bool| {
            let rate = format.clock_rate;
            let found = formats.iter().find(|f| f.is(name, rate) && belongs(f));
            found.map(|f| PayloadType(f.payload_type))
        };
        let own = format.payload_type.to_string();
        let rtx = companion("rtx", &|f| f.apt == Some(format.payload_type));
        let red = companion("red", &|f| codec == Codec::Opus && f.parameters.split('/').all(|pt| pt == own));
        let has = |feedback: &str| format.feedback.contains(&feedback);
        let video = kind == MediaKind::Video;
        matched.push(MatchedCodec {
            negotiated: NegotiatedCodec {
                payload_type: PayloadType(format.payload_type),
                codec,
                profile,
                rtx,
                red,
                nack: has("nack"),
                pli: video && has("nack pli"),
                fir: video && has("ccm fir"),
                transport_cc: has("transport-cc"),
            },
            remb: has("goog-remb"),
            parameters: format.answer_parameters(codec, flow),
        });
    }
    Ok(matched)
}

/// The payload types of an answer in the client's order of preference: media, repairs and RED where each stood.
pub(super) fn payload_types(media: &[&str], codecs: &[MatchedCodec]) -> Vec<PayloadType> {
    let used = |pt: PayloadType| {
        codecs
            .iter()
            .map(|c| &c.negotiated)
            .any(|c| c.payload_type == pt || c.rtx == Some(pt) || c.red == Some(pt))
    };
    let mut types = Vec::new();
    for pt in media.iter().filter_map(|format| format.parse().ok().map(PayloadType)) {
        if used(pt) && !types.contains(&pt) {
            types.push(pt);
        }
    }
    types
}

impl MatchedCodec {
    /// Writes the attributes of an answer.
    pub(super) fn write(&self, out: &mut String) {
        let MatchedCodec { negotiated: codec, remb, parameters } = self;
        let (pt, name, rate) = (codec.payload_type, codec.codec.name(), codec.codec.clock_rate());
        let channels = if codec.codec == Codec::Opus { "/2" } else { "" };
        line(out, format_args!("a=rtpmap:{pt} {name}/{rate}{channels}"));
        for (agreed, feedback) in [
            (*remb, "goog-remb"),
            (codec.transport_cc, "transport-cc"),
            (codec.fir, "ccm fir"),
            (codec.nack, "nack"),
            (codec.pli, "nack pli"),
        ] {
            if agreed {
                line(out, format_args!("a=rtcp-fb:{pt} {feedback}"));
            }
        }
        if !parameters.is_empty() {
            line(out, format_args!("a=fmtp:{pt} {parameters}"));
        }
        if let Some(rtx) = codec.rtx {
            line(out, format_args!("a=rtpmap:{rtx} rtx/{rate}"));
            line(out, format_args!("a=fmtp:{rtx} apt={pt}"));
        }
        if let Some(red) = codec.red {
            line(out, format_args!("a=rtpmap:{red} red/{rate}{channels}"));
            line(out, format_args!("a=fmtp:{red} {pt}/{pt}"));
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes all text");
    out.push_str("\r\n");
}

/// The payload types of the `m=` line that have an `a=rtpmap`, in its order.
fn read_formats<'a>(media: &MediaLines<'a>) -> Result<Vec<Format<'a>>, OfferError> {
    let mut formats: Vec<Format<'a>> = Vec::new();
    for attribute in media.attributes.named("rtpmap") {
        let parsed = attribute.value.split_once(' ').and_then(|(pt, encoding)| {
            let mut parts = encoding.trim().split('/');
            Some((payload_type(pt)?, parts.next()?, parts.next()?.parse().ok()?, parts.next()))
        });
        let Some((payload_type, name, clock_rate, channels)) = parsed else {
            return error(attribute.line, "`a=rtpmap` has the form `<payload type> <name>/<clock rate>`");
        };
        let known = formats.iter().any(|f| f.payload_type == payload_type);
        if known || !may_be_media(payload_type) {
            continue;
        }
        let channels = channels.and_then(|c| c.parse().ok()).unwrap_or(1);
        let feedback = SmallVec::new();
        formats.push(Format {
            payload_type,
            name,
            clock_rate,
            channels,
            parameters: "",
            apt: None,
            feedback,
        });
    }
    for attribute in media.attributes.named("fmtp") {
        let parsed = attribute.value.split_once(' ').and_then(|(pt, rest)| Some((payload_type(pt)?, rest)));
        let Some((payload_type, parameters)) = parsed else {
            return error(attribute.line, "`a=fmtp` has the form `<payload type> <parameters>`");
        };
        if let Some(format) = formats.iter_mut().find(|f| f.payload_type == payload_type) {
            format.parameters = parameters.trim();
            format.apt = format.parameter("apt").and_then(|apt| apt.parse().ok());
        }
    }
    for attribute in media.attributes.named("rtcp-fb") {
        let (pt, feedback) = attribute.value.split_once(' ').unwrap_or((attribute.value, ""));
        let one = payload_type(pt);
        if one.is_none() && pt != "*" {
            return error(attribute.line, format!("{} is no payload type", quoted(pt)));
        }
        let Some(known) = FEEDBACK.into_iter().find(|known| *known == feedback.trim()) else { continue };
        for format in formats.iter_mut().filter(|f| one.is_none_or(|pt| f.payload_type == pt)) {
            if !format.feedback.contains(&known) {
                format.feedback.push(known);
            }
        }
    }
    let position =
        |f: &Format<'_>| media.formats.iter().position(|pt| payload_type(pt) == Some(f.payload_type));
    formats.retain(|f| position(f).is_some());
    formats.sort_by_cached_key(position);
    Ok(formats)
}

fn payload_type(text: &str) -> Option<u8> {
    text.parse().ok().filter(|pt| *pt < 128)
}

/// Payload types 64 to 95 look like RTCP once RTP and RTCP share a port (RFC 5761 section 4).
fn may_be_media(payload_type: u8) -> bool {
    !(64..96).contains(&payload_type)
}

impl Format<'_> {
    fn is(&self, name: &str, clock_rate: u32) -> bool {
        self.name.eq_ignore_ascii_case(name) && self.clock_rate == clock_rate
    }

    /// The value of one format parameter.
    fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = self.parameters.split(';').filter_map(|p| p.trim().split_once('='));
        parameters
            .filter(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Option<T> {
        self.parameter(name).map_or(Some(default), |value| value.parse().ok())
    }

    /// The codec and stream format, when the server forwards them.
    fn codec(&self, kind: MediaKind) -> Option<(Codec, CodecProfile)> {
        const ALL: [Codec; 6] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1];
        let codec = ALL.into_iter().find(|c| c.kind() == kind && self.is(c.name(), c.clock_rate()))?;
        let profile = match codec {
            Codec::Opus if self.channels != 2 => return None,
            Codec::Opus | Codec::Vp8 => CodecProfile::default(),
            Codec::Vp9 => CodecProfile { profile: self.number("profile-id", 0)?, ..CodecProfile::default() },
            Codec::Av1 => CodecProfile { profile: self.number("profile", 0)?, ..CodecProfile::default() },
            Codec::H264 => self.h264_profile()?,
            Codec::H265 => self.h265_profile()?,
        };
        Some((codec, profile))
    }

    fn h264_profile(&self) -> Option<CodecProfile> {
        // Baseline, level 1: what a missing parameter means (RFC 6184 section 8.1).
        let text = self.parameter("profile-level-id").unwrap_or("42000a");
        let id = if text.len() == 6 { u32::from_str_radix(text, 16).ok()? } else { return None };
        let [_, idc, flags, level] = id.to_be_bytes();
        let packetization_mode = self.number("packetization-mode", 0).filter(|mode| *mode < 2)?;
        Some(CodecProfile { profile: h264_profile(idc, flags), packetization_mode, level })
    }

    fn h265_profile(&self) -> Option<CodecProfile> {
        // Main profile, level 3.1, one transport: what missing parameters mean (RFC 7798 section 7.1).
        let single = self.parameter("tx-mode").is_none_or(|mode| mode.eq_ignore_ascii_case("SRST"));
        let (profile, level) = (self.number("profile-id", 1)?, self.number("level-id", 93)?);
        single.then_some(CodecProfile { profile, packetization_mode: 0, level })
    }

    /// The parameters to answer. Those that name the stream format are repeated as they were offered; those that
    /// limit what the offerer wants to receive are its own and stay out.
    fn answer_parameters(&self, codec: Codec, flow: Flow) -> String {
        let repeated: &[&str] = match codec {
            Codec::Opus => return self.opus_parameters(flow),
            Codec::Vp8 => &[],
            Codec::Vp9 => &["profile-id"],
            Codec::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
            Codec::H265 => &["level-id", "profile-id", "tier-flag", "tx-mode"],
            Codec::Av1 => &["level-idx", "profile", "tier"],
        };
        let present = repeated.iter().filter_map(|name| Some(format!("{name}={}", self.parameter(name)?)));
        present.collect::<Vec<_>>().join(";")
    }

    /// Opus (RFC 7587 section 6.1). The server takes whatever its receivers do: forward error correction always,
    /// and discontinuous transmission and two channels where the client wishes them.
    fn opus_parameters(&self, flow: Flow) -> String {
        let on = |name: &str| self.parameter(name) == Some("1");
        let mut parameters = Vec::new();
        for name in ["minptime", "maxaveragebitrate", "maxplaybackrate", "cbr"] {
            if let Some(value) = self.parameter(name).and_then(|value| value.parse::<u32>().ok()) {
                parameters.push(format!("{name}={value}"));
            }
        }
        let stereo = match flow {
            Flow::FromClient => on("stereo") || on("sprop-stereo"),
            Flow::ToClient => on("stereo"),
        };
        if stereo {
            parameters.push("stereo=1".to_owned());
        }
        if stereo && flow == Flow::ToClient {
            parameters.push("sprop-stereo=1".to_owned());
        }
        if on("usedtx") {
            parameters.push("usedtx=1".to_owned());
        }
        parameters.push("useinbandfec=1".to_owned());
        parameters.join(";")
    }
}

/// One number for each profile of H264, whatever of its spellings was offered (RFC 6184 section 8.1, table 5).
fn h264_profile(idc: u8, flags: u8) -> u16 {
    const CONSTRAINED_BASELINE: u16 = 0x42e0;
    const BASELINE: u16 = 0x4200;
    match (idc, flags) {
        (0x42, flags) if flags & 0x4f == 0x40 => CONSTRAINED_BASELINE,
        (0x4d, flags) if flags & 0x8f == 0x80 => CONSTRAINED_BASELINE,
        (0x58, flags) if flags & 0xcf == 0xc0 => CONSTRAINED_BASELINE,
        (0x42, flags) if flags & 0x4f == 0 => BASELINE,
        (0x58, flags) if flags & 0xcf == 0x80 => BASELINE,
        (0x4d, flags) if flags & 0xaf == 0 => 0x4d00,
        (idc, flags) => u16::from_be_bytes([idc, flags]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parser::parse;

    /// Matches the codecs of a section with these formats and attributes.
    fn matched(kind: MediaKind, flow: Flow, formats: &str, attributes: &[&str]) -> Vec<MatchedCodec> {
        let lines = attributes.join("\r\na=");
        let text =
            format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=x 9 UDP/TLS/RTP/SAVPF {formats}\r\na={lines}\r\n");
        match_codecs(&parse(&text).unwrap().media[0], kind, flow).unwrap()
    }

    fn video(formats: &str, attributes: &[&str]) -> Vec<MatchedCodec> {
        matched(MediaKind::Video, Flow::FromClient, formats, attributes)
    }

    fn opus(flow: Flow, parameters: &str) -> String {
        let fmtp = format!("fmtp:111 {parameters}");
        matched(MediaKind::Audio, flow, "111", &["rtpmap:111 opus/48000/2", &fmtp])[0].parameters.clone()
    }

    fn h264(parameters: &str) -> Option<CodecProfile> {
        let fmtp = format!("fmtp:96 {parameters}");
        video("96", &["rtpmap:96 H264/90000", &fmtp]).first().map(|c| c.negotiated.profile)
    }

    #[test]
    fn codecs_keep_the_order_of_the_m_line_and_unknown_ones_are_left_out() {
        let codecs = video(
            "98 97 96 100",
            &[
                "rtpmap:96 VP8/90000",
                "rtpmap:97 rtx/90000",
                "fmtp:97 apt=96",
                "rtpmap:98 vp9/90000",
                "rtpmap:100 Theora/90000",
                "rtpmap:101 AV1/90000",
            ],
        );
        let names: Vec<Codec> = codecs.iter().map(|c| c.negotiated.codec).collect();
        assert_eq!(names, [Codec::Vp9, Codec::Vp8], "101 is not in the m= line");
        assert_eq!(codecs[0].negotiated.rtx, None);
        assert_eq!(codecs[1].negotiated.rtx, Some(PayloadType(97)));
        let order: Vec<u8> = payload_types(&["98", "97", "96", "100"], &codecs).iter().map(|p| p.0).collect();
        assert_eq!(order, [98, 97, 96]);
    }

    #[test]
    fn feedback_is_the_intersection() {
        let lines = ["rtpmap:96 VP8/90000", "rtcp-fb:96 nack", "rtcp-fb:* nack pli", "rtcp-fb:96 nack sli"];
        let codec = &video("96", &lines)[0];
        assert!(codec.negotiated.nack && codec.negotiated.pli);
        assert!(!codec.negotiated.fir && !codec.negotiated.transport_cc);
        let mut out = String::new();
        codec.write(&mut out);
        assert_eq!(out, "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n");
    }

    #[test]
    fn h264_profiles_are_told_apart_by_meaning_and_by_packetization() {
        let constrained = h264("profile-level-id=42e01f;packetization-mode=1").unwrap();
        assert!(constrained.compatible(h264("packetization-mode=1; profile-level-id=42C034").unwrap()));
        assert!(constrained.compatible(h264("packetization-mode=1;profile-level-id=4d801f").unwrap()));
        assert!(!constrained.compatible(h264("packetization-mode=0;profile-level-id=42e01f").unwrap()));
        assert!(!constrained.compatible(h264("packetization-mode=1;profile-level-id=42001f").unwrap()));
        assert!(!constrained.compatible(h264("packetization-mode=1;profile-level-id=640c1f").unwrap()));
        assert_eq!(constrained.level, 0x1f);
        let default = CodecProfile { profile: 0x4200, packetization_mode: 0, level: 10 };
        assert_eq!(h264("level-asymmetry-allowed=1"), Some(default));
        assert_eq!(h264("profile-level-id=xyz"), None);
        assert_eq!(
            h264("packetization-mode=2;profile-level-id=42e01f"),
            None,
            "interleaving is not forwarded"
        );
    }

    #[test]
    fn other_video_codecs_carry_their_profiles() {
        let profile = |name: &str, fmtp: &str| {
            let lines = [format!("rtpmap:45 {name}/90000"), format!("fmtp:45 {fmtp}")];
            let codecs = video("45", &[&lines[0], &lines[1]]);
            codecs.first().map(|c| (c.negotiated.profile.profile, c.parameters.clone()))
        };
        assert_eq!(profile("VP9", "profile-id=2"), Some((2, "profile-id=2".to_owned())));
        assert_eq!(profile("VP9", "max-fs=12288;max-fr=60"), Some((0, String::new())));
        let av1 = "level-idx=5;profile=1;tier=0";
        assert_eq!(profile("AV1", av1), Some((1, av1.to_owned())));
        let h265 = "level-id=180;profile-id=2;tier-flag=0;tx-mode=SRST";
        assert_eq!(profile("H265", h265), Some((2, h265.to_owned())));
        assert_eq!(profile("H265", "tx-mode=MRST"), None);
    }

    #[test]
    fn opus_is_stereo_where_offered_and_repairs_itself() {
        assert_eq!(opus(Flow::FromClient, "minptime=10;useinbandfec=1"), "minptime=10;useinbandfec=1");
        assert_eq!(opus(Flow::FromClient, "sprop-stereo=1"), "stereo=1;useinbandfec=1");
        assert_eq!(opus(Flow::FromClient, "stereo=1;usedtx=1"), "stereo=1;usedtx=1;useinbandfec=1");
        assert_eq!(opus(Flow::ToClient, "sprop-stereo=1"), "useinbandfec=1");
        assert_eq!(opus(Flow::ToClient, "stereo=1"), "stereo=1;sprop-stereo=1;useinbandfec=1");
        assert_eq!(
            opus(Flow::FromClient, "maxaveragebitrate=510000"),
            "maxaveragebitrate=510000;useinbandfec=1"
        );
        let mono = matched(MediaKind::Audio, Flow::FromClient, "111", &["rtpmap:111 opus/48000"]);
        assert!(mono.is_empty(), "RFC 7587 knows only two channels");
    }

    #[test]
    fn red_belongs_to_the_opus_that_it_carries() {
        let lines = ["rtpmap:111 opus/48000/2", "rtpmap:63 red/48000/2", "fmtp:63 111/111"];
        let codecs = matched(MediaKind::Audio, Flow::ToClient, "63 111", &lines);
        assert_eq!(codecs[0].negotiated.red, Some(PayloadType(63)));
        let mut out = String::new();
        codecs[0].write(&mut out);
        assert!(out.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"));
        let lines = ["rtpmap:111 opus/48000/2", "rtpmap:63 red/48000/2", "fmtp:63 112/112"];
        assert_eq!(matched(MediaKind::Audio, Flow::ToClient, "63 111", &lines)[0].negotiated.red, None);
    }

    #[test]
    fn payload_types_that_look_like_rtcp_are_left_out() {
        assert!(video("72", &["rtpmap:72 VP8/90000"]).is_empty());
        assert_eq!(video("63", &["rtpmap:63 VP8/90000"]).len(), 1);
    }

    #[test]
    fn malformed_attributes_are_named() {
        for attribute in
            ["rtpmap:96", "rtpmap:200 VP8/90000", "rtpmap:96 VP8", "fmtp:x y=1", "rtcp-fb:x nack"]
        {
            let text = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=video 9 X 96\r\na={attribute}\r\n");
            let result = match_codecs(&parse(&text).unwrap().media[0], MediaKind::Video, Flow::ToClient);
            assert_eq!(result.unwrap_err().line, 4, "{attribute}");
        }
    }
}
