//! Strangers and liars: what they send is dropped and counted, costs no memory, and disturbs nobody.

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_sfu_core::control::ConnectionState;
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::allocations::{CountingAllocator, bytes_in_use};
use veche_testkit::client::{ClientConfig, stun};
use veche_testkit::media::TrackConfig;
use veche_testkit::world::{ClientId, World};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn call(seed: u64) -> (World, ClientId, ClientId) {
    let mut world = World::new(seed);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    (world, ann, ben)
}

#[track_caller]
fn assert_undisturbed(world: &World, from: std::time::Instant, people: [ClientId; 2]) {
    let [ann, ben] = people;
    for (eye, whom) in [(ann, ben), (ben, ann)] {
        assert_eq!(world.told(eye).connection, Some(ConnectionState::Connected));
        let slot = world.client(eye).slot_of(MediaKind::Video, world.source(whom)).expect("a picture");
        assert!(slot.longest_gap(from, world.now) < millis(60));
        let slot = world.client(eye).slot_of(MediaKind::Audio, world.source(whom)).expect("sound");
        assert!(slot.longest_gap(from, world.now) < millis(50));
        assert_no_faults(world, eye);
    }
}

/// Datagrams that nobody vouches for.
fn forged(random: &mut StdRng, victim: &[Vec<u8>], kind: u32) -> Vec<u8> {
    match kind % 5 {
        0 => {
            let request = stun::Request {
                transaction: random.random(),
                remote_ufrag: "nobodyknows1",
                local_ufrag: "abcd",
                password: "a password of twenty-two or more",
                priority: 1,
                controlled: false,
                nominate: true,
            };
            request.write()
        }
        1 => {
            let mut bytes = vec![0; random.random_range(1..200)];
            random.fill(&mut bytes[..]);
            bytes
        }
        2 => {
            let mut rtp = vec![0x80, 96, 0, 1, 0, 0, 0, 1];
            rtp.extend(random.random::<[u8; 4]>());
            rtp.resize(200, 7);
            rtp
        }
        3 => {
            let mut hello = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 1, 0, 0, 48];
            hello.resize(73, 3);
            hello
        }
        // What the victim sent, with a flipped bit: its STUN requests too.
        _ => {
            let mut copy = victim[random.random_range(0..victim.len())].clone();
            let at = random.random_range(0..copy.len());
            copy[at] ^= 1 << random.random_range(0..8);
            copy
        }
    }
}

#[test]
fn a_million_forged_datagrams_leave_memory_flat_and_the_call_undisturbed() {
    let (mut world, ann, ben) = call(50);
    world.record(ann);
    world.run_for(seconds(3.0));
    let victim = world.take_record(ann);
    let victim_address = world.address(ann);
    let from = world.now;
    let mut random = StdRng::seed_from_u64(50);
    let pool: Vec<Vec<u8>> = (0..2_000).map(|kind| forged(&mut random, &victim, kind)).collect();
    let mut buffer = vec![0; 2_000];
    let drops_before = world.engine(0).drops().total();
    let mut at_warm = 0;
    for round in 0..1_000_u32 {
        for n in 0..1_000_u32 {
            let datagram = &pool[(n * 7 + round) as usize % pool.len()];
            let buffer = &mut buffer[..datagram.len()];
            buffer.copy_from_slice(datagram);
            // Every tenth comes, or claims to come, from the victim's address.
            let stranger =
                SocketAddr::from((Ipv4Addr::from(0xc000_0000 + round * 1_000 + n), 1_000 + n as u16));
            let sender = if n % 10 == 0 { victim_address } else { stranger };
            world.inject(0, sender, buffer);
        }
        if round == 100 {
            at_warm = bytes_in_use();
        }
        if round % 10 == 0 {
            world.run_for(millis(20));
        }
    }
    let grown = bytes_in_use() - at_warm;
    // The call itself goes on meanwhile: its clients note 18 s of frames.
    let noted = 18 * 2 * (30 + 50) * 128;
    assert!(grown < noted + 300_000, "{grown} bytes more");
    let dropped = world.engine(0).drops().total() - drops_before;
    // DTLS from an address that is known is ignored without a count, when it belongs to no handshake.
    assert!(dropped > 970_000, "{dropped} dropped");
    for reason in [
        DropReason::UnknownAddress,
        DropReason::UnknownProtocol,
        DropReason::StunUnknownUser,
        DropReason::StunMalformed,
        DropReason::SrtpUnauthenticated,
    ] {
        assert!(world.drops(reason) > 100, "{reason}: {}", world.drops(reason));
    }
    assert_undisturbed(&world, from, [ann, ben]);
}

