//! Data channels (RFC 8831): one SCTP association per participant, and their relay inside one room.

pub(crate) mod across;
pub mod association;
pub mod dcep;
pub mod frame;
pub mod relay;

#[cfg(test)]
mod tests;

pub use relay::{DataOutput, DataRelay};

/// Our SCTP port, announced as `a=sctp-port` (RFC 8841). It distinguishes nothing, since each association has a DTLS
/// session of its own.
pub const SCTP_PORT: u16 = 5000;
