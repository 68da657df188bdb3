//! DTLS: a server's session gets datagrams as they come, and a genuine client's with bytes changed, left out or
//! repeated, so that the handshake goes deep.

use std::sync::LazyLock;
use std::time::Instant;

use veche_sfu_core::dtls::{Certificate, DtlsOutput, DtlsSession};
use veche_sfu_core::sdp::SetupRole;

use crate::records::records;
use crate::time;

/// The certificates of server and client.
pub(crate) static CERTIFICATES: LazyLock<[Certificate; 2]> = LazyLock::new(|| {
    std::array::from_fn(|_| {
        let key = rcgen::KeyPair::generate().expect("keys can be made");
        let params = rcgen::CertificateParams::new(vec![]).expect("no names are fine");
        let certificate = params.self_signed(&key).expect("it can be signed");
        Certificate::new(certificate.der().to_vec(), key.serialize_der()).expect("it is P-256")
    })
});

/// The most that comes out at one input: flights and retransmissions are some packets long.
const MAX_OUTPUTS: usize = 600;

struct Pair {
    now: Instant,
    server: DtlsSession,
    client: DtlsSession,
    /// What the client has sent and the server has not got.
    packets: Vec<Vec<u8>>,
}

pub(crate) fn run(input: &[u8]) {
    let now = time::start();
    let [ours, theirs] = &*CERTIFICATES;
    let mut pair = Pair {
        now,
        server: DtlsSession::new(ours, SetupRole::Passive, theirs.fingerprint(), false, Some(1), now),
        client: DtlsSession::new(theirs, SetupRole::Active, ours.fingerprint(), false, Some(2), now),
        packets: Vec::new(),
    };
    pair.pump();
    for (kind, bytes) in records(input) {
        pair.step(kind, bytes);
        pair.pump();
    }
}

impl Pair {
    fn step(&mut self, kind: u8, bytes: &[u8]) {
        match kind % 6 {
            0 => {
                let _ = self.server.handle_datagram(self.now, bytes);
            }
            1 => self.pass(bytes, true),
            2 => self.pass(bytes, false),
            3 => self.packets.truncate(self.packets.len().saturating_sub(1)),
            4 => {
                self.now += time::step(bytes);
                self.server.handle_timeout(self.now);
                self.client.handle_timeout(self.now);
            }
            _ => {
                let _ = self.client.send(bytes);
            }
        }
    }

    /// Passes the client's next packet on, changed where the bytes say: a place and what is put there.
    fn pass(&mut self, changes: &[u8], take: bool) {
        let Some(mut packet) = self.packets.first().cloned() else { return };
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % packet.len();
            packet[at] ^= change[2];
        }
        if take {
            self.packets.remove(0);
        }
        let _ = self.server.handle_datagram(self.now, &packet);
    }

    fn pump(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.server.poll_output() {
            outputs += 1;
            match output {
                DtlsOutput::Packet(packet) => {
                    let _ = self.client.handle_datagram(self.now, &packet);
                }
                // Echoed, so that data goes both ways.
                DtlsOutput::Data(data) => {
                    let _ = self.server.send(&data);
                }
                DtlsOutput::Connected { .. } | DtlsOutput::Closed | DtlsOutput::Failed(_) => {}
            }
            assert!(outputs < MAX_OUTPUTS, "one input has a bounded outcome");
        }
        while let Some(output) = self.client.poll_output() {
            if let DtlsOutput::Packet(packet) = output {
                assert!(!packet.is_empty());
                self.packets.push(packet);
            }
        }
    }
}
