//! A room over two workers, with their threads and sockets: real clients see and hear each other across.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use veche_sfu::{Sfu, SfuConfig, start};
use veche_sfu_core::control::{Command, Event, ParticipantStats};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId};
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::{Client, ClientConfig};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A room, and its clients in this thread.
struct Call {
    sfu: Sfu,
    room: RoomId,
    seats: Vec<Seat>,
    start: Instant,
    stats: BTreeMap<RequestId, (Vec<ParticipantStats>, usize)>,
}

struct Seat {
    client: Client,
    socket: UdpSocket,
    participant: ParticipantId,
}

impl Call {
    /// Two workers; a room with two people on one of them spreads.
    fn new() -> Self {
        let config = SfuConfig { spread_from: 2, ..SfuConfig::on_loopback(2) };
        let sfu = start(config).unwrap();
        let room = sfu.handle.create_room();
        Self { sfu, room, seats: Vec::new(), start: Instant::now(), stats: BTreeMap::new() }
    }

    fn join(&mut self) {
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let number = self.seats.len() as u32 + 1;
        let address = socket.local_addr().unwrap();
        let config = ClientConfig::default();
        let mut client = Client::new(number, config, address, self.start, Instant::now(), number.into());
        let participant = self.sfu.handle.create_participant(self.room);
        let (sdp, labels) = client.offer();
        let peer = format!("peer-{number}").into();
        self.command(Command::AddParticipant { room: self.room, participant, peer });
        self.command(Command::Offer { participant, request: RequestId(number.into()), sdp, labels });
        self.seats.push(Seat { client, socket, participant });
    }

    fn command(&self, command: Command) {
        self.sfu.handle.try_command(self.room, command).unwrap();
    }

    /// Lets everybody do what they do until something is so.
    #[track_caller]
    fn run_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !so(self) {
            assert!(Instant::now() < deadline, "{what}: not in time");
            while let Ok(event) = self.sfu.events.try_recv() {
                self.take(event);
            }
            for seat in &mut self.seats {
                seat.look();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Answer { participant, result, .. } => {
                let seat = self.seats.iter_mut().find(|seat| seat.participant == participant).unwrap();
                seat.client.handle_answer(Instant::now(), &result.unwrap());
            }
            Event::Stats { request, mut participants, engines } => {
                let (all, missing) = self.stats.entry(request).or_insert((Vec::new(), engines));
                all.append(&mut participants);
                *missing -= 1;
            }
            _ => {}
        }
    }

    /// Whether everybody has had so many frames of everybody else since then, of both kinds.
    fn all_see_all(&self, since: Instant, frames: usize) -> bool {
        let enough = |me: &Seat, other: &Seat, kind: MediaKind| {
            let seen = me.client.slots.iter().flat_map(|slot| slot.frames_since(since));
            seen.filter(|f| f.stamp.source == other.client.source && f.codec.kind() == kind).count() >= frames
        };
        self.seats.iter().all(|me| {
            let mut others = self.seats.iter().filter(|other| other.participant != me.participant);
            others.all(|other| [MediaKind::Audio, MediaKind::Video].iter().all(|k| enough(me, other, *k)))
        })
    }
}

impl Seat {
    fn look(&mut self) {
        let address = self.socket.local_addr().unwrap();
        let mut datagram = [0; 2_048];
        while let Ok((len, _)) = self.socket.recv_from(&mut datagram) {
            self.client.handle_datagram(Instant::now(), address, &mut datagram[..len]);
        }
        let now = Instant::now();
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        while let Some((_, to, datagram)) = self.client.poll_transmit() {
            let _ = self.socket.send_to(&datagram, to);
        }
    }
}

#[tokio::test]
async fn a_room_of_four_spreads_over_two_workers_and_nobody_can_tell() {
    let mut call = Call::new();
    for _ in 0..4 {
        call.join();
    }
    let workers: Vec<u64> = call.seats.iter().map(|seat| seat.participant.0 % 2).collect();
    let home = call.room.0 % 2;
    assert_eq!(workers, [home, home, 1 - home, 1 - home]);
    call.run_until("all see all", |call| call.all_see_all(call.start, 10));
    let from = Instant::now();
    call.run_until("all go on to see all", |call| call.all_see_all(from, 60));
    for seat in &call.seats {
        assert_eq!(seat.client.strange, 0);
    }

    // One question, an answer of each worker.
    let request = RequestId(77);
    call.command(Command::RoomStats { room: call.room, request, engines: 1 });
    call.run_until("both answer", |call| call.stats.get(&request).is_some_and(|(_, missing)| *missing == 0));
    let mut told: Vec<_> = call.stats[&request].0.iter().map(|stats| stats.participant).collect();
    told.sort_unstable();
    let mut all: Vec<_> = call.seats.iter().map(|seat| seat.participant).collect();
    all.sort_unstable();
    assert_eq!(told, all);

    // The two at home leave: the others go on.
    for _ in 0..2 {
        let gone = call.seats.remove(0);
        call.command(Command::RemoveParticipant { participant: gone.participant });
    }
    call.run_until("their engine hears of it", |call| {
        let metrics = call.sfu.handle.metrics();
        metrics[home as usize].participants == 0 && metrics[1 - home as usize].participants == 2
    });
    let from = Instant::now();
    call.run_until("those left see each other", |call| call.all_see_all(from, 30));
    let metrics = call.sfu.handle.metrics();
    assert!(metrics.iter().all(|worker| worker.running), "{metrics:?}");
    call.sfu.handle.stop().await;
}
