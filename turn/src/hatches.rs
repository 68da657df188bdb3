//! The ways to the media workers of this process: what a relay is to send to them, and they to it, needs no socket.

use std::net::SocketAddr;
use std::time::Instant;

use veche_sfu::hatch::{Handed, Hatch, Passage};
use veche_turn_core::{Outbox, RelayId, Server};

/// A worker's hatches, each to the media worker that has this port. None where media is not of this process.
#[derive(Debug, Default)]
pub(crate) struct Hatches(Vec<(u16, Hatch)>);

impl Hatches {
    pub(crate) fn new(by_port: Vec<(u16, Hatch)>) -> Self {
        Self(by_port)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether something waits to be taken.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.iter().any(|(_, hatch)| hatch.is_waiting())
    }

    /// Gives packets of a relay to the media worker that the peer is; `false` where it is none, and packets need a socket.
    pub(crate) fn send(
        &mut self,
        server: &Server,
        (relay, peer): (RelayId, SocketAddr),
        packets: (&[u8], &[u32]),
    ) -> bool {
        let hatch = self.0.iter_mut().find(|(port, _)| *port == peer.port());
        let Some((_, hatch)) = hatch.filter(|_| server.is_own(peer)) else { return false };
        let Some(relayed) = server.relayed(relay) else { return false };
        hatch.send(&Passage { relay: relay.to_bits(), relayed, media: peer }, packets);
        true
    }

    /// Hands the server what has come through one of them. Returns whether more may be there.
    pub(crate) fn receive(
        &mut self,
        index: usize,
        now: Instant,
        server: &mut Server,
        out: &mut Outbox,
    ) -> bool {
        let Some((_, hatch)) = self.0.get_mut(index) else { return false };
        !hatch.take(|passage, data| {
            server.handle_peer(now, RelayId::from_bits(passage.relay), passage.media, data, out);
        })
    }

    /// Wakes those who have got something.
    pub(crate) fn ring(&mut self) {
        self.0.iter_mut().for_each(|(_, hatch)| hatch.ring());
    }

    /// How many packets have gone through.
    pub(crate) fn handed(&self) -> Handed {
        Handed::sum(self.0.iter().map(|(_, hatch)| hatch))
    }
}
