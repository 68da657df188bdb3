//! One client's way to the server without its socket: ICE checks, the DTLS handshake, and the SRTP keys it yields.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_sfu_core::dtls::{Certificate, DtlsOutput, DtlsSession};
use veche_sfu_core::sdp::{IceCredentials, SetupRole};
use veche_sfu_core::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys};
use veche_sfu_core::stun::{BindingRequest, IntegrityKey, write_success};
use veche_testkit::client::stun;

use crate::negotiation::Agreement;

/// Requests are repeated so often until they are answered: the initial retransmission timer of RFC 8445 section 14.3 is
/// 500 ms, but browsers repeat theirs this often.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// And so often afterwards, for consent: RFC 7675 section 5.1 has 5 s, browsers half of that.
const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);

/// A transport.
pub struct Transport {
    local: IceCredentials,
    key: IntegrityKey,
    remote: IceCredentials,
    address: SocketAddr,
    controlling: bool,
    role: SetupRole,
    transaction: [u8; 12],
    check_at: Instant,
    answered: bool,
    dtls: DtlsSession,
    /// An active side's first flight waits for the first answer, as nothing gets through before it.
    held: bool,
    srtp: Option<(InboundSrtp, OutboundSrtp)>,
    failure: Option<String>,
    outbox: VecDeque<Vec<u8>>,
    rng: StdRng,
}

impl Transport {
    /// A transport that begins to check at once.
    pub fn new(
        local: IceCredentials,
        agreement: &Agreement,
        certificate: &Arc<Certificate>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let dtls = DtlsSession::new(certificate, agreement.role, agreement.fingerprint, false, None, now);
        Self {
            key: IntegrityKey::new(&local.pwd),
            local,
            remote: agreement.ice.clone(),
            address: agreement.address,
            controlling: agreement.controlling,
            role: agreement.role,
            transaction: rng.random(),
            check_at: now,
            answered: false,
            dtls,
            held: agreement.role == SetupRole::Active,
            srtp: None,
            failure: None,
            outbox: VecDeque::new(),
            rng,
        }
    }

    /// The keys, once the handshake is done.
    pub fn srtp(&mut self) -> Option<&mut (InboundSrtp, OutboundSrtp)> {
        self.srtp.as_mut()
    }

    /// The handshake is done.
    pub fn connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Why there will be no connection, or no longer.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Takes a datagram whose first byte says STUN.
    pub fn handle_stun(&mut self, now: Instant, datagram: &[u8]) {
        if let Ok(request) = BindingRequest::parse(datagram) {
            if request.local_ufrag == self.local.ufrag && request.verify(&self.key) {
                let mut answer = Vec::new();
                write_success(&request, self.address, &self.key, &mut answer);
                self.outbox.push_back(answer);
            }
        } else if stun::success(datagram) == Some(self.transaction) {
            self.check_at = now + CONSENT_INTERVAL;
            if !std::mem::replace(&mut self.answered, true) && std::mem::take(&mut self.held) {
                self.drain_dtls();
            }
        }
    }

    /// Takes a datagram whose first byte says DTLS.
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) {
        // A dropped datagram is repeated by the server.
        let _ = self.dtls.handle_datagram(now, datagram);
        self.drain_dtls();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.check_at <= now {
            self.check(now);
        }
        if !self.held && self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
            self.drain_dtls();
        }
    }

    /// When [`Transport::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        let dtls = self.dtls.poll_timeout().filter(|_| !self.held);
        dtls.map_or(self.check_at, |at| at.min(self.check_at))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// Ends the DTLS session, as closing a page does.
    pub fn close(&mut self) {
        self.dtls.close();
        self.drain_dtls();
    }

    fn check(&mut self, now: Instant) {
        if self.answered {
            self.transaction = self.rng.random();
        }
        self.check_at = now + if self.answered { CONSENT_INTERVAL } else { CHECK_INTERVAL };
        let request = stun::Request {
            transaction: self.transaction,
            remote_ufrag: &self.remote.ufrag,
            local_ufrag: &self.local.ufrag,
            password: &self.remote.pwd,
            // A host candidate's (RFC 8445 section 5.1.2).
            priority: 0x7eff_ffff,
            controlled: !self.controlling,
            nominate: self.controlling,
        };
        self.outbox.push_back(request.write());
    }

    fn drain_dtls(&mut self) {
        while let Some(output) = self.dtls.poll_output() {
            match output {
                DtlsOutput::Packet(packet) => self.outbox.push_back(packet),
                DtlsOutput::Connected { keys } => {
                    let active = self.role == SetupRole::Active;
                    let keys =
                        keys.and_then(|keys| SrtpKeys::from_dtls(keys.profile, &keys.material, active));
                    match keys {
                        Some(keys) => {
                            let keys = (InboundSrtp::new(&keys.inbound), OutboundSrtp::new(&keys.outbound));
                            self.srtp = Some(keys);
                        }
                        None => self.fail("the server agreed on no SRTP profile"),
                    }
                }
                DtlsOutput::Data(_) => {}
                DtlsOutput::Closed => self.fail("the server closed the DTLS session"),
                DtlsOutput::Failed(reason) => self.fail(&format!("the DTLS handshake failed: {reason:?}")),
            }
        }
    }

    fn fail(&mut self, why: &str) {
        self.failure.get_or_insert_with(|| why.to_owned());
    }
}
