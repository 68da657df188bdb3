//! Session descriptions of servers, read as far as a client needs it (RFC 8866, RFC 9429).

use std::net::SocketAddr;

use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, MediaKind};
use veche_sfu_core::sdp::{Fingerprint, IceCredentials};

/// An offer or an answer.
#[derive(Clone, Debug, Default)]
pub struct Description {
    /// Of the first section that has any, or of the session.
    pub ice: Option<IceCredentials>,
    /// The server does not check connectivity itself.
    pub ice_lite: bool,
    /// SHA-256 only.
    pub fingerprint: Option<Fingerprint>,
    /// `actpass`, `active` or `passive`.
    pub setup: String,
    /// UDP candidates, in their order.
    pub candidates: Vec<SocketAddr>,
    /// The sections.
    pub sections: Vec<MediaSection>,
    /// The header extensions of all sections, whose ids are the same within a bundle.
    pub extensions: ExtensionIds,
}

/// One section.
#[derive(Clone, Debug, Default)]
pub struct MediaSection {
    /// `audio`, `video` or another.
    pub media: String,
    /// The protocol of the `m=` line, which an answer repeats.
    pub protocol: String,
    /// Of `a=mid`.
    pub mid: String,
    /// Port 0.
    pub refused: bool,
    /// The payload types that are understood.
    pub formats: Vec<Format>,
    /// In the order of their lines, each once.
    pub ssrcs: Vec<Ssrc>,
    /// Media and repairs, of `a=ssrc-group:FID`.
    pub pair: Option<(Ssrc, Ssrc)>,
    /// The layers that are agreed on, of `a=simulcast`.
    pub rids: Vec<String>,
}

/// A payload type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its number.
    pub payload_type: u8,
    /// What it carries.
    pub codec: Codec,
    /// `a=fmtp`.
    pub parameters: String,
    /// The payload type of its repairs.
    pub rtx: Option<u8>,
}

impl MediaSection {
    /// Audio or video; `None` for anything else.
    pub fn kind(&self) -> Option<MediaKind> {
        match self.media.as_str() {
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            _ => None,
        }
    }

    /// The stream that the server sends in this section, and that of its repairs.
    pub fn streams(&self) -> Option<(Ssrc, Option<Ssrc>)> {
        let alone = || Some((*self.ssrcs.first()?, None));
        self.pair.map(|(media, rtx)| (media, Some(rtx))).or_else(alone)
    }
}

impl Description {
    /// Reads a description; what is missing stays empty.
    pub fn parse(text: &str) -> Self {
        let mut description = Self::default();
        let (mut ufrag, mut pwd) = (None, None);
        for line in text.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                description.sections.push(begin_section(media));
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-lite" => description.ice_lite = true,
                "ice-ufrag" => ufrag = ufrag.or(Some(value)),
                "ice-pwd" => pwd = pwd.or(Some(value)),
                "fingerprint" if description.fingerprint.is_none() => {
                    description.fingerprint = parse_fingerprint(value);
                }
                "setup" if description.setup.is_empty() => value.clone_into(&mut description.setup),
                "candidate" => description.candidates.extend(parse_candidate(value)),
                "extmap" => description.take_extension(value),
                _ => {
                    if let Some(section) = description.sections.last_mut() {
                        section.take(name, value);
                    }
                }
            }
        }
        description.ice = ufrag
            .zip(pwd)
            .map(|(ufrag, pwd)| IceCredentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() });
        for section in &mut description.sections {
            section.finish();
        }
        description
    }

    fn take_extension(&mut self, value: &str) {
        let Some((id, uri)) = value.split_once(' ') else { return };
        // An id may carry a direction: 3/recvonly.
        let id = id.split('/').next().and_then(|id| id.parse().ok());
        let uri = uri.split(' ').next().unwrap_or_default();
        let known = Extension::ALL.into_iter().find(|extension| extension.uri() == uri);
        if let (Some(id @ 1..), Some(extension)) = (id, known) {
            self.extensions.set(extension, id);
        }
    }
}

fn begin_section(media: &str) -> MediaSection {
    let mut words = media.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (media, port, protocol) = (next().to_owned(), next(), next().to_owned());
    let refused = port == "0";
    MediaSection { media, protocol, refused, ..MediaSection::default() }
}

