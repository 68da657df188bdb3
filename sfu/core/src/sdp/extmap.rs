//! RTP header extensions of an offer (RFC 8285 section 5) and what their answer is.

use super::OfferError;
use super::codec::Flow;
use super::parser::{Attributes as _, MediaLines, error, quoted};
use crate::media::Extension;

/// The largest id of the two-byte form (RFC 8285 section 4.3); ids above it only stand in for ids to be chosen.
const MAX_ID: u16 = 255;
/// Not to be used in the one-byte form (RFC 8285 section 4.2), and no browser's choice in the other.
const RESERVED_ID: u16 = 15;

/// An extension that both sides understand.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfferedExtension {
    pub(super) extension: Extension,
    pub(super) id: u8,
    /// The client may send it.
    sends: bool,
    /// The client takes it.
    receives: bool,
}

/// Which URI each id stands for: the same in all sections of a BUNDLE group (RFC 9143 section 9.1).
#[derive(Debug)]
pub(super) struct IdTable<'a>([Option<&'a str>; MAX_ID as usize + 1]);

impl Default for IdTable<'_> {
    fn default() -> Self {
        Self([None; MAX_ID as usize + 1])
    }
}

/// Reads the extensions of a section that the server understands.
pub(super) fn read_extensions<'a>(
    media: &MediaLines<'a>,
    ids: &mut IdTable<'a>,
) -> Result<Vec<OfferedExtension>, OfferError> {
    let mut extensions: Vec<OfferedExtension> = Vec::new();
    for attribute in media.attributes.named("extmap") {
        let mut words = attribute.value.split(' ').filter(|word| !word.is_empty());
        let (id, direction) = words
            .next()
            .and_then(|w| w.split_once('/'))
            .unwrap_or_else(|| (attribute.value.split(' ').next().unwrap_or_default(), "sendrecv"));
        let (Ok(id), Some(uri)) = (id.parse::<u16>(), words.next()) else {
            return error(attribute.line, "`a=extmap` has the form `<id> <URI>`");
        };
        let (sends, receives) = match direction {
            "sendrecv" => (true, true),
            "sendonly" => (true, false),
            "recvonly" => (false, true),
            "inactive" => (false, false),
            _ => return error(attribute.line, format!("{} is no direction", quoted(direction))),
        };
        if id == 0 {
            return error(attribute.line, "0 is no id of a header extension");
        }
        if id > MAX_ID || id == RESERVED_ID {
            continue;
        }
        let extension = Extension::ALL.into_iter().find(|e| e.uri() == uri);
        ids.claim(id as u8, uri, attribute.line)?;
        if let Some(extension) = extension.filter(|e| !extensions.iter().any(|known| known.extension == *e)) {
            extensions.push(OfferedExtension { extension, id: id as u8, sends, receives });
        }
    }
    Ok(extensions)
}

impl<'a> IdTable<'a> {
    /// Gives an id to a URI, unless this contradicts a section before. Contradictions between extensions that the
    /// server does not read are not its business.
    fn claim(&mut self, id: u8, uri: &'a str, line: usize) -> Result<(), OfferError> {
        let understood = |uri: &str| Extension::ALL.iter().any(|e| e.uri() == uri);
        let other_uri = self.0[usize::from(id)].filter(|other| *other != uri);
        if let Some(other) = other_uri.filter(|other| understood(uri) || understood(other)) {
            let reason = format!("the id {id} stands for {} in this offer already", quoted(other));
            return error(line, reason);
        }
        if understood(uri)
            && let Some(other) =
                self.0.iter().position(|known| *known == Some(uri)).filter(|o| *o != usize::from(id))
        {
            return error(line, format!("{} has the id {other} in this offer already", quoted(uri)));
        }
        self.0[usize::from(id)] = Some(uri);
        Ok(())
    }
}

impl OfferedExtension {
    /// The value of the `a=extmap` to answer, for the media's direction; `None` to leave it out.
    pub(super) fn answer(self, flow: Flow) -> Option<String> {
        let wanted = match flow {
            Flow::FromClient => self.sends,
            // What tells simulcast layers apart has no use in a slot: it has one stream.
            Flow::ToClient => {
                self.receives && !matches!(self.extension, Extension::Rid | Extension::RepairedRid)
            }
        };
        let direction = match (self.sends, self.receives) {
            (true, true) => "",
            (true, false) => "/recvonly",
            (false, _) => "/sendonly",
        };
        wanted.then(|| format!("{}{direction} {}", self.id, self.extension.uri()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parser::parse;

    const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

    /// Reads the extensions of two sections, given the lines of each.
    fn read(first: &[String], second: &[String]) -> Result<Vec<OfferedExtension>, OfferError> {
        let head = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n";
        let media =
            |lines: &[String]| format!("m=audio 9 X 0\r\na=extmap:{}\r\n", lines.join("\r\na=extmap:"));
        let text = format!("{head}{}{}", media(first), media(second));
        let lines = parse(&text).unwrap();
        let mut ids = IdTable::default();
        read_extensions(&lines.media[0], &mut ids)?;
        read_extensions(&lines.media[1], &mut ids)
    }

    #[test]
    fn known_extensions_keep_their_ids() {
        let lines =
            [format!("1 {LEVEL}"), "2 urn:unknown".to_owned(), format!("4 {MID}"), "4000 urn:x".to_owned()];
        let extensions = read(&lines, &lines).unwrap();
        let ids: Vec<_> = extensions.iter().map(|e| (e.extension, e.id)).collect();
        assert_eq!(ids, [(Extension::AudioLevel, 1), (Extension::Mid, 4)]);
        assert_eq!(extensions[1].answer(Flow::ToClient), Some(format!("4 {MID}")));
    }

    #[test]
    fn directions_are_respected() {
        let answers = |line: String| {
            let extension = read(std::slice::from_ref(&line), std::slice::from_ref(&line)).unwrap()[0];
            [Flow::FromClient, Flow::ToClient].map(|flow| extension.answer(flow))
        };
        assert_eq!(answers(format!("3/sendonly {MID}")), [Some(format!("3/recvonly {MID}")), None]);
        assert_eq!(answers(format!("3/recvonly {MID}")), [None, Some(format!("3/sendonly {MID}"))]);
        assert_eq!(answers(format!("3/inactive {MID}")), [None, None]);
        let rid = Extension::Rid.uri();
        assert_eq!(answers(format!("9 {rid}")), [Some(format!("9 {rid}")), None]);
    }

    #[test]
    fn contradictions_between_sections_are_named() {
        let fails =
            |first: &str, second: &str| read(&[first.to_owned()], &[second.to_owned()]).unwrap_err().line;
        assert_eq!(fails(&format!("1 {MID}"), &format!("1 {LEVEL}")), 6);
        assert_eq!(fails(&format!("1 {MID}"), &format!("2 {MID}")), 6);
        assert_eq!(fails("1 urn:unknown", &format!("1 {MID}")), 6);
        assert_eq!(fails(&format!("1 {MID}"), "0 urn:x"), 6);
        assert_eq!(fails(&format!("1 {MID}"), "x urn:x"), 6);
        assert_eq!(fails(&format!("1 {MID}"), "3/sideways urn:x"), 6);
        assert!(read(&["1 urn:x".to_owned()], &["1 urn:y".to_owned()]).is_ok(), "none of our business");
    }
}
