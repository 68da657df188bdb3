//! The media plane's shell: worker threads, batched UDP, ICE-TCP. It does what the core decides.

mod bridge;
mod certificate;
pub mod datagrams;
mod frames;
pub mod handle;
pub mod hold;
mod interfaces;
mod mailbox;
pub mod metrics;
mod placement;
mod poller;
mod ports;
mod refusals;
mod singles;
mod start;
pub mod studio;
mod tcp;
mod tenants;
mod trains;
mod udp;
mod worker;

pub use frames::{MAX_EARLY, whole_frame};
pub use handle::{AdoptError, CommandError, Handle, Sfu, SfuConfig, StartError, WorkerFailure};
pub use metrics::{TcpRefusals, Traffic, WorkerMetrics};
pub use start::{announced, start};
pub use tenants::is_tenants;
