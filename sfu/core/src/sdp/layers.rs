//! The streams of a section that the client sends: simulcast by rid (RFC 8853, RFC 8851) or SSRCs (RFC 5576).

use smallvec::SmallVec;

use super::parser::{Attributes as _, MediaLines, error, quoted};
use super::{OfferError, PublishedLayer};
use crate::ids::{Rid, Ssrc};
use crate::media::MediaKind;

/// The most layers of a section. Of more, the first ones are taken: an offer lists them by preference (RFC 8853
/// section 5.2). Browsers send three at most.
pub(super) const MAX_LAYERS: usize = 3;
/// The most rids that are read from a section, and the most alternatives for a layer.
const MAX_RIDS: usize = 16;
/// The most SSRCs that are read from a section.
const MAX_SSRCS: usize = 64;

/// What a section says about the client's streams.
#[derive(Clone, Debug, Default)]
pub(super) struct OfferedLayers {
    /// At least one, should the client send.
    pub(super) layers: SmallVec<[PublishedLayer; 3]>,
    /// The layers were offered with `a=simulcast`, and are to be answered so.
    pub(super) simulcast: bool,
}

/// Reads the streams of a section.
pub(super) fn read_layers(media: &MediaLines<'_>, kind: MediaKind) -> Result<OfferedLayers, OfferError> {
    let rids = if kind == MediaKind::Video { read_rids(media)? } else { Vec::new() };
    let mut offered = OfferedLayers::default();
    if let Some(attribute) = media.attributes.attribute("simulcast").filter(|_| kind == MediaKind::Video) {
        let streams = sent_streams(attribute.value);
        let Some(streams) = streams else {
            return error(attribute.line, "`a=simulcast` has the form `send <rid>;<rid>`");
        };
        for alternatives in streams.split(';').take(MAX_RIDS) {
            let names =
                alternatives.split(',').take(MAX_RIDS).map(|name| name.trim().trim_start_matches('~'));
            let taken =
                |rid: &Rid| offered.layers.iter().any(|l: &PublishedLayer| l.rid.as_ref() == Some(rid));
            let first = names.filter_map(Rid::new).find(|rid| rids.contains(rid) && !taken(rid));
            if let Some(rid) = first.filter(|_| offered.layers.len() < MAX_LAYERS) {
                offered.layers.push(PublishedLayer { rid: Some(rid), ..PublishedLayer::default() });
            }
        }
        if offered.layers.is_empty() && !streams.is_empty() {
            return error(attribute.line, "`a=simulcast` sends no rid that an `a=rid:… send` describes");
        }
        offered.simulcast = !offered.layers.is_empty();
    }
    if offered.layers.is_empty() {
        offered.layers = match rids.into_iter().next() {
            Some(rid) => {
                SmallVec::from_iter([PublishedLayer { rid: Some(rid), ..PublishedLayer::default() }])
            }
            None => layers_by_ssrc(media)?,
        };
    }
    Ok(offered)
}

/// Every SSRC that the section names.
pub(super) fn read_ssrcs(media: &MediaLines<'_>) -> Result<Vec<Ssrc>, OfferError> {
    let mut ssrcs = Vec::new();
    for attribute in media.attributes.named("ssrc") {
        let text = attribute.value.split(' ').next().unwrap_or_default();
        let Ok(ssrc) = text.parse().map(Ssrc) else {
            return error(attribute.line, format!("{} is no SSRC", quoted(text)));
        };
        if !ssrcs.contains(&ssrc) {
            ssrcs.push(ssrc);
        }
        if ssrcs.len() > MAX_SSRCS {
            return error(attribute.line, format!("the section has more than {MAX_SSRCS} SSRCs"));
        }
    }
    Ok(ssrcs)
}

/// A section carries one track. Several are "Plan B", which browsers have given up.
pub(super) fn check_one_track(media: &MediaLines<'_>) -> Result<(), OfferError> {
    let mut stream = None;
    for attribute in media.attributes.named("ssrc") {
        let Some((_, msid)) = attribute.value.split_once(" msid:") else { continue };
        if *stream.get_or_insert(msid) != msid {
            let reason = "the section carries several tracks (Plan B); each track needs a section of its own";
            return error(attribute.line, reason);
        }
    }
    Ok(())
}

/// The rids that the client describes as sent.
fn read_rids(media: &MediaLines<'_>) -> Result<Vec<Rid>, OfferError> {
    let mut rids = Vec::new();
    for attribute in media.attributes.named("rid") {
        let mut words = attribute.value.split(' ').filter(|word| !word.is_empty());
        let name = words.next().unwrap_or_default();
        let (Some(rid), Some(direction @ ("send" | "recv"))) = (Rid::new(name), words.next()) else {
            return error(attribute.line, "`a=rid` has the form `<rid> send` or `<rid> recv`");
        };
        if direction == "send" && !rids.contains(&rid) && rids.len() < MAX_RIDS {
            rids.push(rid);
        }
    }
    Ok(rids)
}

/// The list behind `send`; empty when there is none. `None` when the value is no simulcast description.
fn sent_streams(value: &str) -> Option<&str> {
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let mut streams = "";
    while let Some(direction) = words.next() {
        let list = words.next()?;
        match direction {
            "send" => streams = list,
            "recv" => {}
            _ => return None,
        }
    }
    Some(streams)
}

