//! What clients talk to: rooms, signaling and the HTTP API.

pub mod protocol;
