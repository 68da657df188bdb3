//! DTLS (dimpl): the handshake that yields the SRTP keys, and the carrier of SCTP.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use dimpl::{Config, Dtls, DtlsCertificate, Output};

use crate::control::FailReason;
use crate::drops::DropReason;
use crate::sdp::{Fingerprint, SetupRole};
use crate::srtp::SrtpProfile;

/// The server's certificate, one per process.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    private_key: Vec<u8>,
    fingerprint: Fingerprint,
}

/// Why a certificate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is no certificate.
    #[error("the certificate is empty")]
    Empty,
    /// The key is not an ECDSA P-256 key in PKCS#8 DER.
    #[error("the private key is not an ECDSA P-256 key in PKCS#8 DER")]
    PrivateKey,
}

impl Certificate {
    /// Takes an X.509 certificate in DER and its key: ECDSA P-256 in PKCS#8 DER (what rcgen's `serialize_der` gives
    /// for `PKCS_ECDSA_P256_SHA256`), the one kind that all browsers take. Nobody checks names or dates, only the
    /// fingerprint, so it should be self-signed.
    pub fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Result<Self, CertificateError> {
        if certificate.is_empty() {
            return Err(CertificateError::Empty);
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &private_key)
            .map_err(|_| CertificateError::PrivateKey)?;
        let fingerprint = fingerprint_of(&certificate);
        Ok(Self { der: certificate, private_key, fingerprint })
    }

    /// The certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.der
    }

    /// The private key, in PKCS#8 DER.
    pub fn private_key(&self) -> &[u8] {
        &self.private_key
    }

    /// The SHA-256 fingerprint, as it stands in `a=fingerprint` (RFC 8122).
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// What the handshake yields for SRTP (RFC 5764 section 4.2).
#[derive(Clone, PartialEq, Eq)]
pub struct KeyingMaterial {
    /// The profile that both sides agreed on.
    pub profile: SrtpProfile,
    /// The exported bytes: the DTLS client's key, the server's key, the client's salt, the server's salt.
    pub material: Vec<u8>,
}

impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyingMaterial({:?})", self.profile)
    }
}

/// What a session wants of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DtlsOutput {
    /// To be sent, as one datagram.
    Packet(Vec<u8>),
    /// The handshake is done and the peer is who its description says. Comes once, before any `Data`.
    Connected {
        /// The keys for SRTP; `None` when the client did not ask for SRTP, as one with data channels only may do.
        keys: Option<KeyingMaterial>,
    },
    /// The peer sent this application data: one SCTP packet.
    Data(Vec<u8>),
    /// The peer closed the session. Nothing comes after this.
    Closed,
    /// The session has failed. Nothing comes after this.
    Failed(FailReason),
}

/// One handshake and its record layer.
pub struct DtlsSession {
    dtls: Dtls,
    phase: Phase,
    expected: Fingerprint,
    keys: Option<KeyingMaterial>,
    now: Instant,
    next_timeout: Option<Instant>,
    outputs: VecDeque<DtlsOutput>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of the peer.
    Handshaking,
    /// The peer presented the certificate that was expected; the handshake goes on.
    Verified,
    /// The handshake is done, but the keys may still come out.
    Finished,
    /// `Connected` was given out.
    Connected,
    /// Closed or failed: everything is ignored.
    Over,
}

/// The largest datagram of a handshake. Leaves room for IPv6 and TURN in 1280 bytes, with some to spare.
const MTU: usize = 1200;
/// The first retransmission. RFC 6347 section 4.2.4.1 suggests a second; calls cannot wait so long for a lost packet.
const FIRST_RETRANSMISSION: Duration = Duration::from_millis(250);
/// Doubling each time, these outlast the handshake's time limit.
const RETRANSMISSIONS: usize = 8;
/// A handshake that takes longer has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Datagrams that may wait in the handshake for those before them.
const MAX_REORDERED: usize = 64;
/// Outputs that may wait for the owner to poll them.
const MAX_OUTPUTS: usize = 512;
/// The engine names a time some years ahead when it has nothing to wait for.
const IDLE: Duration = Duration::from_hours(24);

