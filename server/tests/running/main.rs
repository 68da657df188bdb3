//! Stories of the binary as operators run it: its files, variables, flags, signals, ports and metrics.

mod abuse;
mod acme;
mod client;
mod commands;
mod crowd;
mod doctor;
mod doctor_inside;
mod http;
mod idle;
mod interloper;
mod kill;
mod life;
mod one_port;
mod one_udp_port;
mod ports;
mod recovery;
mod server;
mod strangers;
mod traces;
mod whereabouts;
