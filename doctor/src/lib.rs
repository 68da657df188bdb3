//! Looks at a Veche server as its users do, over the network, and says what works, what does not, what that means for users,
//! and how to mend it. What can only be seen on the server itself is looked at by the binary, `veche doctor`.

mod certificate;
mod door;
mod finding;
mod ice;
mod ice_url;
mod line;
mod media;
mod messages;
mod outside;
mod reach;
mod report;
mod signaling;
mod target;
mod turn;
mod wire;

pub use finding::{Finding, Level};
pub use outside::{clock, examine, examine_certificate};
pub use reach::{Reach, reach};
pub use report::Report;
pub use target::{BadTarget, Target, Vantage};
pub use turn::seen_by;
