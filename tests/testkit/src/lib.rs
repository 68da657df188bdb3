//! What tests of several crates share: clients, networks and media in virtual time, and a proxy for real sockets.
//!
//! - [`network`]: links that delay, lose, reorder and duplicate, by a seed
//! - [`congestion`]: a laboratory for congestion control on that network
//! - [`media`]: what clients send: voices and cameras whose packets say what they are
//! - [`client`]: a WebRTC client without sockets
//! - [`world`]: engines, clients and the links between them, event by event
//! - [`allocations`]: an allocator that counts
//! - [`cpu`]: what a piece of work takes of the processor
//! - [`proxy`]: the same links for real sockets

pub mod allocations;
pub mod client;
pub mod congestion;
pub mod cpu;
pub mod media;
pub mod network;
pub mod proxy;
pub mod world;
