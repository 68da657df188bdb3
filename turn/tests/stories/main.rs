//! Stories of the running server: coturn's own clients against it, and connections that misbehave.

mod call;
mod changes;
mod client;
mod coturn;
mod icmp;
mod one_port;
mod own_media;
mod server;
mod shortage;
mod streams;
mod tcp_relays;
