//! Handshake packets that wait for their turn, so that many who join at once hold up nobody's media.

use std::collections::VecDeque;
use std::time::Instant;

use crate::demux::Place;
use crate::drops::DropReason;
use crate::path::Path;

/// Packets of DTLS handshakes, in the order in which they came.
#[derive(Debug, Default)]
pub struct HandshakeQueue {
    waiting: VecDeque<Waiting>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    path: Path,
    /// Whose path it was.
    from: Place,
    since: Instant,
    datagram: Vec<u8>,
}

/// How many packets may wait in all. What finds no place is lost, as on the network: its sender repeats it.
const MAX_WAITING: usize = 1_024;
/// How many of one participant, who may have many paths: the largest flight of a client with its certificate, repeated once.
const MAX_WAITING_OF_ONE: usize = 8;
/// So many buffers are kept after a rush.
const MAX_SPARE: usize = 32;

impl HandshakeQueue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when the first has waited.
    pub fn since(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.since)
    }

    /// Lets a packet wait, which came on this path of a participant.
    pub fn push(&mut self, now: Instant, path: Path, from: Place, datagram: &[u8]) -> Result<(), DropReason> {
        let theirs = || self.waiting.iter().filter(|waiting| waiting.from == from).count();
        if self.waiting.len() >= MAX_WAITING || theirs() >= MAX_WAITING_OF_ONE {
            return Err(DropReason::HandshakeLimit);
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(datagram);
        self.waiting.push_back(Waiting { path, from, since: now, datagram: copy });
        Ok(())
    }

    /// The next packet, and where it came from. To be given back to [`HandshakeQueue::recycle`].
    pub fn pop(&mut self) -> Option<(Path, Vec<u8>)> {
        let Waiting { path, datagram, .. } = self.waiting.pop_front()?;
        Some((path, datagram))
    }

    /// Takes back the buffer of a packet that was handled.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::Udp { remote: ([192, 0, 2, 1], port).into(), local: None }
    }

    fn of(participant: u32) -> Place {
        Place { room: 0, participant }
    }

    #[test]
    fn packets_come_out_in_order_and_are_bounded_per_participant_and_in_all() {
        let now = Instant::now();
        let mut queue = HandshakeQueue::default();
        for n in 0..MAX_WAITING_OF_ONE {
            assert_eq!(queue.push(now, path(n as u16), of(1), &[n as u8; 3]), Ok(()));
        }
        // Another path gives them no more room.
        for port in [0, 99] {
            assert_eq!(queue.push(now, path(port), of(1), &[9]), Err(DropReason::HandshakeLimit));
        }
        for participant in 2..2_000 {
            let _ = queue.push(now, path(100), of(participant), &[0]);
        }
        assert_eq!(queue.waiting.len(), MAX_WAITING);
        for n in 0..MAX_WAITING_OF_ONE {
            let (from, datagram) = queue.pop().expect("it waits");
            assert_eq!((from, &datagram[..]), (path(n as u16), &[n as u8; 3][..]));
            queue.recycle(datagram);
        }
        assert_eq!(queue.push(now, path(1), of(1), &[9]), Ok(()), "there is room again");
    }
}
