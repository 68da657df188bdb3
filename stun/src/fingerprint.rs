//! The fingerprint of a message (RFC 8489 section 14.7).

/// The length of its value.
pub const FINGERPRINT_LEN: usize = 4;
/// RFC 8489 section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// The fingerprint of what stands before it; the length in the header counts it already.
pub fn fingerprint(message: &[u8]) -> [u8; FINGERPRINT_LEN] {
    (crc32(message) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// The CRC-32 of ITU V.42, as the fingerprint wants it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| CRC_TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}
