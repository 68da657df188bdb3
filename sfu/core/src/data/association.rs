//! One participant's SCTP association (dcsctp) and the data channels in it (RFC 8831).
//!
//! The server waits for the client's INIT and for its channels: browsers send the one as soon as DTLS is up, and the
//! relay needs none but theirs.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dcsctp::api::{
    DcSctpSocket, ErrorKind, LifecycleId, Message, Options, PpId, SendOptions, Socket, SocketEvent,
    SocketTime, StreamId, ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};
use rustc_hash::FxHashMap;

use crate::control::DataCloseReason;
use crate::data::SCTP_PORT;
use crate::data::dcep::{DcepError, DcepMessage, Open, Reliability};
use crate::drops::DropReason;
use crate::sdp::DataSection;

/// The most channels of one participant, those being closed included.
pub const MAX_CHANNELS: usize = 64;
/// What may wait to be sent to one participant or to be acknowledged by it, in bytes. A single message may be larger.
pub const MAX_QUEUED: usize = 4 << 20;
/// What a queued message costs beside its bytes, so that many small ones are bounded too.
const MESSAGE_COST: usize = 256;
/// What may wait unread, in bytes: the least receive window.
const MIN_RECEIVE_WINDOW: usize = 1 << 20;
/// Messages that may wait unread. The receive window counts bytes only.
pub const MAX_UNREAD: usize = 4096;
/// With the DTLS record around it (37 bytes), UDP, IPv6 and a TURN channel's header, an SCTP packet fits 1280 bytes.
const SCTP_MTU: usize = 1191;

/// Payload protocol identifiers (RFC 8831 section 8).
const PPID_DCEP: PpId = PpId(50);
const PPID_BINARY: PpId = PpId(53);

/// A data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its label.
    pub label: Arc<str>,
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
    /// How hard delivery is tried.
    pub reliability: Reliability,
    /// `false` once the server has begun to close it.
    pub open: bool,
}

impl Channel {
    /// Whether a message may get lost in it without breaking what the client asked for.
    pub fn is_lossy(&self) -> bool {
        !self.ordered || self.reliability != Reliability::Reliable
    }
}

/// What an association wants of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssociationOutput {
    /// To be sent over DTLS.
    Packet(Vec<u8>),
    /// The client sent a message.
    Message {
        /// The stream of the channel.
        stream: u16,
        /// The label of the channel.
        label: Arc<str>,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The server closed a channel.
    Closed {
        /// The label of the channel.
        label: Arc<str>,
        /// Why.
        reason: DataCloseReason,
    },
    /// Something from or for the client was dropped.
    Dropped(DropReason),
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such channel, or it is not open.
    NotOpen,
    /// Too much waits already.
    Full,
    /// The client takes no message of this size.
    TooLarge,
}

/// One participant's SCTP association.
pub struct Association {
    socket: Socket,
    start: Instant,
    /// The client aborted or closed it.
    ended: bool,
    channels: BTreeMap<u16, Channel>,
    max_incoming: usize,
    max_outgoing: usize,
    queued: usize,
    costs: FxHashMap<u64, usize>,
    last_id: u64,
    reading: bool,
    withheld: Vec<u8>,
    outputs: VecDeque<AssociationOutput>,
}

impl Association {
    /// An association that waits for the client's INIT. Channels in which the client sends more than
    /// `max_message_size` bytes at once are closed.
    pub fn new(now: Instant, section: DataSection, max_message_size: usize) -> Self {
        // RFC 8841 section 6.1: zero means that any size is taken.
        let max_outgoing = match section.max_message_size {
            0 => usize::MAX,
            size => size,
        };
        Self {
            socket: Socket::new("", &options(section, max_message_size)),
            start: now,
            ended: false,
            channels: BTreeMap::new(),
            max_incoming: max_message_size,
            max_outgoing,
            queued: 0,
            costs: FxHashMap::default(),
            last_id: 0,
            reading: true,
            withheld: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an SCTP packet from the client.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        if self.ended {
            return self.count(DropReason::DataMalformed);
        }
        self.advance(now);
        if !self.reading && carries_data(packet) {
            self.withheld.clear();
            self.withheld.extend_from_slice(packet);
            if self.unread() >= MAX_UNREAD {
                // As with a full receive window, the client sends it again.
                return;
            }
        }
        self.socket.handle_input(packet);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.ended {
            self.advance(now);
        }
    }

    /// When [`Association::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        let due = !self.ended && at != SocketTime::infinite_future();
        due.then(|| self.start.checked_add(at - SocketTime::zero())).flatten()
    }

