//! The ways between workers: for each ordered pair a bounded queue of news and one of records, each with one writer and
//! one reader. Nothing is locked. Who has put something in rings the other's bell once.
//!
//! Records that find no room are dropped by the engine; news wait there. A worker that ends drops its ends of the
//! queues, which is how the others notice.

use rtrb::{Consumer, Producer, RingBuffer};
use veche_sfu_core::bridge::{BridgeMessage, Crossing};

use crate::mailbox::Ringer;

/// Bytes of records that may wait: what arrives at the fastest in some milliseconds, longer than a turn takes. Memory is used
/// only where records have been.
const RECORD_CAPACITY: usize = 1 << 20;

/// News that may wait; those beyond wait in the engine.
const NEWS_CAPACITY: usize = 1024;

/// Records of one worker that are taken in one turn, so that they do not hold up what is the worker's own.
const RECORDS_PER_TURN: usize = 1024;

/// News of one worker that are taken in one turn.
const NEWS_PER_TURN: usize = 256;

/// The length of a record, before it.
type Length = [u8; 4];

/// A worker's ways to the others, by their numbers; the one to itself is missing.
#[derive(Debug)]
pub(crate) struct Bridges {
    pub(crate) ways: Vec<Option<Way>>,
}

/// Both directions between a worker and another.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) out: Out,
    pub(crate) inn: In,
}

/// Towards another worker.
#[derive(Debug)]
pub(crate) struct Out {
    news: Producer<BridgeMessage>,
    records: Producer<u8>,
    ringer: Ringer,
}

/// From another worker.
#[derive(Debug)]
pub(crate) struct In {
    news: Consumer<BridgeMessage>,
    records: Consumer<u8>,
    /// Where a record is put together, since it may lie around the end of the ring.
    record: Vec<u8>,
    /// That the other is gone was said.
    ended: bool,
}

/// What a look at the way from another worker brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Everything that was there.
    All,
    /// There may be more.
    Some,
    /// The other worker is gone, and nothing will come any more. Said once.
    Gone,
}

/// Builds the ways between all workers.
pub(crate) fn bridges(ringers: &[Ringer]) -> Vec<Bridges> {
    let count = ringers.len();
    let mut all: Vec<Bridges> = (0..count).map(|_| Bridges { ways: Vec::new() }).collect();
    for a in 0..count {
        for b in 0..a {
            let (to_b, from_a) = lane(&ringers[b]);
            let (to_a, from_b) = lane(&ringers[a]);
            all[a].ways.push(Some(Way { out: to_b, inn: from_b }));
            all[b].ways.push(Some(Way { out: to_a, inn: from_a }));
        }
        all[a].ways.push(None);
    }
    all
}

fn lane(ringer: &Ringer) -> (Out, In) {
    let (news_out, news_in) = RingBuffer::new(NEWS_CAPACITY);
    let (records_out, records_in) = RingBuffer::new(RECORD_CAPACITY);
    let out = Out { news: news_out, records: records_out, ringer: ringer.clone() };
    (out, In { news: news_in, records: records_in, record: Vec::new(), ended: false })
}

impl Out {
    /// Puts something in, or gives it back when there is no room.
    pub(crate) fn carry<'a>(&mut self, crossing: Crossing<'a>) -> Result<(), Crossing<'a>> {
        match crossing {
            Crossing::News(message) => {
                self.news.push(message).map_err(|rtrb::PushError::Full(message)| Crossing::News(message))
            }
            Crossing::Record(record) if self.send(record) => Ok(()),
            Crossing::Record(_) => Err(crossing),
        }
    }

    fn send(&mut self, record: &[u8]) -> bool {
        let length: Length = (record.len() as u32).to_ne_bytes();
        self.records.slots() >= length.len() + record.len()
            && self.records.push_entire_slice(&length).is_ok()
            && self.records.push_entire_slice(record).is_ok()
    }

    /// Wakes the other worker.
    pub(crate) fn ring(&self) {
        self.ringer.ring();
    }
}

