//! Stories of clients and a server, in virtual time.

mod client;
mod errors;
mod hostile;
mod model;
mod relaying;
mod tcp;

pub(crate) use client::{Attr, Client, World, address};
