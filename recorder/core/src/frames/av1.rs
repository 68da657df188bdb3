//! AV1 (RTP Payload Format For AV1, section 4): OBUs out of packets, each with its size, as files have them.

use veche_sfu_core::rtp::av1::Elements;

/// Z: the first element continues the last of the packet before; Y: the last is continued in the next.
const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;

/// The header of an OBU (AV1 specification section 5.3.2): its type, whether an extension byte and a size follow.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

/// Those that files leave out: a temporal delimiter, a tile list, padding.
const LEFT_OUT: [u8; 3] = [2, 8, 15];

/// Puts the OBUs of a payload behind `data`. `open` is where the one begins that is not whole yet: it stands there as it came.
/// `None` when the payload is none, or continues what has not begun.
pub(super) fn append(payload: &[u8], open: &mut Option<usize>, data: &mut Vec<u8>) -> Option<()> {
    let aggregation = *payload.first()?;
    if open.is_some() != (aggregation & CONTINUES != 0) {
        return None;
    }
    let mut elements = Elements::new(payload).peekable();
    while let Some(element) = elements.next() {
        let start = open.take().unwrap_or(data.len());
        data.extend_from_slice(element);
        if elements.peek().is_none() && aggregation & CONTINUED != 0 {
            *open = Some(start);
        } else {
            close(start, data)?;
        }
    }
    Some(())
}

/// The OBU at the end of `data` is whole: it gets its size, unless files leave it out.
fn close(start: usize, data: &mut Vec<u8>) -> Option<()> {
    let header = *data.get(start)?;
    if LEFT_OUT.contains(&(header >> 3 & 0x0f)) {
        data.truncate(start);
        return Some(());
    }
    if header & HAS_SIZE == 0 {
        let body = start + if header & HAS_EXTENSION != 0 { 2 } else { 1 };
        let size = leb128(data.len().checked_sub(body)?);
        data[start] |= HAS_SIZE;
        data.splice(body..body, size);
    }
    Some(())
}

/// A number in groups of seven bits, the lowest first (AV1 specification section 4.10.5).
fn leb128(mut value: usize) -> impl Iterator<Item = u8> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let low = (value & 0x7f) as u8;
        value >>= 7;
        done = value == 0;
        Some(if done { low } else { low | 0x80 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_go_and_sizes_come() {
        let (mut open, mut data) = (None, Vec::new());
        // W = 2: a temporal delimiter without size (its length before it), then a frame of 2 bytes.
        append(&[0x20, 1, 0x10, 0x30, 0xaa, 0xbb], &mut open, &mut data).unwrap();
        assert_eq!((open, &data[..]), (None, &[0x32, 2, 0xaa, 0xbb][..]));
    }

    #[test]
    fn an_obu_over_three_packets_is_one() {
        let (mut open, mut data) = (None, Vec::new());
        append(&[0x50, 0x34, 0x00, 1, 2], &mut open, &mut data).unwrap();
        append(&[0xd0, 3], &mut open, &mut data).unwrap();
        assert_eq!(open, Some(0));
        append(&[0x90, 4], &mut open, &mut data).unwrap();
        assert_eq!((open, &data[..]), (None, &[0x36, 0x00, 4, 1, 2, 3, 4][..]));
        assert!(append(&[0x90, 4], &mut open, &mut data).is_none(), "nothing to continue");
    }

    #[test]
    fn large_sizes_take_several_bytes() {
        assert_eq!(leb128(0).collect::<Vec<_>>(), [0]);
        assert_eq!(leb128(300).collect::<Vec<_>>(), [0xac, 0x02]);
    }
}