#[test]
fn replayed_packets_are_dropped() {
    let (mut world, ann, ben) = call(51);
    world.record(ann);
    world.run_for(seconds(1.0));
    let record = world.take_record(ann);
    world.run_for(millis(50));
    let media: Vec<Vec<u8>> = record.into_iter().filter(|d| d[0] & 0xc0 == 0x80).collect();
    let from = world.now;
    let (before, received) = (world.drops(DropReason::SrtpReplayed), world.stats(ann).packets_received);
    let address = world.address(ann);
    for datagram in &media {
        world.inject(0, address, &mut datagram.clone());
    }
    assert_eq!(world.stats(ann).packets_received, received);
    let replayed = world.drops(DropReason::SrtpReplayed) + world.drops(DropReason::SrtpTooOld) - before;
    assert_eq!(replayed, media.len() as u64);
    world.run_for(seconds(1.0));
    assert_undisturbed(&world, from, [ann, ben]);
}

#[test]
fn a_stream_that_was_never_offered_is_dropped_and_leaves_nothing() {
    let (mut world, ann, ben) = call(52);
    let from = world.now;
    let before = world.drops(DropReason::UnknownSsrc);
    for ssrc in 0..5_000 {
        world.with_client(ann, |c, _| c.send_unknown_stream(Ssrc(900_000 + ssrc)));
    }
    world.run_for(seconds(1.0));
    assert_eq!(world.drops(DropReason::UnknownSsrc) - before, 5_000);
    assert_undisturbed(&world, from, [ann, ben]);
}

#[test]
fn what_comes_after_a_participant_was_removed_is_dropped_and_counted() {
    let (mut world, ann, ben) = call(53);
    world.leave(ann, true);
    let before = world.drops(DropReason::UnknownAddress);
    // 10 ms of media are still on their way.
    world.record(ann);
    world.run_for(seconds(1.0));
    assert!(world.drops(DropReason::UnknownAddress) > before);
    assert_eq!(world.engine(0).participants(), 1);
    let source = world.source(ann);
    let seen = world.client(ben).slots.iter().flat_map(|s| s.frames_since(world.ago(millis(900))));
    assert_eq!(seen.filter(|f| f.stamp.source == source).count(), 0);
}

#[test]
fn a_browser_that_dies_without_a_word_is_noticed() {
    let (mut world, ann, ben) = call(54);
    world.leave(ann, false);
    world.run_for(seconds(7.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Interrupted));
    world.run_for(seconds(30.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Expired));
    assert_no_faults(&world, ben);
}

#[test]
fn a_newcomer_is_not_reachable_from_the_address_of_somebody_who_left() {
    let mut world = World::new(55);
    let ann = world.join(1, ClientConfig::default());
    let eve = world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    let first = world.address(eve);
    world.reload(eve);
    world.run_for(seconds(2.0));
    let second = world.address(eve);
    assert_ne!(first, second);
    world.leave(eve, true);
    world.run_for(seconds(1.0));
    // Ben gets the place that Eve had.
    let ben = world.join(1, ClientConfig::default());
    let before = world.drops(DropReason::UnknownAddress);
    let forge = |world: &mut World| {
        for address in [first, second] {
            // A fatal alert before anything is encrypted: handshake_failure.
            let mut alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
            world.inject(0, address, &mut alert);
        }
        world.run_for(millis(5));
    };
    for _ in 0..400 {
        forge(&mut world);
    }
    assert_eq!(world.told(ben).connection, Some(ConnectionState::Connected));
    let from = world.now;
    for _ in 0..200 {
        forge(&mut world);
    }
    assert_eq!(world.drops(DropReason::UnknownAddress) - before, 1_200);
    assert_undisturbed(&world, from, [ann, ben]);
}

