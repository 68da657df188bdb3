//! What people cost who do nothing: the engine's processor time per participant and second, while everybody is muted, and
//! while one person of a large room speaks.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench idle
//! ```
//!
//! The clients are whole ones in virtual time: they renew their consent every 2.5 seconds, as browsers do. Only what the
//! engine does counts, by what it was called for.

use std::time::Duration;

use veche_sfu_core::media::MediaKind;
use veche_testkit::client::ClientConfig;
use veche_testkit::media::Voice;
use veche_testkit::world::{ClientId, EngineTime, World};

/// How long it is watched, in virtual time.
const WATCHED: Duration = Duration::from_mins(1);

/// People come so fast.
const BETWEEN_JOINS: Duration = Duration::from_millis(2);

fn main() {
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>9} {:>8} {:>10}",
        "microseconds per participant and second", "in all", "timers", "STUN", "RTCP", "RTP", "calls"
    );
    for (people, room) in [(1_000, 50), (1_000, 1_000), (5_000, 50)] {
        let (mut world, _) = muted(people, room);
        let name = format!("{people} muted, {room} in a room");
        print(&name, people, &watch(&mut world));
    }
    let (mut world, people) = muted(500, 500);
    let speaker = people[0];
    world.mute(speaker, MediaKind::Audio, false);
    world.with_client(speaker, |client, now| {
        client.speak(Voice::SPEAKING);
        client.set_active(now, MediaKind::Audio, None, true);
    });
    world.run_for(Duration::from_secs(2));
    let ears = people.iter().filter(|id| world.client(**id).slots.iter().any(|s| s.frames.len() > 40));
    assert_eq!(ears.count(), 499, "not everybody hears the speaker");
    print("one of 500 speaks", 500, &watch(&mut world));
}

/// Rooms full of people with microphone and camera, both off.
fn muted(people: usize, room: usize) -> (World, Vec<ClientId>) {
    let config = ClientConfig { data: false, ..ClientConfig::default() };
    let mut world = World::new(1);
    let mut ids = Vec::new();
    for number in 0..people {
        let id = world.join((number / room) as u64, config.clone());
        for kind in [MediaKind::Audio, MediaKind::Video] {
            world.mute(id, kind, true);
            world.with_client(id, |client, now| client.set_active(now, kind, None, false));
        }
        ids.push(id);
        world.run_for(BETWEEN_JOINS);
    }
    world.run_for(Duration::from_secs(10));
    assert!(ids.iter().all(|id| world.client(*id).secured_at.is_some()), "somebody is not connected");
    (world, ids)
}

fn watch(world: &mut World) -> EngineTime {
    let before = world.engine_time;
    world.run_for(WATCHED);
    world.engine_time.since(&before)
}

fn print(name: &str, people: usize, spent: &EngineTime) {
    let share = 1e6 / people as f64 / WATCHED.as_secs_f64();
    let micros = |time: Duration| time.as_secs_f64() * share;
    println!(
        "{name:<44} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>8.2} {:>10.2}",
        micros(spent.total()),
        micros(spent.timers.total),
        micros(spent.stun.total),
        micros(spent.feedback.total),
        micros(spent.media.total + spent.flush.total),
        spent.timers.calls as f64 / people as f64 / WATCHED.as_secs_f64(),
    );
}
