//! A laboratory for congestion control: media senders, TCP and bottlenecks in virtual time, with real feedback packets.
//!
//! - [`Lab`]: flows, the ways that their packets take, and what became of them ([`Record`])
//! - [`Media`]: an adaptive source, a pacer, a receiver that reports; what decides the rate is a [`Controller`]
//! - [`Tcp`]: what else is on the network

mod lab;
mod media;
mod receiver;
mod record;
mod source;
mod tcp;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use lab::{BottleneckId, FlowId, Lab, Route};
pub use media::{Media, MediaConfig};
pub use record::{Record, Waits};
pub use source::{Source, SourceConfig};
pub use tcp::{Downloads, Tcp};

/// What decides the rate of a media sender: the estimator under test.
pub trait Controller {
    /// A packet of so many bytes (whole UDP payload) has left, perhaps as part of a probe.
    fn on_sent(&mut self, now: Instant, seq: u16, bytes: usize, probe: Option<u32>);
    /// An RTCP packet with transport-wide feedback has come.
    fn on_feedback(&mut self, now: Instant, rtcp: &[u8]);
    /// A round trip was measured, as a receiver report would tell.
    fn on_rtt(&mut self, _now: Instant, _rtt: Duration) {}
    /// More than this is of no use to the sender, in bits per second.
    fn set_wanted(&mut self, _now: Instant, _bits: u64) {}
    /// Called every 10 ms.
    fn handle_timeout(&mut self, _now: Instant) {}
    /// What may be sent, in bits per second of UDP payloads.
    fn target(&self) -> u64;
    /// A probe that shall be sent now.
    fn poll_probe(&mut self, _now: Instant) -> Option<Probe> {
        None
    }
}

/// A burst at a rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Told with its packets.
    pub id: u32,
    /// Bits per second.
    pub rate: u64,
    /// So much in all.
    pub bytes: usize,
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the data comes from.
    Sender,
    /// Where it goes.
    Receiver,
}

/// Both ends of something that sends data one way.
pub trait Flow {
    /// A packet has come to an end.
    fn handle_packet(&mut self, now: Instant, at: End, packet: Packet);
    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);
    /// When time shall be told next; later than the time told last.
    fn poll_timeout(&self) -> Option<Instant>;
    /// A packet, and the end that it goes to.
    fn poll_packet(&mut self, now: Instant) -> Option<(End, Packet)>;
    /// Data is sent from now on, or no longer.
    fn set_running(&mut self, now: Instant, running: bool);
    /// There is no more than this to send, in bits per second.
    fn set_limit(&mut self, _now: Instant, _bits: u64) {}
    /// What its congestion control allows, where it says so.
    fn target(&self) -> Option<u64> {
        None
    }
}

/// A packet of a flow.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its UDP payload, or what would be.
    pub bytes: usize,
    /// What it says.
    pub content: Content,
}

/// What a packet says.
#[derive(Clone, Debug)]
pub enum Content {
    /// Media, by its transport-wide number.
    Media {
        /// The number.
        seq: u16,
    },
    /// Transport-wide feedback.
    Feedback {
        /// The RTCP packets.
        rtcp: Vec<u8>,
        /// The last media packet that had come, and how long ago: what a receiver report would tell.
        newest: (u16, Duration),
    },
    /// A segment of a TCP connection, by its number.
    Segment {
        /// The number.
        number: u64,
    },
    /// What the TCP receiver has.
    Ack {
        /// All segments below this number.
        below: u64,
        /// And this one, which came last.
        came: u64,
    },
    /// A whole datagram, of a stack of other people.
    Datagram(Vec<u8>),
}
