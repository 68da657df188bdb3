//! Session descriptions: the client offers, the server only answers (RFC 8866, RFC 9429, RFC 3264).

pub mod negotiation;

pub use negotiation::{
    DataSection, Fingerprint, IceCredentials, Negotiation, OfferError, PublishedLayer, PublishedSection,
    Section, SectionUse, SetupRole, SlotSection,
};
