//! Stories in virtual time about the media core, which are in `tests/`, and what the stories about congestion control share.
//!
//! - [`contestants`]: estimators that can be tried: ours, and other people's
//! - [`line`]: one bottleneck and flows through it
//! - [`rfc8867`]: the test cases of RFC 8867, and figures by the criteria of RFC 8868

pub mod contestants;
pub mod line;
pub mod rfc8867;
