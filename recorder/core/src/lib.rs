//! The recorder of Veche, as far as it decides: packets in order, frames out of packets, one line of time for all of
//! somebody's tracks, and the bytes of files. No sockets, threads, clocks or files: time and packets come in, bytes go out.
//!
//! A packet's path: [`order`] waits for what may still be repaired, [`frames`] puts frames together, [`stream`] gives
//! them their time, [`interleave`] brings those of several tracks in one order, and a
//! [`container`] writes them, as [`webm`] or [`mp4`]; [`hls`] serves them live. A [`manifest`] says what was written. A [`session`] is
//! all of this for a room.

#![forbid(unsafe_code)]

pub mod configuration;
pub mod container;
pub mod frames;
pub mod hls;
pub mod interleave;
pub mod manifest;
pub mod mp4;
pub mod opus;
pub mod order;
pub mod session;
pub mod stream;
pub mod webm;
