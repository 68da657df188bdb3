//! What a packet of Opus tells without being decoded (RFC 6716 section 3).

/// A silence of 20 ms, of two channels.
pub const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// How long the longest packet sounds, in samples at 48 kHz: 120 ms.
pub const LONGEST: u32 = 5_760;

/// How long a packet sounds, in samples at 48 kHz; `None` when it is none.
pub fn duration(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match (toc >> 3, toc >> 3 & 3) {
        (0..12, 3) => 2_880,
        (0..12, size) => 480 << size,
        (12..16, size) => 480 << (size & 1),
        (_, size) => 120 << size,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * frames).filter(|samples| (1..=LONGEST).contains(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_standard() {
        let tenths = |packet: &[u8]| duration(packet).map(|samples| samples * 10 / 48);
        assert_eq!(tenths(&SILENCE), Some(200));
        let silk = [0, 1, 2, 3].map(|config| tenths(&[config << 3]).unwrap());
        assert_eq!(silk, [100, 200, 400, 600]);
        assert_eq!([tenths(&[12 << 3]), tenths(&[15 << 3])], [Some(100), Some(200)], "hybrid");
        let celt = [16, 17, 18, 19].map(|config| tenths(&[config << 3]).unwrap());
        assert_eq!(celt, [25, 50, 100, 200]);
        assert_eq!([tenths(&[0xf9]), tenths(&[0xfa]), tenths(&[0xfb, 3])], [Some(400), Some(400), Some(600)]);
        assert_eq!([tenths(&[]), tenths(&[0xfb]), tenths(&[0xfb, 0]), tenths(&[0xfb, 7])], [None; 4]);
    }
}
