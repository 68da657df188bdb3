//! The publisher's side of a layer: what is remembered, measured and asked of a stream that comes in.
//!
//! Each file is one algorithm on plain numbers and bytes. None of them parses packets, reads a clock or knows of the
//! others; the published layer feeds them and sends what they decide.

pub mod history;
pub mod key_frame;
pub mod loss;
pub mod media_clock;
pub mod rate;
pub mod rtt;
pub mod statistics;
pub mod sublayers;
pub mod transport_feedback;
