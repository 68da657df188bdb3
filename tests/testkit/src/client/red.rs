//! Redundant audio (RFC 2198) as a client writes and reads it.

/// One block of a RED payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) payload_type: u8,
    /// How much older its timestamp is than the packet's.
    pub(super) distance: u32,
    pub(super) payload: &'a [u8],
}

/// A payload that carries the one before along, when it is not too far away.
pub(super) fn write(payload_type: u8, before: Option<(u32, &[u8])>, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let before = before.filter(|(distance, older)| *distance < 1 << 14 && older.len() < 1 << 10);
    if let Some((distance, older)) = before {
        let lengths = distance << 10 | older.len() as u32;
        out.extend_from_slice(&(u32::from(0x80 | payload_type) << 24 | lengths).to_be_bytes());
    }
    out.push(payload_type);
    out.extend_from_slice(before.map_or(&[], |(_, older)| older));
    out.extend_from_slice(payload);
    out
}

/// The blocks from the oldest to the newest; `None` when the lengths contradict each other.
pub(super) fn read(mut payload: &[u8]) -> Option<Vec<Block<'_>>> {
    let mut headers = Vec::new();
    while let Some((header, rest)) = payload.split_first_chunk::<4>().filter(|(h, _)| h[0] & 0x80 != 0) {
        let header = u32::from_be_bytes(*header);
        headers.push(((header >> 24) as u8 & 0x7f, header >> 10 & 0x3fff, (header & 0x3ff) as usize));
        payload = rest;
    }
    let (newest, mut payload) = payload.split_first()?;
    let mut blocks = Vec::new();
    for (payload_type, distance, len) in headers {
        let (block, rest) = payload.split_at_checked(len)?;
        blocks.push(Block { payload_type, distance, payload: block });
        payload = rest;
    }
    blocks.push(Block { payload_type: *newest, distance: 0, payload });
    (*newest < 0x80).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let both = write(111, Some((960, &[7, 7])), &[9]);
        assert_eq!(both, [0xef, 0x0f, 0, 2, 111, 7, 7, 9]);
        let older = Block { payload_type: 111, distance: 960, payload: &[7, 7] };
        let newest = Block { payload_type: 111, distance: 0, payload: &[9] };
        assert_eq!(read(&both), Some(vec![older, newest]));
        assert_eq!(read(&write(111, Some((1 << 14, &[7])), &[9])), Some(vec![newest]));
        assert_eq!(read(&both[..6]), None);
        assert_eq!(read(&[]), None);
    }
}
