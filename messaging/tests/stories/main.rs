//! Stories of clients at the doors, through real connections.

mod authentication;
mod chat;
mod files;
mod http;
mod limits;
mod recovery;
mod server;
mod sse;
mod websocket;
