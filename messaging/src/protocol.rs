//! What goes over the doors, whatever its form: requests of clients, answers of the server, and messages of channels.
//! PROTOCOL.md describes it for clients.

pub mod answer;
pub mod message;
pub mod request;

pub use answer::ServerMessage;
pub use request::{Action, ClientMessage, Content, Id, Recipient, Request};
