//! Reads bits, the most significant first, and never beyond the end.

/// A position in a run of bits.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    position: usize,
    /// Leave out the emulation prevention bytes of H264 and H265: the 3 in 00 00 03.
    escaped: bool,
    /// How many zero bytes came last; only counted when `escaped`.
    zeros: u8,
}

impl<'a> BitReader<'a> {
    /// Reads bytes as they are.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, escaped: false, zeros: 0 }
    }

    /// Reads the body of an H264 or H265 NAL unit (RBSP from its escaped bytes).
    pub fn escaped(bytes: &'a [u8]) -> Self {
        Self { escaped: true, ..Self::new(bytes) }
    }

    /// The next bit; `None` at the end, as everywhere here.
    pub fn bit(&mut self) -> Option<bool> {
        if self.position.is_multiple_of(8) && self.escaped {
            let mut byte = *self.bytes.get(self.position / 8)?;
            if self.zeros >= 2 && byte == 3 {
                self.position += 8;
                self.zeros = 0;
                byte = *self.bytes.get(self.position / 8)?;
            }
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        }
        let byte = *self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// The next `count` bits, at most 32, as a number.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Leaves out so many bits.
    pub fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// An Exp-Golomb number (ITU-T H.264 section 9.1); `None` for one of more than 32 bits.
    pub fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        Some(((1u64 << zeros) - 1 + u64::from(suffix)) as u32)
    }

    /// The same with a sign (ITU-T H.264 section 9.1.1).
    pub fn signed_exp_golomb(&mut self) -> Option<i32> {
        let code = i64::from(self.exp_golomb()?);
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 } as i32)
    }

    /// A number below `values` in as few bits as it needs (AV1 specification section 4.10.7).
    pub fn non_symmetric(&mut self, values: u32) -> Option<u32> {
        let width = 32 - values.leading_zeros();
        if width == 0 {
            return Some(0);
        }
        let short_values = (1u64 << width) as u32 - values;
        let value = self.bits(width - 1)?;
        if value < short_values {
            return Some(value);
        }
        Some((value << 1) + u32::from(self.bit()?) - short_values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_the_standard() {
        // 1 010 011 00100 00101 00110 00111 0001000
        let bytes = [0b1010_0110, 0b0100_0010, 0b1001_1000, 0b1110_0010, 0b0000_0000];
        let mut reader = BitReader::new(&bytes);
        let codes: Vec<_> = (0..8).map(|_| reader.exp_golomb().unwrap()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(reader.exp_golomb(), None);
        let mut reader = BitReader::new(&bytes);
        let codes: Vec<_> = (0..6).map(|_| reader.signed_exp_golomb().unwrap()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2, 3]);
        assert_eq!(BitReader::new(&[0; 9]).exp_golomb(), None);
        assert_eq!(BitReader::new(&[0, 0, 0, 1, 0, 0, 0, 0]).exp_golomb(), Some(0x7fff_ffff));
    }

    #[test]
    fn emulation_prevention_bytes_are_left_out() {
        let mut reader = BitReader::escaped(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 2, 3]);
        let bytes: Vec<_> = std::iter::from_fn(|| reader.bits(8)).collect();
        assert_eq!(bytes, [0, 0, 1, 0, 0, 0, 0, 2, 3]);
        assert_eq!(BitReader::escaped(&[0, 0, 3]).bits(24), None);
    }

    #[test]
    fn non_symmetric_numbers_take_short_codes_first() {
        // Of five values, 0, 1 and 2 have two bits, 3 and 4 have three.
        let mut reader = BitReader::new(&[0b0001_1011, 0b0111_0000]);
        let values: Vec<_> = (0..5).map(|_| reader.non_symmetric(5).unwrap()).collect();
        assert_eq!(values, [0, 1, 2, 3, 4]);
        assert_eq!(reader.non_symmetric(1), Some(0));
    }
}
