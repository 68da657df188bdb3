//! The TURN server of Veche, sans-IO: it decides about each packet (RFC 8489, RFC 8656, RFC 6062) and has no sockets, threads or clock.
//!
//! [`Server::handle_client`] takes what clients send and [`Server::handle_peer`] what comes to relays; what is to be sent, and
//! which relays are to be opened or closed, is put in an [`Outbox`]. The fast path (ChannelData in and out) is one look-up by
//! hash of the 5-tuple or one index of the relay, one binary search, and one copy into the outbox; it allocates nothing.

mod accounts;
mod allocate;
mod allocation;
mod answer;
mod authentication;
pub mod client;
mod config;
mod credentials;
mod five_tuple;
mod issued;
mod limiter;
mod methods;
mod nonce;
mod outbox;
mod peers;
mod quotas;
mod refusals;
mod request;
mod server;
mod stream;
mod tcp;
mod wire;

pub use accounts::{Accounts, Reservation};
pub use allocation::{AllocationId, RelayId, Transport};
pub use config::ServerConfig;
pub use credentials::{Credentials, Issued, issue};
pub use five_tuple::{FiveTuple, Link};
pub use issued::IssuedNames;
pub use nonce::NonceKey;
pub use outbox::{Action, Destination, Opened, Outbox, Ports, ReservationToken, Run};
pub use peers::{Network, PeerPolicy};
pub use quotas::{Limits, Quotas, Usage, UserUsage};
pub use refusals::{Refusal, Refusals};
pub use server::{Server, Totals};
pub use stream::{BadFrame, Frames, MAX_FRAME, MAX_UNPROVEN_FRAME};
pub use tcp::ConnectionId;
pub use veche_stun::household::household;
pub use wire::is_turn;

#[cfg(test)]
mod tests;
