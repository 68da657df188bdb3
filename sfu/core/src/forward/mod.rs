//! What a slot sends: continuous streams out of changing sources.

pub mod forwarder;
pub mod picture;
pub mod red;
pub mod redundancy;
pub mod renumbering;
pub mod slot_clock;
pub mod sublayers;
