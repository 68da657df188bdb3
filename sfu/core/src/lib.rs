//! The media core of Veche: everything that decides, nothing that does.
//!
//! No sockets, threads, async, clocks or global randomness: `now` and a seed come in, datagrams and events go out.
//! The packet's path through the files is in ARCHITECTURE.md.

#![forbid(unsafe_code)]

pub mod control;
pub mod drops;
pub mod dtls;
pub mod engine;
pub mod ids;
pub mod media;
pub mod path;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
