//! Redundant audio (RFC 2198): the newest block of a packet, for subscribers that do not know RED.

/// The primary block of a RED payload: what it would be without redundancy. Empty when the payload does not parse.
pub fn primary(payload: &[u8]) -> &[u8] {
    let mut headers = 0;
    let mut redundant = 0;
    loop {
        match payload.get(headers) {
            None => return &[],
            // F is clear: the primary's header has one byte and its block is the rest.
            Some(byte) if byte & 0x80 == 0 => {
                return payload.get(headers + 1 + redundant..).unwrap_or(&[]);
            }
            Some(_) => {
                let Some(length) = payload.get(headers + 2..headers + 4) else { return &[] };
                redundant += usize::from(u16::from_be_bytes([length[0] & 0x03, length[1]]));
                headers += 4;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_is_what_follows_all_redundant_blocks() {
        assert_eq!(primary(&[111, 1, 2, 3]), [1, 2, 3]);
        let two = [0x80 | 0x6f, 0, 0, 2, 111, 9, 9, 1, 2, 3];
        assert_eq!(primary(&two), [1, 2, 3]);
        let three = [0x80 | 0x6f, 0, 0, 1, 0x80 | 0x6f, 0, 0, 2, 111, 8, 9, 9, 1];
        assert_eq!(primary(&three), [1]);
    }

    #[test]
    fn what_does_not_parse_is_empty() {
        assert_eq!(primary(&[]), [0u8; 0]);
        assert_eq!(primary(&[0x80, 0]), [0u8; 0]);
        assert_eq!(primary(&[0x80, 0, 3, 0xff, 111, 1]), [0u8; 0]);
        assert_eq!(primary(&[0xff; 64]), [0u8; 0]);
    }
}
