//! The protection profiles that can be negotiated in DTLS (RFC 5764, RFC 7714).

/// Which ciphers protect RTP and RTCP, and with how long keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// RFC 7714: AES-128 in Galois/counter mode.
    AeadAes128Gcm,
    /// RFC 7714: AES-256 in Galois/counter mode.
    AeadAes256Gcm,
    /// RFC 5764 section 4.1.2: AES-128 in counter mode, HMAC-SHA1 with a tag of 80 bits for RTP and RTCP.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// All of them, best first: by the time that a packet takes, Galois/counter mode wins by far.
    pub const ALL: [SrtpProfile; 3] =
        [SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm, SrtpProfile::Aes128CmHmacSha1_80];

    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::Aes128CmHmacSha1_80 => 16,
            SrtpProfile::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 12,
            SrtpProfile::Aes128CmHmacSha1_80 => 14,
        }
    }

    /// Bytes that protection adds to an RTP packet, at its end.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 16,
            SrtpProfile::Aes128CmHmacSha1_80 => 10,
        }
    }

    /// Bytes that protection adds to an RTCP packet, at its end: the tag and the index.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
    }

    /// Bytes of keying material that DTLS has to export for both directions (RFC 5764 section 4.2).
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}
