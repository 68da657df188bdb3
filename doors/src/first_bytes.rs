//! What a TCP connection speaks, by its first bytes: a port can then be shared by all that the server speaks over TCP.

use veche_stun::MAGIC_COOKIE;

/// Nobody needs more bytes than these to be told from the others.
pub const MOST_BYTES: usize = LENGTH + STUN_PREFIX;

/// What a connection speaks, as far as its first bytes tell. Whether it keeps to it, who speaks that will see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// They may still become one or the other.
    NeedMore,
    /// A request line of HTTP/1, or the preface of HTTP/2 (RFC 9112 section 2.2, RFC 9113 section 3.4).
    Http,
    /// A record of TLS with a handshake (RFC 8446 section 5.1).
    Tls,
    /// A STUN message, with which clients of TURN begin (RFC 8489 section 5).
    Turn,
    /// A STUN message in a frame, with which media over TCP begins (RFC 4571, RFC 6544).
    Ice,
    /// Nothing of these.
    Unknown,
}

/// The type of a TLS record with a handshake.
const TLS_HANDSHAKE: u8 = 22;

/// Bytes of STUN up to the magic cookie.
const STUN_PREFIX: usize = 8;
/// The first byte of STUN, where other protocols stand beside it (RFC 7983).
const MAX_STUN_BYTE: u8 = 3;
/// What follows the header of STUN is a multiple of this.
const STUN_PADDING_MASK: u8 = 3;

/// Bytes that tell the length of a frame.
const LENGTH: usize = 2;
/// The largest first frame of media, a STUN request: with the longest names of ICE it has less. And the smallest.
const MAX_FRAME: u16 = 1500;
const MIN_FRAME: u16 = 20;

/// Looks at the first bytes that have come. What it says of some, other than [`Opening::NeedMore`], it says of all that begin
/// with these.
pub fn opening(bytes: &[u8]) -> Opening {
    let Some(&first) = bytes.first() else { return Opening::NeedMore };
    match first {
        TLS_HANDSHAKE => return Opening::Tls,
        // Methods are letters; some clients send an empty line first.
        b'A'..=b'Z' | b'a'..=b'z' | b'\r' | b'\n' => return Opening::Http,
        _ => {}
    }
    // Both may be possible for a while; that both come true is not, since the cookie does not repeat within itself.
    match (stun(bytes), framed_stun(bytes)) {
        (Match::Whole, _) => Opening::Turn,
        (_, Match::Whole) => Opening::Ice,
        (Match::Not, Match::Not) => Opening::Unknown,
        _ => Opening::NeedMore,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Not,
    SoFar,
    Whole,
}

fn stun(bytes: &[u8]) -> Match {
    let cookie = bytes.get(4..).unwrap_or_default();
    let length = cookie.len().min(MAGIC_COOKIE.len());
    let is_type = bytes.first().is_none_or(|byte| *byte <= MAX_STUN_BYTE);
    let is_padded = bytes.get(3).is_none_or(|byte| byte & STUN_PADDING_MASK == 0);
    if !is_type || !is_padded || cookie[..length] != MAGIC_COOKIE[..length] {
        return Match::Not;
    }
    if bytes.len() < STUN_PREFIX { Match::SoFar } else { Match::Whole }
}

fn framed_stun(bytes: &[u8]) -> Match {
    match bytes.split_first_chunk::<LENGTH>() {
        None if bytes.iter().all(|high| *high <= MAX_FRAME.to_be_bytes()[0]) => Match::SoFar,
        Some((length, frame)) if (MIN_FRAME..=MAX_FRAME).contains(&u16::from_be_bytes(*length)) => {
            stun(frame)
        }
        _ => Match::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: [u8; 12] = [0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4];

    /// What is said once it is decided, and how many bytes that takes.
    fn decided(bytes: &[u8]) -> (Opening, usize) {
        let needed = (0..=bytes.len()).find(|len| opening(&bytes[..*len]) != Opening::NeedMore);
        let needed = needed.expect("it is decided");
        for len in needed..=bytes.len() {
            assert_eq!(opening(&bytes[..len]), opening(bytes), "it stays decided");
        }
        (opening(bytes), needed)
    }

    #[test]
    fn everybody_is_told_from_the_others() {
        assert_eq!(decided(b"GET / HTTP/1.1\r\n"), (Opening::Http, 1));
        assert_eq!(decided(b"PRI * HTTP/2.0\r\n\r\nSM"), (Opening::Http, 1));
        assert_eq!(decided(b"\r\nPOST /realtime/send"), (Opening::Http, 1));
        assert_eq!(decided(&[22, 3, 1, 2, 0, 1]), (Opening::Tls, 1));
        assert_eq!(decided(&BINDING), (Opening::Turn, 8));
        let allocate = [0, 3, 0, 0x24, 0x21, 0x12, 0xa4, 0x42, 0];
        assert_eq!(decided(&allocate), (Opening::Turn, 8));
        for length in [28u16, 100, 1500] {
            let framed = [&length.to_be_bytes()[..], &BINDING].concat();
            assert_eq!(decided(&framed).0, Opening::Ice, "{length}");
        }
    }

    #[test]
    fn strangers_are_told_early() {
        assert_eq!(decided(&[0x80, 0x2e, 1, 0, 2]), (Opening::Unknown, 1), "SSL 2");
        assert_eq!(decided(&[0x40, 1, 0, 4]), (Opening::Unknown, 1), "ChannelData comes later");
        assert_eq!(decided(&[3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0]), (Opening::Unknown, 7), "a remote desktop");
        assert_eq!(decided(&[0; 64]), (Opening::Unknown, 5));
        assert_eq!(decided(&[0, 60, 1, 1, 1, 1, 1, 1, 1, 1]).0, Opening::Unknown);
        assert_eq!(
            decided(&[[0, 10].as_slice(), &BINDING].concat()).0,
            Opening::Unknown,
            "too small a frame"
        );
        assert_eq!(decided(&[[6, 0].as_slice(), &BINDING].concat()).0, Opening::Unknown, "too large a frame");
    }
}
