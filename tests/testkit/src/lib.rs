//! What the tests of several crates share: networks that lose, delay and cut, for simulations and for real sockets.

pub mod link;
pub mod proxy;
