//! Session descriptions: the client offers, the server only answers (RFC 8866, RFC 9429, RFC 3264).
//!
//! An offer is read in three steps, each of which may refuse it with the line and the reason: `parser` (grammar),
//! `offer` with `codec`, `extmap`, `layers` and `transport` (meaning), `negotiator` (the session so far). What is
//! agreed on is a [`Negotiation`]; `answer` writes its text.

mod answer;
mod codec;
mod extmap;
mod layers;
pub mod negotiation;
pub mod negotiator;
mod offer;
mod parser;
#[cfg(test)]
mod tests;
mod transport;
pub mod ufrag;

pub use negotiation::{
    DataSection, Fingerprint, IceCredentials, Negotiation, OfferError, PublishedLayer, PublishedSection,
    Section, SectionUse, SetupRole, SlotSection,
};
pub use negotiator::{LocalDescription, Negotiator};
