//! What it costs when somebody joins: the engine's processor time for the offer, ICE, DTLS and everything that the room
//! does about it, while a room grows to 500.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench joins
//! ```
//!
//! Everybody has a microphone and a camera that are on, but send nothing, so that the room assigns and shares as in a
//! meeting, and no media is counted.
//!
//! Then 200 join at once while 50 watch a camera: how much work is done in one turn of a worker, which is how long a packet
//! of media that came in it waits at most.

use std::time::Duration;

use veche_sfu_core::control::ConnectionState;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{LayerConfig, TrackConfig};
use veche_testkit::world::{ClientId, EngineTime, World};

/// So many join one after the other before the next line.
const BLOCK: usize = 100;

/// From one turn of the worker to the next.
const TURN: Duration = Duration::from_millis(1);

/// People come so fast: 200 within two seconds.
const BETWEEN_JOINS: Duration = Duration::from_millis(10);

fn main() {
    println!(
        "{:<30} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>12} {:>12}",
        "microseconds per join",
        "in all",
        "offer",
        "STUN",
        "DTLS",
        "timers",
        "joins/s",
        "longest DTLS",
        "longest tick"
    );
    let mut world = World::with_real_dtls(1);
    let mut number = 0;
    for block in 0..5 {
        let name = format!("one room, {} to {}", block * BLOCK, (block + 1) * BLOCK);
        join_block(&name, &mut world, |_| 1);
    }
    let mut world = World::with_real_dtls(2);
    join_block("rooms of 4", &mut world, |_| {
        number += 1;
        1 + number / 4
    });
    println!();
    println!(
        "{:<44} {:>10} {:>10} {:>10} {:>12} {:>12}",
        "turns in which media came, microseconds",
        "median",
        "99 of 100",
        "longest",
        "DTLS at most",
        "connected"
    );
    rush("nobody joins", 0, Duration::ZERO);
    rush("200 join within 2 seconds", 200, Duration::from_millis(10));
    rush("200 join at once", 200, Duration::ZERO);
}

/// A camera that 50 watch goes on while so many join another room, so far apart.
fn rush(name: &str, joins: usize, apart: Duration) {
    let mut world = World::with_real_dtls(3);
    let layer = LayerConfig { rid: None, size: (1280, 720), rate: 30, packets: 10, packet_len: 1_100 };
    let track = TrackConfig { layers: vec![layer], ..TrackConfig::camera(Codec::Vp8) };
    let camera = ClientConfig { tracks: vec![track], audio_slots: 0, video_slots: 0, ..Default::default() };
    let viewer = ClientConfig { audio_slots: 0, video_slots: 1, data: false, ..ClientConfig::viewer() };
    world.join(1, camera);
    (0..50).for_each(|_| {
        world.join(1, viewer.clone());
    });
    world.run_for(Duration::from_secs(8));
    world.take_turns(TURN);
    let began = world.now;
    let people: Vec<ClientId> = (0..joins)
        .map(|_| {
            let id = world.join(2, viewer.clone());
            world.run_for(apart);
            id
        })
        .collect();
    let connected = |world: &World| {
        people.iter().all(|id| world.told(*id).connection == Some(ConnectionState::Connected))
    };
    world.run_until(Duration::from_secs(10), connected).expect("everybody connects");
    let took = world.now - began;
    world.run_for(Duration::from_secs(2).saturating_sub(took));
    let turns = world.turns_taken();
    let most = turns.iter().map(|turn| turn.dtls_sent).max().unwrap_or(0);
    let mut times: Vec<Duration> = turns.iter().filter(|turn| turn.media > 0).map(|turn| turn.cpu).collect();
    times.sort_unstable();
    let micros = |place: usize| times[place.min(times.len() - 1)].as_micros();
    println!(
        "{name:<44} {:>10} {:>10} {:>10} {most:>12} {:>9} ms",
        micros(times.len() / 2),
        micros(times.len() * 99 / 100),
        micros(times.len()),
        took.as_millis(),
    );
}

fn join_block(name: &str, world: &mut World, mut room: impl FnMut(&World) -> u64) {
    let config = ClientConfig { data: false, ..ClientConfig::default() };
    world.engine_time = EngineTime::default();
    let mut people: Vec<ClientId> = Vec::new();
    for _ in 0..BLOCK {
        let room = room(world);
        let id = world.join(room, config.clone());
        for kind in [MediaKind::Audio, MediaKind::Video] {
            world.with_client(id, |client, now| client.set_active(now, kind, None, false));
        }
        people.push(id);
        world.run_for(BETWEEN_JOINS);
    }
    world.run_for(Duration::from_millis(200));
    for id in people {
        assert_eq!(world.told(id).connection, Some(ConnectionState::Connected), "somebody is not connected");
    }
    print(name, &world.engine_time);
}

fn print(name: &str, spent: &EngineTime) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / BLOCK as f64;
    let all = micros(spent.total());
    println!(
        "{name:<30} {all:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>10.0} {:>12.0?} {:>12.0?}",
        micros(spent.commands.total),
        micros(spent.stun.total),
        micros(spent.dtls.total),
        micros(spent.timers.total),
        1e6 / all,
        spent.dtls.longest,
        spent.timers.longest,
    );
}
