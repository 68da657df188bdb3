//! One client's side of offer and answer, in either direction.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use rand::rngs::StdRng;
use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, MediaKind, Source};
use veche_sfu_core::sdp::{Fingerprint, IceCredentials, SetupRole};

use crate::description::{Description, Format, MediaSection};

/// What a client publishes: one section.
#[derive(Clone, Debug)]
pub struct PublishedTrack {
    /// The name of the section.
    pub mid: String,
    /// What it shows.
    pub source: Source,
    /// Its codec.
    pub codec: Codec,
    /// Its streams: one, or several with simulcast, from the smallest picture to the largest.
    pub layers: Vec<PublishedLayer>,
}

/// One stream of a published track.
#[derive(Clone, Debug)]
pub struct PublishedLayer {
    /// With simulcast.
    pub rid: Option<&'static str>,
    /// Of the media.
    pub ssrc: Ssrc,
    /// Of its repairs.
    pub rtx_ssrc: Ssrc,
}

/// How many streams a client wants to receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Voices.
    pub audio: usize,
    /// Pictures.
    pub video: usize,
    /// The video codecs that it takes.
    pub codecs: Vec<Codec>,
}

/// What a client tells of what it receives, beside receiver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Feedback {
    /// When every packet came, as browsers do.
    TransportCc,
    /// Nothing.
    None,
}

/// What both sides agreed on.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The server's credentials.
    pub ice: IceCredentials,
    /// The server checks nothing itself: the client is in control whoever offered.
    pub controlling: bool,
    /// Of the server's certificate.
    pub fingerprint: Fingerprint,
    /// Which side of the DTLS handshake the client is.
    pub role: SetupRole,
    /// Where the server is.
    pub address: SocketAddr,
    /// The ids of header extensions.
    pub extensions: ExtensionIds,
    /// For each published track, in their order: its format and the rids that the server takes. `None`: refused.
    pub published: Vec<Option<Format>>,
    /// The streams that may come.
    pub received: Vec<ReceivedStream>,
}

/// A stream that the server may send.
#[derive(Clone, Debug)]
pub struct ReceivedStream {
    /// Of the media.
    pub ssrc: Ssrc,
    /// Of its repairs.
    pub rtx_ssrc: Option<Ssrc>,
    /// Audio or video.
    pub kind: MediaKind,
    /// What its payload types mean.
    pub formats: Vec<Format>,
}

/// One client's negotiation.
#[derive(Clone, Debug)]
pub struct Negotiation {
    session: u64,
    ice: IceCredentials,
    fingerprint: Fingerprint,
    published: Vec<PublishedTrack>,
    slots: Slots,
    feedback: Feedback,
    /// Where the client would rather reach the server, of all its candidates.
    preferred: Option<IpAddr>,
    agreement: Option<Agreement>,
}

impl Negotiation {
    /// A negotiation of what a client publishes and wants to receive.
    pub fn new(
        fingerprint: Fingerprint,
        published: Vec<PublishedTrack>,
        slots: Slots,
        feedback: Feedback,
        preferred: Option<IpAddr>,
        rng: &mut StdRng,
    ) -> Self {
        let mut token = |len| (0..len).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect();
        let ice = IceCredentials { ufrag: token(8), pwd: token(24) };
        let session = rng.random::<u64>() >> 2;
        Self { session, ice, fingerprint, published, slots, feedback, preferred, agreement: None }
    }

    /// The client's credentials.
    pub fn ice(&self) -> &IceCredentials {
        &self.ice
    }

    /// What it publishes.
    pub fn published(&self) -> &[PublishedTrack] {
        &self.published
    }

    /// What it wants to receive.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The names of its slots in its offer.
    pub fn slot_mids(&self, kind: MediaKind) -> impl Iterator<Item = String> + use<> {
        let (letter, count) = match kind {
            MediaKind::Audio => ('A', self.slots.audio),
            MediaKind::Video => ('V', self.slots.video),
        };
        (0..count).map(move |index| format!("{letter}{index}"))
    }

