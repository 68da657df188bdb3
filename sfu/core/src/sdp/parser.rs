//! The grammar: text to numbered lines, sorted into the session's and the media sections' (RFC 8866 section 5).
//!
//! Meaning is given to attributes elsewhere; here they keep their text and the number of their line, so that every
//! later complaint can name it.

use super::OfferError;

/// The longest offer that is read, in bytes. A browser's offer has about 4.5 KB per section with all its codecs.
pub(super) const MAX_OFFER_LEN: usize = 1 << 20;
/// The most media sections, stopped ones included. Browsers stay below (Firefox ends at 128 in a BUNDLE group).
pub(super) const MAX_SECTIONS: usize = 256;
/// The most attributes of one section. Chromium's video sections have about 150.
pub(super) const MAX_ATTRIBUTES: usize = 512;

/// A line `a=name:value`, or `a=name` with an empty value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    /// Its line, from 1.
    pub(super) line: usize,
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

/// What stands before the first `m=` line.
#[derive(Debug)]
pub(super) struct SessionLines<'a> {
    /// The user name and the session id of the `o=` line: together they name the session (RFC 8866 section 5.2).
    pub(super) origin: (&'a str, &'a str),
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) media: Vec<MediaLines<'a>>,
}

/// One `m=` line and what follows it.
#[derive(Debug)]
pub(super) struct MediaLines<'a> {
    /// The `m=` line, from 1.
    pub(super) line: usize,
    pub(super) media: &'a str,
    pub(super) port: u16,
    pub(super) protocol: &'a str,
    /// At least one.
    pub(super) formats: Vec<&'a str>,
    pub(super) attributes: Vec<Attribute<'a>>,
}

/// Looks for attributes by name.
pub(super) trait Attributes<'a> {
    /// All that have this name.
    fn named(&self, name: &str) -> impl Iterator<Item = Attribute<'a>>;

    /// The first that has this name.
    fn attribute(&self, name: &str) -> Option<Attribute<'a>> {
        self.named(name).next()
    }

    /// Whether there is one of this name.
    fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }
}

impl<'a> Attributes<'a> for [Attribute<'a>] {
    fn named(&self, name: &str) -> impl Iterator<Item = Attribute<'a>> {
        self.iter().filter(move |a| a.name == name).copied()
    }
}

/// An error at a line.
pub(super) fn error<T>(line: usize, reason: impl Into<String>) -> Result<T, OfferError> {
    Err(OfferError { line, reason: reason.into() })
}