impl DtlsSession {
    /// A session; when its role is active, the hello can be polled at once. The peer must present the certificate
    /// with the `expected` fingerprint. DTLS 1.2, and 1.3 as well with `dtls13`. A seed makes the timers' jitter, hello
    /// randoms and nonces reproducible, which costs more than the whole handshake; without one they are the system's. Keys
    /// and signatures always use the system's randomness.
    pub fn new(
        certificate: &Certificate,
        role: SetupRole,
        expected: Fingerprint,
        dtls13: bool,
        seed: Option<u64>,
        now: Instant,
    ) -> Self {
        let mut session = Self {
            dtls: new_dtls(certificate, role, dtls13, seed, now),
            phase: Phase::Handshaking,
            expected,
            keys: None,
            now,
            next_timeout: None,
            outputs: VecDeque::new(),
            buffer: vec![0; 2 * MTU],
        };
        session.handle_timeout(now);
        session
    }

    /// Takes a datagram whose first byte says DTLS (RFC 7983). Returns why it was dropped, if it was; a datagram that
    /// is merely garbled is ignored without a trace, since anybody could have sent it.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        if self.phase == Phase::Over {
            return Err(DropReason::DtlsUnexpected);
        }
        if self.outputs.len() >= MAX_OUTPUTS {
            return Err(DropReason::SendBufferFull);
        }
        self.now = now;
        // The engine's clock must be fresh before a packet is handed in, even if no timer is due.
        if self.dtls.handle_timeout(now).is_err() || self.dtls.handle_packet(datagram).is_err() {
            self.drain();
            self.fail(FailReason::Dtls);
            return Err(DropReason::DtlsUnexpected);
        }
        self.drain();
        match self.outputs.back() {
            Some(DtlsOutput::Failed(FailReason::Fingerprint)) => Err(DropReason::DtlsFingerprint),
            _ => Ok(()),
        }
    }

    /// Does what is due: retransmissions, and giving up.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Over {
            return;
        }
        self.now = now;
        let result = self.dtls.handle_timeout(now);
        self.drain();
        if result.is_err() {
            self.fail(FailReason::Dtls);
        }
    }

    /// When [`DtlsSession::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// Sends application data, one SCTP packet. Returns why it was dropped, if it was: the session is not connected,
    /// or nobody polls its outputs.
    pub fn send(&mut self, data: &[u8]) -> Result<(), DropReason> {
        if self.phase != Phase::Connected {
            return Err(DropReason::NotConnected);
        }
        if self.outputs.len() >= MAX_OUTPUTS {
            return Err(DropReason::SendBufferFull);
        }
        let result = self.dtls.send_application_data(data);
        self.drain();
        if result.is_err() {
            self.fail(FailReason::Dtls);
            return Err(DropReason::NotConnected);
        }
        Ok(())
    }

    /// Says goodbye to the peer and ends the session. What is still to be sent can be polled.
    pub fn close(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        if self.dtls.close().is_ok() {
            self.drain();
        }
        self.end();
    }

    /// The next thing to do for the owner. To be called until `None` after each input.
    pub fn poll_output(&mut self) -> Option<DtlsOutput> {
        self.outputs.pop_front()
    }

    /// Takes everything out of the engine, whose own queues are short and whose outputs end with its next timeout.
    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.phase != Phase::Over {
            match self.dtls.poll_output(&mut buffer) {
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.next_timeout = Some(at).filter(|&at| at < self.now + IDLE);
                    break;
                }
                output => self.on_output(&output),
            }
        }
        self.buffer = buffer;
        self.connect_if_finished();
    }

    fn on_output(&mut self, output: &Output<'_>) {
        match output {
            Output::Packet(packet) => self.outputs.push_back(DtlsOutput::Packet(packet.to_vec())),
            Output::PeerCert(der) => self.on_peer_certificate(der),
            Output::Connected => self.on_finished(),
            Output::KeyingMaterial(material, profile) => {
                let Some(profile) = map_profile(*profile) else { return self.fail(FailReason::Dtls) };
                self.keys = Some(KeyingMaterial { profile, material: material.to_vec() });
            }
            Output::ApplicationData(data) => {
                self.connect_if_finished();
                if self.phase == Phase::Connected {
                    self.outputs.push_back(DtlsOutput::Data(data.to_vec()));
                }
            }
            Output::CloseNotify => {
                self.end();
                self.outputs.push_back(DtlsOutput::Closed);
            }
            _ => {}
        }
    }

    fn on_peer_certificate(&mut self, der: &[u8]) {
        if fingerprint_of(der) != self.expected {
            self.fail(FailReason::Fingerprint);
        } else if self.phase == Phase::Handshaking {
            self.phase = Phase::Verified;
        }
    }

    fn on_finished(&mut self) {
        if self.phase == Phase::Verified {
            self.phase = Phase::Finished;
        } else {
            // A handshake without a certificate proves nothing about who the peer is.
            self.fail(FailReason::Fingerprint);
        }
    }

    /// The engine reports the end of the handshake and the keys one after the other; they go out together, and before
    /// any data.
    fn connect_if_finished(&mut self) {
        if self.phase == Phase::Finished {
            self.phase = Phase::Connected;
            self.outputs.push_back(DtlsOutput::Connected { keys: self.keys.take() });
        }
    }

    fn fail(&mut self, reason: FailReason) {
        if self.phase == Phase::Over {
            return;
        }
        self.end();
        self.outputs.push_back(DtlsOutput::Failed(reason));
    }

    fn end(&mut self) {
        self.phase = Phase::Over;
        self.keys = None;
        self.next_timeout = None;
    }
}

