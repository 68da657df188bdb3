//! An independent stack as a client: the `webrtc` crate, joined over a real WebSocket to a real server on loopback.

pub mod media;
pub mod peer;
pub mod relay;
pub mod server;
pub mod turn;
