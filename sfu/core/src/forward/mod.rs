//! What a slot sends: continuous streams out of changing sources.

pub mod forwarder;
pub mod picture;
pub mod red;
pub mod slot_clock;
