//! From what DTLS exports to the keys of the ciphers (RFC 5764 section 4.2, RFC 3711 section 4.3).

use std::fmt;

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use smallvec::SmallVec;

use super::SrtpProfile;

/// The master keys of both directions of a transport.
#[derive(Clone, Debug)]
pub struct SrtpKeys {
    /// What the client sends under.
    pub inbound: MasterKey,
    /// What the server sends under.
    pub outbound: MasterKey,
}

impl SrtpKeys {
    /// Takes exported keying material apart (RFC 5764 section 4.2): the keys of the DTLS client and server, then
    /// their salts. `None` when it is shorter than the profile needs.
    pub fn from_dtls(
        profile: SrtpProfile,
        keying_material: &[u8],
        server_is_dtls_client: bool,
    ) -> Option<Self> {
        let (client_key, rest) = keying_material.split_at_checked(profile.key_len())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_len())?;
        let (client_salt, rest) = rest.split_at_checked(profile.salt_len())?;
        let (server_salt, _) = rest.split_at_checked(profile.salt_len())?;
        let client = MasterKey::new(profile, client_key, client_salt)?;
        let server = MasterKey::new(profile, server_key, server_salt)?;
        let (inbound, outbound) = if server_is_dtls_client { (server, client) } else { (client, server) };
        Some(Self { inbound, outbound })
    }
}

/// The master key and salt of one direction.
#[derive(Clone)]
pub struct MasterKey {
    profile: SrtpProfile,
    key: SmallVec<[u8; 32]>,
    salt: SmallVec<[u8; 14]>,
}

impl MasterKey {
    /// `None` when key or salt have not the length that the profile wants.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        let fits = key.len() == profile.key_len() && salt.len() == profile.salt_len();
        fits.then(|| Self { profile, key: SmallVec::from_slice(key), salt: SmallVec::from_slice(salt) })
    }

    /// What it is for.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Fills `out` with the session key of a label, for a key derivation rate of 0 (RFC 3711 section 4.3.1).
    pub(super) fn derive(&self, label: Label, out: &mut [u8]) {
        // A salt of 96 bits counts as its 112 bits' more significant part (RFC 7714 section 11).
        let mut counter = [0; 16];
        counter[..self.salt.len()].copy_from_slice(&self.salt);
        counter[7] ^= label as u8;
        out.fill(0);
        counter_mode_key(&self.key)
            .less_safe_encrypt(out, EncryptionContext::Iv128(counter.into()))
            .expect("counter mode takes any length and this kind of context");
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({:?})", self.profile)
    }
}

/// What a derived key is for (RFC 3711 section 4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// AES in counter mode with a key of 16 or 32 bytes.
pub(super) fn counter_mode_key(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    UnboundCipherKey::new(algorithm, key)
        .and_then(EncryptingKey::ctr)
        .expect("keys of other lengths are refused where they come in")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    /// RFC 3711 appendix B.3.
    #[test]
    fn session_keys_are_those_of_rfc_3711() {
        let master = MasterKey::new(
            SrtpProfile::Aes128CmHmacSha1_80,
            &hex("e1f97a0d3e018be0d64fa32c06de4139"),
            &hex("0ec675ad498afeebb6960b3aabe6"),
        )
        .unwrap();
        let derive = |label, len| {
            let mut out = vec![0xff; len];
            master.derive(label, &mut out);
            out
        };
        assert_eq!(derive(Label::RtpEncryption, 16), hex("c61e7a93744f39ee10734afe3ff7a087"));
        assert_eq!(derive(Label::RtpSalt, 14), hex("30cbbc08863d8c85d49db34a9ae1"));
        let authentication = "cebe321f6ff7716b6fd4ab49af256a156d38baa48f0a0acf3c34e2359e6cdbce\
            e049646c43d9327ad175578ef72270986371c10c9a369ac2f94a8c5fbcdddc256d6e919a48b610ef17c2041e47403576\
            6b68642c59bbfc2f34db60dbdfb2";
        assert_eq!(derive(Label::RtpAuthentication, 94), hex(authentication));
    }

    #[test]
    fn keying_material_is_client_key_server_key_client_salt_server_salt() {
        for profile in SrtpProfile::ALL {
            let material: Vec<u8> = (0..profile.keying_material_len() as u8).collect();
            let (key, salt) = (profile.key_len(), profile.salt_len());
            let passive = SrtpKeys::from_dtls(profile, &material, false).unwrap();
            assert_eq!(passive.inbound.key[..], material[..key]);
            assert_eq!(passive.outbound.key[..], material[key..2 * key]);
            assert_eq!(passive.inbound.salt[..], material[2 * key..2 * key + salt]);
            assert_eq!(passive.outbound.salt[..], material[2 * key + salt..]);
            let active = SrtpKeys::from_dtls(profile, &material, true).unwrap();
            assert_eq!(active.inbound.key, passive.outbound.key);
            assert_eq!(active.outbound.salt, passive.inbound.salt);
            assert!(SrtpKeys::from_dtls(profile, &material[1..], false).is_none());
        }
    }
}
