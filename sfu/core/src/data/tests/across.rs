//! Stories of two relays on different workers: clients with even numbers are at the first, the others at the second.

use super::*;
use crate::data::across::WINDOW;
use crate::data::relay::{DataMessage, DataRelay};
use crate::ids::{ParticipantId, WorkerId};

const FIRST: WorkerId = WorkerId(0);
const SECOND_WORKER: WorkerId = WorkerId(1);

fn spread(seed: u64, names: &[&str]) -> Room {
    Room::with_relays(seed, names, true)
}

#[test]
fn messages_to_all_and_to_one_reach_members_of_both_workers() {
    let mut room = spread(30, &["ann", "bob", "cy", "dee"]);
    room.open_all("chat", true, RELIABLE);
    room.send(0, "chat", TEXT, "", b"hello");
    room.send(0, "chat", MORE, "bob", b"for bob");
    room.send(0, "chat", 0, "cy", b"for cy");
    room.run(SECOND);
    room.send(3, "chat", 0, "", b"and back");
    room.run(SECOND);
    let hello = || received("chat", TEXT, "ann", b"hello");
    let back = || received("chat", 0, "dee", b"and back");
    assert_eq!(room.clients[0].received, [back()]);
    assert_eq!(room.clients[1].received, [hello(), received("chat", MORE, "ann", b"for bob"), back()]);
    assert_eq!(room.clients[2].received, [hello(), received("chat", 0, "ann", b"for cy"), back()]);
    assert_eq!(room.clients[3].received, [hello()]);
    assert_eq!(room.dropped_in_all(), 0);
}

#[test]
fn a_slow_receiver_on_another_worker_holds_its_sender_back() {
    const FRAGMENT: usize = 64 * 1024;
    const FRAGMENTS: usize = 160;
    let mut room = spread(31, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].down_rate = Some(1_500_000);
    for n in 0..FRAGMENTS {
        room.send(0, "file", 0, "bob", &vec![n as u8; FRAGMENT]);
    }
    let mut largest_inside = 0;
    for _ in 0..100_000 {
        room.run(Duration::from_millis(20));
        let arrived = room.clients[1].received.len();
        let inside = (FRAGMENTS - arrived) * FRAGMENT - room.clients[0].buffered("file");
        largest_inside = largest_inside.max(inside);
        assert!(room.relay_of(1).queued(id(1)) <= MAX_QUEUED);
        if arrived == FRAGMENTS {
            break;
        }
    }
    let numbers: Vec<u8> = room.clients[1].received.iter().map(|m| m.payload[0]).collect();
    assert_eq!(numbers, (0..FRAGMENTS as u8).collect::<Vec<_>>());
    assert!(largest_inside <= MAX_QUEUED + WINDOW + (2 << 20), "{largest_inside}");
    assert!(room.closed.is_empty() && room.dropped_in_all() == 0);
}

#[test]
fn a_receiver_elsewhere_who_does_not_drain_is_given_up_and_the_sender_goes_on() {
    let mut room = spread(32, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        room.send(0, "file", 0, "bob", &BULK);
    }
    room.send(0, "file", 0, "cy", b"at last");
    room.run(MAX_WAIT / 2);
    assert!(room.clients[2].received.is_empty(), "the sender is held back as a whole");
    room.run(MAX_WAIT + 5 * SECOND);
    assert_eq!(room.closed, [(id(1), "file".into(), DataCloseReason::ReceiverSlow)]);
    assert_eq!(room.drops[&id(1)].get(DropReason::DataReceiverSlow), 1);
    assert_eq!(room.clients[2].received, [received("file", 0, "ann", b"at last")]);
}

#[test]
fn many_small_messages_across_are_bounded_too() {
    let mut room = spread(33, &["ann", "bob"]);
    room.open_all("ticks", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        for _ in 0..400 {
            room.send(0, "ticks", 0, "bob", &BULK[..200]);
        }
        room.run(Duration::from_millis(20));
        assert!(room.relay.unread(id(0)) <= MAX_UNREAD + 100);
    }
    assert!(room.clients[0].buffered("ticks") > 1_000_000, "the sender never felt back-pressure");
    room.clients[1].stalled = false;
    room.run(60 * SECOND);
    assert_eq!(room.clients[1].received.len(), 40_000);
    assert_eq!(room.dropped_in_all(), 0);
}

