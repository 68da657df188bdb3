//! What came at the public ports: how many connections of each kind, and why others were closed.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counts them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    taken: Family<Taken, Counter>,
    closed: Family<Closed, Counter>,
}

/// What a connection turned out to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    Https,
    Turn,
    TurnTls,
    Ice,
}

/// Why a connection is closed before anybody serves it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unserved {
    #[error("there are as many connections as there may be")]
    Full,
    #[error("its address has as many connections as one may have")]
    Crowded,
    #[error("its address has as many connections as one may have that have not said what they want")]
    CrowdedOpening,
    #[error("it did not say what it wants in time")]
    Slow,
    #[error("it has ended before it said what it wants")]
    Ended,
    #[error("its first bytes are none of HTTP, TLS, TURN or ICE")]
    Unknown,
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("an authority has seen the proof that it asked for")]
    Proof,
    #[error("TLS is not spoken at this port")]
    NoTls,
    #[error("HTTP is spoken over TLS only at this port")]
    NotHttps,
    #[error("TURN is not spoken at this port")]
    NoTurn,
    #[error("media is not taken at this port")]
    NoIce,
    #[error("it is for nobody who is here, or no request of ICE")]
    Stranger,
    #[error("those who would serve it have too many")]
    Busy,
    #[error("the server stops")]
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Taken {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closed {
    reason: &'static str,
}

impl Tally {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Connections at the ports of HTTP and HTTPS, by what they speak";
        registry.register("connections", help, self.taken.clone());
        let help =
            "Connections at the ports of HTTP and HTTPS that were closed before they were served, by reason";
        registry.register("connections_closed", help, self.closed.clone());
    }

    /// One is served.
    pub(crate) fn take(&self, kind: Kind) {
        self.taken.get_or_create(&Taken { kind: kind.name() }).inc();
    }

    /// How many were closed because there were as many as there may be.
    pub(crate) fn refused(&self) -> u64 {
        self.closed.get_or_create(&Closed { reason: Unserved::Full.name() }).get()
    }

    /// One is closed.
    pub(crate) fn close(&self, reason: &Unserved) {
        self.closed.get_or_create(&Closed { reason: reason.name() }).inc();
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Turn => "turn",
            Self::TurnTls => "turn_tls",
            Self::Ice => "ice",
        }
    }
}

impl Unserved {
    fn name(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Crowded => "address",
            Self::CrowdedOpening => "address_opening",
            Self::Slow => "slow",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
            Self::Handshake(_) => "handshake",
            Self::Proof => "proof",
            Self::NoTls => "no_tls",
            Self::NotHttps => "not_https",
            Self::NoTurn => "no_turn",
            Self::NoIce => "no_ice",
            Self::Stranger => "stranger",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
        }
    }
}

/// A connection that breaks while it is looked at.
impl From<std::io::Error> for Unserved {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}
