//! `AV1CodecConfigurationRecord` (AV1 in ISO base media files, section 2.3; WebM keeps the same).

use veche_sfu_core::rtp::bits::BitReader;

/// A sequence header (AV1 specification section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

pub(super) fn record(frame: &[u8]) -> Option<Vec<u8>> {
    let (obu, body) = sequence_header(frame)?;
    let sequence = Sequence::read(body)?;
    let flags = [
        (sequence.tier, 7),
        (sequence.high_depth, 6),
        (sequence.twelve_bits, 5),
        (sequence.monochrome, 4),
        (sequence.halved[0], 3),
        (sequence.halved[1], 2),
    ];
    let flags = flags.iter().fold(sequence.position, |byte, (flag, at)| byte | u8::from(*flag) << at);
    let mut out = vec![0x81, sequence.profile << 5 | sequence.level, flags, 0];
    out.extend_from_slice(obu);
    Some(out)
}

/// The first sequence header among OBUs that have sizes: as it stands there, and what it holds.
fn sequence_header(mut rest: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        let header = *rest.first()?;
        if header & HAS_SIZE == 0 {
            return None;
        }
        let head = if header & HAS_EXTENSION != 0 { 2 } else { 1 };
        let (size, bytes) = leb128(rest.get(head..)?)?;
        let (obu, after) = rest.split_at_checked((head + bytes).checked_add(size)?)?;
        if header >> 3 & 0x0f == SEQUENCE_HEADER {
            return Some((obu, &obu[head + bytes..]));
        }
        rest = after;
    }
}

/// A number, and how many bytes it has (AV1 specification section 4.10.5).
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, index + 1));
        }
    }
    None
}

/// What the record repeats of a sequence header.
#[derive(Default)]
struct Sequence {
    profile: u8,
    level: u8,
    tier: bool,
    high_depth: bool,
    twelve_bits: bool,
    monochrome: bool,
    /// Colours have half the size: across, and down.
    halved: [bool; 2],
    /// Where samples of colours lie.
    position: u8,
}

impl Sequence {
    /// AV1 specification section 5.5.1.
    fn read(body: &[u8]) -> Option<Self> {
        let mut reader = BitReader::new(body);
        let mut sequence = Self { profile: reader.bits(3)? as u8, ..Self::default() };
        reader.skip(1)?;
        let reduced = reader.bit()?;
        if reduced {
            sequence.level = reader.bits(5)? as u8;
        } else {
            sequence.read_operating_points(&mut reader)?;
        }
        let (width, height) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
        reader.skip(width + height)?;
        if !reduced && reader.bit()? {
            reader.skip(7)?;
        }
        reader.skip(3)?;
        if !reduced {
            skip_tools(&mut reader)?;
        }
        reader.skip(3)?;
        sequence.read_colours(&mut reader)?;
        Some(sequence)
    }

    fn read_operating_points(&mut self, reader: &mut BitReader<'_>) -> Option<()> {
        let mut delay_bits = None;
        if reader.bit()? {
            reader.skip(64)?;
            if reader.bit()? {
                reader.exp_golomb()?;
            }
            if reader.bit()? {
                delay_bits = Some(reader.bits(5)? + 1);
                reader.skip(32 + 5 + 5)?;
            }
        }
        let display_delay = reader.bit()?;
        for point in 0..=reader.bits(5)? {
            reader.skip(12)?;
            let level = reader.bits(5)? as u8;
            let tier = level > 7 && reader.bit()?;
            if point == 0 {
                (self.level, self.tier) = (level, tier);
            }
            if let Some(bits) = delay_bits
                && reader.bit()?
            {
                reader.skip(2 * bits + 1)?;
            }
            if display_delay && reader.bit()? {
                reader.skip(4)?;
            }
        }
        Some(())
    }

    /// AV1 specification section 5.5.2.
    fn read_colours(&mut self, reader: &mut BitReader<'_>) -> Option<()> {
        self.high_depth = reader.bit()?;
        self.twelve_bits = self.profile == 2 && self.high_depth && reader.bit()?;
        self.monochrome = self.profile != 1 && reader.bit()?;
        let described = reader.bit()?;
        let colours = if described { [reader.bits(8)?, reader.bits(8)?, reader.bits(8)?] } else { [2; 3] };
        // sRGB without loss has full colours, and says no more.
        if self.monochrome || colours != [1, 13, 0] {
            reader.skip(1)?;
            self.halved = match self.profile {
                _ if self.monochrome => [true, true],
                0 => [true, true],
                1 => [false, false],
                _ if self.twelve_bits => {
                    let across = reader.bit()?;
                    [across, across && reader.bit()?]
                }
                _ => [true, false],
            };
        }
        if self.halved == [true, true] && !self.monochrome {
            self.position = reader.bits(2)? as u8;
        }
        Some(())
    }
}

/// Which tools of coding are used.
fn skip_tools(reader: &mut BitReader<'_>) -> Option<()> {
    reader.skip(4)?;
    let ordered = reader.bit()?;
    if ordered {
        reader.skip(2)?;
    }
    // A choice for each frame, or one for all.
    let screen = reader.bit()? || reader.bit()?;
    if screen && !reader.bit()? {
        reader.skip(1)?;
    }
    if ordered {
        reader.skip(3)?;
    }
    Some(())
}