#[test]
fn nobody_waits_for_a_worker_that_is_gone() {
    let mut room = spread(34, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        room.send(0, "file", 0, "bob", &BULK);
    }
    room.send(0, "file", 0, "cy", b"at last");
    room.run(MAX_WAIT / 2);
    room.away = None;
    let now = room.now;
    room.relay.forget_worker(now, SECOND_WORKER);
    room.run(5 * SECOND);
    assert_eq!(room.clients[2].received, [received("file", 0, "ann", b"at last")]);
    assert!(room.drops[&id(0)].get(DropReason::DataNoReceiver) > 5);
}

#[test]
fn a_sender_that_goes_leaves_nothing_behind_elsewhere() {
    let mut room = spread(35, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        room.send(0, "file", 0, "bob", &BULK);
    }
    room.run(MAX_WAIT / 2);
    room.relay.remove(id(0));
    room.relay_of(1).remove_elsewhere(id(0), FIRST);
    room.send(2, "file", 0, "bob", b"from cy");
    room.clients[1].stalled = false;
    room.run(60 * SECOND);
    assert_eq!(room.clients[1].received.last(), Some(&received("file", 0, "cy", b"from cy")));
    assert!(room.closed.is_empty());
}

#[test]
fn who_came_last_bears_the_name_even_if_those_before_are_heard_of_later() {
    let mut room = spread(36, &["ann", "al", "cy", "bob"]);
    room.open_all("chat", true, RELIABLE);
    // Who was bob before, on a third worker, has left long since; but of that one hears only now.
    room.relay.remove_elsewhere(id(1), SECOND_WORKER);
    room.relay.add_elsewhere(id(1), "bob".into(), WorkerId(2));
    room.relay.remove_elsewhere(id(1), WorkerId(2));
    room.send(0, "chat", 0, "bob", b"for bob");
    room.run(SECOND);
    assert_eq!(room.clients[3].received, [received("chat", 0, "ann", b"for bob")]);
}

impl Room {
    /// Where a client is.
    pub(super) fn relay_of(&mut self, client: usize) -> &mut DataRelay {
        match &mut self.away {
            Some(away) if client % 2 == 1 => away,
            _ => &mut self.relay,
        }
    }

    pub(super) fn relays(&self) -> impl Iterator<Item = &DataRelay> {
        [Some(&self.relay), self.away.as_ref()].into_iter().flatten()
    }

    /// The other worker learns of a client.
    pub(super) fn introduce(&mut self, client: usize, name: &str) {
        match &mut self.away {
            Some(_) if client % 2 == 1 => self.relay.add_elsewhere(id(client), name.into(), SECOND_WORKER),
            Some(away) => away.add_elsewhere(id(client), name.into(), FIRST),
            None => {}
        }
    }

    /// The next output, and of which worker.
    pub(super) fn poll_output(&mut self) -> Option<(WorkerId, DataOutput)> {
        let first = self.relay.poll_output().map(|output| (FIRST, output));
        first.or_else(|| Some((SECOND_WORKER, self.away.as_mut()?.poll_output()?)))
    }

    pub(super) fn cross(&mut self, from: WorkerId, to: WorkerId, message: DataMessage) {
        let now = self.now;
        self.relay_at(to).handle_across(now, from, message);
    }

    pub(super) fn acknowledge(&mut self, from: WorkerId, to: WorkerId, sender: ParticipantId, bytes: usize) {
        let now = self.now;
        self.relay_at(to).handle_taken(now, from, sender, bytes);
    }

    fn relay_at(&mut self, worker: WorkerId) -> &mut DataRelay {
        match &mut self.away {
            Some(away) if worker == SECOND_WORKER => away,
            _ => &mut self.relay,
        }
    }
}
