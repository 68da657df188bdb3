//! The relay and its clients on a seeded network, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcsctp::api::DcSctpSocket;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::client::Client;
use super::{MAX_MESSAGE, SECOND};
use crate::control::{DataCloseReason, Event};
use crate::data::SCTP_PORT;
use crate::data::dcep::Reliability;
use crate::data::frame::Frame;
use crate::data::relay::{DataOutput, DataRelay};
use crate::drops::DropCounts;
use crate::ids::ParticipantId;
use crate::sdp::DataSection;

/// The relay and its clients, on links with a delay of 20 ms.
pub(super) struct Room {
    pub(super) relay: DataRelay,
    /// Another worker's: every other client is there.
    pub(super) away: Option<DataRelay>,
    pub(super) clients: Vec<Client>,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) rng: StdRng,
    pub(super) loss: f64,
    pub(super) down_loss: f64,
    pub(super) jitter: Duration,
    /// By time and number: the client, whether towards it, the packet.
    pub(super) link: BTreeMap<(Instant, u64), (usize, bool, Vec<u8>)>,
    pub(super) steps: u64,
    pub(super) sent: u64,
    pub(super) closed: Vec<(ParticipantId, String, DataCloseReason)>,
    pub(super) drops: BTreeMap<ParticipantId, DropCounts>,
    pub(super) recorded: Vec<Vec<u8>>,
}

impl Room {
    pub(super) fn new(seed: u64, names: &[&str]) -> Self {
        Self::with_relays(seed, names, false)
    }

    pub(super) fn with_relays(seed: u64, names: &[&str], spread: bool) -> Self {
        let now = start();
        let mut room = Self {
            relay: DataRelay::new(MAX_MESSAGE, now),
            away: spread.then(|| DataRelay::new(MAX_MESSAGE, now)),
            clients: vec![],
            start: now,
            now,
            rng: StdRng::seed_from_u64(seed),
            loss: 0.0,
            down_loss: 0.0,
            jitter: Duration::ZERO,
            link: BTreeMap::new(),
            steps: 0,
            sent: 0,
            closed: vec![],
            drops: BTreeMap::new(),
            recorded: vec![],
        };
        for (client, &name) in names.iter().enumerate() {
            room.relay_of(client).add(id(client), name.into());
            room.introduce(client, name);
            room.clients.push(Client::new(now));
            room.connect(client);
        }
        room
    }

    pub(super) fn connect(&mut self, client: usize) {
        self.link.retain(|_, packet| packet.0 != client);
        self.clients[client] = Client::new(self.now);
        let section = DataSection { remote_port: SCTP_PORT, max_message_size: MAX_MESSAGE };
        let now = self.now;
        self.relay_of(client).connect(now, id(client), section);
        self.clients[client].socket.connect();
    }

    pub(super) fn open(&mut self, client: usize, label: &str, ordered: bool, reliability: Reliability) {
        let client = &mut self.clients[client];
        let stream = client.next_stream;
        client.next_stream += 2;
        client.open(stream, label, ordered, reliability);
    }

    pub(super) fn open_all(&mut self, label: &str, ordered: bool, reliability: Reliability) {
        for client in 0..self.clients.len() {
            self.open(client, label, ordered, reliability);
        }
        self.run(SECOND);
    }

    pub(super) fn send(&mut self, client: usize, label: &str, flags: u8, peer: &str, payload: &[u8]) {
        let now = self.now;
        let client = &mut self.clients[client];
        client.advance(now);
        client.send_raw(client.streams[label], 53, Frame { flags, peer, payload }.write());
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn dropped_in_all(&self) -> u64 {
        self.drops.values().map(DropCounts::total).sum()
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            let link = self.link.first_key_value().map(|(key, _)| key.0);
            let clients = self.clients.iter().filter_map(Client::poll_timeout);
            let next = clients.chain(self.relays().filter_map(DataRelay::poll_timeout)).chain(link).min();
            let Some(next) = next.filter(|&next| next <= end) else { break };
            self.steps += 1;
            self.now = self.now.max(next);
            if link == Some(next) {
                let (_, (client, down, packet)) = self.link.pop_first().unwrap();
                if down {
                    self.clients[client].handle_packet(self.now, &packet);
                } else {
                    let now = self.now;
                    self.relay_of(client).handle_packet(now, id(client), &packet);
                }
                continue;
            }
            self.relay.handle_timeout(self.now);
            if let Some(away) = &mut self.away {
                away.handle_timeout(self.now);
            }
            for client in &mut self.clients {
                client.advance(self.now);
            }
        }
        self.now = end;
    }

    pub(super) fn collect(&mut self) {
        while let Some((here, output)) = self.poll_output() {
            match output {
                DataOutput::Packet { participant, bytes } => {
                    self.transmit(participant.0 as usize - 1, true, bytes);
                }
                DataOutput::Event(Event::DataChannelClosed { participant, label, reason }) => {
                    self.closed.push((participant, label, reason));
                }
                DataOutput::Event(event) => panic!("{event:?}"),
                DataOutput::Dropped { participant, reason } => {
                    self.drops.entry(participant).or_default().count(reason);
                }
                DataOutput::Across { worker, message } => self.cross(here, worker, *message),
                DataOutput::Taken { worker, sender, bytes } => self.acknowledge(here, worker, sender, bytes),
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].collect();
            for packet in std::mem::take(&mut self.clients[client].packets) {
                if client == 0 && self.recorded.len() < 100 {
                    self.recorded.push(packet.clone());
                }
                self.transmit(client, false, packet);
            }
        }
    }

    pub(super) fn transmit(&mut self, client: usize, down: bool, packet: Vec<u8>) {
        let loss = if down { self.loss.max(self.down_loss) } else { self.loss };
        if self.rng.random_bool(loss) {
            return;
        }
        let mut at = self.now;
        if let Some(rate) = self.clients[client].down_rate.filter(|_| down) {
            // A queue of at most 600 ms in front of the slow link.
            let busy = &mut self.clients[client].busy_until;
            if *busy > self.now + Duration::from_millis(600) {
                return;
            }
            *busy = (*busy).max(self.now) + Duration::from_secs_f64(packet.len() as f64 / rate as f64);
            at = *busy;
        }
        at += Duration::from_millis(20) + self.jitter.mul_f64(self.rng.random());
        self.sent += 1;
        self.link.insert((at, self.sent), (client, down, packet));
    }
}

pub(super) fn id(client: usize) -> ParticipantId {
    ParticipantId(client as u64 + 1)
}

#[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
fn start() -> Instant {
    Instant::now()
}