impl fmt::Debug for DtlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DtlsSession({:?})", self.phase)
    }
}

/// The configuration of all sessions without a seed. The library tests all its cryptography, P-384 too, whenever one is
/// built, and a seed belongs to the configuration: so a session with a seed needs one of its own.
static UNSEEDED: LazyLock<Arc<Config>> = LazyLock::new(|| Arc::new(new_config(None)));

fn new_config(seed: Option<u64>) -> Config {
    let builder = Config::builder()
        .mtu(MTU)
        .max_queue_rx(MAX_REORDERED)
        .flight_start_rto(FIRST_RETRANSMISSION)
        .flight_retries(RETRANSMISSIONS)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        // ICE has already shown that the peer receives at its address, which is all that a cookie could show.
        .use_server_cookie(false)
        .with_crypto_provider(dimpl::crypto::aws_lc_rs::default_provider());
    let builder = match seed {
        Some(seed) => builder.dangerously_set_rng_seed(seed),
        None => builder,
    };
    builder.build().expect("the settings are constants within the engine's limits")
}

fn new_dtls(
    certificate: &Certificate,
    role: SetupRole,
    dtls13: bool,
    seed: Option<u64>,
    now: Instant,
) -> Dtls {
    let config = match seed {
        Some(_) => Arc::new(new_config(seed)),
        None => UNSEEDED.clone(),
    };
    let identity = DtlsCertificate {
        certificate: certificate.der.clone(),
        private_key: certificate.private_key.clone(),
    };
    let new = if dtls13 { Dtls::new_auto } else { Dtls::new_12 };
    let mut dtls = new(config, identity, now);
    if role == SetupRole::Active {
        dtls.set_active(true);
    }
    dtls
}

/// The engine prefers, as server and in its offers, AES-256 GCM, then AES-128 GCM, then AES-CM with SHA-1; that order
/// is fixed in it.
fn map_profile(profile: dimpl::SrtpProfile) -> Option<SrtpProfile> {
    match profile {
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => Some(SrtpProfile::Aes128CmHmacSha1_80),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => Some(SrtpProfile::AeadAes128Gcm),
        dimpl::SrtpProfile::AEAD_AES_256_GCM => Some(SrtpProfile::AeadAes256Gcm),
        _ => None,
    }
}

fn fingerprint_of(certificate: &[u8]) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, certificate);
    Fingerprint(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
pub(crate) mod tests;
