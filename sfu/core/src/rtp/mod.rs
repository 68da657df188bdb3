//! RTP packets as views into their bytes: headers, header extensions and the payload descriptors of codecs.

pub mod av1;
pub mod bits;
pub mod dependency;
pub mod extension;
pub mod frame;
pub mod h264;
pub mod h265;
pub mod header;
#[cfg(test)]
pub(crate) mod mutation;
pub mod sequence;
pub mod targets;
pub mod vp8;
pub mod vp9;
pub mod writer;

pub use dependency::{DependencyState, FrameDependencies};
pub use extension::{AudioLevel, Extensions};
pub use frame::{FrameInfo, FrameState};
pub use header::{RtpHeader, is_rtcp};
pub use sequence::SeqExtender;
pub use targets::FrameTargets;
pub use vp8::Vp8Descriptor;
pub use vp9::Vp9Descriptor;
pub use writer::HeaderWriter;
