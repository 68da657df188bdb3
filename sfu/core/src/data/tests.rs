//! Stories of the relay, with dcsctp sockets as the clients, in virtual time over a seeded network.

mod across;
mod client;
mod room;

use std::time::Duration;

use dcsctp::api::{DcSctpSocket, StreamId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::client::received;
use self::room::{Room, id};
use super::association::{MAX_CHANNELS, MAX_QUEUED, MAX_UNREAD};
use super::dcep::Reliability;
use super::frame::{MAX_OVERHEAD, MORE, TEXT};
use super::relay::{DataOutput, MAX_WAIT};
use crate::control::DataCloseReason;
use crate::drops::DropReason;

const MAX_MESSAGE: usize = 256 * 1024;
const RELIABLE: Reliability = Reliability::Reliable;
const SECOND: Duration = Duration::from_secs(1);
static BULK: [u8; 60_000] = [0; 60_000];

#[test]
fn a_message_reaches_everybody_else_with_the_senders_name() {
    let mut room = Room::new(1, &["ann", "bob", "cy", "dee"]);
    room.open_all("chat", true, RELIABLE);
    room.send(0, "chat", TEXT, "", b"hello");
    room.run(SECOND);
    for receiver in 1..4 {
        assert_eq!(room.clients[receiver].received, [received("chat", TEXT, "ann", b"hello")]);
    }
    assert!(room.clients[0].received.is_empty());
    assert_eq!(room.dropped_in_all(), 0);
}

#[test]
fn only_channels_of_the_same_label_get_it() {
    let mut room = Room::new(2, &["ann", "bob", "cy"]);
    room.open(0, "a", true, RELIABLE);
    room.open(0, "b", true, RELIABLE);
    room.open(1, "b", true, RELIABLE);
    room.open(2, "a", true, RELIABLE);
    room.run(SECOND);
    room.send(0, "a", 0, "", b"for a");
    room.send(0, "b", 0, "", b"for b");
    room.run(SECOND);
    assert_eq!(room.clients[1].received, [received("b", 0, "ann", b"for b")]);
    assert_eq!(room.clients[2].received, [received("a", 0, "ann", b"for a")]);
}

#[test]
fn a_message_to_one_reaches_only_them() {
    let mut room = Room::new(3, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.send(1, "file", MORE, "cy", b"part");
    room.send(1, "file", 0, "cy", b"");
    room.run(SECOND);
    let expected = [received("file", MORE, "bob", b"part"), received("file", 0, "bob", b"")];
    assert_eq!(room.clients[2].received, expected);
    assert!(room.clients[0].received.is_empty());
}

#[test]
fn messages_without_receiver_are_counted_for_the_sender() {
    let mut room = Room::new(4, &["ann", "bob"]);
    room.open(0, "chat", true, RELIABLE);
    room.run(SECOND);
    room.send(0, "chat", 0, "nobody", b"x");
    room.send(0, "chat", 0, "bob", b"bob has not opened it");
    room.send(0, "chat", 0, "", b"nor has anybody else");
    room.run(SECOND);
    assert_eq!(room.drops[&id(0)].get(DropReason::DataNoReceiver), 3);
    assert_eq!(room.dropped_in_all(), 3);
}

#[test]
fn who_may_not_send_is_not_heard_and_hears_on() {
    let mut room = Room::new(4, &["ann", "bob"]);
    room.open_all("chat", true, RELIABLE);
    room.run(SECOND);
    room.relay.set_silent(id(0), true);
    room.send(0, "chat", 0, "", b"to all");
    room.send(0, "chat", 0, "bob", b"to bob");
    room.send(1, "chat", 0, "", b"hello");
    room.run(SECOND);
    assert!(room.clients[1].received.is_empty());
    assert_eq!(room.clients[0].received, [received("chat", 0, "bob", b"hello")]);
    assert_eq!(room.drops[&id(0)].get(DropReason::DataForbidden), 2);
    room.relay.set_silent(id(0), false);
    room.send(0, "chat", 0, "", b"again");
    room.run(SECOND);
    assert_eq!(room.clients[1].received, [received("chat", 0, "ann", b"again")]);
}

#[test]
fn reliable_channels_keep_every_message_over_a_bad_link() {
    for seed in 0..4 {
        let mut room = Room::new(seed, &["ann", "bob", "cy"]);
        room.open_all("ordered", true, RELIABLE);
        room.open_all("unordered", false, RELIABLE);
        room.loss = 0.08;
        room.jitter = Duration::from_millis(30);
        for n in 0..300u32 {
            room.send(0, "ordered", 0, "", &n.to_be_bytes());
            room.send(1, "unordered", 0, "", &n.to_be_bytes());
            room.run(Duration::from_millis(5));
        }
        room.run(30 * SECOND);
        let expected: Vec<_> = (0..300).collect();
        for receiver in [1, 2] {
            assert_eq!(room.clients[receiver].numbers("ordered"), expected, "seed {seed}");
        }
        for receiver in [0, 2] {
            let mut numbers = room.clients[receiver].numbers("unordered");
            assert_ne!(numbers, expected, "the link should have mixed up something");
            numbers.sort_unstable();
            assert_eq!(numbers, expected, "seed {seed}");
        }
    }
}

#[test]
fn partially_reliable_channels_lose_and_go_on() {
    let lifetime = Reliability::Lifetime(Duration::from_millis(50));
    for reliability in [Reliability::Retransmissions(0), lifetime] {
        let mut room = Room::new(5, &["ann", "bob"]);
        // The receiver's wishes count on the way to it, not the sender's.
        room.open(0, "game", true, RELIABLE);
        room.open(1, "game", false, reliability);
        room.run(SECOND);
        room.down_loss = 0.2;
        for n in 0..500u32 {
            room.send(0, "game", 0, "", &n.to_be_bytes());
            room.run(Duration::from_millis(10));
        }
        room.run(10 * SECOND);
        let count = room.clients[1].numbers("game").len();
        assert!((300..490).contains(&count), "{count} of 500 arrived");
    }
}

#[test]
fn the_largest_message_passes_and_a_larger_one_closes_the_channel() {
    let mut room = Room::new(6, &["ann", "bob"]);
    room.open_all("big", true, RELIABLE);
    let payload: Vec<u8> = (0..MAX_MESSAGE - MAX_OVERHEAD).map(|n| n as u8).collect();
    room.send(0, "big", 0, "", &payload);
    room.run(10 * SECOND);
    assert!(room.clients[1].received == [received("big", 0, "ann", &payload)]);

    for (sender, len) in [(0, MAX_MESSAGE - MAX_OVERHEAD + 1), (1, MAX_MESSAGE + 1000)] {
        room.send(sender, "big", 0, "", &vec![1; len]);
        room.run(10 * SECOND);
        assert_eq!(room.closed, [(id(sender), "big".into(), DataCloseReason::Limit)]);
        assert_eq!(room.drops[&id(sender)].get(DropReason::DataLimit), 1);
        assert_eq!(room.clients[sender].resets.len(), 1, "the client must see the channel closed");
        room.closed.clear();
    }
    assert_eq!(room.clients[1].received.len(), 1);
}

#[test]
fn twenty_megabytes_to_a_slow_receiver_are_held_back_not_lost() {
    const FRAGMENT: usize = 64 * 1024;
    const FRAGMENTS: usize = 320;
    let mut room = Room::new(7, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].down_rate = Some(1_500_000);
    let (mut sent, mut largest_queue, mut largest_inside) = (0, 0, 0);
    let mut held_back = false;
    for _ in 0..100_000 {
        // What a page does that heeds bufferedAmount.
        while sent < FRAGMENTS && room.clients[0].buffered("file") < 512 * 1024 {
            let flags = if sent + 1 < FRAGMENTS { MORE } else { 0 };
            room.send(0, "file", flags, "bob", &vec![sent as u8; FRAGMENT]);
            sent += 1;
        }
        room.run(Duration::from_millis(20));
        let arrived = room.clients[1].received.len();
        let inside = sent * FRAGMENT - room.clients[0].buffered("file") - arrived * FRAGMENT;
        largest_queue = largest_queue.max(room.relay.queued(id(1)));
        largest_inside = largest_inside.max(inside);
        held_back |=
            sent < FRAGMENTS && room.clients[0].buffered("file") >= 512 * 1024 && inside > MAX_QUEUED;
        if arrived == FRAGMENTS {
            break;
        }
    }
    let client = &room.clients[1];
    assert_eq!(client.received.len(), FRAGMENTS);
    for (n, message) in client.received.iter().enumerate() {
        assert!(message.payload == vec![n as u8; FRAGMENT] && message.peer == "ann");
    }
    assert!(held_back, "the sender never felt back-pressure");
    assert!(largest_queue <= MAX_QUEUED, "{largest_queue}");
    assert!(largest_inside <= MAX_QUEUED + (2 << 20), "{largest_inside}");
    assert!(room.closed.is_empty() && room.dropped_in_all() == 0);
    // 20 MB at 1.5 MB/s take 14 s at best.
    assert!(room.elapsed() < 40 * SECOND, "{:?}", room.elapsed());
}

#[test]
fn a_slow_receiver_of_a_broadcast_is_closed_and_the_others_get_everything() {
    let mut room = Room::new(8, &["ann", "bob", "cy"]);
    room.open_all("news", true, RELIABLE);
    room.clients[1].stalled = true;
    for n in 0..160u32 {
        let payload = [&n.to_be_bytes()[..], &BULK].concat();
        room.send(0, "news", 0, "", &payload);
        room.run(Duration::from_millis(50));
        assert!(room.relay.queued(id(1)) <= MAX_QUEUED);
    }
    room.run(5 * SECOND);
    assert_eq!(room.clients[2].numbers("news"), (0..160).collect::<Vec<_>>());
    assert_eq!(room.closed, [(id(1), "news".into(), DataCloseReason::ReceiverSlow)]);
    assert_eq!(room.drops[&id(1)].get(DropReason::DataReceiverSlow), 1);

    // Back again, it has a prefix without gaps, sees the channel closed, and may open it anew.
    room.clients[1].stalled = false;
    room.run(60 * SECOND);
    let numbers = room.clients[1].numbers("news");
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    assert_eq!(room.clients[1].resets.len(), 1);
    room.open(1, "news", true, RELIABLE);
    room.run(SECOND);
    room.send(0, "news", 0, "", b"more");
    room.run(SECOND);
    assert_eq!(room.clients[1].received.last(), Some(&received("news", 0, "ann", b"more")));
}

#[test]
fn a_slow_receiver_that_may_lose_messages_keeps_its_channel() {
    let mut room = Room::new(9, &["ann", "bob"]);
    room.open(0, "state", true, RELIABLE);
    room.open(1, "state", false, RELIABLE);
    room.run(SECOND);
    room.clients[1].stalled = true;
    for n in 0..160u32 {
        let payload = [&n.to_be_bytes()[..], &BULK].concat();
        room.send(0, "state", 0, "", &payload);
        room.run(Duration::from_millis(50));
    }
    room.clients[1].stalled = false;
    room.run(60 * SECOND);
    let lost = room.drops[&id(1)].get(DropReason::DataReceiverSlow) as usize;
    assert!(lost > 20);
    assert!(room.closed.is_empty());
    assert_eq!(room.clients[1].received.len(), 160 - lost);
}

#[test]
fn a_message_to_one_who_does_not_drain_is_given_up_and_the_sender_goes_on() {
    let mut room = Room::new(10, &["ann", "bob", "cy"]);
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
    assert!(room.drops[&id(0)].get(DropReason::DataNoReceiver) > 5, "the rest finds no channel");
    assert_eq!(room.clients[2].received, [received("file", 0, "ann", b"at last")]);
}

#[test]
fn several_senders_share_a_slow_receiver() {
    let mut room = Room::new(11, &["ann", "bob", "cy", "dee"]);
    room.open_all("file", true, RELIABLE);
    room.clients[3].down_rate = Some(2_000_000);
    for sender in 0..3 {
        for n in 0..60u32 {
            let payload = [&n.to_be_bytes()[..], &BULK].concat();
            room.send(sender, "file", 0, "dee", &payload);
        }
    }
    room.run(5 * SECOND);
    for name in ["ann", "bob", "cy"] {
        let count = room.clients[3].received.iter().filter(|m| m.peer == name).count();
        assert!(count > 20, "{name} got only {count} through while others flooded");
    }
    room.run(10 * SECOND);
    assert_eq!(room.clients[3].received.len(), 180);
    assert_eq!(room.dropped_in_all(), 0);
}

#[test]
fn a_large_message_is_not_overtaken_for_ever_by_small_ones() {
    let mut room = Room::new(20, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[2].down_rate = Some(150_000);
    for _ in 0..100 {
        room.send(0, "file", 0, "cy", &BULK);
    }
    room.run(5 * SECOND);
    for _ in 0..200 {
        for _ in 0..100 {
            room.send(1, "file", 0, "cy", &[0; 100]);
        }
        room.run(Duration::from_millis(100));
    }
    room.run(60 * SECOND);
    assert!(room.closed.is_empty(), "the large message has waited in vain");
    assert!(room.clients[2].received.iter().any(|message| message.peer == "bob"));
}

#[test]
fn many_small_messages_do_not_wait_without_bound() {
    let mut room = Room::new(12, &["ann", "bob"]);
    room.open_all("ticks", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        for _ in 0..400 {
            room.send(0, "ticks", 0, "bob", &BULK[..200]);
        }
        room.run(Duration::from_millis(20));
        assert!(room.relay.queued(id(1)) <= MAX_QUEUED);
        // One packet may bring some at once.
        assert!(room.relay.unread(id(0)) <= MAX_UNREAD + 100);
    }
    assert!(room.clients[0].buffered("ticks") > 1_000_000, "the sender never felt back-pressure");
    room.clients[1].stalled = false;
    room.run(60 * SECOND);
    assert_eq!(room.clients[1].received.len(), 40_000);
}

#[test]
fn small_messages_count_for_more_than_their_bytes() {
    let mut room = Room::new(23, &["ann", "bob"]);
    room.open_all("ticks", true, RELIABLE);
    for _ in 0..10 {
        room.send(0, "ticks", 0, "", b"t");
    }
    // They have come to the relay, but no acknowledgement has come back from the receiver.
    room.run(Duration::from_millis(30));
    assert!(room.relay.queued(id(1)) > 10 * 200);
    room.run(SECOND);
    assert_eq!(room.relay.queued(id(1)), 0);
}

#[test]
fn who_was_held_back_takes_turns_with_the_others() {
    let mut room = Room::new(21, &["ann", "bob", "cy", "dee"]);
    room.open_all("chat", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        for _ in 0..400 {
            room.send(0, "chat", 0, "bob", &BULK[..200]);
        }
        room.run(Duration::from_millis(20));
    }
    assert!(room.relay.unread(id(0)) > 1_000);
    room.send(2, "chat", 0, "dee", b"hi");
    room.clients[2].collect();
    // All of this happens before the owner polls again: a long backlog is set free, and a single message comes.
    room.relay.disconnect(id(1));
    for packet in std::mem::take(&mut room.clients[2].packets) {
        room.relay.handle_packet(room.now, id(2), &packet);
    }
    let outputs: Vec<_> = std::iter::from_fn(|| room.relay.poll_output()).collect();
    let to_dee =
        |o: &DataOutput| matches!(o, DataOutput::Packet { participant, .. } if *participant == id(3));
    let position = outputs.iter().position(to_dee).unwrap();
    assert!(outputs.len() > 1_000 && position < 100, "{position} of {}", outputs.len());
}

#[test]
fn who_was_held_back_learns_at_once_that_it_may_go_on() {
    let mut room = Room::new(22, &["ann", "bob"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        room.send(0, "file", 0, "bob", &BULK);
    }
    room.run(MAX_WAIT * 6 / 10);
    let window = |room: &Room| room.clients[0].socket.get_metrics().unwrap().peer_rwnd_bytes;
    assert!(window(&room) < 100_000);
    room.relay.disconnect(id(1));
    room.run(Duration::from_millis(100));
    assert!(window(&room) > 500_000, "{}", window(&room));
}

#[test]
fn a_channel_that_the_client_closes_is_closed_both_ways() {
    let mut room = Room::new(13, &["ann", "bob"]);
    room.open_all("chat", true, RELIABLE);
    let stream = room.clients[1].streams["chat"];
    room.clients[1].socket.reset_streams(&[StreamId(stream)]).unwrap();
    room.run(SECOND);
    assert_eq!(room.clients[1].resets, [stream]);
    room.send(0, "chat", 0, "bob", b"x");
    room.run(SECOND);
    assert_eq!(room.drops[&id(0)].get(DropReason::DataNoReceiver), 1);
    assert!(room.closed.is_empty(), "the server did not close it");

    room.clients[1].open(stream, "again", true, RELIABLE);
    room.open(0, "again", true, RELIABLE);
    room.run(SECOND);
    room.send(0, "again", 0, "", b"y");
    room.run(SECOND);
    assert_eq!(room.clients[1].received, [received("again", 0, "ann", b"y")]);
}

#[test]
fn channels_and_labels_are_limited() {
    let mut room = Room::new(14, &["ann"]);
    for n in 0..=MAX_CHANNELS {
        room.open(0, &format!("channel {n}"), true, RELIABLE);
    }
    room.open(0, &"x".repeat(129), true, RELIABLE);
    room.run(2 * SECOND);
    let label = format!("channel {MAX_CHANNELS}");
    let expected = [(id(0), label, DataCloseReason::Limit), (id(0), "x".repeat(128), DataCloseReason::Limit)];
    assert_eq!(room.closed, expected);
    assert_eq!(room.clients[0].acks, MAX_CHANNELS);
    assert_eq!(room.clients[0].resets.len(), 2);
    assert_eq!(room.drops[&id(0)].get(DropReason::DataLimit), 2);
}

#[test]
fn what_is_no_frame_or_has_no_channel_is_dropped() {
    let mut room = Room::new(15, &["ann", "bob"]);
    room.open_all("chat", true, RELIABLE);
    room.clients[0].send_raw(0, 53, vec![0xFF, 0, 1]);
    room.clients[0].send_raw(0, 51, b"text, not binary".to_vec());
    room.clients[0].send_raw(40, 53, vec![0, 0, 1]);
    room.clients[0].send_raw(0, 50, vec![9]);
    room.run(SECOND);
    assert_eq!(room.drops[&id(0)].get(DropReason::DataMalformed), 4);
    room.send(0, "chat", 0, "", b"still works");
    room.run(SECOND);
    assert_eq!(room.clients[1].received.len(), 1);
}

#[test]
fn garbage_and_mutated_packets_never_panic() {
    for seed in 0..30 {
        let mut room = Room::new(100 + seed, &["ann", "bob"]);
        room.open_all("chat", true, RELIABLE);
        room.send(0, "chat", 0, "", &[1; 3000]);
        let mut rng = StdRng::seed_from_u64(seed);
        let models = std::mem::take(&mut room.recorded);
        for _ in 0..300 {
            let mut packet = models[rng.random_range(0..models.len())].clone();
            for _ in 0..rng.random_range(0..5) {
                let at = rng.random_range(0..packet.len());
                packet[at] = rng.random();
            }
            if rng.random_bool(0.3) {
                packet.truncate(rng.random_range(0..packet.len()));
            }
            if rng.random_bool(0.1) {
                packet = (0..rng.random_range(0..80)).map(|_| rng.random()).collect();
            }
            // A sum of zero is taken under DTLS, so that the mutations reach the parsers.
            if let Some(sum) = packet.get_mut(8..12) {
                sum.fill(0);
            }
            room.relay.handle_packet(room.now, id(0), &packet);
            room.run(Duration::from_millis(5));
        }
        // Whatever became of the first one, the others go on.
        assert!(room.dropped_in_all() > 0);
        room.connect(0);
        room.open(0, "chat", true, RELIABLE);
        room.run(5 * SECOND);
        room.clients[1].received.clear();
        room.send(0, "chat", 0, "bob", b"fine");
        room.run(5 * SECOND);
        assert_eq!(room.clients[1].received, [received("chat", 0, "ann", b"fine")], "seed {seed}");
    }
}

#[test]
fn a_new_session_starts_afresh() {
    let mut room = Room::new(16, &["ann", "bob"]);
    room.open_all("chat", true, RELIABLE);
    room.connect(1);
    room.run(SECOND);
    room.send(0, "chat", 0, "bob", b"not opened yet");
    room.run(SECOND);
    assert_eq!(room.drops[&id(0)].get(DropReason::DataNoReceiver), 1);
    room.open(1, "chat", true, RELIABLE);
    room.run(SECOND);
    room.send(0, "chat", 0, "bob", b"now");
    room.send(1, "chat", 0, "", b"me too");
    room.run(SECOND);
    assert_eq!(room.clients[1].received, [received("chat", 0, "ann", b"now")]);
    assert_eq!(room.clients[0].received, [received("chat", 0, "bob", b"me too")]);
}

#[test]
fn a_receiver_that_goes_frees_those_who_wait_for_it() {
    for leaves in [false, true] {
        let mut room = Room::new(17, &["ann", "bob", "cy"]);
        room.open_all("file", true, RELIABLE);
        room.clients[1].stalled = true;
        for _ in 0..100 {
            room.send(0, "file", 0, "bob", &BULK);
        }
        room.send(0, "file", 0, "cy", b"at last");
        room.run(MAX_WAIT / 2);
        if leaves {
            room.relay.remove(id(1));
        } else {
            room.relay.disconnect(id(1));
        }
        room.run(5 * SECOND);
        assert_eq!(room.clients[2].received, [received("file", 0, "ann", b"at last")]);
        assert!(room.closed.is_empty());
    }
}

#[test]
fn a_sender_that_goes_leaves_nothing_behind() {
    let mut room = Room::new(18, &["ann", "bob", "cy"]);
    room.open_all("file", true, RELIABLE);
    room.clients[1].stalled = true;
    for _ in 0..100 {
        room.send(0, "file", 0, "bob", &BULK);
    }
    room.run(MAX_WAIT / 2);
    room.relay.remove(id(0));
    room.send(2, "file", 0, "bob", b"from cy");
    room.clients[1].stalled = false;
    room.run(60 * SECOND);
    assert_eq!(room.clients[1].received.last(), Some(&received("file", 0, "cy", b"from cy")));
    assert!(room.closed.is_empty());
}

#[test]
fn an_idle_room_wakes_rarely() {
    let mut room = Room::new(19, &["ann", "bob"]);
    room.open_all("chat", true, RELIABLE);
    room.run(10 * SECOND);
    let before = room.steps;
    room.run(600 * SECOND);
    assert!(room.steps - before < 600, "{}", room.steps - before);
}
