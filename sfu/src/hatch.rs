//! Hatches: where packets go from a worker of the TURN server to a media worker and back, without a socket, when a relay's peer is
//! this server's own media. For each direction there is a bounded ring of bytes with one writer and one reader; nothing is
//! locked. Whoever has put something in rings the other's bell once in a turn.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
pub use veche_sfu_core::path::Passage;

/// Bytes that may wait in each direction: what comes in some milliseconds at the fastest, longer than a turn takes. Memory is
/// used only where something has been.
const CAPACITY: usize = 1 << 20;

/// Packets that go together at most.
const TOGETHER: usize = 64;

/// How many times packets that went together are taken in one turn.
const PER_TURN: usize = 64;

/// How often one flush may wait for room, in all, and how long each time: a millisecond altogether, as it waits for room in a
/// socket. What is later than that is useless.
const WAITS: u32 = 10;
const WAIT: Duration = Duration::from_micros(100);

/// What stands before the packets: the length of all, the relay, its address, ours, and how many there are.
const HEAD: usize = 4 + 8 + 2 * ADDRESS + 4;
const ADDRESS: usize = 18;
const END: usize = 4;

/// How many packets have gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// Packets taken from the other.
    pub packets_in: u64,
    /// Packets given to the other.
    pub packets_out: u64,
    /// Packets dropped, for the other did not keep up or has ended.
    pub drops: u64,
}

/// One end of a hatch.
#[derive(Debug)]
pub struct Hatch {
    out: Producer<u8>,
    inn: Consumer<u8>,
    /// Wakes the other.
    bell: Arc<OwnedFd>,
    /// Whether something was put in since the bell rang.
    to_ring: bool,
    /// How often this flush may still wait for room.
    waits: u32,
    /// Where what stands before the packets is put together, and what is taken out, since it may lie around the end of the ring.
    head: Vec<u8>,
    record: Vec<u8>,
    handed: Handed,
}

/// Both ends of a hatch. Each wakes who has the other by writing to an eventfd.
pub fn hatch(bells: [Arc<OwnedFd>; 2]) -> [Hatch; 2] {
    let ((out_a, inn_b), (out_b, inn_a)) = (RingBuffer::new(CAPACITY), RingBuffer::new(CAPACITY));
    let [bell_a, bell_b] = bells;
    [Hatch::new(out_a, inn_a, bell_b), Hatch::new(out_b, inn_b, bell_a)]
}

impl Hatch {
    fn new(out: Producer<u8>, inn: Consumer<u8>, bell: Arc<OwnedFd>) -> Self {
        let (head, record) = (Vec::with_capacity(HEAD + TOGETHER * END), Vec::new());
        Self { out, inn, bell, to_ring: false, waits: WAITS, head, record, handed: Handed::default() }
    }

    /// Puts packets in that lie one behind the other, given by where each ends. What finds no room within a millisecond is dropped
    /// and counted.
    pub fn send(&mut self, passage: &Passage, (bytes, ends): (&[u8], &[u32])) {
        let mut begin = 0;
        for ends in ends.chunks(TOGETHER) {
            let end = ends.last().copied().unwrap_or(begin);
            let bytes = bytes.get(begin as usize..end as usize);
            let put = bytes.is_some_and(|bytes| self.put(passage, bytes, begin, ends));
            let count = if put { &mut self.handed.packets_out } else { &mut self.handed.drops };
            *count += ends.len() as u64;
            self.to_ring |= put;
            begin = end;
        }
    }

    /// Whether there was room. What is put in is there as a whole, or not.
    fn put(&mut self, passage: &Passage, bytes: &[u8], begin: u32, ends: &[u32]) -> bool {
        let length = HEAD + ends.len() * END + bytes.len();
        if !self.has_room(length) {
            return false;
        }
        let Self { out, head, .. } = self;
        head.clear();
        head.extend_from_slice(&(length as u32).to_ne_bytes());
        head.extend_from_slice(&passage.relay.to_ne_bytes());
        for address in [passage.relayed, passage.media] {
            head.extend_from_slice(&mapped(address.ip()).octets());
            head.extend_from_slice(&address.port().to_ne_bytes());
        }
        head.extend_from_slice(&(ends.len() as u32).to_ne_bytes());
        head.extend(ends.iter().flat_map(|end| (end - begin).to_ne_bytes()));
        out.push_entire_slice(head).is_ok() && out.push_entire_slice(bytes).is_ok()
    }

