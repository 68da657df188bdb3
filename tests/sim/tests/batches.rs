//! What comes together reaches everybody as if it had come one by one.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::*;
use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::engine::Engine;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::path::Path;
use veche_sfu_core::rtp::{RtpHeader, is_rtcp};
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::world::World;

/// Each stream to each address: number, timestamp, marker and payload type of its packets. Their lengths differ, since those
/// that leave together are padded to one.
type Streams = BTreeMap<(SocketAddr, u32), Vec<(u16, u32, bool, u8)>>;

#[test]
fn a_batch_is_forwarded_like_its_packets() {
    let single = streams(1, false);
    let (slots, packets) = (single.len(), single.values().map(Vec::len).sum::<usize>());
    assert!(slots >= 5 * 2 && packets > 500, "{slots} streams, {packets} packets");
    for together in [2, 12, 64, 500] {
        assert_eq!(streams(together, false), single, "{together} at a time");
    }
}

/// Frames of the layer that a slot leaves lie before and behind the key frame of the one that it waits for.
#[test]
fn a_switch_of_layers_in_a_batch_is_as_if_its_packets_came_one_by_one() {
    let single = streams(1, true);
    for together in [2, 12, 64, 500] {
        assert_eq!(streams(together, true), single, "{together} at a time");
    }
}

/// What goes out when so many packets of two publishers come before each flush.
fn streams(together: usize, switch: bool) -> Streams {
    let mut world = World::new(71);
    let viewer = ClientConfig::viewer;
    let tracks = vec![TrackConfig::microphone(), TrackConfig::simulcast(Codec::Vp8)];
    let publishers: Vec<_> =
        (0..2).map(|_| world.join(1, ClientConfig { tracks: tracks.clone(), ..viewer() })).collect();
    for id in &publishers {
        world.with_client(*id, |client, _| client.speak(Voice::SPEAKING));
    }
    let eyes: Vec<_> = (0..4).map(|_| world.join(1, viewer())).collect();
    world.run_for(seconds(6.0));
    for &id in &publishers {
        world.up(id).blackout = true;
        world.record(id);
    }
    if switch {
        for &eye in &eyes {
            let wish = |slot| {
                let mid = slot_mid(MediaKind::Video, slot);
                SlotWish { mid, show: Show::Auto, width: 160, height: 90 }
            };
            let wishes = (0..3).map(wish);
            world.subscribe(eye, Subscription { auto: true, wishes: wishes.collect(), ..Default::default() });
        }
    }
    world.run_for(seconds(0.3));
    let mut datagrams: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    for &id in &publishers {
        let address = world.address(id);
        let media = world.take_record(id).into_iter().filter(|d| d[0] & 0xc0 == 0x80 && !is_rtcp(d));
        datagrams.extend(media.map(|datagram| (address, datagram)));
    }
    let now = world.now;
    let engine = world.engine_mut(0);
    let mut streams = Streams::new();
    let mut take = |to: SocketAddr, packet: &[u8]| {
        if packet[0] & 0xc0 == 0x80 && !is_rtcp(packet) {
            let RtpHeader { seq, timestamp, marker, payload_type, ssrc, .. } =
                RtpHeader::parse(packet).unwrap();
            let stream = streams.entry((to, ssrc.0)).or_default();
            stream.push((seq, timestamp, marker, payload_type.0));
        }
    };
    let mut flush = |engine: &mut Engine| {
        engine.flush(&mut |transmit| {
            let mut start = 0;
            for end in transmit.ends.iter().map(|end| *end as usize) {
                take(transmit.path.remote(), &transmit.bytes[start..end]);
                start = end;
            }
        });
    };
    for batch in datagrams.chunks_mut(together) {
        for (from, datagram) in batch {
            engine.handle_datagram(now, Path::Udp { remote: *from, local: None }, datagram);
        }
        flush(engine);
    }
    // All of it came in one moment, so some pictures wait for room in the network; which ones depends on how much sound was
    // counted before them.
    for ms in 1..1_000 {
        engine.handle_timeout(now + millis(ms));
        flush(engine);
    }
    streams
}