#[test]
fn who_asks_for_repairs_in_a_loop_gets_the_budget_and_no_more() {
    let (mut world, ann, eve) = call(56);
    let from = world.now;
    let before = world.stats(eve);
    let rounds = 5_000;
    for _ in 0..rounds {
        // Two numbers 64 apart push each other out of the memory of what was repaired a moment ago.
        let highest = world.client(eve).slot("V0").highest_seq();
        let seqs = [highest.wrapping_sub(1), highest.wrapping_sub(65)];
        world.with_client(eve, |c, _| c.ask_again("V0", &seqs));
        world.run_for(millis(1));
    }
    let after = world.stats(eve);
    assert!(after.nacks_received - before.nacks_received > 9_900);
    let repairs = after.repairs_sent - before.repairs_sent;
    // A third of what her line is estimated to carry, at most 128 KiB a second, in packets of a camera; and a second begins within
    // the five at most six times.
    let budget = 6 * 128 * 1024 / 1_000;
    assert!((100..=budget).contains(&repairs), "{repairs} repairs");
    assert!(world.drops(DropReason::RepairLimit) > 1_000, "{}", world.drops(DropReason::RepairLimit));
    // Her own picture waits behind all that she asked for; nobody else's does.
    let slot = world.client(ann).slot_of(MediaKind::Video, world.source(eve)).expect("a picture");
    assert!(slot.longest_gap(from, world.now) < millis(60));
    let slot = world.client(eve).slot_of(MediaKind::Audio, world.source(ann)).expect("sound");
    assert!(slot.longest_gap(from, world.now) < millis(50));
}

/// Somebody to whom no picture can be sent.
#[derive(Clone, Copy, Debug)]
enum Deaf {
    NeverConnects,
    CannotDecode,
}

/// How many key frames a publisher of H.264 is asked for, beside somebody like this and perhaps a good viewer.
fn key_frames_asked(deaf: Option<Deaf>, good: bool) -> u64 {
    let mut world = World::new(57);
    let takes = |codec| ClientConfig { decodes: vec![codec], ..ClientConfig::viewer() };
    if good {
        world.join(1, takes(Codec::H264));
    }
    match deaf {
        Some(Deaf::NeverConnects) => {
            let eye = world.join(1, takes(Codec::H264));
            world.set_links(eye, blackout());
        }
        Some(Deaf::CannotDecode) => {
            world.join(1, takes(Codec::Vp8));
        }
        None => {}
    }
    let camera = TrackConfig::camera(Codec::H264);
    let ann = world.join(1, ClientConfig { tracks: vec![camera], ..ClientConfig::default() });
    world.run_for(seconds(30.0));
    if let Some(eye) = deaf.map(|_| ClientId(usize::from(good))) {
        assert!(world.client(eye).slots.iter().all(|s| s.packets == 0), "{deaf:?} receives something");
    }
    world.client(ann).senders.iter().map(|s| s.key_requests).sum()
}

#[test]
fn who_cannot_be_shown_anything_costs_no_key_frames() {
    for good in [false, true] {
        let without = key_frames_asked(None, good);
        for deaf in [Deaf::NeverConnects, Deaf::CannotDecode] {
            let with = key_frames_asked(Some(deaf), good);
            assert!(with <= without, "{deaf:?}: {with} key frames instead of {without}");
        }
    }
}
