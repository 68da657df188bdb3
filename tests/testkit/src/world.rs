//! A world in virtual time: engines, clients and the links between them, driven event by event. The same seed gives
//! the same world.

mod bridge;
mod due;
mod network;
mod spent;
mod told;
mod turns;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_sfu_core::control::{Command, Event, ParticipantStats, Speaker, Subscription};
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::engine::{Candidate, Engine, EngineConfig};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId, TrackId, WorkerId};
use veche_sfu_core::media::MediaKind;
use veche_sfu_core::path::Path;
use veche_sfu_core::rights::Rights;
use veche_sfu_core::rtp::is_rtcp;
use veche_sfu_core::timeline::Entry;

use crate::allocations;
use crate::client::{Client, ClientConfig, certificate};
use crate::network::LinkConfig;

pub use bridge::Carried;
use due::{Due, What};
pub use network::BottleneckId;
use network::{Other, Shared, Way};
pub use spent::{EngineTime, Spent};
pub use told::Told;
pub use turns::Turn;
use turns::{Inbound, Turns};

/// A client of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(pub usize);

/// A world.
pub struct World {
    /// The moment.
    pub now: Instant,
    /// When it began: 0 in the stamps of frames.
    pub start: Instant,
    /// Everything that the engines told, with the time.
    pub events: Vec<(Instant, Event)>,
    /// How many datagrams the engines sent.
    pub sent: u64,
    /// What the path of media packets cost so far.
    pub media_path: MediaPath,
    /// What the engines took of the processor so far.
    pub engine_time: EngineTime,
    rng: StdRng,
    flushed: Flushed,
    engines: Vec<Engine>,
    bridge: bridge::Bridge,
    turns: Option<Turns>,
    seats: Vec<Seat>,
    bottlenecks: Vec<Shared>,
    others: Vec<Other>,
    seat_by_address: HashMap<SocketAddr, usize>,
    seat_by_participant: HashMap<ParticipantId, usize>,
    stats: HashMap<RequestId, Vec<ParticipantStats>>,
    timelines: HashMap<RequestId, Vec<Entry>>,
    speakers: HashMap<RoomId, Vec<Speaker>>,
    queue: BinaryHeap<Reverse<Due>>,
    next_order: u64,
    next_address: u32,
    next_request: u64,
}

/// What engines spent on RTP packets, from the datagram that came to those that it caused.
#[derive(Clone, Copy, Debug, Default)]
pub struct MediaPath {
    /// RTP packets that came.
    pub received: u64,
    /// Datagrams that were sent because of them.
    pub sent: u64,
    /// How often memory was asked for meanwhile; counted with [`crate::allocations::CountingAllocator`] only.
    pub allocations: u64,
}

/// What an engine sends, in buffers that are used again.
#[derive(Debug, Default)]
struct Flushed {
    bytes: Vec<u8>,
    packets: Vec<(SocketAddr, usize)>,
}

/// One client with its place in the world.
struct Seat {
    client: Client,
    participant: ParticipantId,
    room: RoomId,
    engine: usize,
    up: Way,
    down: Way,
    /// The wake-up that is in the queue.
    wakes_at: Option<Instant>,
    told: Told,
    record: Option<Vec<Vec<u8>>>,
    gone: bool,
}

impl World {
    /// A world with one engine.
    pub fn new(seed: u64) -> Self {
        Self::with_engines(seed, 1)
    }

    /// The same, in which DTLS takes its randomness from the system as in production: joins cost what they cost there, and
    /// two worlds are not alike to the last packet.
    pub fn with_real_dtls(seed: u64) -> Self {
        Self::build(seed, 1, false)
    }

    /// A world with several engines, as on one machine; room `n` begins on engine `n` modulo their number.
    pub fn with_engines(seed: u64, count: usize) -> Self {
        Self::build(seed, count, true)
    }

