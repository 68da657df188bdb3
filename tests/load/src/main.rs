//! `veche-load`: puts a media server under load and measures from outside what it does.

mod description;
mod janus;
mod negotiation;
mod target;
mod veche;

fn main() {}
