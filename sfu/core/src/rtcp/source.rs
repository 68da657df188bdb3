//! Names of sources (RFC 3550 section 6.5).

use super::{SOURCE_DESCRIPTION, put_u32, write_packet};
use crate::ids::Ssrc;

const CNAME: u8 = 1;

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
    use rtc_rtcp::source_description::{SdesType, SourceDescription};
    use rtc_shared::marshal::Unmarshal;

    use super::*;
    use crate::rtcp::parse;

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
