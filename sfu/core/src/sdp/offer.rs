//! The offer with its meaning: who offers, over which transport, and what each section is.

use super::codec::{Flow, MatchedCodec, match_codecs};
use super::extmap::{IdTable, OfferedExtension, read_extensions};
use super::layers::{OfferedLayers, check_one_track, read_layers, read_ssrcs};
use super::parser::{Attribute, Attributes as _, MediaLines, SessionLines, error, parse, quoted};
use super::transport::{OfferedTransport, read_transport};
use super::{DataSection, OfferError};
use crate::ids::{Mid, Ssrc};
use crate::media::MediaKind;

/// What a client that says nothing about it takes, in bytes (RFC 8841 section 6.1).
const DEFAULT_MAX_MESSAGE_SIZE: usize = 65_536;

/// An offer that makes sense by itself. Whether it fits the session so far is the negotiator's question.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    /// User name and session id of the `o=` line.
    pub(super) origin: (&'a str, &'a str),
    /// Header extensions of one and two bytes may be mixed (RFC 8285 section 6).
    pub(super) allow_mixed: bool,
    /// `None` when no section is used and nothing tells.
    pub(super) transport: Option<OfferedTransport>,
    /// The sections of the BUNDLE group, in its order.
    pub(super) bundle: Vec<Mid>,
    pub(super) sections: Vec<OfferedSection<'a>>,
    /// Every SSRC that the client names.
    pub(super) ssrcs: Vec<Ssrc>,
}

/// One section of an offer.
#[derive(Debug)]
pub(super) struct OfferedSection<'a> {
    /// The `m=` line.
    pub(super) line: usize,
    /// The first words of the `m=` line, for the answer.
    pub(super) media: &'a str,
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    /// Stopped sections need none.
    pub(super) mid: Option<Mid>,
    pub(super) content: Content,
}

/// What a section offers.
#[derive(Debug)]
pub(super) enum Content {
    /// Port 0, and not only for BUNDLE's sake.
    Stopped,
    /// Nothing that the server takes part in: rejected without further ado.
    Unsupported,
    /// Audio or video.
    Media(Box<OfferedMedia>),
    /// SCTP.
    Data(DataSection),
}

/// A section of audio or video.
#[derive(Debug)]
pub(super) struct OfferedMedia {
    pub(super) kind: MediaKind,
    pub(super) direction: Direction,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    /// The section names a stream of the client.
    pub(super) has_stream: bool,
    /// The codecs in common, should the client send.
    pub(super) codecs_from_client: Vec<MatchedCodec>,
    /// The codecs in common, should the server send.
    pub(super) codecs_to_client: Vec<MatchedCodec>,
    pub(super) extensions: Vec<OfferedExtension>,
    pub(super) layers: OfferedLayers,
}

/// Who may send, as the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl<'a> Offer<'a> {
    /// Reads an offer.
    pub(super) fn parse(text: &'a str) -> Result<Self, OfferError> {
        let lines = parse(text)?;
        if lines.media.is_empty() {
            return error(0, "the offer has no media section");
        }
        if let Some(lite) = lines.attributes.attribute("ice-lite") {
            return error(lite.line, "the server is ICE-lite; a client that is too cannot reach it");
        }
        let mids = read_mids(&lines)?;
        let bundle = read_bundle(&lines)?;
        let stopped: Vec<bool> =
            lines.media.iter().zip(&mids).map(|(m, mid)| is_stopped(m, mid.as_ref(), &bundle)).collect();
        check_bundled(&lines, &mids, &stopped, &bundle)?;

        let mut ids = IdTable::default();
        let mut sections = Vec::with_capacity(lines.media.len());
        let mut ssrcs = Vec::new();
        for ((media, mid), stopped) in lines.media.iter().zip(&mids).zip(&stopped) {
            let content = if *stopped { Content::Stopped } else { read_content(media, &lines, &mut ids)? };
            if !*stopped {
                ssrcs.extend(read_ssrcs(media)?);
            }
            sections.push(OfferedSection {
                line: media.line,
                media: media.media,
                protocol: media.protocol,
                formats: media.formats.clone(),
                mid: mid.clone(),
                content,
            });
        }
        let transport = read_transport(&lines, &transport_order(&lines, &mids, &stopped, &bundle))?;
        let allow_mixed = lines.attributes.has("extmap-allow-mixed");
        Ok(Offer { origin: lines.origin, allow_mixed, transport, bundle, sections, ssrcs })
    }
}

/// The mid of each section; only stopped ones may lack it.
fn read_mids(lines: &SessionLines<'_>) -> Result<Vec<Option<Mid>>, OfferError> {
    let mut mids: Vec<Option<Mid>> = Vec::with_capacity(lines.media.len());
    for media in &lines.media {
        let Some(attribute) = media.attributes.attribute("mid") else {
            if media.port != 0 {
                return error(media.line, "the section has no `a=mid`");
            }
            mids.push(None);
            continue;
        };
        let Some(mid) = Mid::new(attribute.value) else {
            let reason =
                format!("{} is no mid: a token of 1 to {} characters", quoted(attribute.value), Mid::MAX_LEN);
            return error(attribute.line, reason);
        };
        if mids.iter().flatten().any(|other| *other == mid) {
            return error(attribute.line, format!("a section before this one has the mid `{mid}` too"));
        }
        mids.push(Some(mid));
    }
    Ok(mids)
}

