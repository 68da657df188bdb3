//! A client's data channels: SCTP over its DTLS session, channels that keep order and lose nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketTime, StreamId,
};
use veche_sfu_core::data::dcep::{DcepMessage, Open, Reliability};
use veche_sfu_core::data::frame::Frame;

use super::Client;

/// Payload protocol identifiers (RFC 8831 section 8): DCEP, and binary messages.
const DCEP: PpId = PpId(50);
const BINARY: PpId = PpId(53);

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataReceived {
    /// In which channel.
    pub label: String,
    /// Whose.
    pub peer: String,
    /// What.
    pub payload: Vec<u8>,
}

pub(super) struct Data {
    socket: Socket,
    start: Instant,
    labels: BTreeMap<u16, String>,
    received: Vec<DataReceived>,
}

impl Client {
    /// Opens a channel; the first one sets SCTP up. To be called when the client is connected.
    pub fn open_channel(&mut self, now: Instant, label: &str) {
        let data = self.data.get_or_insert_with(|| Data::new(now));
        data.advance(now);
        let stream = 2 * data.labels.len() as u16;
        data.labels.insert(stream, label.to_owned());
        let open = Open {
            ordered: true,
            reliability: Reliability::Reliable,
            priority: 0,
            label: label.to_owned(),
            protocol: String::new(),
        };
        data.send(stream, DCEP, DcepMessage::Open(open).write());
        self.drain_data();
    }

    /// Sends a message to the peer of this name, or to all when that is empty.
    pub fn send_data(&mut self, now: Instant, label: &str, peer: &str, payload: &[u8]) {
        let data = self.data.as_mut().expect("a channel was opened");
        data.advance(now);
        let stream = data.labels.iter().find(|(_, l)| *l == label).expect("this channel was opened");
        let stream = *stream.0;
        data.send(stream, BINARY, Frame { flags: 0, peer, payload }.write());
        self.drain_data();
    }

    /// All messages that came.
    pub fn data_received(&self) -> &[DataReceived] {
        self.data.as_ref().map_or(&[], |data| &data.received)
    }

    /// What SCTP has to send goes out over DTLS.
    pub(super) fn drain_data(&mut self) {
        let (Some(data), Some(dtls)) = (&mut self.data, &mut self.dtls) else { return };
        for packet in data.packets() {
            dtls.send(&packet).expect("channels are opened when DTLS is there");
        }
        let mut out = Vec::new();
        while let Some(output) = dtls.poll_output() {
            if let veche_sfu_core::dtls::DtlsOutput::Packet(packet) = output {
                out.push(packet);
            }
        }
        for packet in out {
            self.send_raw(packet);
        }
    }
}

impl Data {
    fn new(now: Instant) -> Self {
        let mut socket = Socket::new("client", &Options::default());
        socket.connect();
        Self { socket, start: now, labels: BTreeMap::new(), received: Vec::new() }
    }

    fn send(&mut self, stream: u16, kind: PpId, bytes: Vec<u8>) {
        let message = Message::new(StreamId(stream), kind, bytes);
        self.socket.send(message, &SendOptions::default()).expect("there is room");
    }

    fn advance(&mut self, now: Instant) {
        self.socket.advance_time(SocketTime::zero() + (now - self.start));
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.advance(now);
        self.socket.handle_input(packet);
        while let Some(message) = self.socket.get_next_message() {
            if message.ppid != BINARY {
                continue;
            }
            let frame = Frame::parse(&message.payload).expect("the server frames what it relays");
            self.received.push(DataReceived {
                label: self.labels[&message.stream_id.0].clone(),
                peer: frame.peer.to_owned(),
                payload: frame.payload.to_vec(),
            });
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        (at != SocketTime::infinite_future()).then(|| self.start + (at - SocketTime::zero()))
    }

    fn packets(&mut self) -> Vec<Vec<u8>> {
        let events = std::iter::from_fn(|| self.socket.poll_event());
        events
            .filter_map(|event| match event {
                SocketEvent::SendPacket(packet) => Some(packet),
                _ => None,
            })
            .collect()
    }
}
