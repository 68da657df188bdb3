//! A call whose people come to the media plane directly, or through the relay of this server.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use veche_sfu::{Sfu, SfuConfig};
use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId};
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::{Client, ClientConfig};
use veche_turn::Turn;
use veche_turn_core::client::Client as TurnClient;

use crate::server::{PASSWORD, USER};

/// A room, and its clients in this thread.
pub(crate) struct Call {
    pub(crate) sfu: Sfu,
    pub(crate) start: Instant,
    room: RoomId,
    seats: Vec<Seat>,
}

struct Seat {
    client: Client,
    participant: ParticipantId,
    socket: UdpSocket,
    /// Its own address as the media plane sees it.
    address: SocketAddr,
    relay: Option<Relay>,
}

/// The way through a relay: a channel to each port of the media plane.
struct Relay {
    server: SocketAddr,
    channels: Vec<(u16, SocketAddr)>,
}

impl Call {
    pub(crate) fn new(config: SfuConfig) -> Self {
        let sfu = veche_sfu::start(config).unwrap();
        let room = sfu.handle.create_room();
        Self { sfu, start: Instant::now(), room, seats: Vec::new() }
    }

    /// Where media is received at an address.
    pub(crate) fn addresses(&self, ip: impl Into<std::net::IpAddr>) -> Vec<SocketAddr> {
        let ip = ip.into();
        self.sfu.handle.metrics().iter().map(|worker| SocketAddr::new(ip, worker.port)).collect()
    }

    pub(crate) fn join(&mut self) {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = socket.local_addr().unwrap();
        self.sit_down(socket, address, None);
    }

    /// Joins through a relay of the server at `server`.
    pub(crate) fn join_through(&mut self, server: SocketAddr) {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let seed = [self.seats.len() as u8; 12];
        let mut client = TurnClient::new(USER, PASSWORD, seed);
        let mut ask = |request: &dyn Fn(&mut TurnClient) -> Vec<u8>| loop {
            let mut buffer = [0; 1_500];
            socket.send_to(&request(&mut client), server).unwrap();
            let (len, _) = socket.recv_from(&mut buffer).unwrap();
            let answer = client.read(&buffer[..len]).unwrap();
            if !answer.asks_again() {
                assert_eq!(answer.code, 0, "{answer}");
                return answer;
            }
        };
        let address = ask(&TurnClient::allocate).relayed().unwrap();
        let channels: Vec<_> = (0x4000..).zip(self.addresses([127, 0, 0, 1])).collect();
        for (number, peer) in &channels {
            ask(&|client| client.bind_channel(*number, *peer));
        }
        self.sit_down(socket, address, Some(Relay { server, channels }));
    }

    /// The addresses of relays, as peers see them.
    pub(crate) fn relayed(&self) -> Vec<SocketAddr> {
        self.seats.iter().filter(|seat| seat.relay.is_some()).map(|seat| seat.address).collect()
    }

    fn sit_down(&mut self, socket: UdpSocket, address: SocketAddr, relay: Option<Relay>) {
        socket.set_nonblocking(true).unwrap();
        let number = self.seats.len() as u32 + 1;
        let config = ClientConfig::default();
        let mut client = Client::new(number, config, address, self.start, Instant::now(), number.into());
        let participant = self.sfu.handle.create_participant(self.room);
        let (sdp, labels) = client.offer();
        let peer = format!("peer-{number}").into();
        self.command(Command::AddParticipant { room: self.room, participant, peer });
        self.command(Command::Offer { participant, request: RequestId(number.into()), sdp, labels });
        self.seats.push(Seat { client, participant, socket, address, relay });
    }

    fn command(&self, command: Command) {
        self.sfu.handle.try_command(self.room, command).unwrap();
    }

    /// Waits until everybody has had so many frames of everybody else from then on, of both kinds.
    #[track_caller]
    pub(crate) fn all_see_all(&mut self, from: Instant, frames: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.have_seen(from, frames) {
            assert!(Instant::now() < deadline, "they do not see each other in time");
            while let Ok(event) = self.sfu.events.try_recv() {
                if let Event::Answer { participant, result, .. } = event {
                    let seat = self.seats.iter_mut().find(|seat| seat.participant == participant).unwrap();
                    seat.client.handle_answer(Instant::now(), &result.unwrap());
                }
            }
            self.seats.iter_mut().for_each(Seat::look);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn have_seen(&self, from: Instant, frames: usize) -> bool {
        let enough = |me: &Seat, other: &Seat, kind: MediaKind| {
            let seen = me.client.slots.iter().flat_map(|slot| slot.frames_since(from));
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
        let mut datagram = [0; 2_048];
        while let Ok((len, _)) = self.socket.recv_from(&mut datagram) {
            if self.relay.is_none() {
                self.client.handle_datagram(Instant::now(), self.address, &mut datagram[..len]);
            } else if let Some((_, data)) = TurnClient::read_channel_data(&datagram[..len]) {
                self.client.handle_datagram(Instant::now(), self.address, &mut data.to_vec());
            }
        }
        let now = Instant::now();
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        while let Some((_, to, datagram)) = self.client.poll_transmit() {
            let Some(Relay { server, channels }) = &self.relay else {
                let _ = self.socket.send_to(&datagram, to);
                continue;
            };
            if let Some((number, _)) = channels.iter().find(|(_, peer)| *peer == to) {
                let _ = self.socket.send_to(&TurnClient::channel_data(*number, &datagram), server);
            }
        }
    }
}

/// How many packets the relays have sent and received, by the numbers that come once a second.
pub(crate) fn relayed_packets(turn: &Turn) -> u64 {
    let total = turn.handle.total();
    total.packets_to_peers + total.packets_to_clients
}