impl In {
    /// Hands over what has come, news first: what records are about is told before they are sent.
    pub(crate) fn take(&mut self, mut handle: impl FnMut(Crossing<'_>)) -> Taken {
        // Asked first: what was put in before the end is still to be had.
        let gone = self.news.is_abandoned() && self.records.is_abandoned();
        let (mut news, mut records) = (0, 0);
        while news < NEWS_PER_TURN
            && let Ok(message) = self.news.pop()
        {
            handle(Crossing::News(message));
            news += 1;
        }
        while records < RECORDS_PER_TURN && self.next_record() {
            handle(Crossing::Record(&self.record));
            records += 1;
        }
        if news == NEWS_PER_TURN || records == RECORDS_PER_TURN {
            return Taken::Some;
        }
        if gone && !std::mem::replace(&mut self.ended, true) { Taken::Gone } else { Taken::All }
    }

    /// Takes the next record out, if all of it is there.
    fn next_record(&mut self) -> bool {
        let mut length = Length::default();
        let Ok(chunk) = self.records.read_chunk(length.len()) else { return false };
        let (one, two) = chunk.as_slices();
        for (byte, read) in length.iter_mut().zip(one.iter().chain(two)) {
            *byte = *read;
        }
        // Not committed: it stays until what it tells of is there, too.
        let whole = length.len() + u32::from_ne_bytes(length) as usize;
        let Ok(chunk) = self.records.read_chunk(whole) else { return false };
        let (one, two) = chunk.as_slices();
        self.record.clear();
        self.record.extend_from_slice(one);
        self.record.extend_from_slice(two);
        self.record.drain(..length.len());
        chunk.commit_all();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use veche_sfu_core::bridge::News;
    use veche_sfu_core::ids::RoomId;

    use super::*;
    use crate::mailbox::mailbox;

    fn ringers(count: usize) -> Vec<Ringer> {
        (0..count).map(|_| mailbox().unwrap().0.ringer()).collect()
    }

    fn hello(room: u64) -> Crossing<'static> {
        Crossing::News(BridgeMessage::News { room: RoomId(room), news: News::Hello })
    }

    /// Takes what there is: the rooms of the news, and the records.
    fn take(inn: &mut In) -> (Vec<u64>, Vec<Vec<u8>>) {
        let (mut rooms, mut records) = (Vec::new(), Vec::new());
        let mut handle = |crossing: Crossing<'_>| match crossing {
            Crossing::News(BridgeMessage::News { room, .. }) => rooms.push(room.0),
            Crossing::News(BridgeMessage::Anew) => panic!("nobody says so"),
            Crossing::Record(record) => records.push(record.to_vec()),
        };
        while inn.take(&mut handle) == Taken::Some {}
        (rooms, records)
    }

    #[test]
    fn every_worker_reaches_every_other() {
        let mut all = bridges(&ringers(3));
        for (from, bridges) in all.iter_mut().enumerate() {
            assert_eq!(bridges.ways.len(), 3);
            for (to, way) in bridges.ways.iter_mut().enumerate() {
                assert_eq!(way.is_none(), from == to);
                if let Some(way) = way {
                    way.out.carry(hello((10 * from + to) as u64)).unwrap();
                }
            }
        }
        for (to, bridges) in all.iter_mut().enumerate() {
            for (from, way) in bridges.ways.iter_mut().enumerate() {
                let Some(way) = way else { continue };
                assert_eq!(take(&mut way.inn), (vec![(10 * from + to) as u64], vec![]));
            }
        }
    }

    #[test]
    fn what_is_full_says_so_and_loses_nothing_that_it_took() {
        let (mut out, mut inn) = lane(&ringers(1)[0]);
        let mut taken = 0;
        while out.send(&[taken as u8; 1_100]) {
            taken += 1;
        }
        assert!((940..950).contains(&taken), "{taken}");
        for room in 0..NEWS_CAPACITY as u64 {
            out.carry(hello(room)).unwrap();
        }
        assert!(out.carry(hello(7)).is_err() && out.carry(Crossing::Record(&[0; 1_100])).is_err());
        let (rooms, records) = take(&mut inn);
        assert_eq!((rooms.len(), records.len()), (NEWS_CAPACITY, taken));
        assert!(records.iter().enumerate().all(|(n, record)| *record == [n as u8; 1_100]));
        assert!(out.send(&[1]) && out.carry(hello(1)).is_ok());
    }

    #[test]
    fn records_of_all_lengths_cross_between_threads_as_they_were() {
        const RECORDS: usize = 100_000;
        let (mut out, mut inn) = lane(&ringers(1)[0]);
        let writer = thread::spawn(move || {
            for number in 0..RECORDS {
                let record = vec![number as u8; number % 1_400];
                while !out.send(&record) {
                    thread::yield_now();
                }
            }
        });
        let mut number = 0;
        loop {
            let taken = inn.take(|crossing| {
                let Crossing::Record(record) = crossing else { panic!() };
                assert_eq!(record.len(), number % 1_400);
                assert!(record.iter().all(|byte| *byte == number as u8));
                number += 1;
            });
            if taken == Taken::Gone {
                break;
            }
            thread::yield_now();
        }
        assert_eq!(number, RECORDS);
        assert_eq!(inn.take(|_| panic!()), Taken::All, "the end is said once");
        writer.join().unwrap();
    }
}
