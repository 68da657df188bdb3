//! The media core of Veche: everything that decides, nothing that does.
//!
//! No sockets, threads, async, clocks or global randomness: `now` and a seed come in, datagrams and events go out.
//! The packet's path through the files is in ARCHITECTURE.md.

#![forbid(unsafe_code)]

pub mod assignment;
pub mod bandwidth;
mod context;
pub mod control;
pub mod data;
pub mod demux;
mod downlink;
pub mod drops;
pub mod dtls;
pub mod engine;
pub mod forward;
pub mod ice;
pub mod ids;
mod incoming;
mod layer;
pub mod media;
mod participant;
pub mod path;
mod quality;
pub mod receive;
mod repairs;
mod room;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
mod slot;
pub mod speakers;
pub mod srtp;
pub mod stun;
mod track;
mod transport;
mod uplink;
