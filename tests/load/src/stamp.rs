//! The end of a made-up payload: when it was sent. Servers change the beginning of payloads at most, never their end.

const MAGIC: [u8; 8] = *b"vecheld1";

/// Bytes that a stamp takes.
pub const LEN: usize = MAGIC.len() + 8;

/// Writes the send time in nanoseconds into the last bytes of a payload, which must have room for it.
pub fn write(nanos: u64, payload: &mut [u8]) {
    if let Some(end) = payload.last_chunk_mut::<LEN>() {
        end[..8].copy_from_slice(&nanos.to_be_bytes());
        end[8..].copy_from_slice(&MAGIC);
    }
}

/// Reads it; `None` when there is none.
pub fn read(payload: &[u8]) -> Option<u64> {
    let (rest, magic) = payload.split_last_chunk::<8>()?;
    let (_, nanos) = rest.split_last_chunk::<8>()?;
    (*magic == MAGIC).then(|| u64::from_be_bytes(*nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_where_it_was_written() {
        let mut payload = [7; 40];
        assert_eq!(read(&payload), None);
        write(123_456_789_012, &mut payload);
        assert_eq!(read(&payload), Some(123_456_789_012));
        assert_eq!(payload[..24], [7; 24]);
        assert_eq!(read(&payload[..39]), None);
        write(1, &mut payload[..3]);
        assert_eq!(read(&[]), None);
    }
}