    /// The next thing to do for the owner. Messages come only while reading is not stopped.
    pub fn poll_output(&mut self) -> Option<AssociationOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(event) = self.socket.poll_event() {
                self.on_event(event);
            } else if !self.reading {
                return None;
            } else if let Some(message) = self.socket.get_next_message() {
                self.on_message(message);
            } else if self.withheld.is_empty() {
                return None;
            } else {
                self.announce_window();
            }
        }
    }

    /// Stops reading: messages stay in the receive window, which closes, so that the client's `bufferedAmount` grows.
    pub fn stop_reading(&mut self) {
        self.reading = false;
    }

    /// Reads again.
    pub fn resume_reading(&mut self) {
        self.reading = true;
    }

    /// The client's open channel of this label; the first, should there be several.
    pub fn open_channel(&self, label: &str) -> Option<u16> {
        let open = |channel: &Channel| channel.open && *channel.label == *label;
        self.channels.iter().find(|(_, channel)| open(channel)).map(|(&stream, _)| stream)
    }

    /// How much waits to be sent or acknowledged, in bytes, with an allowance for each message.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// How many whole messages wait to be read.
    pub fn unread(&self) -> usize {
        self.socket.messages_ready_count()
    }

    /// Whether a message of this size could be queued now.
    pub fn has_room(&self, len: usize) -> bool {
        self.queued == 0 || self.queued + len + MESSAGE_COST <= MAX_QUEUED
    }

    /// Sends a message in a channel as the client wishes it delivered there.
    pub fn send(&mut self, now: Instant, stream: u16, bytes: Vec<u8>) -> Result<(), Refusal> {
        let channel = self.channels.get(&stream).filter(|c| c.open && !self.ended).ok_or(Refusal::NotOpen)?;
        if bytes.len() > self.max_outgoing {
            return Err(Refusal::TooLarge);
        }
        let mut options = SendOptions { unordered: !channel.ordered, ..SendOptions::default() };
        match channel.reliability {
            Reliability::Reliable => {}
            Reliability::Retransmissions(times) => options.max_retransmissions = Some(times),
            Reliability::Lifetime(time) => options.lifetime = Some(time),
        }
        self.advance(now);
        self.enqueue(Message::new(StreamId(stream), PPID_BINARY, bytes), options)
    }

    /// Loses a message that was refused: in a channel that may lose some it is only counted, any other is closed,
    /// since a silent gap would break its promise.
    pub fn lose(&mut self, stream: u16, refusal: Refusal) {
        let (drop, close) = match refusal {
            Refusal::NotOpen => return self.count(DropReason::DataNoReceiver),
            Refusal::Full => (DropReason::DataReceiverSlow, DataCloseReason::ReceiverSlow),
            Refusal::TooLarge => (DropReason::DataLimit, DataCloseReason::Limit),
        };
        self.count(drop);
        if self.channels.get(&stream).is_some_and(|channel| !channel.is_lossy()) {
            self.close(stream, close);
        }
    }

    /// Closes a channel; what waits in it is lost (RFC 8831 section 6.7).
    pub fn close(&mut self, stream: u16, reason: DataCloseReason) {
        let Some(channel) = self.channels.get_mut(&stream).filter(|channel| channel.open) else { return };
        channel.open = false;
        let label = channel.label.clone();
        self.outputs.push_back(AssociationOutput::Closed { label, reason });
        self.reset(&[StreamId(stream)]);
    }

    fn advance(&mut self, now: Instant) {
        self.socket.advance_time(SocketTime::zero() + now.saturating_duration_since(self.start));
    }

    fn count(&mut self, reason: DropReason) {
        self.outputs.push_back(AssociationOutput::Dropped(reason));
    }

    fn on_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::SendPacket(packet) => self.outputs.push_back(AssociationOutput::Packet(packet)),
            SocketEvent::OnLifecycleEnd(id) => {
                self.queued -= self.costs.remove(&id.value()).unwrap_or(0);
            }
            SocketEvent::OnIncomingStreamReset(streams) => self.on_incoming_reset(&streams),
            // A restart within one DTLS session is no part of WebRTC; the channels of before are gone with it.
            SocketEvent::OnConnectionRestarted() => {
                self.socket.close();
                self.end();
            }
            SocketEvent::OnClosed() | SocketEvent::OnAborted(..) => self.end(),
            SocketEvent::OnError(ErrorKind::ParseFailed | ErrorKind::ProtocolViolation, _) => {
                self.count(DropReason::DataMalformed);
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.channels.clear();
        self.costs.clear();
        self.queued = 0;
        self.withheld.clear();
    }

    /// The client closed channels, or agrees that they are closed. An empty list means all of them.
    fn on_incoming_reset(&mut self, streams: &[StreamId]) {
        let all: Vec<StreamId>;
        let streams = if streams.is_empty() {
            all = self.channels.keys().map(|&stream| StreamId(stream)).collect();
            &all
        } else {
            streams
        };
        let removed = streams.iter().filter_map(|&id| Some((id, self.channels.remove(&id.0)?)));
        let to_answer: Vec<_> = removed.filter(|(_, channel)| channel.open).map(|(id, _)| id).collect();
        if !to_answer.is_empty() {
            self.reset(&to_answer);
        }
    }

    fn reset(&mut self, streams: &[StreamId]) {
        if self.socket.reset_streams(streams).is_err() {
            // The client cannot be told; the channels end here.
            for stream in streams {
                self.channels.remove(&stream.0);
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        let stream = message.stream_id.0;
        if message.ppid == PPID_DCEP {
            return self.on_dcep(stream, &message.payload);
        }
        let Some(channel) = self.channels.get(&stream).filter(|channel| channel.open) else {
            return self.count(DropReason::DataMalformed);
        };
        if message.payload.len() > self.max_incoming {
            self.count(DropReason::DataLimit);
            self.close(stream, DataCloseReason::Limit);
        } else if message.ppid == PPID_BINARY {
            let label = channel.label.clone();
            self.outputs.push_back(AssociationOutput::Message { stream, label, bytes: message.payload });
        } else {
            self.count(DropReason::DataMalformed);
        }
    }

    fn on_dcep(&mut self, stream: u16, bytes: &[u8]) {
        match DcepMessage::parse(bytes) {
            Ok(DcepMessage::Open(open)) => self.on_open(stream, open),
            Err(DcepError::TooLong(label)) if !self.channels.contains_key(&stream) => {
                self.refuse_open(stream, label.into());
            }
            // The server opens no channels that could be acknowledged.
            Ok(DcepMessage::Ack) | Err(_) => self.count(DropReason::DataMalformed),
        }
    }

    fn on_open(&mut self, stream: u16, open: Open) {
        // RFC 8832 section 6: 65535 is no stream, and a stream has one channel at a time.
        if stream == u16::MAX || self.channels.contains_key(&stream) {
            return self.count(DropReason::DataMalformed);
        }
        let ack = Message::new(StreamId(stream), PPID_DCEP, DcepMessage::Ack.write());
        let within_limit = self.channels.len() < MAX_CHANNELS;
        if !within_limit || self.enqueue(ack, SendOptions::default()).is_err() {
            return self.refuse_open(stream, open.label.into());
        }
        let Open { ordered, reliability, label, .. } = open;
        self.channels.insert(stream, Channel { label: label.into(), ordered, reliability, open: true });
    }

    /// Nothing is remembered of the channel, lest refused ones fill the memory.
    fn refuse_open(&mut self, stream: u16, label: Arc<str>) {
        self.count(DropReason::DataLimit);
        self.outputs.push_back(AssociationOutput::Closed { label, reason: DataCloseReason::Limit });
        self.reset(&[StreamId(stream)]);
    }

    /// Hands a message to SCTP and counts it until that has done with it.
    fn enqueue(&mut self, message: Message, mut options: SendOptions) -> Result<(), Refusal> {
        if !self.has_room(message.payload.len()) {
            return Err(Refusal::Full);
        }
        let cost = message.payload.len() + MESSAGE_COST;
        self.last_id += 1;
        options.lifecycle_id = LifecycleId::new(self.last_id);
        self.queued += cost;
        self.costs.insert(self.last_id, cost);
        // A message that is refused here ends its lifecycle, too, which takes it out of the count.
        self.socket.send(message, &options).map_err(|_| Refusal::NotOpen)
    }

    /// SCTP does not tell the client that its receive window has opened, and the client asks only at long intervals.
    /// It does so in answer to a duplicate (RFC 9260 section 6.2), so it gets the last packet once more.
    fn announce_window(&mut self) {
        let packet = std::mem::take(&mut self.withheld);
        self.socket.handle_input(&packet);
    }
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("channels", &self.channels)
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

fn options(section: DataSection, max_message_size: usize) -> Options {
    Options {
        local_port: SCTP_PORT,
        remote_port: section.remote_port,
        mtu: SCTP_MTU,
        // Sizes and queues are checked here, before SCTP sees a message.
        max_message_size: usize::MAX,
        max_send_buffer_size: usize::MAX,
        per_stream_send_queue_limit: usize::MAX,
        max_receiver_window_buffer_size: MIN_RECEIVE_WINDOW.max(max_message_size.saturating_mul(2)),
        max_timer_backoff_duration: Some(MAX_BACKOFF),
        max_retransmissions: Some(MAX_RETRANSMISSIONS),
        // DTLS authenticates each packet; RFC 9653 lets SCTP do without its own sum where the client agrees.
        zero_checksum_alternate_error_detection_method:
            ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
        ..Options::default()
    }
}

/// The longest wait between two attempts to reach a client, so that it goes on soon after an interruption.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// With that backoff, a client may be away for a minute and a half before its channels are given up.
const MAX_RETRANSMISSIONS: u32 = 20;

/// Whether an SCTP packet has a DATA or I-DATA chunk (RFC 9260 section 3, RFC 8260 section 2.1).
fn carries_data(packet: &[u8]) -> bool {
    const HEADER: usize = 12;
    const DATA: u8 = 0;
    const I_DATA: u8 = 64;
    let mut chunks = packet.get(HEADER..).unwrap_or_default();
    while let &[kind, _, l0, l1, ..] = chunks {
        if kind == DATA || kind == I_DATA {
            return true;
        }
        let len = usize::from(u16::from_be_bytes([l0, l1])).next_multiple_of(4).max(4);
        chunks = chunks.get(len..).unwrap_or_default();
    }
    false
}
