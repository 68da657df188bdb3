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
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn certificates_are_checked() {
        let good = certificate();
        assert_eq!(Certificate::new(vec![], good.private_key.clone()).unwrap_err(), CertificateError::Empty);
        assert_eq!(
            Certificate::new(good.der.clone(), vec![1, 2, 3]).unwrap_err(),
            CertificateError::PrivateKey
        );
        assert_eq!(good.fingerprint(), fingerprint_of(good.certificate()));
        assert_ne!(good.fingerprint(), certificate().fingerprint());
    }

    #[test]
    fn both_roles_and_versions_connect_with_equal_keys() {
        for role in [SetupRole::Passive, SetupRole::Active] {
            for dtls13 in [false, true] {
                let mut pair = Pair::new(role, dtls13, 1);
                pair.run(Duration::from_secs(5));
                pair.expect_connected();
                assert_eq!(pair.ours_keys().profile, SrtpProfile::AeadAes256Gcm);
                assert_eq!(pair.ours_keys().material.len(), 2 * 32 + 2 * 12);
            }
        }
    }

    #[test]
    fn loss_reordering_and_duplicates_do_not_stop_the_handshake() {
        for seed in 0..12 {
            let role = if seed % 2 == 0 { SetupRole::Passive } else { SetupRole::Active };
            let mut pair = Pair::new(role, seed % 3 == 0, seed);
            pair.loss = 0.25;
            pair.duplication = 0.2;
            pair.jitter = Duration::from_millis(60);
            pair.run(Duration::from_secs(25));
            pair.expect_connected();
        }
    }

    #[test]
    fn a_hello_in_many_fragments_is_put_together() {
        for dtls13 in [false, true] {
            let mut pair = Pair::with_peer_mtu(SetupRole::Passive, dtls13, 3, 90);
            pair.jitter = Duration::from_millis(20);
            pair.run(Duration::from_secs(10));
            assert!(pair.peer_packets > 4, "the peer's flights were not fragmented");
            pair.expect_connected();
        }
    }

    #[test]
    fn the_first_retransmission_comes_soon() {
        let mut pair = Pair::new(SetupRole::Active, false, 4);
        let hello = pair.ours.poll_output();
        assert!(matches!(hello, Some(DtlsOutput::Packet(_))));
        assert!(pair.ours.poll_output().is_none());
        let due = pair.ours.poll_timeout().unwrap();
        assert!(due > pair.now && due <= pair.now + 2 * FIRST_RETRANSMISSION);
        pair.ours.handle_timeout(due);
        assert!(matches!(pair.ours.poll_output(), Some(DtlsOutput::Packet(_))));
    }

    #[test]
    fn a_silent_peer_is_given_up() {
        let mut pair = Pair::new(SetupRole::Active, false, 5);
        pair.loss = 1.0;
        pair.run(Duration::from_secs(40));
        assert_eq!(pair.failed, Some(FailReason::Dtls));
        assert_eq!(pair.ours.poll_timeout(), None);
        let now = pair.now;
        assert_eq!(pair.ours.handle_datagram(now, &[22; 40]), Err(DropReason::DtlsUnexpected));
    }

    #[test]
    fn a_wrong_fingerprint_never_yields_keys() {
        for role in [SetupRole::Passive, SetupRole::Active] {
            for dtls13 in [false, true] {
                let mut pair = Pair::new(role, dtls13, 6);
                pair.ours.expected = Fingerprint([7; 32]);
                pair.run(Duration::from_secs(5));
                assert_eq!(pair.failed, Some(FailReason::Fingerprint));
                assert!(pair.drops.contains(&DropReason::DtlsFingerprint));
                assert!(pair.ours_keys.is_none() && !pair.ours_connected);
                // A client of DTLS 1.3 is done before the server has seen its certificate.
                assert!(dtls13 || !pair.peer_connected, "the peer must not believe that it is connected");
                assert_eq!(pair.ours.send(b"x"), Err(DropReason::NotConnected));
            }
        }
    }

    #[test]
    fn garbage_neither_panics_nor_ends_a_session() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut pair = Pair::new(SetupRole::Passive, false, 7);
        for _ in 0..2_000 {
            let now = pair.now;
            let datagram = garbage(&mut rng, &[]);
            assert_eq!(pair.ours.handle_datagram(now, &datagram), Ok(()));
        }
        pair.run(Duration::from_secs(5));
        pair.expect_connected();
        for _ in 0..2_000 {
            let now = pair.now;
            let datagram = garbage(&mut rng, &[]);
            assert_eq!(pair.ours.handle_datagram(now, &datagram), Ok(()));
        }
        pair.exchange();
    }

    #[test]
    fn mutated_handshakes_never_panic() {
        let mut recorded = Pair::new(SetupRole::Passive, false, 8);
        recorded.record = true;
        recorded.run(Duration::from_secs(5));
        let recorded = recorded.recorded;
        assert!(recorded.len() >= 2);
        let mut rng = StdRng::seed_from_u64(8);
        for round in 0..150 {
            let mut pair = Pair::new(SetupRole::Passive, round % 2 == 0, round);
            for _ in 0..8 {
                let model = &recorded[rng.random_range(0..recorded.len())];
                let now = pair.now;
                // Whether it fails is the engine's choice; it must not panic, connect or grow.
                let _ = pair.ours.handle_datagram(now, &garbage(&mut rng, model));
                assert!(pair.ours.outputs.len() < MAX_OUTPUTS + 64);
            }
            assert!(!pair.ours.outputs.iter().any(|o| matches!(o, DtlsOutput::Connected { .. })));
        }
    }

    #[test]
    fn application_data_flows_both_ways_until_closed() {
        for dtls13 in [false, true] {
            let mut pair = Pair::new(SetupRole::Passive, dtls13, 9);
            assert_eq!(pair.ours.send(b"early"), Err(DropReason::NotConnected));
            pair.run(Duration::from_secs(5));
            pair.expect_connected();
            pair.exchange();

            pair.ours.close();
            pair.run(Duration::from_secs(1));
            assert!(pair.peer_closed);
            assert_eq!(pair.ours.send(b"late"), Err(DropReason::NotConnected));
        }
    }

    #[test]
    fn the_peer_may_close() {
        let mut pair = Pair::new(SetupRole::Passive, false, 10);
        pair.run(Duration::from_secs(5));
        pair.peer.close().unwrap();
        pair.run(Duration::from_secs(1));
        assert!(pair.ours_closed);
        assert_eq!(pair.ours.handle_datagram(pair.now, &[23; 40]), Err(DropReason::DtlsUnexpected));
    }

    #[test]
    fn outputs_that_nobody_polls_are_bounded() {
        let mut pair = Pair::new(SetupRole::Passive, false, 11);
        pair.run(Duration::from_secs(5));
        let sent = (0..2 * MAX_OUTPUTS).filter(|_| pair.ours.send(&[0; 100]).is_ok()).count();
        assert_eq!(sent, MAX_OUTPUTS);
        assert_eq!(pair.ours.send(&[0; 100]), Err(DropReason::SendBufferFull));
    }

    /// Our session and an engine of the library as its peer, on a bad link in virtual time.
    struct Pair {
        ours: DtlsSession,
        peer: Dtls,
        now: Instant,
        rng: StdRng,
        loss: f64,
        duplication: f64,
        jitter: Duration,
        /// When, whether to us, and what.
        link: Vec<(Instant, bool, Vec<u8>)>,
        record: bool,
        recorded: Vec<Vec<u8>>,
        peer_timeout: Instant,
        peer_packets: usize,
        peer_connected: bool,
        peer_closed: bool,
        peer_keys: Option<(Vec<u8>, dimpl::SrtpProfile)>,
        peer_data: Vec<Vec<u8>>,
        ours_connected: bool,
        ours_closed: bool,
        ours_keys: Option<KeyingMaterial>,
        ours_data: Vec<Vec<u8>>,
        failed: Option<FailReason>,
        drops: Vec<DropReason>,
    }

    impl Pair {
        fn new(role: SetupRole, dtls13: bool, seed: u64) -> Self {
            Self::with_peer_mtu(role, dtls13, seed, 1150)
        }

        fn with_peer_mtu(role: SetupRole, dtls13: bool, seed: u64, mtu: usize) -> Self {
            let now = start();
            let theirs = certificate();
            let ours =
                DtlsSession::new(&certificate(), role, fingerprint_of(&theirs.der), dtls13, Some(seed), now);
            let config = Config::builder()
                .mtu(mtu)
                .max_queue_tx(60)
                .max_queue_rx(60)
                .flight_start_rto(Duration::from_millis(200))
                .flight_retries(9)
                .dangerously_set_rng_seed(seed + 1)
                .build()
                .unwrap();
            let identity = DtlsCertificate { certificate: theirs.der, private_key: theirs.private_key };
            let mut peer = if dtls13 {
                Dtls::new_auto(Arc::new(config), identity, now)
            } else {
                Dtls::new_12(Arc::new(config), identity, now)
            };
            peer.set_active(role == SetupRole::Passive);
            Self {
                ours,
                peer,
                now,
                rng: StdRng::seed_from_u64(seed),
                loss: 0.0,
                duplication: 0.0,
                jitter: Duration::ZERO,
                link: vec![],
                record: false,
                recorded: vec![],
                peer_timeout: now,
                peer_packets: 0,
                peer_connected: false,
                peer_closed: false,
                peer_keys: None,
                peer_data: vec![],
                ours_connected: false,
                ours_closed: false,
                ours_keys: None,
                ours_data: vec![],
                failed: None,
                drops: vec![],
            }
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            loop {
                self.collect();
                let next = self.link.iter().map(|p| p.0).min();
                let next = next.into_iter().chain(self.ours.poll_timeout()).chain([self.peer_timeout]).min();
                match next {
                    Some(next) if next <= end => self.now = self.now.max(next),
                    _ => break,
                }
                self.step();
            }
            self.now = end;
        }

        fn step(&mut self) {
            let now = self.now;
            if let Some(i) = (0..self.link.len()).find(|&i| self.link[i].0 <= now) {
                let (_, to_us, packet) = self.link.remove(i);
                if to_us {
                    self.drops.extend(self.ours.handle_datagram(now, &packet).err());
                } else {
                    let _ = self.peer.handle_timeout(now);
                    let _ = self.peer.handle_packet(&packet);
                }
                return;
            }
            if self.ours.poll_timeout().is_some_and(|at| at <= now) {
                self.ours.handle_timeout(now);
            }
            if self.peer_timeout <= now && self.peer.handle_timeout(now).is_err() {
                self.peer_timeout = now + Duration::from_secs(1_000);
            }
        }

        fn collect(&mut self) {
            while let Some(output) = self.ours.poll_output() {
                match output {
                    DtlsOutput::Packet(packet) => self.transmit(false, &packet),
                    DtlsOutput::Connected { keys } => {
                        assert!(!self.ours_connected && self.ours_data.is_empty());
                        self.ours_connected = true;
                        self.ours_keys = keys;
                    }
                    DtlsOutput::Data(data) => self.ours_data.push(data),
                    DtlsOutput::Closed => self.ours_closed = true,
                    DtlsOutput::Failed(reason) => self.failed = Some(reason),
                }
            }
            let mut buffer = vec![0; 4096];
            loop {
                match self.peer.poll_output(&mut buffer) {
                    Output::Packet(packet) => {
                        let packet = packet.to_vec();
                        self.peer_packets += 1;
                        if self.record {
                            self.recorded.push(packet.clone());
                        }
                        self.transmit(true, &packet);
                    }
                    Output::Connected => self.peer_connected = true,
                    Output::KeyingMaterial(material, profile) => {
                        self.peer_keys = Some((material.to_vec(), profile));
                    }
                    Output::ApplicationData(data) => self.peer_data.push(data.to_vec()),
                    Output::CloseNotify => self.peer_closed = true,
                    Output::Timeout(at) => {
                        self.peer_timeout = at.max(self.now + Duration::from_millis(1));
                        break;
                    }
                    _ => {}
                }
            }
        }

        fn transmit(&mut self, to_us: bool, packet: &[u8]) {
            let copies = if self.rng.random_bool(self.duplication) { 2 } else { 1 };
            for _ in 0..copies {
                if !self.rng.random_bool(self.loss) {
                    let delay = Duration::from_millis(10) + self.jitter.mul_f64(self.rng.random());
                    self.link.push((self.now + delay, to_us, packet.to_vec()));
                }
            }
        }

        fn expect_connected(&self) {
            assert!(self.ours_connected && self.peer_connected, "not connected; failed: {:?}", self.failed);
            let (material, profile) = self.peer_keys.as_ref().unwrap();
            assert_eq!(&self.ours_keys().material, material);
            assert_eq!(Some(self.ours_keys().profile), map_profile(*profile));
        }

        fn ours_keys(&self) -> &KeyingMaterial {
            self.ours_keys.as_ref().unwrap()
        }

        fn exchange(&mut self) {
            let large = vec![5; 1191];
            self.ours.send(b"to the peer").unwrap();
            self.ours.send(&large).unwrap();
            self.peer.send_application_data(b"to us").unwrap();
            self.peer.send_application_data(&large).unwrap();
            self.run(Duration::from_secs(1));
            assert!(self.peer_data == [b"to the peer".to_vec(), large.clone()]);
            assert!(self.ours_data == [b"to us".to_vec(), large]);
        }
    }

    fn garbage(rng: &mut StdRng, model: &[u8]) -> Vec<u8> {
        let mut bytes = model.to_vec();
        if bytes.is_empty() {
            bytes = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
            if let Some(first) = bytes.first_mut() {
                *first = rng.random_range(20..64);
            }
            return bytes;
        }
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random();
        }
        bytes.truncate(rng.random_range(1..=bytes.len()));
        bytes
    }

    fn certificate() -> Certificate {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let params = rcgen::CertificateParams::new(vec!["test".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Certificate::new(certificate.der().to_vec(), key.serialize_der()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
    fn start() -> Instant {
        Instant::now()
    }
}
