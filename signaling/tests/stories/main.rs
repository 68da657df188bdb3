//! Stories over loopback: a real server, real clients, and a media plane that the test plays.

mod access;
mod channels;
mod http;
mod moderation;
mod server;
mod turn;
mod websocket;