    fn build(seed: u64, count: usize, reproducible: bool) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let server_certificate = Arc::new(certificate());
        let engines = (0..count).map(|index| {
            let config = EngineConfig {
                candidates: vec![Candidate { address: engine_address(index), tcp: false }],
                certificate: server_certificate.clone(),
                seed: rng.random(),
                epoch: now,
                epoch_ntp: 0xec00_0000_0000_0000,
                dtls13: false,
                reproducible,
                max_message_size: 262_144,
            };
            Engine::new(config, now).among(WorkerId(index as u16), count as u16)
        });
        let engines = engines.collect();
        Self {
            now,
            start: now,
            events: Vec::new(),
            sent: 0,
            media_path: MediaPath::default(),
            engine_time: EngineTime::default(),
            flushed: Flushed::default(),
            rng,
            engines,
            bridge: bridge::Bridge::default(),
            turns: None,
            seats: Vec::new(),
            bottlenecks: Vec::new(),
            others: Vec::new(),
            seat_by_address: HashMap::new(),
            seat_by_participant: HashMap::new(),
            stats: HashMap::new(),
            timelines: HashMap::new(),
            speakers: HashMap::new(),
            queue: BinaryHeap::new(),
            next_order: 0,
            next_address: 1,
            next_request: 0,
        }
    }

    /// Adds a client, who offers at once. The source of its frames is its number plus 1, and 1000 for each reload.
    pub fn join(&mut self, room: u64, config: ClientConfig) -> ClientId {
        self.join_at(room, room as usize % self.engines.len(), config)
    }

    /// The same at an engine of choice.
    pub fn join_at(&mut self, room: u64, engine: usize, config: ClientConfig) -> ClientId {
        let seat = self.seats.len();
        let participant = ParticipantId(seat as u64 + 1);
        let room = RoomId(room);
        let client = self.new_client(seat as u32 + 1, config);
        let up = Way::new(StdRng::from_seed(self.rng.random()));
        let down = Way::new(StdRng::from_seed(self.rng.random()));
        self.seats.push(Seat {
            client,
            participant,
            room,
            engine,
            up,
            down,
            wakes_at: None,
            told: Told::default(),
            record: None,
            gone: false,
        });
        self.seat_by_participant.insert(participant, seat);
        self.note_addresses(seat);
        let peer = format!("peer-{}", participant.0).into();
        self.command_engine(engine, Command::AddParticipant { room, participant, peer });
        self.offer(ClientId(seat));
        ClientId(seat)
    }

    /// Lets everything happen that is due in this time.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.queue.peek().map(|Reverse(due)| due.at);
            let timer = self.next_turn();
            let Some(next) = due.into_iter().chain(timer).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if due == Some(next)
                && let Some(Reverse(due)) = self.queue.pop()
            {
                self.happen(due.what);
                continue;
            }
            if self.turns.is_some() {
                self.take_turn();
                continue;
            }
            for engine in 0..self.engines.len() {
                if self.engines[engine].poll_timeout().is_some_and(|at| at <= self.now) {
                    let Self { engines, engine_time, now, .. } = self;
                    engine_time.timers.measure(|| engines[engine].handle_timeout(*now));
                    self.drain_engine(engine);
                }
            }
        }
        self.now = end;
    }

    /// A moment of the past.
    pub fn ago(&self, time: Duration) -> Instant {
        self.now.checked_sub(time).expect("clocks began long before worlds")
    }

    /// Runs until something is so, at most for this time. Returns how long it took.
    pub fn run_until(&mut self, longest: Duration, mut so: impl FnMut(&World) -> bool) -> Option<Duration> {
        let from = self.now;
        while !so(self) {
            if self.now - from >= longest {
                return None;
            }
            self.run_for(Duration::from_millis(5));
        }
        Some(self.now - from)
    }

    /// A client.
    pub fn client(&self, id: ClientId) -> &Client {
        &self.seats[id.0].client
    }

    /// A client, to change what it does. It is woken at once.
    pub fn with_client<T>(&mut self, id: ClientId, act: impl FnOnce(&mut Client, Instant) -> T) -> T {
        let result = act(&mut self.seats[id.0].client, self.now);
        self.note_addresses(id.0);
        self.drain_client(id.0);
        result
    }

    /// What a client was told.
    pub fn told(&self, id: ClientId) -> &Told {
        &self.seats[id.0].told
    }

    /// What a client was told of its slots is lost, as with a connection that breaks.
    pub fn lose_slots(&mut self, id: ClientId) {
        self.seats[id.0].told.slots.clear();
    }

    /// The number that a client has for the engines.
    pub fn participant(&self, id: ClientId) -> ParticipantId {
        self.seats[id.0].participant
    }

    /// The source in the stamps of a client's frames.
    pub fn source(&self, id: ClientId) -> u32 {
        self.seats[id.0].client.source
    }

    /// The first track of a kind that a client publishes.
    pub fn track(&self, id: ClientId, kind: MediaKind) -> TrackId {
        let tracks = &self.seats[id.0].told.tracks;
        tracks.iter().find(|track| track.kind == kind).expect("the client publishes such a track").id
    }

    /// The speakers of a room, as told last.
    pub fn speakers(&self, room: u64) -> &[Speaker] {
        self.speakers.get(&RoomId(room)).map_or(&[], Vec::as_slice)
    }

    /// An engine.
    pub fn engine(&self, index: usize) -> &Engine {
        &self.engines[index]
    }

    /// An engine, to be driven by hand.
    pub fn engine_mut(&mut self, index: usize) -> &mut Engine {
        &mut self.engines[index]
    }

    /// How many packets the engines dropped for a reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.engines.iter().map(|engine| engine.drops().get(reason)).sum()
    }

    /// What the link from a client to its engine does.
    pub fn up(&mut self, id: ClientId) -> &mut LinkConfig {
        &mut self.seats[id.0].up.link.config
    }

    /// What the link to a client does.
    pub fn down(&mut self, id: ClientId) -> &mut LinkConfig {
        &mut self.seats[id.0].down.link.config
    }

    /// Both links of a client.
    pub fn set_links(&mut self, id: ClientId, config: LinkConfig) {
        *self.up(id) = config;
        *self.down(id) = config;
    }

    /// A client leaves, or its browser dies when it does not `say` so.
    pub fn leave(&mut self, id: ClientId, say: bool) {
        let seat = &mut self.seats[id.0];
        let (participant, engine) = (seat.participant, seat.engine);
        seat.gone = true;
        if say {
            self.command_engine(engine, Command::RemoveParticipant { participant });
        }
    }

    /// A client loads its page anew: another browser session of the same participant.
    pub fn reload(&mut self, id: ClientId) {
        let config = self.seats[id.0].client.config().clone();
        self.replace(id, config);
    }

    /// The same with another configuration.
    pub fn replace(&mut self, id: ClientId, config: ClientConfig) {
        let client = self.new_client(self.seats[id.0].client.source + 1_000, config);
        let seat = &mut self.seats[id.0];
        seat.client = client;
        seat.told.slots.clear();
        seat.told.tracks.clear();
        self.note_addresses(id.0);
        self.offer(id);
    }

    /// A client restarts ICE.
    pub fn restart_ice(&mut self, id: ClientId) {
        self.seats[id.0].client.restart_ice();
        self.offer(id);
    }

    /// A client gets another address and loses the one of before.
    pub fn move_client(&mut self, id: ClientId) {
        let address = self.new_address();
        self.with_client(id, |client, now| client.move_to(now, address));
    }

    /// A client gets another address beside the ones of before.
    pub fn add_path(&mut self, id: ClientId) {
        let address = self.new_address();
        self.with_client(id, |client, now| client.add_path(now, address));
    }

    /// A client offers.
    pub fn offer(&mut self, id: ClientId) {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let seat = &mut self.seats[id.0];
        let (participant, engine) = (seat.participant, seat.engine);
        let (sdp, labels) = seat.client.offer();
        self.command_engine(engine, Command::Offer { participant, request, sdp, labels });
    }

    /// A client says what it wants to see.
    pub fn subscribe(&mut self, id: ClientId, subscription: Subscription) {
        let (participant, engine) = (self.seats[id.0].participant, self.seats[id.0].engine);
        self.command_engine(engine, Command::Subscribe { participant, subscription });
    }

    /// A client mutes a track of its own, or the other way round.
    pub fn mute(&mut self, id: ClientId, kind: MediaKind, muted: bool) {
        let track = self.track(id, kind);
        let (participant, engine) = (self.seats[id.0].participant, self.seats[id.0].engine);
        self.command_engine(engine, Command::SetMuted { participant, track, muted });
    }

    /// The control plane says what a client may do.
    pub fn set_rights(&mut self, id: ClientId, rights: Rights) {
        let (participant, engine) = (self.seats[id.0].participant, self.seats[id.0].engine);
        self.command_engine(engine, Command::SetRights { participant, rights });
    }

    /// The counters of a client.
    pub fn stats(&mut self, id: ClientId) -> ParticipantStats {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let (participant, engine, room) =
            (self.seats[id.0].participant, self.seats[id.0].engine, self.seats[id.0].room);
        self.command_engine(engine, Command::RoomStats { room, request, engines: 1 });
        let stats = self.stats.remove(&request).expect("the engine answers at once");
        stats.into_iter().find(|s| s.participant == participant).expect("the participant is in its room")
    }

    /// What was decided for a client, the oldest first.
    pub fn timeline(&mut self, id: ClientId) -> Vec<Entry> {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let (participant, engine) = (self.seats[id.0].participant, self.seats[id.0].engine);
        self.command_engine(engine, Command::Timeline { participant, request });
        self.timelines.remove(&request).expect("the engine answers at once")
    }

    /// Gives a datagram to an engine at once, as if it had come from this address.
    pub fn inject(&mut self, engine: usize, from: SocketAddr, datagram: &mut [u8]) {
        let path = Path::Udp { remote: from, local: None };
        let media = datagram.first().is_some_and(|first| (128..192).contains(first)) && !is_rtcp(datagram);
        let before = allocations::count();
        let Self { engines, engine_time, now, .. } = self;
        engine_time.of(datagram).measure(|| engines[engine].handle_datagram(*now, path, datagram));
        self.flush(engine);
        if media {
            self.media_path.received += 1;
            self.media_path.sent += self.flushed.packets.len() as u64;
            self.media_path.allocations += allocations::count() - before;
        }
        self.deliver(engine);
    }

    /// A datagram reaches an engine now, as if it had come from this address; with turns, in the next one.
    pub fn send_to_engine(&mut self, engine: usize, from: SocketAddr, datagram: Vec<u8>) {
        self.plan(self.now, What::ToEngine { engine, from, datagram });
    }

    /// Keeps copies of what a client sends from now on.
    pub fn record(&mut self, id: ClientId) {
        self.seats[id.0].record = Some(Vec::new());
    }

    /// The copies.
    pub fn take_record(&mut self, id: ClientId) -> Vec<Vec<u8>> {
        self.seats[id.0].record.take().unwrap_or_default()
    }

    /// The address that a client sends from.
    pub fn address(&self, id: ClientId) -> SocketAddr {
        self.seats[id.0].client.addresses().next().expect("a client has an address")
    }

    fn new_client(&mut self, source: u32, config: ClientConfig) -> Client {
        let address = self.new_address();
        Client::new(source, config, address, self.start, self.now, self.rng.random())
    }

    fn new_address(&mut self) -> SocketAddr {
        self.next_address += 1;
        SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + self.next_address).into(), 50_000)
    }

    fn note_addresses(&mut self, seat: usize) {
        for address in self.seats[seat].client.addresses() {
            self.seat_by_address.insert(address, seat);
        }
    }

    fn command_engine(&mut self, engine: usize, command: Command) {
        let Self { engines, engine_time, now, .. } = self;
        engine_time.commands.measure(|| engines[engine].handle_command(*now, command));
        self.drain_engine(engine);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::ToEngine { engine, from, mut datagram } => match self.turns.as_mut() {
                Some(turns) => turns.inbox.push(Inbound { engine, from, datagram }),
                None => self.inject(engine, from, &mut datagram),
            },
            What::ToClient { to, mut datagram } => {
                let Some(&seat) = self.seat_by_address.get(&to) else { return };
                let Seat { client, gone, .. } = &mut self.seats[seat];
                // What was on its way to an address that the client has lost is lost.
                if *gone || !client.addresses().any(|address| address == to) {
                    return;
                }
                client.handle_datagram(self.now, to, &mut datagram);
                self.drain_client(seat);
            }
            What::Link { seat, up } => self.look_at_link(seat, up),
            What::News { from, to, message } => self.take_news(from, to, message),
            What::Records { from, to, records } => self.take_records(from, to, &records),
            What::Bottleneck { index } => self.look_at_bottleneck(index),
            What::Other { index } => self.wake_other(index),
            What::ToOther { index, end, packet } => self.give_other(index, end, packet),
            What::Wake { seat } => {
                if self.seats[seat].wakes_at.is_some_and(|at| at <= self.now) {
                    self.seats[seat].wakes_at = None;
                }
                if !self.seats[seat].gone {
                    self.seats[seat].client.handle_timeout(self.now);
                    self.drain_client(seat);
                }
            }
        }
    }

    fn drain_engine(&mut self, engine: usize) {
        self.flush(engine);
        self.deliver(engine);
    }

    fn flush(&mut self, engine: usize) {
        let Self { engines, engine_time, flushed: Flushed { bytes, packets }, .. } = self;
        engine_time.flush.measure(|| {
            engines[engine].flush(&mut |transmit| {
                let start = bytes.len();
                bytes.extend_from_slice(transmit.bytes);
                let ends = transmit.ends.iter().map(|end| (transmit.path.remote(), start + *end as usize));
                packets.extend(ends);
            });
        });
    }

    /// Puts what was flushed on the links and bridges, and takes the events.
    fn deliver(&mut self, engine: usize) {
        self.cross_bridges(engine);
        let mut flushed = std::mem::take(&mut self.flushed);
        let mut start = 0;
        for (to, end) in flushed.packets.drain(..) {
            let datagram = &flushed.bytes[start..end];
            start = end;
            self.sent += 1;
            let Some(&seat) = self.seat_by_address.get(&to) else { continue };
            self.put_on_way(seat, false, datagram.len(), What::ToClient { to, datagram: datagram.to_vec() });
        }
        flushed.bytes.clear();
        self.flushed = flushed;
        while let Some(event) = self.engines[engine].poll_event() {
            self.take_event(event);
        }
    }

    fn drain_client(&mut self, seat: usize) {
        while let Some((from, to, datagram)) = self.seats[seat].client.poll_transmit() {
            if let Some(record) = self.seats[seat].record.as_mut() {
                record.push(datagram.clone());
            }
            let Some(engine) = (0..self.engines.len()).find(|e| engine_address(*e) == to) else { continue };
            self.put_on_way(seat, true, datagram.len(), What::ToEngine { engine, from, datagram });
        }
        let Some(at) = self.seats[seat].client.poll_timeout() else { return };
        let at = at.max(self.now);
        if self.seats[seat].wakes_at.is_none_or(|planned| at < planned) {
            self.seats[seat].wakes_at = Some(at);
            self.plan(at, What::Wake { seat });
        }
    }

    fn plan(&mut self, at: Instant, what: What) {
        self.next_order += 1;
        self.queue.push(Reverse(Due { at, order: self.next_order, what }));
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({} clients, {:?})", self.seats.len(), self.now - self.start)
    }
}

fn engine_address(index: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 7000 + index as u16))
}
