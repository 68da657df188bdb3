//! The contents of files: how they come in, where they are kept, how they are given out, and when they go.
//!
//! Every upload is written to a staged file first, whatever door it comes through: counted, hashed and looked at on its way,
//! never held in memory. When it is whole, it goes to the store (a local folder or a bucket) and into the catalogue, which is
//! a table of `veche-storage`. FILES.md describes what clients see.

mod claims;
mod compression;
mod content_type;
mod file;
mod files;
pub mod http;
mod id;
mod incoming;
mod links;
mod name;
mod resumable;
mod settings;
mod store;
mod upload;

pub use file::{Checked, FileInfo, FileList};
pub use files::{Clock, Counters, Files, OpenError};
pub use settings::{FileSettings, Secret};
pub use upload::{NewFile, Upload};