    /// What both sides agreed on, when they have.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_ref()
    }

    /// The client's offer: a `sendonly` section for each track, a `recvonly` one for each slot.
    pub fn offer(&self) -> String {
        let mut body = String::new();
        let mut mids = Vec::new();
        for track in &self.published {
            let mut section = self.section(track.codec.kind(), "9", &track.mid, "actpass", "sendonly");
            section.formats = vec![format_of(track.codec)];
            section.published = Some(track);
            section.write(&mut body);
            mids.push(track.mid.clone());
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let formats: Vec<Format> = match kind {
                MediaKind::Audio => vec![format_of(Codec::Opus)],
                MediaKind::Video => self.slots.codecs.iter().copied().map(format_of).collect(),
            };
            for mid in self.slot_mids(kind) {
                let mut section = self.section(kind, "9", &mid, "actpass", "recvonly");
                section.formats.clone_from(&formats);
                section.write(&mut body);
                mids.push(mid);
            }
        }
        self.head(&mids) + &body
    }

    /// Takes the server's answer to [`Negotiation::offer`].
    pub fn accept(&mut self, answer: &str) -> Result<()> {
        let answer = Description::parse(answer);
        // RFC 8842 section 5.3: whoever answered has chosen.
        let role = match answer.setup.as_str() {
            "active" => SetupRole::Passive,
            _ => SetupRole::Active,
        };
        let of_track = |track: &PublishedTrack| {
            let section =
                answer.sections.iter().find(|section| section.mid == track.mid && !section.refused)?;
            section.formats.iter().find(|format| format.codec == track.codec).cloned()
        };
        let published: Vec<Option<Format>> = self.published.iter().map(of_track).collect();
        if let Some((track, _)) = self.published.iter().zip(&published).find(|(_, format)| format.is_none()) {
            bail!("the server does not take {} in section {}", track.codec.name(), track.mid);
        }
        let own: Vec<&str> = self.published.iter().map(|track| &track.mid[..]).collect();
        let received = answer.sections.iter().filter(|section| !own.contains(&&section.mid[..]));
        let received = received.filter_map(received_stream).collect();
        self.agree(&answer, role, true, published, received)
    }

    /// Answers the server's offer: takes everything that it sends and is understood. Nothing is published this way.
    pub fn answer(&mut self, offer: &str) -> Result<String> {
        let offer = Description::parse(offer);
        let (role, setup) = match offer.setup.as_str() {
            "active" => (SetupRole::Passive, "passive"),
            _ => (SetupRole::Active, "active"),
        };
        let mut body = String::new();
        let mut mids = Vec::new();
        for section in &offer.sections {
            let taken = section.kind().filter(|_| !section.refused && !section.formats.is_empty());
            let Some(kind) = taken else {
                let _ = write!(
                    body,
                    "m={} 0 {} 0\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=inactive\r\n",
                    section.media, section.protocol, section.mid
                );
                continue;
            };
            let mut answer = self.section(kind, "9", &section.mid, setup, "recvonly");
            answer.formats.clone_from(&section.formats);
            answer.extensions = offer.extensions;
            answer.write(&mut body);
            mids.push(section.mid.clone());
        }
        let received = offer.sections.iter().filter_map(received_stream).collect();
        // RFC 8445 section 6.1.1: who offers is in control, unless it is lite and the other is not.
        self.agree(&offer, role, offer.ice_lite, Vec::new(), received)?;
        Ok(self.head(&mids) + &body)
    }

    fn agree(
        &mut self,
        remote: &Description,
        role: SetupRole,
        controlling: bool,
        published: Vec<Option<Format>>,
        received: Vec<ReceivedStream>,
    ) -> Result<()> {
        let preferred = remote.candidates.iter().find(|candidate| Some(candidate.ip()) == self.preferred);
        let v4 = || remote.candidates.iter().find(|candidate| candidate.is_ipv4());
        let address = preferred.or_else(v4).or_else(|| remote.candidates.first());
        self.agreement = Some(Agreement {
            ice: remote.ice.clone().context("the server's description has no ICE credentials")?,
            controlling,
            fingerprint: remote.fingerprint.context("the server's description has no SHA-256 fingerprint")?,
            role,
            address: *address.context("the server's description has no UDP candidate")?,
            extensions: remote.extensions,
            published,
            received,
        });
        Ok(())
    }

    fn head(&self, mids: &[String]) -> String {
        format!(
            "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n",
            self.session,
            mids.join(" ")
        )
    }

    fn section<'a>(
        &'a self,
        kind: MediaKind,
        port: &'static str,
        mid: &'a str,
        setup: &'static str,
        direction: &'static str,
    ) -> SectionWriter<'a> {
        let mut extensions = ExtensionIds::default();
        for (extension, id) in EXTENSIONS {
            extensions.set(extension, id);
        }
        let (formats, published) = (Vec::new(), None);
        SectionWriter { negotiation: self, kind, port, mid, setup, direction, formats, extensions, published }
    }
}

/// The ids that the client offers for header extensions.
const EXTENSIONS: [(Extension, u8); 6] = [
    (Extension::AudioLevel, 1),
    (Extension::AbsSendTime, 2),
    (Extension::TransportCc, 3),
    (Extension::Mid, 4),
    (Extension::Rid, 10),
    (Extension::RepairedRid, 11),
];

