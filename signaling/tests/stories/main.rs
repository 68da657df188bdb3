//! Stories over loopback: a real server, real clients, and a media plane that the test plays.

mod channels;
mod http;
mod server;
mod websocket;