/// Text of the offer as it may stand in an error: short and without control characters.
pub(super) fn quoted(text: &str) -> String {
    const MAX: usize = 40;
    let mut short: String = text.chars().take(MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// Reads a session description.
pub(super) fn parse(text: &str) -> Result<SessionLines<'_>, OfferError> {
    if text.len() > MAX_OFFER_LEN {
        return error(0, format!("the offer has {} bytes; at most {MAX_OFFER_LEN} are read", text.len()));
    }
    let mut session = SessionLines { origin: ("", ""), attributes: Vec::new(), media: Vec::new() };
    let mut has_origin = false;
    let mut last_line = 0;
    for (index, line) in text.trim_end_matches(['\r', '\n']).split('\n').enumerate() {
        let number = index + 1;
        last_line = number;
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains(['\0', '\r']) {
            return error(number, "a line has a control character in its middle");
        }
        let (kind, value) = match line.split_once('=') {
            Some((kind, value)) if kind.len() == 1 => (kind, value),
            _ => return error(number, format!("{} is not of the form `x=value`", quoted(line))),
        };
        if (kind == "v") != (number == 1) {
            return error(number, "an offer starts with one line `v=0`");
        }
        match kind {
            "v" if value != "0" => return error(number, "the version is not 0: `v=0` is expected"),
            "o" if has_origin => return error(number, "there is a second `o=` line"),
            "o" => {
                session.origin = parse_origin(number, value)?;
                has_origin = true;
            }
            "m" if session.media.len() == MAX_SECTIONS => {
                return error(number, format!("there are more than {MAX_SECTIONS} media sections"));
            }
            "m" => session.media.push(parse_media(number, value)?),
            "a" => {
                let attributes =
                    session.media.last_mut().map_or(&mut session.attributes, |m| &mut m.attributes);
                if attributes.len() == MAX_ATTRIBUTES {
                    return error(number, format!("a section has more than {MAX_ATTRIBUTES} attributes"));
                }
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                attributes.push(Attribute { line: number, name, value: value.trim() });
            }
            "v" | "s" | "i" | "u" | "e" | "p" | "c" | "b" | "t" | "r" | "z" | "k" => {}
            _ => return error(number, format!("there is no line of type {} in SDP", quoted(kind))),
        }
    }
    if !has_origin {
        return error(last_line.min(1), "the `o=` line is missing");
    }
    Ok(session)
}

/// `o=<username> <sess-id> <sess-version> <nettype> <addrtype> <unicast-address>`
fn parse_origin(line: usize, value: &str) -> Result<(&str, &str), OfferError> {
    let fields: Vec<&str> = value.split(' ').filter(|field| !field.is_empty()).take(7).collect();
    match fields[..] {
        [user, session, _, _, _, _] => Ok((user, session)),
        _ => {
            error(line, "an `o=` line has six fields: user, session, version, `IN`, `IP4` or `IP6`, address")
        }
    }
}

/// `m=<media> <port>[/<ports>] <proto> <fmt> ...`
fn parse_media(line: usize, value: &str) -> Result<MediaLines<'_>, OfferError> {
    // 128 payload types exist; more formats than that can only be repetitions.
    const MAX_FORMATS: usize = 128;
    let mut fields = value.split(' ').filter(|field| !field.is_empty());
    let (Some(media), Some(port), Some(protocol)) = (fields.next(), fields.next(), fields.next()) else {
        return error(line, "an `m=` line has a kind, a port, a protocol and formats");
    };
    let port = port.split('/').next().unwrap_or_default();
    let Ok(port) = port.parse() else {
        return error(line, format!("{} is not a port", quoted(port)));
    };
    let formats: Vec<&str> = fields.take(MAX_FORMATS + 1).collect();
    match formats.len() {
        0 => error(line, "the `m=` line names no format"),
        1..=MAX_FORMATS => Ok(MediaLines { line, media, port, protocol, formats, attributes: Vec::new() }),
        _ => error(line, format!("the `m=` line names more than {MAX_FORMATS} formats")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 7 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";

    fn fails(text: &str) -> OfferError {
        parse(text).expect_err("an offer like this is refused")
    }

    #[test]
    fn lines_are_numbered_and_sorted_into_sections() {
        let text =
            format!("{HEAD}a=ice-lite\r\nm=audio 9/2 UDP/TLS/RTP/SAVPF 111 0\r\na=mid:0\r\na=rtcp-mux\r\n");
        let session = parse(&text).unwrap();
        assert_eq!(session.origin, ("-", "7"));
        assert!(session.attributes.has("ice-lite"));
        let media = &session.media[0];
        assert_eq!((media.line, media.media, media.port), (6, "audio", 9));
        assert_eq!(media.formats, ["111", "0"]);
        let mid = media.attributes.attribute("mid").unwrap();
        assert_eq!((mid.line, mid.value), (7, "0"));
        assert!(media.attributes.attribute("rtcp-mux").unwrap().value.is_empty());
    }

    #[test]
    fn plain_line_feeds_and_a_missing_last_one_are_taken() {
        assert_eq!(parse("v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nm=audio 9 RTP/AVP 0").unwrap().media.len(), 1);
    }

    #[test]
    fn broken_lines_are_named() {
        assert_eq!(fails("").line, 1);
        assert_eq!(fails("hello").line, 1);
        assert_eq!(fails("v=1\r\n").line, 1);
        assert_eq!(fails("v=0\r\nv=0\r\n").line, 2);
        assert_eq!(fails("v=0\r\ns=-\r\n").reason, "the `o=` line is missing");
        assert_eq!(fails("v=0\r\no=- 1 1\r\n").line, 2);
        assert_eq!(fails(&format!("{HEAD}\r\na=x\r\n")).line, 5);
        assert_eq!(fails(&format!("{HEAD}x=1\r\n")).line, 5);
        assert_eq!(fails(&format!("{HEAD}a=1\rm=x\r\n")).line, 5);
        assert_eq!(fails(&format!("{HEAD}m=audio\r\n")).line, 5);
        assert_eq!(fails(&format!("{HEAD}m=audio 99999 RTP/AVP 0\r\n")).line, 5);
        assert_eq!(fails(&format!("{HEAD}m=audio 9 RTP/AVP\r\n")).reason, "the `m=` line names no format");
    }

    #[test]
    fn everything_is_bounded() {
        assert_eq!(fails(&"v".repeat(MAX_OFFER_LEN + 1)).line, 0);
        let sections = "m=audio 9 RTP/AVP 0\r\n".repeat(MAX_SECTIONS);
        assert!(parse(&format!("{HEAD}{sections}")).is_ok());
        assert_eq!(fails(&format!("{HEAD}{sections}m=audio 9 RTP/AVP 0\r\n")).line, 5 + MAX_SECTIONS);
        let attributes = "a=x\r\n".repeat(MAX_ATTRIBUTES + 1);
        assert_eq!(fails(&format!("{HEAD}{attributes}")).line, 5 + MAX_ATTRIBUTES);
        assert_eq!(fails(&format!("{HEAD}m=audio 9 RTP/AVP{}\r\n", " 0".repeat(129))).line, 5);
    }

    #[test]
    fn errors_quote_little_and_nothing_unprintable() {
        assert_eq!(quoted("a\u{7}b"), "`a?b`");
        assert_eq!(quoted(&"ж".repeat(1000)).chars().count(), 43);
    }
}