/// The payload types that the client offers, as browsers number them.
fn format_of(codec: Codec) -> Format {
    let (payload_type, rtx, parameters) = match codec {
        Codec::Opus => (111, None, "minptime=10;useinbandfec=1"),
        Codec::Vp8 => (96, Some(97), ""),
        Codec::Vp9 => (98, Some(99), "profile-id=0"),
        Codec::H264 => {
            (102, Some(103), "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
        }
        Codec::Av1 => (45, Some(46), "level-idx=5;profile=0;tier=0"),
        Codec::H265 => (116, Some(117), ""),
    };
    Format { payload_type, codec, parameters: parameters.to_owned(), rtx }
}

fn received_stream(section: &MediaSection) -> Option<ReceivedStream> {
    let kind = section.kind().filter(|_| !section.refused)?;
    let (ssrc, rtx_ssrc) = section.streams()?;
    Some(ReceivedStream { ssrc, rtx_ssrc, kind, formats: section.formats.clone() })
}

/// One section of a description that the client writes.
struct SectionWriter<'a> {
    negotiation: &'a Negotiation,
    kind: MediaKind,
    port: &'static str,
    mid: &'a str,
    setup: &'static str,
    direction: &'static str,
    formats: Vec<Format>,
    extensions: ExtensionIds,
    published: Option<&'a PublishedTrack>,
}

impl SectionWriter<'_> {
    fn write(&self, out: &mut String) {
        self.try_write(out).expect("writing to a string does not fail");
    }

    fn try_write(&self, out: &mut String) -> std::fmt::Result {
        let name = if self.kind == MediaKind::Audio { "audio" } else { "video" };
        write!(out, "m={name} {} UDP/TLS/RTP/SAVPF", self.port)?;
        for format in &self.formats {
            write!(out, " {}", format.payload_type)?;
            if let Some(rtx) = format.rtx {
                write!(out, " {rtx}")?;
            }
        }
        let IceCredentials { ufrag, pwd } = &self.negotiation.ice;
        let hash: Vec<String> =
            self.negotiation.fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
        write!(
            out,
            "\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
             a=ice-options:trickle\r\na=fingerprint:sha-256 {}\r\na=setup:{}\r\na=mid:{}\r\n",
            hash.join(":"),
            self.setup,
            self.mid
        )?;
        for (extension, _) in EXTENSIONS {
            if let Some(id) = self.extensions.id(extension).filter(|_| self.has(extension)) {
                write!(out, "a=extmap:{id} {}\r\n", extension.uri())?;
            }
        }
        write!(out, "a={}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n", self.direction)?;
        for format in &self.formats {
            self.write_format(out, format)?;
        }
        self.published.map_or(Ok(()), |track| write_streams(out, track))
    }

    fn has(&self, extension: Extension) -> bool {
        match extension {
            Extension::AudioLevel => self.kind == MediaKind::Audio,
            Extension::Rid | Extension::RepairedRid => self.kind == MediaKind::Video,
            Extension::TransportCc => self.negotiation.feedback == Feedback::TransportCc,
            _ => true,
        }
    }

    fn write_format(&self, out: &mut String, format: &Format) -> std::fmt::Result {
        let Format { payload_type, codec, parameters, rtx } = format;
        let channels = if *codec == Codec::Opus { "/2" } else { "" };
        write!(out, "a=rtpmap:{payload_type} {}/{}{channels}\r\n", codec.name(), codec.clock_rate())?;
        let own: &[&str] = if self.kind == MediaKind::Video { &["ccm fir", "nack", "nack pli"] } else { &[] };
        let general = (self.negotiation.feedback == Feedback::TransportCc).then_some(&"transport-cc");
        for feedback in general.into_iter().chain(own) {
            write!(out, "a=rtcp-fb:{payload_type} {feedback}\r\n")?;
        }
        if !parameters.is_empty() {
            write!(out, "a=fmtp:{payload_type} {parameters}\r\n")?;
        }
        if let Some(rtx) = rtx {
            write!(out, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload_type}\r\n")?;
        }
        Ok(())
    }
}

