//! A client of the relay: a dcsctp socket with the channels that it opened, and what came over them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketTime, StreamId,
};

use crate::data::dcep::{DcepMessage, Open, Reliability};
use crate::data::frame::Frame;

/// A browser's side.
pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) start: Instant,
    pub(super) next_stream: u16,
    pub(super) streams: BTreeMap<String, u16>,
    pub(super) labels: BTreeMap<u16, String>,
    pub(super) acks: usize,
    pub(super) resets: Vec<u16>,
    pub(super) received: Vec<Received>,
    pub(super) packets: Vec<Vec<u8>>,
    /// Reads nothing, so that its receive window closes.
    pub(super) stalled: bool,
    pub(super) down_rate: Option<usize>,
    pub(super) busy_until: Instant,
}

impl Client {
    pub(super) fn new(now: Instant) -> Self {
        let options = Options {
            max_message_size: usize::MAX,
            max_send_buffer_size: usize::MAX,
            per_stream_send_queue_limit: usize::MAX,
            max_receiver_window_buffer_size: 1 << 20,
            max_timer_backoff_duration: Some(Duration::from_secs(3)),
            max_retransmissions: None,
            ..Options::default()
        };
        Self {
            socket: Socket::new("client", &options),
            start: now,
            next_stream: 0,
            streams: BTreeMap::new(),
            labels: BTreeMap::new(),
            acks: 0,
            resets: vec![],
            received: vec![],
            packets: vec![],
            stalled: false,
            down_rate: None,
            busy_until: now,
        }
    }

    pub(super) fn open(&mut self, stream: u16, label: &str, ordered: bool, reliability: Reliability) {
        self.streams.insert(label.into(), stream);
        self.labels.insert(stream, label.into());
        let open = Open { ordered, reliability, priority: 0, label: label.into(), protocol: String::new() };
        self.send_raw(stream, 50, DcepMessage::Open(open).write());
    }

    pub(super) fn send_raw(&mut self, stream: u16, ppid: u32, bytes: Vec<u8>) {
        self.socket.send(Message::new(StreamId(stream), PpId(ppid), bytes), &SendOptions::default()).unwrap();
    }

    pub(super) fn buffered(&self, label: &str) -> usize {
        self.socket.buffered_amount(StreamId(self.streams[label]))
    }

    pub(super) fn numbers(&self, label: &str) -> Vec<u32> {
        let messages = self.received.iter().filter(|message| message.label == label);
        messages.map(|message| u32::from_be_bytes(message.payload[..4].try_into().unwrap())).collect()
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.socket.advance_time(SocketTime::zero() + (now - self.start));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        (at != SocketTime::infinite_future()).then(|| self.start + (at - SocketTime::zero()))
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.advance(now);
        self.socket.handle_input(packet);
    }

    pub(super) fn collect(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            match event {
                SocketEvent::SendPacket(packet) => self.packets.push(packet),
                SocketEvent::OnIncomingStreamReset(streams) => {
                    self.resets.extend(streams.iter().map(|s| s.0));
                }
                _ => {}
            }
        }
        while !self.stalled
            && let Some(message) = self.socket.get_next_message()
        {
            if message.ppid == PpId(50) {
                assert_eq!(DcepMessage::parse(&message.payload), Ok(DcepMessage::Ack));
                self.acks += 1;
                continue;
            }
            assert_eq!(message.ppid, PpId(53));
            let frame = Frame::parse(&message.payload).unwrap();
            let label = &self.labels[&message.stream_id.0];
            self.received.push(received(label, frame.flags, frame.peer, frame.payload));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) label: String,
    pub(super) flags: u8,
    pub(super) peer: String,
    pub(super) payload: Vec<u8>,
}

pub(super) fn received(label: &str, flags: u8, peer: &str, payload: &[u8]) -> Received {
    Received { label: label.into(), flags, peer: peer.into(), payload: payload.into() }
}
