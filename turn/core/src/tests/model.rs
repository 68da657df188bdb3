//! Random days of a few clients, beside a model that keeps everything in plain maps.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Attr, Client, World};
use crate::wire::method;

/// When things end, in seconds after the beginning.
#[derive(Debug, Default)]
struct Model {
    expires: u64,
    permissions: BTreeMap<u8, u64>,
    /// The peer and the end of each channel.
    channels: BTreeMap<u16, ((u8, u16), u64)>,
}

impl Model {
    fn lives(&self, now: u64) -> bool {
        now < self.expires
    }

    fn permits(&self, host: u8, now: u64) -> bool {
        self.lives(now) && self.permissions.get(&host).is_some_and(|end| now < *end)
    }

    fn bind(&mut self, number: u16, peer: (u8, u16), now: u64) -> u16 {
        if !self.lives(now) {
            return 437;
        }
        self.channels.retain(|_, (_, end)| now < *end);
        let conflicts =
            |(other, (bound, _)): (&u16, &((u8, u16), u64))| (*other == number) != (*bound == peer);
        if self.channels.iter().any(conflicts) {
            return 400;
        }
        self.channels.insert(number, (peer, now + 600));
        self.permissions.insert(peer.0, now + 300);
        0
    }
}

#[test]
fn random_days_go_as_the_model_says() {
    for seed in 0..60 {
        day(seed);
    }
}

fn day(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    let mut clients: Vec<Client> =
        (0..3).map(|number| Client::greeted(&mut world, &format!("192.0.2.{number}:5"), "ann")).collect();
    let mut models: Vec<Model> = (0..3).map(|_| Model::default()).collect();
    let mut now = 0;
    for step in 0..400 {
        let which = random.random_range(0..3);
        let (client, model) = (&mut clients[which], &mut models[which]);
        let (host, port, number) = (
            random.random_range(1..5u8),
            random.random_range(1..3u16),
            0x4000 + random.random_range(0..5u16),
        );
        let peer = format!("198.51.100.{host}:{port}");
        let mut ask = |method, attributes: &[Attr]| {
            let mut code = client.ask(&mut world, method, attributes).code;
            if code == 438 {
                code = client.ask(&mut world, method, attributes).code;
            }
            code
        };
        match random.random_range(0..8) {
            0 => {
                let expected = if model.lives(now) { 437 } else { 0 };
                assert_eq!(ask(method::ALLOCATE, &[Attr::udp()]), expected, "{seed} {step}");
                if expected == 0 {
                    *model = Model { expires: now + 600, ..Model::default() };
                }
            }
            1 => {
                let lifetime = if random.random_bool(0.2) { 0 } else { random.random_range(1..5000) };
                let expected = if model.lives(now) { 0 } else { 437 };
                assert_eq!(ask(method::REFRESH, &[Attr::lifetime(lifetime)]), expected, "{seed} {step}");
                if expected == 0 {
                    model.expires =
                        now + if lifetime == 0 { 0 } else { u64::from(lifetime).clamp(600, 3600) };
                }
            }
            2 => {
                let expected = if model.lives(now) { 0 } else { 437 };
                assert_eq!(ask(method::CREATE_PERMISSION, &[Attr::peer(&peer)]), expected, "{seed} {step}");
                if expected == 0 {
                    model.permissions.insert(host, now + 300);
                }
            }
            3 => {
                let expected = model.bind(number, (host, port), now);
                let attributes = [Attr::channel(number), Attr::peer(&peer)];
                assert_eq!(ask(method::CHANNEL_BIND, &attributes), expected, "{seed} {step}");
            }
            4 => {
                let sent = world.deliver(client.tuple, &[&number.to_be_bytes()[..], &[0, 1, 9]].concat());
                let bound = model.channels.get(&number).filter(|(_, end)| now < *end && model.lives(now));
                assert_eq!(sent.len(), usize::from(bound.is_some()), "{seed} {step}");
            }
            5 if model.lives(now) => {
                let relay = client.relay(&world);
                let sent = world.arrive(relay, &peer, b"data");
                assert_eq!(sent.len(), usize::from(model.permits(host, now)), "{seed} {step}");
                let by_channel = sent.first().map(|(_, packet)| packet[0] >= 0x40);
                let bound = model.channels.values().any(|(bound, end)| *bound == (host, port) && now < *end);
                assert_eq!(by_channel, model.permits(host, now).then_some(bound), "{seed} {step}");
            }
            _ => {
                let seconds = random.random_range(1..250);
                now += seconds;
                // Often nobody has looked after the server when the next request comes.
                world.now += Duration::from_secs(seconds);
                if random.random_bool(0.5) {
                    world.wait(0);
                }
            }
        }
        if random.random_bool(0.1) {
            world.wait(0);
            let live = models.iter().filter(|model| model.lives(now));
            assert_eq!(world.open.len(), live.clone().count(), "{seed} {step}");
            let permissions =
                live.clone().flat_map(|model| model.permissions.values()).filter(|end| now < **end);
            assert_eq!(world.accounts.total().permissions as usize, permissions.count(), "{seed} {step}");
            let channels = live.flat_map(|model| model.channels.values()).filter(|(_, end)| now < *end);
            assert_eq!(world.accounts.total().channels as usize, channels.count(), "{seed} {step}");
        }
    }
    world.wait(4000);
    let total = world.accounts.total();
    assert_eq!((total.allocations, total.permissions, total.channels), (0, 0, 0));
    assert!(world.open.is_empty() && world.accounts.users().is_empty());
}
