//! The end of each payload: what a receiver must find there unchanged.

use std::time::Duration;

/// What a packet says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who made it.
    pub source: u32,
    /// The simulcast layer.
    pub layer: u8,
    /// Of a key frame.
    pub key: bool,
    /// The spatial layer.
    pub spatial: u8,
    /// The temporal layer.
    pub temporal: u8,
    /// How far back the frames are that it refers to, by their numbers; 0 for none.
    pub references: [u8; 2],
    /// Which packet of its frame.
    pub index: u8,
    /// How many the frame has.
    pub count: u8,
    /// The number of the frame in its stream.
    pub frame: u32,
    /// When the sample was taken, in the time of the world.
    pub captured: Duration,
}

const MAGIC: [u8; 4] = *b"vech";

impl Stamp {
    /// Bytes that it takes.
    pub const LEN: usize = 36;

    /// Appends a body of `len` bytes, at least [`Stamp::LEN`], that ends with the stamp.
    pub fn write(&self, len: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + len - Self::LEN, self.frame as u8 ^ self.index);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.source.to_be_bytes());
        out.extend_from_slice(&[self.layer, u8::from(self.key), self.index, self.count]);
        out.extend_from_slice(&[self.spatial, self.temporal]);
        out.extend_from_slice(&self.references);
        out.extend_from_slice(&self.frame.to_be_bytes());
        out.extend_from_slice(&(self.captured.as_nanos() as u64).to_be_bytes());
        out.extend_from_slice(&(len as u32).to_be_bytes());
        let sum = checksum(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }

    /// Reads the stamp at the end of a payload; `None` when there is none, or the body is not as it was sent.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (rest, sum) = payload.split_last_chunk::<4>()?;
        let (rest, len) = rest.split_last_chunk::<4>()?;
        let len = u32::from_be_bytes(*len) as usize;
        let body = payload.get(payload.len().checked_sub(len)?..payload.len() - 4)?;
        if checksum(body) != u32::from_be_bytes(*sum) {
            return None;
        }
        let (rest, captured) = rest.split_last_chunk::<8>()?;
        let (rest, frame) = rest.split_last_chunk::<4>()?;
        let (rest, &[spatial, temporal, first, second]) = rest.split_last_chunk::<4>()?;
        let (rest, &[layer, key, index, count]) = rest.split_last_chunk::<4>()?;
        let (rest, source) = rest.split_last_chunk::<4>()?;
        rest.ends_with(&MAGIC).then(|| Self {
            source: u32::from_be_bytes(*source),
            layer,
            key: key != 0,
            spatial,
            temporal,
            references: [first, second],
            index,
            count,
            frame: u32::from_be_bytes(*frame),
            captured: Duration::from_nanos(u64::from_be_bytes(*captured)),
        })
    }
}

/// Samples of the body are enough to notice what is cut, moved or mixed up; authentication sees single bits.
fn checksum(body: &[u8]) -> u32 {
    let (filler, stamp) = body.split_at(body.len().saturating_sub(Stamp::LEN - 4));
    let bytes = filler.iter().step_by(37).chain(stamp);
    bytes.fold(0x811c_9dc5, |sum: u32, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_damage_is_seen() {
        let stamp = Stamp {
            source: 7,
            layer: 2,
            key: true,
            spatial: 1,
            temporal: 2,
            references: [4, 1],
            index: 3,
            count: 9,
            frame: 70_000,
            captured: Duration::from_millis(1234),
        };
        let mut payload = vec![1, 2, 3];
        stamp.write(500, &mut payload);
        assert_eq!(payload.len(), 503);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        payload[490] ^= 1;
        assert_eq!(Stamp::read(&payload), None);
        assert_eq!(Stamp::read(&[0; 40]), None);
    }
}
