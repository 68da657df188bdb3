//! What a slot sends: continuous streams out of changing sources.

pub mod forwarder;
pub mod layer_choice;
pub mod picture;
pub mod red;
pub mod redundancy;
pub mod slot_clock;
