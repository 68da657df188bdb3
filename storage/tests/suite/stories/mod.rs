//! The stories, by what they are about. Each gets an empty database.

pub(crate) mod crash;
pub(crate) mod database;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod kept;
pub(crate) mod keys;
pub(crate) mod snapshots;
pub(crate) mod views;
