//! Data channels: a relay with two participants. One of them is a genuine SCTP endpoint whose messages are the input's,
//! and whose packets the input may change; further packets come as they are, under the right tag and checksum.

use std::time::Instant;

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketTime, StreamId,
};
use veche_sfu_core::data::dcep::{DcepMessage, Open, Reliability};
use veche_sfu_core::data::frame::Frame;
use veche_sfu_core::data::relay::{DataOutput, DataRelay};
use veche_sfu_core::ids::ParticipantId;
use veche_sfu_core::sdp::DataSection;

use crate::crc32c::seal;
use crate::records::records;
use crate::time;

const MAX_MESSAGE: usize = 1 << 18;
/// Packets of one pump; two endpoints that talk in circles would pass it.
const MAX_PACKETS: usize = 2000;

struct Client {
    participant: ParticipantId,
    socket: Socket,
    /// What it has sent and the relay has not got.
    packets: Vec<Vec<u8>>,
}

struct Room {
    now: Instant,
    relay: DataRelay,
    clients: [Client; 2],
    /// The relay's verification tag, as the first client puts it in its packets.
    tag: [u8; 4],
}

pub(crate) fn run(input: &[u8]) {
    if let Ok(DcepMessage::Open(open)) = DcepMessage::parse(input) {
        let again = DcepMessage::parse(&DcepMessage::Open(open.clone()).write());
        assert_eq!(again, Ok(DcepMessage::Open(open)), "what parses can be written and parsed again");
    }
    if let Some(frame) = Frame::parse(input) {
        assert_eq!(frame.write(), input);
    }
    let mut room = Room::new();
    room.pump(&[]);
    for (kind, bytes) in records(input) {
        room.step(kind, bytes);
    }
}

impl Room {
    fn new() -> Self {
        let now = time::start();
        let mut relay = DataRelay::new(MAX_MESSAGE, now);
        let clients = [1, 2].map(|number| {
            let participant = ParticipantId(number);
            relay.add(participant, format!("peer{number}").into());
            let section = DataSection { remote_port: 5000, max_message_size: MAX_MESSAGE };
            relay.connect(now, participant, section);
            let mut socket =
                Socket::new("client", &Options { max_message_size: MAX_MESSAGE, ..Options::default() });
            socket.connect();
            Client { participant, socket, packets: Vec::new() }
        });
        let mut room = Self { now, relay, clients, tag: [0; 4] };
        for client in &mut room.clients {
            for (stream, label, ordered) in [(0, "chat", true), (2, "lossy", false)] {
                let open = Open {
                    ordered,
                    reliability: if ordered {
                        Reliability::Reliable
                    } else {
                        Reliability::Retransmissions(1)
                    },
                    priority: 0,
                    label: label.into(),
                    protocol: String::new(),
                };
                client.send(stream, 50, DcepMessage::Open(open).write());
            }
        }
        room
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        match kind % 6 {
            0 => {
                let mut packet = bytes.to_vec();
                if let Some(tag) = packet.get_mut(4..8) {
                    tag.copy_from_slice(&self.tag);
                }
                seal(&mut packet);
                self.relay.handle_packet(self.now, ParticipantId(1), &packet);
                self.pump(&[]);
            }
            1 => {
                let Some((&[stream, ppid], payload)) = bytes.split_first_chunk() else { return };
                self.clients[0].send(
                    stream.into(),
                    if ppid == 0 { 50 } else { 52 + u32::from(ppid) },
                    payload.to_vec(),
                );
                self.pump(&[]);
            }
            2 => {
                self.clients[0].send(0, 53, [&[0, 0], bytes].concat());
                self.pump(bytes);
            }
            3 => {
                self.now += time::step(bytes);
                self.relay.handle_timeout(self.now);
                for client in &mut self.clients {
                    client.socket.advance_time(SocketTime::zero() + (self.now - time::start()));
                }
                self.pump(&[]);
            }
            4 => {
                let streams: Vec<_> = bytes.iter().take(4).map(|&stream| StreamId(stream.into())).collect();
                let _ = self.clients[0].socket.reset_streams(&streams);
                self.pump(&[]);
            }
            _ => {
                self.relay.handle_packet(self.now, ParticipantId(1), bytes);
                self.pump(&[]);
            }
        }
    }

    /// Carries packets to and fro until all is quiet; the first of the first client are changed as `changes` say.
    fn pump(&mut self, changes: &[u8]) {
        let mut changes = changes.chunks_exact(3);
        let mut carried = 0;
        loop {
            let mut quiet = true;
            while let Some(output) = self.relay.poll_output() {
                quiet = false;
                if let DataOutput::Packet { participant, bytes } = output {
                    let client = self.clients.iter_mut().find(|client| client.participant == participant);
                    client.expect("packets are for those who are here").socket.handle_input(&bytes);
                    carried += 1;
                }
            }
            for index in 0..self.clients.len() {
                self.clients[index].collect();
                for mut packet in std::mem::take(&mut self.clients[index].packets) {
                    quiet = false;
                    if index == 0 {
                        self.tag.copy_from_slice(&packet[4..8]);
                        if let Some(change) = changes.next() {
                            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % packet.len();
                            packet[at] ^= change[2];
                            seal(&mut packet);
                        }
                    }
                    self.relay.handle_packet(self.now, self.clients[index].participant, &packet);
                }
            }
            if quiet {
                return;
            }
            assert!(carried < MAX_PACKETS, "the endpoints come to rest");
        }
    }
}

impl Client {
    fn send(&mut self, stream: u16, ppid: u32, bytes: Vec<u8>) {
        let _ = self.socket.send(Message::new(StreamId(stream), PpId(ppid), bytes), &SendOptions::default());
    }

    /// Takes out what is to be sent. What the relay sends must be framed.
    fn collect(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            if let SocketEvent::SendPacket(packet) = event {
                self.packets.push(packet);
            }
        }
        while let Some(message) = self.socket.get_next_message() {
            if message.ppid == PpId(50) {
                assert_eq!(DcepMessage::parse(&message.payload), Ok(DcepMessage::Ack));
            } else {
                let frame = Frame::parse(&message.payload).expect("what is relayed is framed");
                assert!(frame.peer.starts_with("peer"), "the sender is named");
            }
        }
    }
}
