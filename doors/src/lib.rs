//! What every door of the server shares: what can go wrong and how each door says so, who may come in by origin and how
//! often, what bodies look like, and how WebSockets are spoken.

pub mod answers;
pub mod arriving;
pub mod doorkeeper;
pub mod error;
pub mod extract;
pub mod first_bytes;
pub mod http;
pub mod name;
pub mod origin;
pub mod range;
pub mod rate;
pub mod websocket;

pub use error::{Error, ErrorAnswer, ErrorBody, ErrorKind};
