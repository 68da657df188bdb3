//! A call between real clients over loopback.

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
pub struct Call {
    pub sfu: Sfu,
    pub room: RoomId,
    pub seats: Vec<Seat>,
    pub start: Instant,
    pub stats: BTreeMap<RequestId, (Vec<ParticipantStats>, usize)>,
}

pub struct Seat {
    pub client: Client,
    pub socket: UdpSocket,
    pub participant: ParticipantId,
}

impl Call {
    /// Two workers; a room with two people on one of them spreads.
    pub fn new() -> Self {
        let config = SfuConfig { spread_from: 2, ..SfuConfig::on_loopback(2) };
        let sfu = start(config).unwrap();
        let room = sfu.handle.create_room();
        Self { sfu, room, seats: Vec::new(), start: Instant::now(), stats: BTreeMap::new() }
    }

    pub fn join(&mut self) {
        self.join_with(ClientConfig::default());
    }

    pub fn join_with(&mut self, config: ClientConfig) {
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let number = self.seats.len() as u32 + 1;
        let address = socket.local_addr().unwrap();
        let mut client = Client::new(number, config, address, self.start, Instant::now(), number.into());
        let participant = self.sfu.handle.create_participant(self.room);
        let (sdp, labels) = client.offer();
        let peer = format!("peer-{number}").into();
        self.command(Command::AddParticipant { room: self.room, participant, peer });
        self.command(Command::Offer { participant, request: RequestId(number.into()), sdp, labels });
        self.seats.push(Seat { client, socket, participant });
    }

    pub fn command(&self, command: Command) {
        self.sfu.handle.try_command(self.room, command).unwrap();
    }

    /// Lets everybody do what they do until something is so.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
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

    #[allow(dead_code, reason = "not every test looks at it")]
    /// Whether everybody has had so many frames of everybody else since then, of both kinds.
    pub fn all_see_all(&self, since: Instant, frames: usize) -> bool {
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
