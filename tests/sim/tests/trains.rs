//! What comes together leaves together: sound first, and in as few sends as sizes allow.

mod common;

use common::*;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::path::Path;
use veche_sfu_core::rtp::is_rtcp;
use veche_testkit::allocations::CountingAllocator;
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Somebody with a voice, and a camera whose packets have this size.
fn speaker(packet_len: usize) -> ClientConfig {
    let layer = LayerConfig { rate: 25, packets: 2, packet_len, ..LayerConfig::SMALL };
    let camera = TrackConfig { layers: vec![layer], ..TrackConfig::camera(Codec::Vp8) };
    let tracks = vec![TrackConfig::microphone(), camera];
    ClientConfig { tracks, audio_slots: 0, video_slots: 0, ..ClientConfig::default() }
}

fn listener() -> ClientConfig {
    ClientConfig { audio_slots: 2, video_slots: 2, ..ClientConfig::viewer() }
}

/// The datagrams for `to` that are made of all that `from` sends in 40 ms, when it comes at once: send buffer by send
/// buffer.
fn sent_together(world: &mut World, from: &[ClientId], to: ClientId) -> Vec<Vec<Vec<u8>>> {
    for &id in from {
        world.up(id).blackout = true;
        world.record(id);
    }
    world.run_for(seconds(0.04));
    let media = |datagram: &Vec<u8>| datagram[0] & 0xc0 == 0x80 && !is_rtcp(datagram);
    let mut datagrams = Vec::new();
    for &id in from {
        let (address, record) = (world.address(id), world.take_record(id));
        datagrams.extend(record.into_iter().filter(media).map(|datagram| (address, datagram)));
        world.up(id).blackout = false;
    }
    let (now, destination) = (world.now, world.address(to));
    let engine = world.engine_mut(0);
    for (address, datagram) in &mut datagrams {
        engine.handle_datagram(now, Path::Udp { remote: *address, local: None }, datagram);
    }
    let mut runs = Vec::new();
    engine.flush(&mut |transmit| {
        if transmit.path.remote() == destination {
            let starts = std::iter::once(0).chain(transmit.ends.iter().map(|end| *end as usize));
            let packets = starts.zip(transmit.ends).map(|(start, end)| &transmit.bytes[start..*end as usize]);
            runs.push(packets.map(<[u8]>::to_vec).collect());
        }
    });
    runs
}

#[test]
fn sound_leaves_first_and_frames_of_nearly_one_size_leave_in_one_train() {
    let mut world = World::new(70);
    let speakers = [1000, 1007].map(|packet_len| world.join(1, speaker(packet_len)));
    let listener = world.join(1, listener());
    for id in speakers {
        world.with_client(id, |c, _| c.speak(Voice::SPEAKING));
    }
    world.run_for(seconds(3.0));
    let frames =
        |world: &World| -> usize { world.client(listener).slots.iter().map(|s| s.frames.len()).sum() };

    let runs = sent_together(&mut world, &speakers, listener);
    let before = frames(&world);
    let kind = |datagram: &[u8]| {
        let ssrc = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
        world.client(listener).slots.iter().find(|slot| slot.ssrc.0 == ssrc).map(|slot| slot.kind)
    };
    let kinds: Vec<Vec<_>> = runs.iter().map(|run| run.iter().map(|d| kind(d)).collect()).collect();
    assert_eq!(kinds, [vec![Some(MediaKind::Audio); 4], vec![Some(MediaKind::Video); 4]]);
    for run in &runs {
        let (last, others) = run.split_last().expect("it has packets");
        assert!(others.iter().all(|d| d.len() == others[0].len()) && last.len() <= others[0].len());
    }
    let padded = |datagram: &&Vec<u8>| datagram[0] & 0x20 != 0;
    assert_eq!(runs[1].iter().filter(padded).count(), 2, "the frame with the smaller packets");

    let (address, now) = (world.address(listener), world.now);
    for mut datagram in runs.into_iter().flatten() {
        world.with_client(listener, |c, _| c.handle_datagram(now, address, &mut datagram));
    }
    assert_eq!(frames(&world) - before, 6, "two pictures, and two times 20 ms of each voice");
    world.run_for(seconds(1.0));
    assert_eq!((world.client(listener).strange, world.client(listener).faults()), (0, vec![]));
}
