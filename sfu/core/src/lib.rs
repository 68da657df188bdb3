//! The media core of Veche: everything that decides, nothing that does.
//!
//! No sockets, threads, async, clocks or global randomness: `now` and a seed come in, datagrams and events go out.
//! The packet's path through the files is in ARCHITECTURE.md.

#![forbid(unsafe_code)]

pub mod allocation;
pub mod assignment;
pub mod bandwidth;
mod batch;
pub mod bridge;
mod context;
pub mod control;
pub mod data;
mod demand;
pub mod demux;
mod downlink;
pub mod drops;
pub mod dtls;
pub mod engine;
pub mod forward;
mod handshakes;
pub mod ice;
pub mod ids;
mod incoming;
mod ladder;
mod layer;
pub mod media;
mod mirror;
mod participant;
pub mod path;
mod pulse;
mod quality;
pub mod receive;
mod repairs;
pub mod rights;
mod room;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
mod share;
mod slot;
pub mod speakers;
pub mod srtp;
pub mod studio;
pub mod stun;
pub mod timeline;
mod timers;
mod track;
mod transport;
mod uplink;