    /// Where there is none, lets the other make some. For what is larger than the ring there never is: nobody is kept waiting for it.
    fn has_room(&mut self, length: usize) -> bool {
        if length > CAPACITY {
            return false;
        }
        while self.out.slots() < length && self.waits > 0 && !self.out.is_abandoned() {
            self.wake();
            self.waits -= 1;
            thread::sleep(WAIT);
        }
        self.out.slots() >= length && !self.out.is_abandoned()
    }

    /// A flush is over: wakes the other, if something was put in since the last time.
    pub fn ring(&mut self) {
        self.waits = WAITS;
        self.wake();
    }

    fn wake(&mut self) {
        if std::mem::take(&mut self.to_ring) {
            // It fails only when the bell has rung for too long, and then it still does.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Whether something waits to be taken.
    pub fn is_waiting(&self) -> bool {
        !self.inn.is_empty()
    }

    /// Hands over the packets that have come. `false` when there may be more: then call again, for the bell does not ring for
    /// them again.
    pub fn take(&mut self, mut handle: impl FnMut(&Passage, &mut [u8])) -> bool {
        for _ in 0..PER_TURN {
            if !self.next_record() {
                return true;
            }
            let Some((passage, count)) = read_head(&self.record) else { continue };
            let (head, bytes) = self.record.split_at_mut(HEAD + count * END);
            let mut begin = 0;
            for end in head[HEAD..].as_chunks().0 {
                let end = u32::from_ne_bytes(*end) as usize;
                if let Some(packet) = bytes.get_mut(begin..end) {
                    handle(&passage, packet);
                }
                begin = end;
            }
            self.handed.packets_in += count as u64;
        }
        false
    }

    /// What has gone through, seen from this end.
    pub fn handed(&self) -> Handed {
        self.handed
    }

    /// Takes the next record out, if all of it is there.
    fn next_record(&mut self) -> bool {
        let mut length = [0; 4];
        let Ok(chunk) = self.inn.read_chunk(length.len()) else { return false };
        let (one, two) = chunk.as_slices();
        for (byte, read) in length.iter_mut().zip(one.iter().chain(two)) {
            *byte = *read;
        }
        // Not committed: it stays until what it tells of is there, too.
        let Ok(chunk) = self.inn.read_chunk(u32::from_ne_bytes(length) as usize) else { return false };
        let (one, two) = chunk.as_slices();
        self.record.clear();
        self.record.extend_from_slice(one);
        self.record.extend_from_slice(two);
        chunk.commit_all();
        true
    }
}

impl Handed {
    /// What has gone through all of these.
    pub fn sum<'a>(hatches: impl Iterator<Item = &'a Hatch>) -> Self {
        hatches.map(Hatch::handed).fold(Self::default(), |all, one| Self {
            packets_in: all.packets_in + one.packets_in,
            packets_out: all.packets_out + one.packets_out,
            drops: all.drops + one.drops,
        })
    }
}

/// The passage, and how many packets follow.
fn read_head(record: &[u8]) -> Option<(Passage, usize)> {
    let (relay, rest) = record.get(4..HEAD)?.split_first_chunk()?;
    let (relayed, rest) = rest.split_first_chunk()?;
    let (media, count) = rest.split_first_chunk()?;
    let passage = Passage {
        relay: u64::from_ne_bytes(*relay),
        relayed: read_address(relayed)?,
        media: read_address(media)?,
    };
    Some((passage, u32::from_ne_bytes(*count.first_chunk()?) as usize))
}

fn read_address(bytes: &[u8; ADDRESS]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_first_chunk::<16>()?;
    let ip = Ipv6Addr::from(*ip).to_canonical();
    Some(SocketAddr::new(ip, u16::from_ne_bytes(*port.first_chunk()?)))
}

/// One form for both families; no packet on a wire has an address of this form.
fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn bell() -> Arc<OwnedFd> {
        Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
    }

