//! What it costs when somebody joins: the engine's processor time for the offer, ICE, DTLS and everything that the room
//! does about it, while a room grows to 500.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench joins
//! ```
//!
//! Everybody has a microphone and a camera that are on, but send nothing, so that the room assigns and shares as in a
//! meeting, and no media is counted.

use std::time::Duration;

use veche_sfu_core::control::ConnectionState;
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::ClientConfig;
use veche_testkit::world::{ClientId, EngineTime, World};

/// So many join one after the other before the next line.
const BLOCK: usize = 100;

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
    let mut world = World::new(1);
    let mut number = 0;
    for block in 0..5 {
        let name = format!("one room, {} to {}", block * BLOCK, (block + 1) * BLOCK);
        join_block(&name, &mut world, |_| 1);
    }
    let mut world = World::new(2);
    join_block("rooms of 4", &mut world, |_| {
        number += 1;
        1 + number / 4
    });
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
