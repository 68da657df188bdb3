//! Stories of clients at the doors, through real connections.

mod authentication;
mod chat;
mod files;
mod grpc;
mod http;
mod limits;
mod protobuf;
mod recovery;
mod server;
mod sse;
mod websocket;
