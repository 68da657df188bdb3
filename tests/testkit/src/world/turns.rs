//! A worker's turns: what came meanwhile is taken together, and sent together.
//!
//! Otherwise a world gives each datagram to its engine alone, as an idle worker does.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use veche_sfu_core::engine::Engine;
use veche_sfu_core::path::Path;
use veche_sfu_core::rtp::is_rtcp;

use super::World;
use crate::cpu;

/// The turns of all engines of a world.
#[derive(Debug)]
pub(super) struct Turns {
    /// From one turn to the next.
    length: Duration,
    next_at: Instant,
    pub(super) inbox: Vec<Inbound>,
    taken: Vec<Turn>,
}

/// A datagram that waits for its engine's turn.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) engine: usize,
    pub(super) from: SocketAddr,
    pub(super) datagram: Vec<u8>,
}

/// One turn of an engine that had something to take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// RTP packets that came.
    pub media: usize,
    /// DTLS packets that came.
    pub dtls: usize,
    /// Datagrams that were sent at its end.
    pub sent: usize,
    /// DTLS packets among them.
    pub dtls_sent: usize,
    /// What it took of the processor, until all was sent.
    pub cpu: Duration,
}

impl World {
    /// From now on engines take what came in turns of this length.
    pub fn take_turns(&mut self, length: Duration) {
        self.turns = Some(Turns { length, next_at: self.now, inbox: Vec::new(), taken: Vec::new() });
    }

    /// The turns so far, and none of them again.
    pub fn turns_taken(&mut self) -> Vec<Turn> {
        self.turns.as_mut().map(|turns| std::mem::take(&mut turns.taken)).unwrap_or_default()
    }

    /// When engines have something to do next.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let timer = self.engines.iter().filter_map(Engine::poll_timeout).min();
        match &self.turns {
            None => timer,
            Some(turns) if !turns.inbox.is_empty() => Some(turns.next_at),
            Some(turns) => timer.map(|at| at.max(turns.next_at)),
        }
    }

    pub(super) fn take_turn(&mut self) {
        let Some(turns) = self.turns.as_mut() else { return };
        turns.next_at = self.now + turns.length;
        let mut inbox = std::mem::take(&mut turns.inbox);
        for engine in 0..self.engines.len() {
            let mut turn = Turn::default();
            for inbound in inbox.iter_mut().filter(|inbound| inbound.engine == engine) {
                match inbound.datagram.first() {
                    Some(20..=63) => turn.dtls += 1,
                    Some(128..=191) if !is_rtcp(&inbound.datagram) => turn.media += 1,
                    _ => {}
                }
                let Self { engines, now, .. } = self;
                turn.cpu += cpu::measure(|| {
                    engines[engine].handle_datagram(*now, inbound.path(), &mut inbound.datagram);
                })
                .1;
            }
            if self.engines[engine].poll_timeout().is_some_and(|at| at <= self.now) {
                let Self { engines, now, .. } = self;
                turn.cpu += cpu::measure(|| engines[engine].handle_timeout(*now)).1;
            }
            self.flush(engine);
            turn.sent = self.flushed.packets.len();
            let starts = std::iter::once(0).chain(self.flushed.packets.iter().map(|(_, end)| *end));
            let firsts = starts.zip(&self.flushed.packets).filter_map(|(s, _)| self.flushed.bytes.get(s));
            turn.dtls_sent = firsts.filter(|first| (20..=63).contains(*first)).count();
            self.deliver(engine);
            if let Some(turns) = self.turns.as_mut() {
                turns.taken.push(turn);
            }
        }
    }
}

impl Inbound {
    fn path(&self) -> Path {
        Path::Udp { remote: self.from, local: None }
    }
}
