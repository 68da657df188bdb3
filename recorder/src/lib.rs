//! The recorder of Veche: it listens to rooms from within the process, as nobody's participant, and writes what it hears.
//!
//! [`Recorder`] is the way in. Each recording that runs has a thread of its own (`tape`), which never makes the media plane
//! wait: what the disk is too slow for is dropped, and the manifest says so. `disk` keeps the files of one recording, `mend` makes whole
//! at the start what a crash has left open, `catalogue` knows all recordings that are kept. What is decided is decided in
//! `veche-recorder-core`.

mod catalogue;
mod disk;
mod mend;
mod recorder;
pub mod settings;
mod tape;

pub use catalogue::Summary;
pub use recorder::{Error, Event, Order, Recorder, Totals};
pub use settings::Settings;
pub use veche_recorder_core::manifest;
pub use veche_recorder_core::session::{Layout, Profile};
