//! What an offer says about its transport: ICE credentials (RFC 8839), DTLS fingerprint and role (RFC 8842).

use super::parser::{Attribute, Attributes as _, SessionLines, error, quoted};
use super::{Fingerprint, IceCredentials, OfferError};

/// The one transport of an offer.
#[derive(Clone, Debug)]
pub(super) struct OfferedTransport {
    pub(super) ice: IceCredentials,
    pub(super) fingerprint: Fingerprint,
    pub(super) setup: OfferedSetup,
    /// The line of `a=setup`; 0 without.
    pub(super) setup_line: usize,
}

/// Which DTLS role the client offers to take (RFC 8842 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfferedSetup {
    ActPass,
    Active,
    Passive,
}

/// Reads the transport from the sections in this order, each of which falls back on the session's attributes.
/// `None` when no section is used and the session says nothing.
pub(super) fn read_transport(
    lines: &SessionLines<'_>,
    order: &[usize],
) -> Result<Option<OfferedTransport>, OfferError> {
    let sections = || order.iter().filter_map(|&index| lines.media.get(index));
    let find = |name: &str| {
        let per_section = sections()
            .find_map(|media| media.attributes.attribute(name).or(lines.attributes.attribute(name)));
        per_section.or(lines.attributes.attribute(name))
    };
    let (Some(ufrag), Some(pwd)) = (find("ice-ufrag"), find("ice-pwd")) else {
        return match sections().next() {
            None => Ok(None),
            Some(media) => {
                error(media.line, "the section has no ICE credentials (`a=ice-ufrag` and `a=ice-pwd`)")
            }
        };
    };
    let fingerprint = {
        let here = |attributes: &[Attribute<'_>]| read_fingerprint(attributes);
        let mut found = None;
        for media in sections() {
            found = here(&media.attributes)?.or(here(&lines.attributes)?);
            if found.is_some() {
                break;
            }
        }
        match (found.or(here(&lines.attributes)?), sections().next()) {
            (Some(fingerprint), _) => fingerprint,
            (None, None) => return Ok(None),
            (None, Some(media)) => return error(media.line, "the section has no `a=fingerprint`"),
        }
    };
    let setup = match find("setup") {
        // Absent, it means that the client starts (RFC 4145 section 4).
        None => (OfferedSetup::Active, 0),
        Some(attribute) => (read_setup(attribute)?, attribute.line),
    };
    Ok(Some(OfferedTransport {
        ice: read_credentials(ufrag, pwd)?,
        fingerprint,
        setup: setup.0,
        setup_line: setup.1,
    }))
}

fn read_credentials(ufrag: Attribute<'_>, pwd: Attribute<'_>) -> Result<IceCredentials, OfferError> {
    // Other stacks use more characters than those of RFC 8839 section 5.4; only these would break something.
    let sound = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    if !(4..=256).contains(&ufrag.value.len()) || !sound(ufrag.value) {
        return error(ufrag.line, "`a=ice-ufrag` has 4 to 256 letters and digits");
    }
    if !(22..=256).contains(&pwd.value.len()) || !sound(pwd.value) {
        return error(pwd.line, "`a=ice-pwd` has 22 to 256 letters and digits");
    }
    Ok(IceCredentials { ufrag: ufrag.value.to_owned(), pwd: pwd.value.to_owned() })
}

/// The SHA-256 fingerprint among those offered. A stack may offer several hashes of its certificate.
fn read_fingerprint(attributes: &[Attribute<'_>]) -> Result<Option<Fingerprint>, OfferError> {
    let mut other = None;
    for attribute in attributes.named("fingerprint") {
        let (hash, value) = attribute.value.split_once(' ').unwrap_or((attribute.value, ""));
        if !hash.eq_ignore_ascii_case("sha-256") {
            other = other.or(Some(attribute));
            continue;
        }
        let Some(fingerprint) = parse_fingerprint(value.trim()) else {
            return error(
                attribute.line,
                "a sha-256 fingerprint is 32 hexadecimal bytes with colons between them",
            );
        };
        return Ok(Some(fingerprint));
    }
    match other {
        None => Ok(None),
        Some(other) => {
            let hash = other.value.split(' ').next().unwrap_or_default();
            error(other.line, format!("the fingerprint is {}; one of `sha-256` is needed", quoted(hash)))
        }
    }
}

fn parse_fingerprint(text: &str) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Fingerprint(bytes))
}

