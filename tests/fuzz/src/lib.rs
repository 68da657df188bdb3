//! A fuzz target for each parser of network input.
//!
//! A target is a function that takes any bytes and panics only when something is wrong. `libfuzzer/` feeds them guided
//! by coverage (`tests/fuzz/run`); `tests/replay.rs` feeds them all seeds and seeded mutations of these in every
//! ordinary test run. A bug that was found keeps its input among the seeds.

pub mod bridge;
pub mod crc32c;
pub mod records;
pub mod time;

mod data;
mod doors;
mod dtls;
pub mod engine;
mod first_bytes;
mod form;
mod frame;
mod headers;
mod jpeg;
mod messaging;
mod picture_stream;
mod protobuf;
mod rtcp;
mod rtp;
mod sdp;
mod signaling;
mod srtp;
mod stun;
pub mod stun_request;
mod tcp;
mod token;
pub mod turn;
mod turn_stream;

#[path = "../../../sfu/src/frames.rs"]
#[allow(unused, reason = "the shell's own file, whose functions are not public")]
mod frames;

#[path = "../../../files/src/content_type.rs"]
#[allow(unused, reason = "a file of the contents of files, whose functions are not public")]
mod content_type;
#[path = "../../../files/src/http/multipart.rs"]
#[allow(unused, reason = "likewise")]
mod multipart;
#[path = "../../../files/src/name.rs"]
#[allow(unused, reason = "likewise")]
mod name;
#[path = "../../../doors/src/range.rs"]
#[allow(unused, reason = "likewise")]
mod range;

/// What a target is: it panics when something is wrong.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 23] = [
    ("bridge", bridge::run),
    ("data", data::run),
    ("doors", doors::run),
    ("dtls", dtls::run),
    ("engine", engine::run),
    ("first_bytes", first_bytes::run),
    ("form", form::run),
    ("frame", frame::run),
    ("headers", headers::run),
    ("jpeg", jpeg::run),
    ("messaging", messaging::run),
    ("picture_stream", picture_stream::run),
    ("protobuf", protobuf::run),
    ("rtcp", rtcp::run),
    ("rtp", rtp::run),
    ("sdp", sdp::run),
    ("signaling", signaling::run),
    ("srtp", srtp::run),
    ("stun", stun::run),
    ("tcp", tcp::run),
    ("token", token::run),
    ("turn", turn::run),
    ("turn_stream", turn_stream::run),
];

/// Feeds one target. Panics when there is none of this name, which is a mistake of the caller.
pub fn run(target: &str, input: &[u8]) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("the target is one of TARGETS");
    run(input);
}

/// Where the seeds of a target are: its own folder and, for SDP, the offers that the core's tests keep.
pub fn seed_folders(target: &str) -> Vec<std::path::PathBuf> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![here.join("seeds").join(target)];
    if target == "sdp" {
        folders.push(here.join("../../sfu/core/src/sdp/testdata"));
    }
    folders
}
