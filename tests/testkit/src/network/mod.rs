//! A network in virtual time: no sockets and no clock, `now` comes in, and a seed decides what chance would.
//!
//! A [`Link`] is one direction between two hosts: delay, jitter, loss, duplicates, and a bottleneck of its own when it has
//! a rate. A [`Bottleneck`] may also stand alone, with several links behind it: a [`Capacity`] over time and a queue.
//! Whoever owns one gives it packets, asks when something happens next, and takes what has come out by then.

mod bottleneck;
mod capacity;
mod chance;
mod link;
mod queue;

pub use bottleneck::Bottleneck;
pub use capacity::{Capacity, Mobile};
pub use chance::{Bursts, bell};
pub use link::{Link, LinkConfig, LinkCounters};
pub use queue::{Codel, QueueConfig};

/// Bytes of IP and UDP headers, which take their share of a capacity.
pub const OVERHEAD: usize = 28;