impl MediaSection {
    fn take(&mut self, name: &str, value: &str) {
        let mut words = value.split(' ');
        let first = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        match name {
            "mid" => value.clone_into(&mut self.mid),
            "rtpmap" => {
                let codec = rest.split('/').next().unwrap_or_default();
                self.take_format(first, codec);
            }
            "fmtp" => {
                let parameters = value.split_once(' ').map_or("", |(_, rest)| rest);
                self.take_parameters(first, parameters);
            }
            "ssrc" => {
                let ssrc = first.parse().ok().map(Ssrc);
                let known = ssrc.is_some_and(|ssrc| self.ssrcs.contains(&ssrc));
                self.ssrcs.extend(ssrc.filter(|_| !known));
            }
            "ssrc-group" if first == "FID" => {
                let second = value.split(' ').nth(2).and_then(|word| word.parse().ok()).map(Ssrc);
                self.pair = rest.parse().ok().map(Ssrc).zip(second);
            }
            "simulcast" => {
                let layers = rest.split(';').filter_map(|layer| layer.split(',').next());
                self.rids = layers.map(|rid| rid.trim_start_matches('~').to_owned()).collect();
            }
            _ => {}
        }
    }

    fn take_format(&mut self, payload_type: &str, name: &str) {
        let known = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];
        let codec = known.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name));
        if let (Some(codec), Ok(payload_type)) = (codec, payload_type.parse()) {
            self.formats.push(Format { payload_type, codec, parameters: String::new(), rtx: None });
        }
    }

    /// `apt=` names the media of a payload type of repairs; the media's line may come later.
    fn take_parameters(&mut self, payload_type: &str, parameters: &str) {
        let Ok(number) = payload_type.parse::<u8>() else { return };
        if let Some(format) = self.formats.iter_mut().find(|format| format.payload_type == number) {
            parameters.clone_into(&mut format.parameters);
        } else if let Some(media) = parameters.strip_prefix("apt=").and_then(|apt| apt.parse::<u8>().ok())
            && let Some(format) = self.formats.iter_mut().find(|format| format.payload_type == media)
        {
            format.rtx = Some(number);
        }
    }

    /// The media's stream is the first, wherever its line stands.
    fn finish(&mut self) {
        if let Some((media, rtx)) = self.pair {
            self.ssrcs.retain(|ssrc| *ssrc != media && *ssrc != rtx);
            self.ssrcs.splice(0..0, [media, rtx]);
        }
    }
}

fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, hex) = value.split_once(' ')?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let bytes: Option<Vec<u8>> = hex.trim().split(':').map(|hex| u8::from_str_radix(hex, 16).ok()).collect();
    Some(Fingerprint(bytes?.try_into().ok()?))
}

/// RFC 8839 section 5.1. Names (mDNS) are passed over.
fn parse_candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split(' ').collect();
    let udp = words.get(2)?.eq_ignore_ascii_case("udp");
    let address = SocketAddr::new(words.get(4)?.parse().ok()?, words.get(5)?.parse().ok()?);
    udp.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_needs_is_read() {
        let text = "v=0\r\na=ice-lite\r\na=fingerprint:sha-256 01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:\
                    11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F:20\r\n\
                    m=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:a\r\n\
                    m=video 9 UDP/TLS/RTP/SAVPF 97 96 35\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:passive\r\n\
                    a=candidate:1 1 tcp 9 10.0.0.1 9 typ host\r\na=candidate:1 1 UDP 9 10.0.0.1 5000 typ host\r\n\
                    a=mid:v\r\na=rtpmap:96 vp8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
                    a=rtpmap:35 unheard-of/90000\r\na=extmap:3/recvonly urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
                    a=ssrc:8 cname:x\r\na=ssrc:9 cname:x\r\na=ssrc:8 msid:a b\r\na=ssrc-group:FID 9 8\r\n\
                    a=simulcast:recv q;~h,x;f\r\n";
        let description = Description::parse(text);
        assert!(description.ice_lite);
        assert_eq!(description.fingerprint.unwrap().0[31], 0x20);
        assert_eq!(description.setup, "passive");
        assert_eq!(description.candidates, ["10.0.0.1:5000".parse().unwrap()]);
        assert_eq!(description.extensions.id(Extension::Mid), Some(3));
        let [audio, video] = &description.sections[..] else { panic!("two sections") };
        assert!(audio.refused && audio.streams().is_none());
        let format = Format { payload_type: 96, codec: Codec::Vp8, parameters: String::new(), rtx: Some(97) };
        assert_eq!((&video.mid[..], &video.formats[..]), ("v", &[format][..]));
        assert_eq!(video.streams(), Some((Ssrc(9), Some(Ssrc(8)))));
        assert_eq!(video.rids, ["q", "h", "f"]);
    }

    #[test]
    fn nonsense_is_no_description_and_no_panic() {
        for text in
            ["", "m=", "a=ssrc:", "m=video\r\na=fmtp:\r\na=extmap:0 x\r\na=ssrc-group:FID\r\na=simulcast:"]
        {
            let description = Description::parse(text);
            assert!(description.ice.is_none() && description.candidates.is_empty());
        }
    }
}
