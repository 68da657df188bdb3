//! WebSocket frames (RFC 6455 section 5.2), as far as a subscriber that measures needs them.

/// The opcode of text.
pub const TEXT: u8 = 1;
/// The opcode of a ping.
const PING: u8 = 9;
/// The opcode of a pong.
pub const PONG: u8 = 10;

/// A frame of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    opcode: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Whether it wants a pong.
    pub fn is_ping(&self) -> bool {
        self.opcode == PING
    }
}

/// Finds frames in what is read. It keeps memory only while a frame has come in part.
#[derive(Debug, Default)]
pub struct FrameReader {
    begun: Vec<u8>,
}

impl FrameReader {
    /// Hands on all frames that are complete now.
    pub fn take(&mut self, bytes: &[u8], mut handle: impl FnMut(Frame<'_>)) {
        if self.begun.is_empty() {
            let rest = split(bytes, &mut handle);
            self.begun.extend_from_slice(rest);
            return;
        }
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(bytes);
        self.begun.extend_from_slice(split(&begun, &mut handle));
    }
}

/// Hands on the complete frames; gives what is left.
fn split<'a>(mut bytes: &'a [u8], handle: &mut impl FnMut(Frame<'_>)) -> &'a [u8] {
    while let Some((opcode, begin, end)) = bounds(bytes) {
        let Some(payload) = bytes.get(begin..end) else { break };
        handle(Frame { opcode, payload });
        bytes = &bytes[end..];
    }
    bytes
}

/// The opcode, and where the payload begins and ends; a server's frames are not masked.
fn bounds(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0f;
    let (begin, length) = match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    Some((opcode, begin, begin.checked_add(length)?))
}

/// A frame of a client. The mask is zero: it protects proxies, and there are none here.
///
/// # Panics
/// When the payload has more than 65,535 bytes.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0xfe);
            frame.extend(u16::try_from(payload.len()).expect("requests are short").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let long = vec![b'x'; 70_000];
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x89, 0, 0x82, 126, 0, 200];
        bytes.extend(&long[..200]);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        bytes.extend(&long);
        for step in [1, 3, 7, 1_000, bytes.len()] {
            let mut reader = FrameReader::default();
            let mut found = Vec::new();
            for part in bytes.chunks(step) {
                reader.take(part, |frame| found.push((frame.opcode, frame.payload.len())));
            }
            assert_eq!(found, [(1, 2), (9, 0), (2, 200), (2, 70_000)], "in steps of {step}");
            assert!(reader.begun.is_empty());
        }
    }

    #[test]
    fn a_client_s_frame_says_that_it_is_masked() {
        assert_eq!(masked(TEXT, b"hi"), [0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(masked(PONG, &[1; 200])[..4], [0x8a, 0xfe, 0, 200]);
    }
}