/// The layers of a section without rids: one for each SSRC of `a=ssrc-group:SIM`, otherwise one.
fn layers_by_ssrc(media: &MediaLines<'_>) -> Result<SmallVec<[PublishedLayer; 3]>, OfferError> {
    let mut simulcast = Vec::new();
    let mut repairs = Vec::new();
    for attribute in media.attributes.named("ssrc-group") {
        let mut words = attribute.value.split(' ').filter(|word| !word.is_empty());
        let semantics = words.next().unwrap_or_default();
        let ssrcs: Result<Vec<Ssrc>, _> = words.take(MAX_SSRCS).map(|word| word.parse().map(Ssrc)).collect();
        match (semantics, ssrcs.as_deref()) {
            (_, Err(_)) => return error(attribute.line, "`a=ssrc-group` names something that is no SSRC"),
            ("SIM", Ok(ssrcs)) => simulcast = ssrcs.to_vec(),
            ("FID", Ok(&[media, rtx])) => repairs.push((media, rtx)),
            _ => {}
        }
    }
    if simulcast.is_empty() {
        let first = repairs.first().map(|(media, _)| *media);
        simulcast.extend(first.or(read_ssrcs(media)?.first().copied()));
    }
    let repair = |ssrc: Ssrc| repairs.iter().find(|(media, _)| *media == ssrc).map(|(_, rtx)| *rtx);
    let layer = |&ssrc: &Ssrc| PublishedLayer { rid: None, ssrc: Some(ssrc), rtx_ssrc: repair(ssrc) };
    let mut layers: SmallVec<[PublishedLayer; 3]> = simulcast.iter().take(MAX_LAYERS).map(layer).collect();
    if layers.is_empty() {
        layers.push(PublishedLayer::default());
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parser::parse;

    fn read(attributes: &[&str]) -> Result<OfferedLayers, OfferError> {
        let lines = attributes.join("\r\na=");
        let text = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=video 9 X 96\r\na={lines}\r\n");
        let lines = parse(&text).unwrap();
        check_one_track(&lines.media[0])?;
        read_layers(&lines.media[0], MediaKind::Video)
    }

    fn rids(attributes: &[&str]) -> Vec<String> {
        read(attributes).unwrap().layers.iter().map(|l| l.rid.as_ref().unwrap().to_string()).collect()
    }

    #[test]
    fn simulcast_keeps_the_order_and_takes_the_first_described_alternative() {
        let sends = ["rid:q send", "rid:h send pt=96;max-width=640", "rid:f send", "rid:r recv"];
        assert_eq!(rids(&[&sends[..], &["simulcast:send q;h;f"]].concat()), ["q", "h", "f"]);
        assert_eq!(rids(&[&sends[..], &["simulcast:recv r send ~f;x,h"]].concat()), ["f", "h"]);
        assert_eq!(rids(&[&sends[..], &["simulcast:send q;q;r;h"]].concat()), ["q", "h"]);
    }

    #[test]
    fn of_many_layers_the_first_three_are_taken() {
        let lines = ["rid:a send", "rid:b send", "rid:c send", "rid:d send", "simulcast:send d;c;b;a"];
        assert_eq!(rids(&lines), ["d", "c", "b"]);
    }

    #[test]
    fn a_rid_without_simulcast_is_one_layer() {
        assert_eq!(rids(&["rid:a send"]), ["a"]);
        assert!(!read(&["rid:a send"]).unwrap().simulcast);
    }

    #[test]
    fn ssrcs_stand_where_there_are_no_rids() {
        let (media, rtx) = (Some(Ssrc(1)), Some(Ssrc(2)));
        let one = read(&["ssrc:1 cname:a", "ssrc:2 cname:a", "ssrc-group:FID 1 2"]).unwrap();
        assert_eq!(one.layers[..], [PublishedLayer { rid: None, ssrc: media, rtx_ssrc: rtx }]);
        let plain = read(&["ssrc:1 cname:a"]).unwrap();
        assert_eq!(plain.layers[..], [PublishedLayer { rid: None, ssrc: media, rtx_ssrc: None }]);
        assert_eq!(read(&[]).unwrap().layers[..], [PublishedLayer::default()]);
        let three = read(&["ssrc-group:SIM 1 3 5", "ssrc-group:FID 3 4", "ssrc-group:FID 1 2"]).unwrap();
        let ssrcs: Vec<_> =
            three.layers.iter().map(|l| (l.ssrc.unwrap().0, l.rtx_ssrc.map(|s| s.0))).collect();
        assert_eq!(ssrcs, [(1, Some(2)), (3, Some(4)), (5, None)]);
    }

    #[test]
    fn malformed_and_plan_b_lines_are_named() {
        assert_eq!(read(&["rid:a"]).unwrap_err().line, 4);
        assert_eq!(read(&["rid:a send", "simulcast:send"]).unwrap_err().line, 5);
        assert_eq!(read(&["rid:a send", "simulcast:sent a"]).unwrap_err().line, 5);
        assert_eq!(read(&["rid:a send", "simulcast:send b"]).unwrap_err().line, 5);
        assert_eq!(read(&["ssrc:x cname:a"]).unwrap_err().line, 4);
        assert_eq!(read(&["ssrc-group:FID 1 x"]).unwrap_err().line, 4);
        let plan_b = read(&["ssrc:1 msid:a b", "ssrc:2 msid:a b", "ssrc:3 msid:c d"]).unwrap_err();
        assert_eq!(plan_b.line, 6);
        assert!(plan_b.reason.contains("Plan B"));
    }
}
