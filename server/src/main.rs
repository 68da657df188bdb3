//! The binary `veche`: configuration and wiring only.
fn main() {}
