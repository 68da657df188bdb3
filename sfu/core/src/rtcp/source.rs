//! Names of sources and their farewells (RFC 3550 sections 6.5 and 6.6).

use super::{BYE, SOURCE_DESCRIPTION, put_u32, write_packet};
use crate::ids::Ssrc;

/// How many streams one packet can end.
pub const MAX_SOURCES: usize = 31;

const CNAME: u8 = 1;

/// Streams that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye<'a> {
    ssrcs: &'a [u8],
}

impl<'a> Bye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Option<Self> {
        Some(Self { ssrcs: body.get(..4 * usize::from(count))? })
    }

    /// Which streams.
    pub fn ssrcs(self) -> impl Iterator<Item = Ssrc> + 'a {
        self.ssrcs.as_chunks().0.iter().map(|&bytes| Ssrc(u32::from_be_bytes(bytes)))
    }
}

/// Appends a farewell. Streams beyond [`MAX_SOURCES`] are left out.
pub fn write_bye(out: &mut Vec<u8>, ssrcs: &[Ssrc]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(MAX_SOURCES)];
    write_packet(out, ssrcs.len(), BYE, |out| {
        for ssrc in ssrcs {
            put_u32(out, ssrc.0);
        }
    });
}

/// Appends a source description with the canonical name of a stream, of which 255 bytes are used.
pub fn write_cname(out: &mut Vec<u8>, ssrc: Ssrc, cname: &str) {
    let text = &cname.as_bytes()[..cname.len().min(255)];
    write_packet(out, 1, SOURCE_DESCRIPTION, |out| {
        put_u32(out, ssrc.0);
        out.extend_from_slice(&[CNAME, text.len() as u8]);
        out.extend_from_slice(text);
        // The end of the items; zeros up to a whole word follow.
        out.push(0);
    });
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::goodbye::Goodbye;
    use rtc_rtcp::source_description::{SdesType, SourceDescription};
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::rtcp::{Packet, parse};

    #[test]
    fn farewells_go_to_another_implementation_and_back() {
        for count in 0..=MAX_SOURCES as u32 {
            let ssrcs: Vec<_> = (0..count).map(|n| Ssrc(n * 0x0101_0101)).collect();
            let mut bytes = vec![];
            write_bye(&mut bytes, &ssrcs);
            let mut theirs = Goodbye::unmarshal(&mut &bytes[..]).unwrap();
            assert_eq!(theirs.sources, ssrcs.iter().map(|s| s.0).collect::<Vec<_>>());
            theirs.reason = "enough".into();
            let back = theirs.marshal().unwrap();
            let Some(Ok(Packet::Bye(bye))) = parse(&back).next() else { panic!("not parsed") };
            assert_eq!(bye.ssrcs().collect::<Vec<_>>(), ssrcs);
        }
    }

    #[test]
    fn names_of_every_length_are_read_by_another_implementation() {
        for len in 0..=255 {
            let name = "n".repeat(len);
            let mut bytes = vec![];
            write_cname(&mut bytes, Ssrc(7), &name);
            let theirs = SourceDescription::unmarshal(&mut &bytes[..]).unwrap();
            assert_eq!((theirs.chunks.len(), theirs.chunks[0].source), (1, 7));
            let item = &theirs.chunks[0].items[0];
            assert_eq!((item.sdes_type, &item.text[..]), (SdesType::SdesCname, name.as_bytes()));
            assert_eq!(parse(&bytes).count(), 0);
        }
    }
}
