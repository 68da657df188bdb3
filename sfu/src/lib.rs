//! The media plane's shell: worker threads, batched UDP, ICE-TCP. It does what the core decides.

pub mod handle;

pub use handle::{CommandError, Handle, Sfu, SfuConfig, StartError, start};
