//! The Protobuf messages of `proto/veche/v1/messaging.proto`. Their code is made of it by `cargo run -p veche-proto`,
//! whose test fails while it is not current.

#[rustfmt::skip]
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "made by a program")]
mod generated;

pub use generated::*;

/// The description of the messages and of the service, as reflection gives it out.
pub const DESCRIPTORS: &[u8] = include_bytes!("../proto/descriptors.bin");
