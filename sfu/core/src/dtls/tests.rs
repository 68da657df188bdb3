//! Handshakes with an engine of the library as the peer, on a bad link in virtual time.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

#[test]
fn certificates_are_checked() {
    let good = certificate();
    assert_eq!(Certificate::new(vec![], good.private_key.clone()).unwrap_err(), CertificateError::Empty);
    assert_eq!(Certificate::new(good.der.clone(), vec![1, 2, 3]).unwrap_err(), CertificateError::PrivateKey);
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

/// A certificate of its own, for whoever needs one.
pub(crate) fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(vec!["test".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Certificate::new(certificate.der().to_vec(), key.serialize_der()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
fn start() -> Instant {
    Instant::now()
}
