//! DTLS (dimpl): the handshake that yields the SRTP keys, and the carrier of SCTP.

/// The server's certificate, one per process.
#[derive(Clone)]
pub struct Certificate {
    /// DER.
    pub certificate: Vec<u8>,
    /// PKCS#8 DER, ECDSA P-256.
    pub private_key: Vec<u8>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}