/// The mids of the BUNDLE group; of the first, should there be several.
fn read_bundle(lines: &SessionLines<'_>) -> Result<Vec<Mid>, OfferError> {
    let groups = lines.attributes.named("group");
    let Some((line, mids)) = groups
        .filter_map(|a| Some((a.line, a.value.strip_prefix("BUNDLE")?)))
        .find(|(_, mids)| mids.is_empty() || mids.starts_with(' '))
    else {
        return Ok(Vec::new());
    };
    let mids = mids.split(' ').filter(|mid| !mid.is_empty()).take(super::parser::MAX_SECTIONS);
    let read = |mid: &str| match Mid::new(mid) {
        Some(mid) => Ok(mid),
        None => error(line, format!("{} is no mid", quoted(mid))),
    };
    let mut group: Vec<Mid> = Vec::new();
    for mid in mids {
        let mid = read(mid)?;
        if !group.contains(&mid) {
            group.push(mid);
        }
    }
    Ok(group)
}

/// Port 0 stops a section, unless it stands for "only within the BUNDLE group" (RFC 9143 section 6): Firefox writes
/// later offers so.
fn is_stopped(media: &MediaLines<'_>, mid: Option<&Mid>, bundle: &[Mid]) -> bool {
    let bundled = media.attributes.has("bundle-only") && mid.is_some_and(|mid| bundle.contains(mid));
    media.port == 0 && !bundled
}

/// There is one transport; so all sections must be willing to share it.
fn check_bundled(
    lines: &SessionLines<'_>,
    mids: &[Option<Mid>],
    stopped: &[bool],
    bundle: &[Mid],
) -> Result<(), OfferError> {
    let used =
        || lines.media.iter().zip(mids).zip(stopped).filter(|(_, stopped)| !**stopped).map(|(used, _)| used);
    let several = used().nth(1).is_some();
    for (media, mid) in used() {
        let Some(mid) = mid else { return error(media.line, "the section has no `a=mid`") };
        if several && !bundle.contains(mid) {
            let reason =
                format!("section `{mid}` is not in the BUNDLE group; all sections must share one transport");
            return error(media.line, reason);
        }
    }
    Ok(())
}

/// The sections in the order in which they speak for the transport: first those of the BUNDLE group.
fn transport_order(
    lines: &SessionLines<'_>,
    mids: &[Option<Mid>],
    stopped: &[bool],
    bundle: &[Mid],
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lines.media.len()).filter(|i| !stopped[*i]).collect();
    let rank = |i: &usize| {
        mids[*i].as_ref().and_then(|mid| bundle.iter().position(|b| b == mid)).unwrap_or(bundle.len())
    };
    order.sort_by_key(rank);
    order
}

fn read_content<'a>(
    media: &MediaLines<'a>,
    lines: &SessionLines<'a>,
    ids: &mut IdTable<'a>,
) -> Result<Content, OfferError> {
    match media.media {
        "audio" => read_media(media, MediaKind::Audio, lines, ids),
        "video" => read_media(media, MediaKind::Video, lines, ids),
        "application" if media.protocol.ends_with("/DTLS/SCTP") => read_data(media),
        _ => Ok(Content::Unsupported),
    }
}

fn read_media<'a>(
    media: &MediaLines<'a>,
    kind: MediaKind,
    lines: &SessionLines<'a>,
    ids: &mut IdTable<'a>,
) -> Result<Content, OfferError> {
    // The profiles of RFC 8829 section 5.1.2; what they are called matters less than that there are keys from DTLS.
    if !matches!(media.protocol.rsplit_once("RTP/"), Some((_, "SAVPF" | "SAVP"))) {
        let reason = format!("{} is not encrypted: `UDP/TLS/RTP/SAVPF` is expected", quoted(media.protocol));
        return error(media.line, reason);
    }
    if !media.attributes.has("rtcp-mux") && !media.attributes.has("rtcp-mux-only") {
        return error(media.line, "the section has no `a=rtcp-mux`; RTP and RTCP must share one port");
    }
    check_one_track(media)?;
    let direction = direction(&media.attributes).or_else(|| direction(&lines.attributes));
    Ok(Content::Media(Box::new(OfferedMedia {
        kind,
        direction: direction.unwrap_or(Direction::SendRecv),
        rtcp_rsize: media.attributes.has("rtcp-rsize"),
        allow_mixed: media.attributes.has("extmap-allow-mixed"),
        has_stream: media.attributes.has("msid"),
        codecs_from_client: match_codecs(media, kind, Flow::FromClient)?,
        codecs_to_client: match_codecs(media, kind, Flow::ToClient)?,
        extensions: read_extensions(media, ids)?,
        layers: read_layers(media, kind)?,
    })))
}

fn direction(attributes: &[Attribute<'_>]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| match attribute.name {
        "sendrecv" => Some(Direction::SendRecv),
        "sendonly" => Some(Direction::SendOnly),
        "recvonly" => Some(Direction::RecvOnly),
        "inactive" => Some(Direction::Inactive),
        _ => None,
    })
}

fn read_data(media: &MediaLines<'_>) -> Result<Content, OfferError> {
    if media.formats != ["webrtc-datachannel"] {
        return Ok(Content::Unsupported);
    }
    let Some(port) = media.attributes.attribute("sctp-port") else {
        return error(media.line, "the section has no `a=sctp-port`");
    };
    let Some(remote_port) = port.value.parse().ok().filter(|port| *port != 0) else {
        return error(port.line, format!("{} is no SCTP port", quoted(port.value)));
    };
    let max_message_size = match media.attributes.attribute("max-message-size") {
        None => DEFAULT_MAX_MESSAGE_SIZE,
        Some(size) => match size.value.parse() {
            // 0 means that the client takes any size.
            Ok(0) => usize::MAX,
            Ok(size) => size,
            Err(_) => return error(size.line, format!("{} is no size in bytes", quoted(size.value))),
        },
    };
    Ok(Content::Data(DataSection { remote_port, max_message_size }))
}
