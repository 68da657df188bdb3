//! Bad networks: what is lost is repaired, and nobody asks for more than was lost.

mod common;

use common::*;
use veche_sfu_core::control::Quality;
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::ClientConfig;
use veche_testkit::network::LinkConfig;
use veche_testkit::world::World;

#[test]
fn ten_per_cent_loss_each_way_is_repaired_and_requests_stop_with_it() {
    let mut world = World::new(10);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    for id in [ann, ben] {
        world.set_links(id, LinkConfig { delay: millis(20), ..LinkConfig::lossy(0.10) });
    }
    let from = world.now;
    world.run_for(seconds(10.0));
    for (me, other) in [(ann, ben), (ben, ann)] {
        let source = world.source(other);
        let stats = world.stats(other);
        let slot = world.client(me).slot_of(MediaKind::Video, source).expect("a picture");
        let frames = slot.frames_since(from).count();
        assert!(frames > 285, "{frames} of 300 frames");
        assert!(slot.longest_gap(from, world.now) < millis(600), "{:?}", slot.longest_gap(from, world.now));
        assert!(slot.repaired > 30, "{} repairs down", slot.repaired);
        let sender = &world.client(other).senders[1];
        assert!(sender.repairs > 30, "{} repairs up", sender.repairs);
        assert!(stats.repairs_received > 30 && stats.repairs_sent > 30, "{stats:?}");
        // Lost 10 % up, and requests and repairs are lost too; more than three for each is a storm.
        let lost = 0.1 * f64::from(sender.packets);
        assert!((sender.nacked as f64) < 3.0 * lost, "{} requests for {lost} losses", sender.nacked);
        assert!(
            matches!(world.told(me).quality, Some(Quality::Good | Quality::Poor)),
            "{:?}",
            world.told(me).quality
        );
        assert_no_faults(&world, me);
    }
    for id in [ann, ben] {
        world.set_links(id, LinkConfig::slow(millis(20)));
    }
    world.run_for(seconds(2.0));
    let before: Vec<_> = [ann, ben].map(|id| counts(&world, id)).into();
    let from = world.now;
    world.run_for(seconds(5.0));
    let after: Vec<_> = [ann, ben].map(|id| counts(&world, id)).into();
    assert_eq!(before, after, "requests go on without loss");
    for id in [ann, ben] {
        let slot = world.client(id).slot("V0");
        assert!(slot.longest_gap(from, world.now) < millis(60));
    }
}

/// Requests that reached the publisher, requests of the receiver, repairs, key frames asked for.
fn counts(world: &World, id: veche_testkit::world::ClientId) -> (u64, u64, u64, u64) {
    let client = world.client(id);
    let nacked = client.senders.iter().map(|s| s.nacked).sum();
    let asked = client.slots.iter().map(|s| s.nacked).sum();
    let repairs = client.senders.iter().map(|s| s.repairs).sum();
    let keys = client.senders.iter().map(|s| s.key_requests).sum();
    (nacked, asked, repairs, keys)
}

#[test]
fn jitter_reordering_and_duplicates_do_no_harm() {
    let mut world = World::new(11);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    let rough = LinkConfig {
        delay: millis(30),
        jitter: millis(20),
        duplication: 0.05,
        reordering: 0.05,
        ..LinkConfig::default()
    };
    for id in [ann, ben] {
        world.set_links(id, rough);
    }
    world.run_for(seconds(8.0));
    for (me, other) in [(ann, ben), (ben, ann)] {
        let slot = world.client(me).slot_of(MediaKind::Video, world.source(other)).expect("a picture");
        assert!(slot.frames.len() > 30 * 6, "{}", slot.frames.len());
        assert_eq!(slot.given_up, 0);
        let faults = world.client(me).faults();
        assert!(faults.is_empty(), "{faults:#?}");
    }
    assert!(world.drops(DropReason::SrtpReplayed) > 50);
}

#[test]
fn a_second_of_darkness_ends_with_a_key_frame_and_no_storm() {
    let mut world = World::new(12);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    let sent_before = world.client(ann).senders[1].packets;
    world.up(ann).blackout = true;
    world.run_for(seconds(2.0));
    let lost = u64::from(world.client(ann).senders[1].packets - sent_before);
    world.up(ann).blackout = false;
    let from = world.now;
    let source = world.source(ann);
    let back = world.run_until(seconds(3.0), |w| {
        w.client(ben).slot("V0").frames_since(from).any(|f| f.stamp.source == source)
    });
    assert!(back.expect("the picture is back") < millis(1_000), "{back:?}");
    world.run_for(seconds(3.0));
    let sender = &world.client(ann).senders[1];
    assert!(sender.nacked <= lost * 10, "{} requests for {lost} lost packets", sender.nacked);
    assert!(sender.key_requests < 8, "{} key frames asked for", sender.key_requests);
    let slot = world.client(ben).slot("V0");
    assert!(slot.longest_gap(world.ago(seconds(2.0)), world.now) < millis(60));
    assert_no_faults(&world, ben);
}

#[test]
fn whoever_asks_for_the_same_packets_again_and_again_gets_few_of_them() {
    let mut world = World::new(13);
    let ann = world.join(1, ClientConfig::default());
    world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    let highest = world.client(ann).slot("V0").highest_seq();
    let seqs: Vec<u16> = (1..=20).map(|back| highest.wrapping_sub(back)).collect();
    let before = world.stats(ann);
    for _ in 0..1_000 {
        world.with_client(ann, |c, _| c.ask_again("V0", &seqs));
    }
    world.run_for(millis(200));
    let after = world.stats(ann);
    let (asked, sent) =
        (after.nacks_received - before.nacks_received, after.repairs_sent - before.repairs_sent);
    assert!(asked >= 20_000, "{asked}");
    assert!((1..=40).contains(&sent), "{sent} repairs for {asked} requests");
    assert!(world.drops(DropReason::RepairedRecently) > 19_000);
}

#[test]
fn a_narrow_link_is_lived_with() {
    let mut world = World::new(14);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.down(ben).rate = Some(3_000_000);
    world.run_for(seconds(5.0));
    let slot = world.client(ben).slot_of(MediaKind::Video, world.source(ann)).expect("a picture");
    assert!(slot.frames.len() > 30 * 4);
    assert_no_faults(&world, ben);
}
