//! When which of many things is due: a heap with at most one entry for each, which can be moved and taken out.

use std::time::Instant;

/// Timers, by the index of what they are for. Indices should be small: one number is kept for each below the largest.
/// Nothing is allocated while there are no more of them than there were before.
#[derive(Debug, Default)]
pub struct Timers {
    /// A binary heap: the earliest is first, and each comes no earlier than the one at half its place.
    heap: Vec<(Instant, u32)>,
    /// Where each stands in the heap.
    place_by_index: Vec<u32>,
}

/// The place of what is not in the heap.
const NOWHERE: u32 = u32::MAX;

impl Timers {
    /// When the first is due.
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Takes out the first that is due.
    pub fn poll(&mut self, now: Instant) -> Option<u32> {
        let (_, index) = *self.heap.first().filter(|(at, _)| *at <= now)?;
        self.set(index, None);
        Some(index)
    }

    /// Something is due at this time, and at no other; or not at all.
    pub fn set(&mut self, index: u32, at: Option<Instant>) {
        match (self.place(index), at) {
            (None, None) => {}
            (None, Some(at)) => self.insert(index, at),
            (Some(place), None) => self.remove(place),
            (Some(place), Some(at)) => {
                if self.heap[place].0 != at {
                    self.heap[place].0 = at;
                    self.settle(place);
                }
            }
        }
    }

    /// Something is due at this time, unless it is due before.
    pub fn bring_forward(&mut self, index: u32, at: Instant) {
        if self.place(index).is_none_or(|place| at < self.heap[place].0) {
            self.set(index, Some(at));
        }
    }

    fn place(&self, index: u32) -> Option<usize> {
        self.place_by_index
            .get(index as usize)
            .filter(|place| **place != NOWHERE)
            .map(|place| *place as usize)
    }

    fn insert(&mut self, index: u32, at: Instant) {
        if self.place_by_index.len() <= index as usize {
            self.place_by_index.resize(index as usize + 1, NOWHERE);
        }
        self.heap.push((at, index));
        self.settle(self.heap.len() - 1);
    }

    fn remove(&mut self, place: usize) {
        let (_, index) = self.heap.swap_remove(place);
        self.place_by_index[index as usize] = NOWHERE;
        if place < self.heap.len() {
            self.settle(place);
        }
    }

    /// Moves an entry to where its time belongs.
    fn settle(&mut self, mut place: usize) {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.heap.swap(place, (place - 1) / 2);
            self.note(place);
            place = (place - 1) / 2;
        }
        loop {
            let children = 2 * place + 1..self.heap.len().min(2 * place + 3);
            let Some(earliest) = children.min_by_key(|child| self.heap[*child]) else { break };
            if self.heap[place] <= self.heap[earliest] {
                break;
            }
            self.heap.swap(place, earliest);
            self.note(place);
            place = earliest;
        }
        self.note(place);
    }

    fn note(&mut self, place: usize) {
        let (_, index) = self.heap[place];
        self.place_by_index[index as usize] = place as u32;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn whatever_is_set_the_earliest_comes_first() {
        let start = Instant::now();
        let mut rng = StdRng::seed_from_u64(1);
        let mut timers = Timers::default();
        let mut expected: Vec<Option<Instant>> = vec![None; 40];
        for _ in 0..20_000 {
            let index = rng.random_range(0..40_u32);
            let at = start + Duration::from_millis(rng.random_range(0..500));
            let known = &mut expected[index as usize];
            match rng.random_range(0..8) {
                0 => {
                    timers.set(index, None);
                    *known = None;
                }
                1..=3 => {
                    timers.set(index, Some(at));
                    *known = Some(at);
                }
                4..=6 => {
                    timers.bring_forward(index, at);
                    *known = Some(known.map_or(at, |k| k.min(at)));
                }
                _ => {
                    let first = expected.iter().flatten().min().copied();
                    let polled = timers.poll(at);
                    assert_eq!(polled.is_some(), first.is_some_and(|first| first <= at));
                    if let Some(polled) = polled {
                        assert_eq!(expected[polled as usize].take(), first);
                    }
                }
            }
            assert_eq!(timers.next(), expected.iter().flatten().min().copied());
        }
    }
}
