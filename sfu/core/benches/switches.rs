//! What it costs when everybody switches at once: 500 subscribers turn from one camera to another, and from a small
//! picture to a large one. Commands and timers of the engine count, until all pictures have changed.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench switches
//! ```

use std::time::Duration;

use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::TrackConfig;
use veche_testkit::world::{ClientId, EngineTime, World};

const SUBSCRIBERS: usize = 500;

fn main() {
    println!(
        "{:<44} {:>12} {:>12} {:>12} {:>14} {:>12}",
        "", "commands", "timers", "in all", "longest tick", "all switched"
    );
    println!("{:<44} {:>12} {:>12} {:>12} {:>14} {:>12}", "", "us each", "us each", "us each", "", "after");
    let mut storm = Storm::new(vec![TrackConfig::camera(Codec::Vp8)], 2);
    for to in [0, 1] {
        let track = Show::Track(storm.world.track(storm.publishers[to], MediaKind::Video));
        let source = storm.world.source(storm.publishers[to]);
        storm.switch("another camera, 500 subscribers", track, (640, 360), |w, id| {
            w.client(id).slot("V0").shows() == Some(source)
        });
    }
    let mut storm = Storm::new(vec![TrackConfig::simulcast(Codec::Vp8)], 1);
    let track = Show::Track(storm.world.track(storm.publishers[0], MediaKind::Video));
    for (name, size, layer) in [
        ("another layer (small), 500 subscribers", (320, 180), 0),
        ("another layer (large), 500 subscribers", (1280, 720), 2),
        ("another layer (small), 500 subscribers", (320, 180), 0),
    ] {
        storm.switch(name, track, size, |w, id| {
            w.client(id).slot("V0").frames.last().map(|f| f.stamp.layer) == Some(layer)
        });
    }
}

struct Storm {
    world: World,
    publishers: Vec<ClientId>,
    viewers: Vec<ClientId>,
}

impl Storm {
    fn new(tracks: Vec<TrackConfig>, publishers: usize) -> Self {
        let mut world = World::new(1);
        let publisher = ClientConfig { tracks, audio_slots: 0, video_slots: 0, ..Default::default() };
        let viewer = ClientConfig { audio_slots: 0, video_slots: 1, data: false, ..ClientConfig::viewer() };
        let publishers = (0..publishers).map(|_| world.join(1, publisher.clone())).collect();
        let viewers = (0..SUBSCRIBERS).map(|_| world.join(1, viewer.clone())).collect();
        // Long enough for every network to be known.
        world.run_for(Duration::from_secs(8));
        Self { world, publishers, viewers }
    }

    fn switch(
        &mut self,
        name: &str,
        show: Show,
        (width, height): (u16, u16),
        there: impl Fn(&World, ClientId) -> bool,
    ) {
        let Self { world, viewers, .. } = self;
        world.engine_time = EngineTime::default();
        for &id in &*viewers {
            let wish = SlotWish { mid: slot_mid(MediaKind::Video, 0), show, width, height };
            world.subscribe(id, Subscription { auto: true, wishes: vec![wish], ..Default::default() });
        }
        let all = |world: &World| viewers.iter().all(|id| there(world, *id));
        let took = world.run_until(Duration::from_secs(5), all).expect("somebody never switches");
        let spent = world.engine_time;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / SUBSCRIBERS as f64;
        println!(
            "{name:<44} {:>12.2} {:>12.2} {:>12.2} {:>14.0?} {:>9} ms",
            each(spent.commands.total),
            each(spent.timers.total),
            each(spent.commands.total + spent.timers.total),
            spent.timers.longest,
            took.as_millis(),
        );
        world.run_for(Duration::from_secs(3));
    }
}
