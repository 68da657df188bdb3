//! The framing of relayed messages, inside each (binary) data channel message: a byte of flags, the length of a peer
//! id, the peer id in UTF-8, the payload. From a client, the peer id names the receiver, and an empty one everybody
//! in the room; to a client, it names the sender. The server swaps the peer id and leaves the rest as it is.

/// The longest peer id, in bytes.
pub const MAX_PEER: usize = 64;
/// The most that a frame is longer than its payload. A payload may be this much shorter than the largest message, so
/// that it still fits when the server has put the sender's name in.
pub const MAX_OVERHEAD: usize = 2 + MAX_PEER;

/// Further fragments of the message follow. Fragments of one sender in one channel are not mixed.
pub const MORE: u8 = 0b01;
/// The payload (of all fragments together) is UTF-8 text.
pub const TEXT: u8 = 0b10;

/// A relayed message, or a fragment of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// [`MORE`] and [`TEXT`]; other bits are zero.
    pub flags: u8,
    /// From a client the receiver, empty for everybody; to a client the sender.
    pub peer: &'a str,
    /// What is for the receiver; may be empty.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame; `None` when it is malformed.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&[flags, len], rest) = bytes.split_first_chunk()?;
        let (peer, payload) = rest.split_at_checked(usize::from(len))?;
        let valid = flags & !(MORE | TEXT) == 0 && peer.len() <= MAX_PEER;
        let peer = std::str::from_utf8(peer).ok().filter(|_| valid)?;
        Some(Self { flags, peer, payload })
    }

    /// Writes a frame. The peer id must keep its limit.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.peer.len() + self.payload.len());
        bytes.extend([self.flags, self.peer.len() as u8]);
        bytes.extend(self.peer.as_bytes());
        bytes.extend(self.payload);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = [0b11, 2, b'm', b'e', 1, 2, 3];
        let frame = Frame { flags: MORE | TEXT, peer: "me", payload: &[1, 2, 3] };
        assert_eq!(Frame::parse(&bytes), Some(frame));
        assert_eq!(frame.write(), bytes);
        assert_eq!(Frame::parse(&[0, 0]), Some(Frame { flags: 0, peer: "", payload: &[] }));
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Frame::parse(&[]), None);
        assert_eq!(Frame::parse(&[0]), None);
        assert_eq!(Frame::parse(&[0b100, 0]), None);
        assert_eq!(Frame::parse(&[0, 2, b'a']), None);
        assert_eq!(Frame::parse(&[0, 1, 0xFF]), None);
        let long = [&[0, 65][..], &[b'a'; 65]].concat();
        assert_eq!(Frame::parse(&long), None);
    }

    #[test]
    fn random_input_never_panics_and_what_parses_is_written_alike() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut parsed = 0;
        for _ in 0..20_000 {
            let len = rng.random_range(0..100);
            let mut bytes: Vec<u8> = (0..len).map(|_| rng.random_range(0..128)).collect();
            if let Some(flags) = bytes.first_mut() {
                *flags %= 8;
            }
            if let Some(frame) = Frame::parse(&bytes) {
                parsed += 1;
                assert_eq!(frame.write(), bytes);
            }
        }
        assert!(parsed > 100);
    }
}
