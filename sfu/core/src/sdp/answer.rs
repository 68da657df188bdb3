//! The text of an answer (RFC 8829 section 5.3).

use std::fmt::{self, Write as _};

use super::codec::{Flow, MatchedCodec, payload_types};
use super::negotiator::LocalDescription;
use super::offer::{Content, Offer, OfferedMedia, OfferedSection};
use super::{DataSection, IceCredentials, PublishedSection, Section, SectionUse, SetupRole, SlotSection};
use crate::engine::Candidate;
use crate::ids::Mid;
use crate::media::MediaKind;

/// The SCTP port that the server announces; any would do, since SCTP runs inside DTLS (RFC 8841 section 5).
const SCTP_PORT: u16 = 5000;
/// Type preferences of host candidates, UDP before TCP (RFC 8445 section 5.1.2.2, RFC 6544 section 4.2).
const UDP_TYPE_PREFERENCE: u32 = 126;
const TCP_TYPE_PREFERENCE: u32 = 90;
/// Direction preference of passive TCP (RFC 6544 section 4.2).
const TCP_PASSIVE_PREFERENCE: u32 = 4;

/// Everything that an answer is written from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) offer: &'a Offer<'a>,
    /// The decisions, one for each section of the offer.
    pub(super) sections: &'a [Section],
    pub(super) local: &'a LocalDescription,
    pub(super) ice: &'a IceCredentials,
    pub(super) setup: SetupRole,
    /// The session id and version of the `o=` line.
    pub(super) session: (u64, u64),
    pub(super) cname: &'a str,
}

/// Text under construction.
struct Lines(String);

impl Lines {
    fn add(&mut self, text: fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes all text");
        self.0.push_str("\r\n");
    }
}

macro_rules! line {
    ($lines:expr, $($text:tt)*) => { $lines.add(format_args!($($text)*)) };
}

impl Answer<'_> {
    /// The answer's text.
    pub(super) fn write(&self) -> String {
        let mut lines = Lines(String::new());
        let (id, version) = self.session;
        line!(lines, "v=0");
        line!(lines, "o=- {id} {version} IN IP4 127.0.0.1");
        line!(lines, "s=-");
        line!(lines, "t=0 0");
        let bundled: Vec<&Mid> = self.offer.bundle.iter().filter(|mid| self.is_accepted(mid)).collect();
        if !self.offer.bundle.is_empty() {
            let group: Vec<&str> =
                std::iter::once("BUNDLE").chain(bundled.iter().map(|mid| mid.as_str())).collect();
            line!(lines, "a=group:{}", group.join(" "));
        }
        line!(lines, "a=ice-lite");
        if self.offer.allow_mixed {
            line!(lines, "a=extmap-allow-mixed");
        }
        line!(lines, "a=msid-semantic: WMS *");

        let first = self.sections.iter().find(|s| !matches!(s.usage, SectionUse::Stopped)).map(|s| &s.mid);
        let tagged = bundled.first().copied().or(first);
        for (offered, section) in self.offer.sections.iter().zip(self.sections) {
            let candidates = if Some(&section.mid) == tagged { &self.local.candidates[..] } else { &[] };
            match (&section.usage, &offered.content) {
                (SectionUse::Published(published), Content::Media(media)) => {
                    self.write_transported(
                        &mut lines,
                        offered,
                        section,
                        Some((media, Flow::FromClient)),
                        candidates,
                    );
                    write_published(&mut lines, published, media);
                }
                (SectionUse::Slot(slot), Content::Media(media)) => {
                    self.write_transported(
                        &mut lines,
                        offered,
                        section,
                        Some((media, Flow::ToClient)),
                        candidates,
                    );
                    self.write_slot(&mut lines, &section.mid, slot, media);
                }
                (SectionUse::Data(DataSection { .. }), _) => {
                    self.write_transported(&mut lines, offered, section, None, candidates);
                    line!(lines, "a=sctp-port:{SCTP_PORT}");
                    line!(lines, "a=max-message-size:{}", self.local.max_message_size);
                }
                _ => write_rejected(&mut lines, offered),
            }
        }
        lines.0
    }

    fn is_accepted(&self, mid: &Mid) -> bool {
        self.sections.iter().any(|s| s.mid == *mid && !matches!(s.usage, SectionUse::Stopped))
    }

    /// The lines that all accepted sections begin with. Each repeats the transport, though it is the same for all:
    /// some stacks look for it in every section.
    fn write_transported(
        &self,
        lines: &mut Lines,
        offered: &OfferedSection<'_>,
        section: &Section,
        media: Option<(&OfferedMedia, Flow)>,
        candidates: &[Candidate],
    ) {
        let formats = match media {
            Some((media, flow)) => {
                let types = payload_types(&offered.formats, media.codecs(flow));
                types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            None => offered.formats.join(" "),
        };
        line!(lines, "m={} 9 {} {formats}", offered.media, offered.protocol);
        line!(lines, "c=IN IP4 0.0.0.0");
        write_candidates(lines, candidates);
        line!(lines, "a=ice-ufrag:{}", self.ice.ufrag);
        line!(lines, "a=ice-pwd:{}", self.ice.pwd);
        let hash: Vec<String> = self.local.fingerprint.0.iter().map(|byte| format!("{byte:02X}")).collect();
        line!(lines, "a=fingerprint:sha-256 {}", hash.join(":"));
        let setup = if self.setup == SetupRole::Passive { "passive" } else { "active" };
        line!(lines, "a=setup:{setup}");
        line!(lines, "a=mid:{}", section.mid);
        let Some((media, flow)) = media else { return };
        for extension in media.extensions.iter().filter_map(|extension| extension.answer(flow)) {
            line!(lines, "a=extmap:{extension}");
        }
        if media.allow_mixed {
            line!(lines, "a=extmap-allow-mixed");
        }
        line!(lines, "a=rtcp-mux");
        if media.rtcp_rsize {
            line!(lines, "a=rtcp-rsize");
        }
        for codec in media.codecs(flow) {
            codec.write(&mut lines.0);
        }
    }

    /// A slot names its SSRCs and its stream: without them browsers neither repair nor separate the slots.
    fn write_slot(&self, lines: &mut Lines, mid: &Mid, slot: &SlotSection, media: &OfferedMedia) {
        line!(lines, "a={}", if slot.active { "sendonly" } else { "inactive" });
        // Browsers play the tracks of one stream in lip sync; so only a pair shares one, under the audio's name.
        let stream = match (&slot.pair, slot.kind) {
            (Some(audio), MediaKind::Video) => audio,
            _ => mid,
        };
        line!(lines, "a=msid:slot-{stream} track-{mid}");
        let SlotSection { ssrc, rtx_ssrc, .. } = slot;
        let cname = self.cname;
        let rtx = media.codecs(Flow::ToClient).iter().any(|codec| codec.negotiated.rtx.is_some());
        if rtx {
            line!(lines, "a=ssrc-group:FID {ssrc} {rtx_ssrc}");
        }
        line!(lines, "a=ssrc:{ssrc} cname:{cname}");
        if rtx {
            line!(lines, "a=ssrc:{rtx_ssrc} cname:{cname}");
        }
    }
}

