//! The TURN server's shell: worker threads, batched UDP, TCP and TLS. It does what `veche-turn-core` decides.
//!
//! Each worker has its own sockets of the same addresses (`SO_REUSEPORT`): the system gives each client to one of them by the
//! hash of its 5-tuple, and the worker knows its clients alone. What is counted for users is shared.

mod carry;
mod config;
mod connection;
mod connections;
mod desk;
mod errors;
mod handle;
mod hatches;
mod listeners;
mod mailbox;
mod poller;
mod relays;
mod start;
mod tcp_relays;
mod worker;

pub use config::{RelayAddress, StartError, TurnConfig, User};
pub use handle::{Handle, IceCredential, WorkerFailure, WorkerMetrics};
pub use start::{Turn, start};
pub use veche_turn_core::{
    Limits, Network, PeerPolicy, Quotas, Refusal, Refusals, Totals, Usage, UserUsage, is_turn,
};