fn read_setup(attribute: Attribute<'_>) -> Result<OfferedSetup, OfferError> {
    match attribute.value {
        "actpass" => Ok(OfferedSetup::ActPass),
        "active" => Ok(OfferedSetup::Active),
        "passive" => Ok(OfferedSetup::Passive),
        value => error(attribute.line, format!("`a=setup` is {}; `actpass` is expected", quoted(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::parser::parse;

    const HASH: &str =
        "00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13:14:15:16:17:18:19:1a:1b:1C:1D:1E:1F";
    const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    /// Reads the transport of an offer with these lines in the session and in its only section.
    fn read(session: &str, media: &str) -> Result<Option<OfferedTransport>, OfferError> {
        let text = format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n{session}m=audio 9 X 0\r\n{media}");
        read_transport(&parse(&text).unwrap(), &[0])
    }

    fn hash(name: &str) -> String {
        format!("a=fingerprint:{name} {HASH}\r\n")
    }

    #[test]
    fn attributes_stand_with_the_session_or_the_section() {
        let sha = hash("SHA-256");
        for (session, media) in [(sha.as_str(), ICE), (ICE, sha.as_str()), ("", &format!("{sha}{ICE}")[..])] {
            let transport = read(session, media).unwrap().unwrap();
            assert_eq!(transport.ice.ufrag, "abcd");
            assert_eq!(transport.fingerprint.0[31], 31);
            assert_eq!(transport.setup, OfferedSetup::Active, "absent means active");
        }
        let both = read(ICE, &format!("a=ice-ufrag:other\r\na=setup:actpass\r\n{sha}")).unwrap().unwrap();
        assert_eq!((both.ice.ufrag.as_str(), both.setup), ("other", OfferedSetup::ActPass));
    }

    #[test]
    fn of_several_hashes_the_sha_256_is_chosen() {
        let media = format!("a=fingerprint:sha-512 00:11\r\n{}{ICE}", hash("sha-256"));
        assert!(read("", &media).unwrap().is_some());
        let other = read("", &format!("{ICE}a=fingerprint:sha-1 00:11\r\n")).unwrap_err();
        assert_eq!((other.line, other.reason.contains("sha-256")), (6, true));
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        assert_eq!(read("", &hash("sha-256")).unwrap_err().line, 3);
        assert!(read("", ICE).unwrap_err().reason.contains("a=fingerprint"));
        let fails = |media: &str| read(&format!("{}{ICE}", hash("sha-256")), media).unwrap_err().line;
        assert_eq!(fails("a=ice-ufrag:abc\r\n"), 7);
        assert_eq!(fails("a=ice-ufrag:ab:cd\r\n"), 7);
        assert_eq!(fails("a=ice-pwd:short\r\n"), 7);
        assert_eq!(fails("a=setup:holdconn\r\n"), 7);
        assert_eq!(fails("a=fingerprint:sha-256 00:01\r\n"), 7);
        assert_eq!(fails(&hash("sha-256").replace("00", "+0")), 7);
        assert_eq!(fails(&hash("sha-256").replace("1F", "1F:20")), 7);
    }

    #[test]
    fn an_offer_that_uses_no_section_may_say_nothing() {
        let lines = parse("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\nm=audio 0 X 0\r\n").unwrap();
        assert!(read_transport(&lines, &[]).unwrap().is_none());
    }
}