impl OfferedMedia {
    /// The codecs in common when media flows this way.
    pub(super) fn codecs(&self, flow: Flow) -> &[MatchedCodec] {
        match flow {
            Flow::FromClient => &self.codecs_from_client,
            Flow::ToClient => &self.codecs_to_client,
        }
    }
}

fn write_published(lines: &mut Lines, published: &PublishedSection, media: &OfferedMedia) {
    line!(lines, "a={}", if published.active { "recvonly" } else { "inactive" });
    let rids: Vec<&str> =
        published.layers.iter().filter_map(|layer| Some(layer.rid.as_ref()?.as_str())).collect();
    for rid in &rids {
        line!(lines, "a=rid:{rid} recv");
    }
    if media.layers.simulcast {
        line!(lines, "a=simulcast:recv {}", rids.join(";"));
    }
}

fn write_rejected(lines: &mut Lines, offered: &OfferedSection<'_>) {
    // A rejected section still needs a format (RFC 3264 section 6).
    let format = offered.formats.first().copied().unwrap_or("0");
    line!(lines, "m={} 0 {} {format}", offered.media, offered.protocol);
    line!(lines, "c=IN IP4 0.0.0.0");
    if let Some(mid) = &offered.mid {
        line!(lines, "a=mid:{mid}");
    }
    line!(lines, "a=inactive");
}

fn write_candidates(lines: &mut Lines, candidates: &[Candidate]) {
    // Candidates of one protocol and address share a foundation (RFC 8445 section 5.1.1.3).
    let mut foundations = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let (address, port) = (candidate.address.ip(), candidate.address.port());
        let base = (candidate.tcp, address);
        let foundation = foundations.iter().position(|known| *known == base).unwrap_or_else(|| {
            foundations.push(base);
            foundations.len() - 1
        }) + 1;
        let priority = priority(index, candidate.tcp);
        if candidate.tcp {
            line!(
                lines,
                "a=candidate:{foundation} 1 tcp {priority} {address} {port} typ host tcptype passive"
            );
        } else {
            line!(lines, "a=candidate:{foundation} 1 udp {priority} {address} {port} typ host");
        }
    }
    if !candidates.is_empty() {
        line!(lines, "a=end-of-candidates");
    }
}

/// The priority of the RTP component's candidate (RFC 8445 section 5.1.2.1); earlier ones are better.
fn priority(index: usize, tcp: bool) -> u32 {
    let later = index.min(0x1fff) as u32;
    let (preference, local) = if tcp {
        (TCP_TYPE_PREFERENCE, (TCP_PASSIVE_PREFERENCE << 13) | (0x1fff - later))
    } else {
        (UDP_TYPE_PREFERENCE, 0xffff - later)
    };
    (preference << 24) | (local << 8) | 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_ranked_and_grouped_by_their_base() {
        let candidate = |address: &str, tcp| Candidate { address: address.parse().unwrap(), tcp };
        let mut lines = Lines(String::new());
        let all = [
            candidate("192.0.2.1:9000", false),
            candidate("[2001:db8::1]:9000", false),
            candidate("192.0.2.1:9001", false),
            candidate("192.0.2.1:443", true),
        ];
        write_candidates(&mut lines, &all);
        let expected = "a=candidate:1 1 udp 2130706431 192.0.2.1 9000 typ host\r\n\
                        a=candidate:2 1 udp 2130706175 2001:db8::1 9000 typ host\r\n\
                        a=candidate:1 1 udp 2130705919 192.0.2.1 9001 typ host\r\n\
                        a=candidate:3 1 tcp 1520434431 192.0.2.1 443 typ host tcptype passive\r\n\
                        a=end-of-candidates\r\n";
        assert_eq!(lines.0, expected);
    }
}