    fn rang(bell: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(bell, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }

    fn passage(relay: u64) -> Passage {
        let (relayed, media) =
            (["192.0.2.1:50000", "[2001:db8::1]:50001"], ["192.0.2.9:443", "[2001:db8::9]:444"]);
        let of = |texts: [&str; 2]| texts[relay as usize % 2].parse().unwrap();
        Passage { relay, relayed: of(relayed), media: of(media) }
    }

    fn taken(hatch: &mut Hatch) -> Vec<(Passage, Vec<u8>)> {
        let mut all = Vec::new();
        while !hatch.take(|passage, packet| all.push((*passage, packet.to_vec()))) {}
        all
    }

    #[test]
    fn what_goes_in_comes_out_as_it_was_and_the_bell_rings_once() {
        let bells = [bell(), bell()];
        let [mut turn, mut media] = hatch(bells.clone());
        turn.send(&passage(6), (b"one, three", &[3, 3, 10]));
        turn.send(&passage(7), (b"x", &[1]));
        assert!(media.is_waiting() && !turn.is_waiting());
        turn.ring();
        turn.ring();
        assert_eq!((rang(&bells[0]), rang(&bells[1])), (0, 1));
        let expected = [(6, "one"), (6, ""), (6, ", three"), (7, "x")];
        let expected = expected.map(|(relay, text)| (passage(relay), text.as_bytes().to_vec()));
        assert_eq!(taken(&mut media), expected);
        media.send(&passage(7), (b"back", &[4]));
        media.ring();
        assert_eq!((rang(&bells[0]), rang(&bells[1])), (1, 0));
        assert_eq!(taken(&mut turn), [(passage(7), b"back".to_vec())]);
        assert_eq!(turn.handed(), Handed { packets_in: 1, packets_out: 4, drops: 0 });
        assert_eq!(media.handed(), Handed { packets_in: 4, packets_out: 1, drops: 0 });
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let [mut turn, mut media] = hatch([bell(), bell()]);
        let (bytes, ends) = (vec![7; 100_000], (1..=100).map(|number| number * 1_000).collect::<Vec<u32>>());
        for _ in 0..20 {
            turn.send(&passage(1), (&bytes, &ends));
        }
        let Handed { packets_out, drops, .. } = turn.handed();
        assert_eq!(packets_out + drops, 2_000);
        assert!((900..1_048).contains(&packets_out), "{packets_out}");
        let all = taken(&mut media);
        assert_eq!(all.len() as u64, packets_out);
        assert!(all.iter().all(|(_, packet)| *packet == [7; 1_000]));
        turn.send(&passage(1), (&bytes, &ends));
        assert_eq!(taken(&mut media).len(), 100, "there is room again");
        drop(media);
        turn.send(&passage(1), (&bytes, &ends));
        assert_eq!(turn.handed().drops, drops + 100, "nobody takes it any more");
    }

    #[test]
    fn nobody_waits_for_what_never_fits() {
        let [mut turn, mut media] = hatch([bell(), bell()]);
        let (bytes, ends) = (vec![7; CAPACITY], (1..=16).map(|number| number << 16).collect::<Vec<u32>>());
        turn.send(&passage(1), (&bytes, &ends));
        assert_eq!((turn.handed().drops, turn.waits), (16, WAITS));
        assert!(taken(&mut media).is_empty());
    }

    #[test]
    fn everything_crosses_between_threads_in_its_order() {
        const PACKETS: u32 = 100_000;
        let [mut turn, mut media] = hatch([bell(), bell()]);
        let writer = thread::spawn(move || {
            let mut number = 0;
            while number < PACKETS {
                let few = (number % 100 + 1).min(PACKETS - number);
                let packets =
                    (number..number + few).map(|number| number.to_ne_bytes().repeat(number as usize % 300));
                let (mut bytes, mut ends) = (Vec::new(), Vec::new());
                for packet in packets {
                    bytes.extend(packet);
                    ends.push(bytes.len() as u32);
                }
                while turn.out.slots() < CAPACITY / 2 {
                    thread::yield_now();
                }
                turn.send(&passage(number.into()), (&bytes, &ends));
                number += few;
            }
            assert_eq!(turn.handed().drops, 0);
        });
        let mut number = 0;
        while number < PACKETS {
            media.take(|_, packet| {
                assert_eq!(packet, number.to_ne_bytes().repeat(number as usize % 300));
                number += 1;
            });
            thread::yield_now();
        }
        writer.join().unwrap();
    }
}