fn write_streams(out: &mut String, track: &PublishedTrack) -> std::fmt::Result {
    let mid = &track.mid;
    write!(out, "a=msid:stream track-{mid}\r\n")?;
    let rids: Vec<&str> = track.layers.iter().filter_map(|layer| layer.rid).collect();
    if !rids.is_empty() {
        for rid in &rids {
            write!(out, "a=rid:{rid} send\r\n")?;
        }
        return write!(out, "a=simulcast:send {}\r\n", rids.join(";"));
    }
    let Some(layer) = track.layers.first() else { return Ok(()) };
    let rtx = format_of(track.codec).rtx.map(|_| layer.rtx_ssrc);
    if let Some(rtx) = rtx {
        write!(out, "a=ssrc-group:FID {} {rtx}\r\n", layer.ssrc)?;
    }
    for ssrc in [Some(layer.ssrc), rtx].into_iter().flatten() {
        write!(out, "a=ssrc:{ssrc} cname:load\r\na=ssrc:{ssrc} msid:stream track-{mid}\r\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn negotiation(published: Vec<PublishedTrack>, slots: Slots, feedback: Feedback) -> Negotiation {
        let mut rng = StdRng::seed_from_u64(1);
        Negotiation::new(Fingerprint([7; 32]), published, slots, feedback, None, &mut rng)
    }

    fn layer(rid: Option<&'static str>, ssrc: u32) -> PublishedLayer {
        PublishedLayer { rid, ssrc: Ssrc(ssrc), rtx_ssrc: Ssrc(ssrc + 1) }
    }

    fn publisher() -> Negotiation {
        let camera = PublishedTrack {
            mid: "p0".to_owned(),
            source: Source::Camera,
            codec: Codec::Vp8,
            layers: vec![layer(Some("q"), 10), layer(Some("f"), 20)],
        };
        let microphone = PublishedTrack {
            mid: "p1".to_owned(),
            source: Source::Microphone,
            codec: Codec::Opus,
            layers: vec![layer(None, 30)],
        };
        let slots = Slots { audio: 1, video: 2, codecs: vec![Codec::Vp8] };
        negotiation(vec![camera, microphone], slots, Feedback::TransportCc)
    }

    #[test]
    fn our_offer_reads_back_as_what_was_meant() {
        let offer = publisher().offer();
        let read = Description::parse(&offer);
        let mids: Vec<&str> = read.sections.iter().map(|section| &section.mid[..]).collect();
        assert_eq!(mids, ["p0", "p1", "A0", "V0", "V1"]);
        assert_eq!(read.sections[0].rids, ["q", "f"]);
        assert_eq!(read.sections[0].formats[0].rtx, Some(97));
        assert_eq!(read.sections[1].streams(), Some((Ssrc(30), None)));
        assert_eq!(read.extensions.id(Extension::TransportCc), Some(3));
        let silent = negotiation(Vec::new(), Slots { audio: 1, ..Slots::default() }, Feedback::None).offer();
        assert!(!silent.contains("transport"), "{silent}");
    }

    #[test]
    fn an_offer_is_answered_section_by_section_and_agreed_on() {
        let offer = "v=0\r\na=group:BUNDLE 0 1 2\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:actpass\r\n\
            a=fingerprint:sha-256 00:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:\
            11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F:20\r\na=candidate:1 1 udp 9 ::1 5001 typ host\r\n\
            a=candidate:1 1 udp 9 10.0.0.1 5000 typ host\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 100 101\r\na=mid:0\r\na=rtpmap:100 VP8/90000\r\n\
            a=rtpmap:101 rtx/90000\r\na=fmtp:101 apt=100\r\na=ssrc-group:FID 5 6\r\na=ssrc:5 cname:j\r\n\
            m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:2\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:j\r\n";
        let mut client = negotiation(Vec::new(), Slots::default(), Feedback::TransportCc);
        let answer = Description::parse(&client.answer(offer).unwrap());
        let taken: Vec<(&str, bool)> =
            answer.sections.iter().map(|section| (&section.mid[..], !section.refused)).collect();
        assert_eq!(taken, [("0", true), ("1", false), ("2", true)]);
        assert_eq!((answer.sections[0].formats[0].payload_type, &answer.setup[..]), (100, "active"));
        let agreement = client.agreement().unwrap();
        assert_eq!(agreement.address, "10.0.0.1:5000".parse().unwrap());
        assert!(!agreement.controlling, "who offers is in control");
        let ssrcs: Vec<_> = agreement.received.iter().map(|stream| (stream.ssrc, stream.rtx_ssrc)).collect();
        assert_eq!(ssrcs, [(Ssrc(5), Some(Ssrc(6))), (Ssrc(7), None)]);
    }

    #[test]
    fn a_refused_track_is_an_error() {
        let refused = "v=0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:p0\r\n";
        let error = publisher().accept(refused).unwrap_err();
        assert_eq!(error.to_string(), "the server does not take VP8 in section p0");
    }
}
